"""The catalog as a state machine does what the catalog's store does, and is the same on every node."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hanse.catalog.commands import Command, CommitDdl, SetTopology
from hanse.catalog.machine import CatalogMachine, Settle, decode_outcome, encode
from hanse.catalog.model import Group, Instance, Kind, Relation, Snapshot
from hanse.catalog.store import ControlStore
from hanse.core.errors import PgError

GROUPS = tuple(
    Group(name=name, instances=(Instance(name=f"{name}.1", node="n1", host="h", port=1),)) for name in ("g1", "g2")
)
INITIAL = Snapshot(version=0, groups=GROUPS)
TRANSACTIONS = [f"x{number}" for number in range(30)]


def some_command(draw: random.Random, version: int) -> Command | Settle:
    choice = draw.random()
    if choice < 0.2:
        return Settle(transaction_id=draw.choice(TRANSACTIONS))
    if choice < 0.35:
        return SetTopology(nodes=(), groups=draw.choice((GROUPS, GROUPS[:1], GROUPS[1:])))
    relation = Relation(schema="public", name=f"t{version}", kind=Kind.SINGLE, group=draw.choice(("g1", "g2")))
    return CommitDdl(
        transaction_id=draw.choice(TRANSACTIONS),
        expected_version=version - (draw.random() < 0.1),
        role="hanse",
        statements=(f"CREATE TABLE t{version} ()",),
        relations=(relation,),
    )


def told(call: Callable[[], int]) -> tuple[object, ...]:
    try:
        return ("done", call())
    except PgError as error:
        return (error.sqlstate, error.message, error.detail, error.hint)


@pytest.mark.parametrize("seed", range(4))
def test_it_does_what_the_store_does(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    store, machine = ControlStore(tmp_path, INITIAL), CatalogMachine(INITIAL)
    outcomes = set()
    for number in range(60):
        command = some_command(draw, store.snapshot.version)
        if isinstance(command, Settle):
            expected = told(lambda command=command: int(store.settle(command.transaction_id)))  # type: ignore[misc]
        else:
            expected = told(lambda command=command: store.append(command))  # type: ignore[misc]
        assert told(decode_outcome(machine.apply(number, encode(command))).value) == expected
        outcomes.add(expected[0])
        assert machine.catalog == store.snapshot
        if draw.random() < 0.2:  # another node, from a snapshot
            again = CatalogMachine(Snapshot(version=99))
            again.restore(number, machine.snapshot())
            assert again.snapshot() == machine.snapshot()
            machine = again
    assert [machine.look_up(each) for each in TRANSACTIONS] == [store.look_up(each) for each in TRANSACTIONS]
    for since in range(store.snapshot.version + 1):
        assert machine.ddl_log(since) == store.ddl_log(since)
        assert machine.ddl_log(since, bytes_max=1) == store.ddl_log(since, bytes_max=1)
    store.close(clean=True)
    assert outcomes >= {"done", "40001", "40000"}


def test_equal_commands_give_equal_bytes() -> None:
    draw = random.Random(7)
    nodes = [CatalogMachine(INITIAL) for _ in range(3)]
    for number in range(50):
        command = encode(some_command(draw, nodes[0].catalog.version))
        assert len({node.apply(number, command) for node in nodes}) == 1
    assert len({node.snapshot() for node in nodes}) == 1
