"""The control plane on three nodes: its leader's agent and node are killed, then its majority, then everything.

What is acknowledged is there afterwards, through every gateway; what fails, fails with the truth; statements on rows go on. One
cluster is led from one test to the next, so that it starts few times.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import psycopg
import pytest

from hanse.catalog.former_store import ADOPTED_NAME, FILE_NAME
from hanse.catalog.machine import CatalogMachine, State
from hanse.catalog.model import Snapshot
from hanse.consensus.raft.messages import Kind
from hanse.consensus.raft.saved import joining
from hanse.consensus.raft.storage import Storage
from support.control_cluster import BACK_S, Changes, Three, kill, running_three
from support.processes import wait_until
from support.servers import Cluster


@pytest.fixture(scope="module")
def three(run_directory: Path) -> Iterator[Three]:
    with running_three(run_directory) as cluster:
        yield cluster


def _kill_node(cluster: Three, leader: str) -> None:
    """Its agent is among them."""
    kill(*cluster.pids_of(leader))


def _suspend_agent(cluster: Three, leader: str) -> None:
    """It holds its connections, and does not answer; another leads meanwhile."""
    agent = psutil.Process(cluster.agent(leader))
    agent.suspend()
    try:
        wait_until("another leader", lambda: cluster.leader() not in (None, leader), timeout_s=BACK_S)
    finally:
        agent.resume()


@pytest.mark.parametrize("fault", [_kill_node, _suspend_agent], ids=lambda each: each.__name__)
def test_schema_changes_go_on_without_the_leader(three: Three, fault: Callable[[Three, str], None]) -> None:
    wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)
    leader, term = three.leader(), three.status()["control"]["term"]
    assert leader is not None
    with Changes(three) as changes:
        changes.go_on()
        fault(three, leader)
        changes.go_on()
        wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)
        changes.go_on()
    changes.check()
    assert three.status()["control"]["term"] > term


def test_without_a_majority_rows_go_on_and_schemas_wait(three: Three) -> None:
    wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)
    with three.connect(0) as connection:
        connection.execute("CREATE TABLE kept (a int)")
    up = json.loads((three.data_directory / "run" / "up.json").read_text())["pid"]
    survivor = next(name for name in ("n1", "n2", "n3") if name != three.leader())
    kill(up, *(three.agent(name) for name in ("n1", "n2", "n3") if name != survivor))
    control = Cluster.status(three)["control"]
    assert control["leader"] is None
    assert sorted(each["state"] for each in control["nodes"]) == ["away", "away", "follower"]
    for number in range(3):
        with three.connect(number) as connection:
            connection.execute("INSERT INTO kept VALUES (%s)", (number,))
            assert connection.execute("SELECT max(a) FROM kept").fetchone() == (number,)
            began = time.monotonic()
            with pytest.raises(psycopg.Error) as caught:
                connection.execute("CREATE TABLE impossible (a int)")
            assert caught.value.sqlstate == "57P03", caught.value
            assert time.monotonic() - began < 30
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (number + 1,)
    three.up()  # adopts what lives
    with Changes(three) as changes:
        changes.go_on()
    changes.check()


def test_up_after_everything_was_killed(three: Three) -> None:
    wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)
    up = json.loads((three.data_directory / "run" / "up.json").read_text())["pid"]
    with Changes(three) as changes:
        changes.go_on()
        kill(up, *(pid for name in ("n1", "n2", "n3") for pid in three.pids_of(name)))
    three.up()
    wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)
    changes.check()


def test_the_catalog_of_an_older_version_is_taken_over(three: Three) -> None:
    with three.connect(0) as connection:
        connection.execute("CREATE TABLE older (a int)")
        connection.execute("INSERT INTO older VALUES (7)")
    three.hanse("down")
    _make_former(three.data_directory)
    three.up()
    for number in range(3):
        with three.connect(number) as connection:
            assert connection.execute("SELECT a FROM older").fetchone() == (7,)
    with Changes(three) as changes:
        changes.go_on()
    changes.check()
    assert [path.name for path in (three.data_directory / "control").iterdir()] == [ADOPTED_NAME]


def _make_former(data: Path) -> None:
    """Makes of a stopped cluster what an earlier version has left: one file with the catalog, one port for it."""
    state = _state(data / "n1" / "control")
    for name in ("n1", "n2", "n3"):
        for path in (data / name / "control").iterdir():
            path.unlink()
    cluster = json.loads((data / "cluster.json").read_text())
    cluster |= {"format": 1, "control_port": cluster["nodes"][0]["control_port"]}
    for node in cluster["nodes"]:
        del node["control_port"], node["raft_port"]
    (data / "cluster.json").write_text(json.dumps(cluster))
    (data / "control").mkdir()
    with sqlite3.connect(data / "control" / FILE_NAME) as database:
        database.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        database.execute("CREATE TABLE snapshot (id, version, body, checksum)")
        database.execute("CREATE TABLE log (version, kind, transaction_id, body, checksum)")
        database.execute("CREATE TABLE aborted (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID")
        database.executemany("INSERT INTO meta VALUES (?, ?)", [("format", "1"), ("clean", "yes")])
        version = state.snapshot.version
        database.execute("INSERT INTO snapshot VALUES (1, ?, ?, ?)", (version, *_with_checksum(state.snapshot)))
        for entry in state.log:
            row = (entry.version, "ddl", entry.transaction_id, *_with_checksum(entry))
            database.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)
        if version not in state.versions.values():
            database.execute("INSERT INTO log VALUES (?, 'topology', NULL, x'', 0)", (version,))
    database.close()


def _state(log: Path) -> State:
    """Of a node that has stopped: everything in its log was committed."""
    storage = Storage(log, "n1", joining())
    machine = CatalogMachine(Snapshot())
    saved = storage.saved
    storage.close()
    if saved.snapshot.index:
        machine.restore(saved.snapshot.index, saved.snapshot.data)
    for entry in saved.entries:
        if entry.kind is Kind.COMMAND and entry.index > saved.snapshot.index:
            machine.apply(entry.index, entry.data)
    state: State = msgspec.msgpack.decode(machine.snapshot(), type=State)
    return state


def _with_checksum(value: Any) -> tuple[bytes, int]:
    body = msgspec.msgpack.encode(value)
    return body, zlib.crc32(body)
