"""The catalog as a state machine does what is said of it, and is the same on every node."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import pytest

from hanse.catalog.commands import Command, CommitDdl, SetTopology, apply, entry_of
from hanse.catalog.machine import Attend, CatalogMachine, Settle, decode_outcome, encode
from hanse.catalog.model import Group, Instance, Kind, Relation, Snapshot
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


class Naive:
    """What the machine is to do, said once more: a list of what was done, and a set of what never will be."""

    def __init__(self) -> None:
        self.done: list[Command] = []
        self.aborted: set[str] = set()

    @property
    def catalog(self) -> Snapshot:
        return functools.reduce(apply, self.done, INITIAL)

    def perform(self, command: Command | Settle) -> int:
        known = {each.transaction_id: n for n, each in enumerate(self.done, 1) if isinstance(each, CommitDdl)}
        if isinstance(command, Settle):
            if command.transaction_id not in known:
                self.aborted.add(command.transaction_id)
            return int(command.transaction_id in known)
        if isinstance(command, CommitDdl) and command.transaction_id in known:
            return known[command.transaction_id]
        if isinstance(command, CommitDdl) and command.transaction_id in self.aborted:
            raise PgError("40000", "the schema change was rolled back by recovery")
        version = apply(self.catalog, command).version
        self.done.append(command)
        return version


def told(call: Callable[[], int]) -> tuple[object, ...]:
    try:
        return ("done", call())
    except PgError as error:
        return (error.sqlstate, error.message, error.detail, error.hint)


@pytest.mark.parametrize("seed", range(4))
def test_it_does_what_is_said_of_it(seed: int) -> None:
    draw = random.Random(seed)
    naive, machine = Naive(), CatalogMachine(INITIAL)
    outcomes = set()
    for number in range(60):
        command = some_command(draw, naive.catalog.version)
        expected = told(lambda command=command: naive.perform(command))  # type: ignore[misc]
        assert told(decode_outcome(machine.apply(number, encode(command))).value) == expected
        outcomes.add(expected[0])
        assert machine.catalog == naive.catalog
        if draw.random() < 0.2:  # another node, from a snapshot
            machine.apply(number, encode(Attend(attended=draw.random() < 0.5)))
            again = CatalogMachine(Snapshot(version=99))
            again.restore(number, machine.snapshot())
            assert again.snapshot() == machine.snapshot()
            assert again.attended == machine.attended
            machine = again
    logged = tuple(entry_of(each, n) for n, each in enumerate(naive.done, 1) if isinstance(each, CommitDdl))
    committed = {entry.transaction_id for entry in logged}
    for name in TRANSACTIONS:
        assert machine.look_up(name) == ("c" if name in committed else "a" if name in naive.aborted else "")
    for since in range(naive.catalog.version + 1):
        later = tuple(entry for entry in logged if entry.version > since)
        assert machine.ddl_log(since) == later
        assert machine.ddl_log(since, bytes_max=1) == later[:1]
    assert outcomes >= {"done", "40001", "40000"}


def test_equal_commands_give_equal_bytes() -> None:
    draw = random.Random(7)
    nodes = [CatalogMachine(INITIAL) for _ in range(3)]
    for number in range(50):
        command = encode(some_command(draw, nodes[0].catalog.version))
        assert len({node.apply(number, command) for node in nodes}) == 1
    assert len({node.snapshot() for node in nodes}) == 1
