"""A gateway that has lost the control plane, and reaches every group: what it knows is old as soon as others change the schema.

What it says must be right, or refused with 57P03.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hanse.agent.cluster_dir import load_existing
from hanse.cli.chaos import network
from hanse.cli.chaos.watching import Cluster as ClusterUnderFaults
from hanse.core.limits import CONTROL_LEASE_S
from support.control_cluster import BACK_S, TRUTHFUL, Three, running_three
from support.processes import wait_until

LOST = 0  # n1: whichever node leads, the others are a majority


@pytest.fixture(scope="module")
def three(run_directory: Path) -> Iterator[Three]:
    """Groups of one server: nothing but the catalog tells a gateway who leads them."""
    with running_three(run_directory, "--groups", "2") as cluster:
        with cluster.connect(1) as connection:
            connection.execute("CREATE TABLE lone (a int) TABLESPACE g1")
            connection.execute("CREATE TABLE copied (a int) WITH (distribution = 'reference')")
            connection.execute("CREATE TABLE spread (a int PRIMARY KEY, b int) PARTITION BY HASH (a) WITH (shards = 4)")
            connection.execute("INSERT INTO spread SELECT i, 0 FROM generate_series(1, 100) i")
            connection.execute("INSERT INTO lone VALUES (1)")
            connection.execute("CREATE SEQUENCE numbers")
        yield cluster


@contextlib.contextmanager
def _cut_off(cluster: Three) -> Iterator[None]:
    """Until its lease is over, and then for as long as is wanted."""
    faults = ClusterUnderFaults(cluster.data_directory, *load_existing(cluster.data_directory))
    network.partition(faults, (f"n{LOST + 1}",), "both")
    try:
        time.sleep(CONTROL_LEASE_S)
        yield
    finally:
        network.whole(faults)


STATEMENTS = (
    "SELECT a FROM lone",
    "INSERT INTO lone VALUES (7)",
    "UPDATE lone SET a = 8",
    "DELETE FROM lone",
    "COPY lone TO STDOUT",
    "SELECT count(*) FROM spread",
    "SELECT b FROM spread WHERE a = 5",
    "INSERT INTO spread VALUES (201, 0), (202, 0), (203, 0), (204, 0)",
    "UPDATE spread SET b = 1",
    "INSERT INTO copied VALUES (7)",
    "SELECT lone.a FROM lone JOIN spread USING (a)",
    "SELECT nextval('numbers')",
    "DO $$ BEGIN DELETE FROM lone; END $$",
)


def _refused(connection: psycopg.Connection, statement: str, *, prepare: bool | None = None) -> None:
    with pytest.raises(psycopg.errors.CannotConnectNow, match="lost the control plane"):
        if statement.startswith("COPY"):
            with connection.cursor().copy(statement) as copy:  # type: ignore[call-overload]
                list(copy)
        else:
            connection.execute(statement, prepare=prepare)  # type: ignore[call-overload]


def _knows(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT a FROM lone")
    except psycopg.errors.CannotConnectNow:
        return False
    return True


def _done(connection: psycopg.Connection, change: str) -> bool:
    """A leader has to be found, and leases that it cannot know have to end."""
    try:
        connection.execute(change)  # type: ignore[call-overload]
    except psycopg.Error as error:
        assert error.sqlstate in TRUTHFUL, error
        return False
    return True


def test_a_table_that_others_have_moved(three: Three) -> None:
    with (
        three.connect(LOST) as lost,
        three.connect(LOST) as open_there,
        three.connect(LOST) as old,
        three.connect(1) as other,
    ):
        for statement in STATEMENTS[:1] * 3:  # its plan is known, and backends have it
            lost.execute(statement, prepare=True)  # type: ignore[call-overload]
        open_there.execute("BEGIN; INSERT INTO lone VALUES (2)")  # with a lease
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM spread")
        with _cut_off(three):
            assert lost.execute("SELECT a FROM lone", prepare=True).fetchall() == [(1,)]
            assert lost.execute("SELECT count(*) FROM spread").fetchall() == [(100,)]
            lost.execute("INSERT INTO spread VALUES (101, 0), (102, 0), (103, 0), (104, 0)")
            lost.execute("DELETE FROM spread WHERE a > 100")
            lost.execute("INSERT INTO copied VALUES (1)")
            first = "CREATE TABLE IF NOT EXISTS another (a int)"
            wait_until("schema changes without n1", lambda: _done(other, first), timeout_s=BACK_S)
            other.execute("SET lock_timeout = '1s'")
            move = "ALTER TABLE lone SET TABLESPACE g2"
            with pytest.raises(psycopg.errors.LockNotAvailable):  # it waits for what n1 has begun
                other.execute(move)
            other.execute("RESET lock_timeout")
            open_there.execute("COMMIT")
            wait_until("the table moves", lambda: _done(other, move), timeout_s=BACK_S)
            for prepare in (True, False):
                for statement in STATEMENTS:
                    _refused(lost, statement, prepare=prepare)
            with lost.transaction(force_rollback=True):
                _refused(lost, "INSERT INTO lone VALUES (9)")
            _refused(old, "SELECT a FROM lone")
            old.rollback()
            with lost.transaction(force_rollback=True):
                _refused(lost, "DECLARE c CURSOR FOR SELECT a FROM lone")
        wait_until("n1 is told", lambda: _knows(lost), timeout_s=BACK_S)
        lost.execute("INSERT INTO lone VALUES (3)")
        for connection in (lost, other):
            assert connection.execute("SELECT a FROM lone ORDER BY a").fetchall() == [(1,), (2,), (3,)]
            assert connection.execute("SELECT count(*), sum(b) FROM spread").fetchall() == [(100, 0)]
            assert connection.execute("SELECT a FROM copied").fetchall() == [(1,)]


def test_a_group_that_others_have_added(three: Three) -> None:
    """Its copies of reference tables would lack what is written without knowing it."""
    with three.connect(LOST) as lost, three.connect(1) as other:
        lost.execute("INSERT INTO copied VALUES (2)")
        with _cut_off(three):
            lost.execute("INSERT INTO copied VALUES (3)")
            wait_until("the group is added", lambda: _done(other, "CREATE TABLESPACE g3"), timeout_s=BACK_S)
            _refused(lost, "INSERT INTO copied VALUES (7)")
        wait_until("n1 is told", lambda: _knows(lost), timeout_s=BACK_S)
        lost.execute("INSERT INTO copied VALUES (4)")
    groups = three.group_dsns()
    copies, names = set(), set()
    for dsn in groups.values():
        with psycopg.connect(dsn) as group:
            copies.add(str(group.execute("SELECT array_agg(a ORDER BY a) FROM copied").fetchone()))
            names |= set(group.execute("SELECT relname FROM pg_class WHERE starts_with(relname, 'catalog_')"))
    assert len(groups) == 3
    assert copies == {"([1, 2, 3, 4],)"}
    assert len(names) == 1
