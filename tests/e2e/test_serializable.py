"""SERIALIZABLE holds over groups, too (`transactions/serializable.py`; the cases of findings-transactions A2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import errors

from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster

WITNESSES = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hanse witness'"

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO hanse.touch%'"
LEFT = "SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'hanse:g2:%'"


@pytest.fixture
def keys(cluster_schema: Schema) -> Schema:
    """0 to 9 in g1 and 10 to 19 in g2; the odd ones have no row."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)")
        for name, low, high in (("g1", 0, 10), ("g2", 10, 20)):
            connection.execute(
                f"CREATE TABLE t_{name} PARTITION OF t FOR VALUES FROM ({low}) TO ({high}) TABLESPACE {name}"
            )
        connection.execute("INSERT INTO t SELECT i, 0 FROM generate_series(0, 19, 2) i")
    return cluster_schema


@pytest.fixture
def begin(keys: Schema) -> Iterator[Callable[..., psycopg.Connection]]:
    """Begins transactions; the first has its snapshot when this returns."""
    with ExitStack() as stack:

        def start(*, groups: str = "SELECT 1", level: str = "SERIALIZABLE") -> psycopg.Connection:
            connection = stack.enter_context(keys.connect())
            connection.execute(f"BEGIN ISOLATION LEVEL {level}")
            connection.execute(groups)  # type: ignore[call-overload]
            return connection

        yield start


def read(connection: psycopg.Connection, key: int) -> list[tuple[int]]:
    return connection.execute("SELECT v FROM t WHERE id = %s", (key,)).fetchall()


def write(connection: psycopg.Connection, key: int) -> None:
    connection.execute("INSERT INTO t VALUES (%s, 1) ON CONFLICT (id) DO UPDATE SET v = t.v + 1", (key,))


def committed(*transactions: psycopg.Connection) -> list[bool]:
    """Commits one after another; which of them came through. Each other one was told 40001."""
    outcome = []
    for connection in transactions:
        try:
            outcome.append(connection.execute("COMMIT").statusmessage == "COMMIT")
        except errors.SerializationFailure:
            outcome.append(False)
    return outcome


@pytest.mark.parametrize(("a", "b"), [(0, 10), (1, 11), (0, 11)], ids=["rows", "absent", "one absent"])
@pytest.mark.parametrize("late", [False, True], ids=["reads first", "writes first"])
def test_no_write_skew(begin: Callable[..., psycopg.Connection], a: int, b: int, late: bool) -> None:
    first, second = begin(), begin()
    if late:
        write(first, b)
        write(second, a)
    read(first, a)
    read(second, b)
    if not late:
        write(first, b)
        write(second, a)
    assert committed(first, second) == [True, False]


def test_no_write_skew_by_sums(begin: Callable[..., psycopg.Connection]) -> None:
    first, second = begin(), begin()
    for connection in (first, second):
        connection.execute("SELECT sum(v) FROM t")
    write(first, 0)
    write(second, 12)
    assert committed(first, second) == [True, False]


def test_skew_is_possible_below(begin: Callable[..., psycopg.Connection]) -> None:
    """What the tests above would see if SERIALIZABLE were no more than each group's snapshot."""
    first, second = begin(level="REPEATABLE READ"), begin(level="REPEATABLE READ")
    read(first, 0)
    read(second, 10)
    write(first, 10)
    write(second, 0)
    assert committed(first, second) == [True, True]


def test_three_in_a_circle(begin: Callable[..., psycopg.Connection]) -> None:
    """Each reads what the next one writes; every pair may run together."""
    connections = [begin() for _ in range(3)]
    places = [0, 10, 2]
    for number, connection in enumerate(connections):
        read(connection, places[number])
        write(connection, places[(number + 1) % 3])
    assert committed(*connections).count(True) < 3


@pytest.mark.parametrize("order", ["single first", "several first"])
def test_through_transactions_of_one_group(begin: Callable[..., psycopg.Connection], order: str) -> None:
    """N → X → M in g1 and M → Y → N in g2, X and Y in one group each (A2 c and d)."""
    n, m, x, y = begin(), begin(), begin(), begin()
    read(n, 0)
    write(n, 16)
    read(m, 14)
    write(m, 2)
    read(x, 2)
    read(y, 16)
    several, single = (n, m), (x, y)
    if order == "several first":
        outcome = committed(*several)
    try:
        write(x, 0)
        write(y, 14)
    except errors.SerializationFailure:
        return
    outcome = committed(*single) + (outcome if order == "several first" else committed(*several))
    assert False in outcome


def test_a_reader_of_three_is_part_of_it(keys: Schema, begin: Callable[..., psycopg.Connection]) -> None:
    """The anomaly of Fekete, O'Neil and O'Neil (2004) over two groups: only the transaction that reads makes it one."""
    pivot = begin()
    read(pivot, 0)
    read(pivot, 10)
    with keys.connect() as deposit:
        deposit.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        read(deposit, 10)
        write(deposit, 10)
        deposit.execute("COMMIT")
    reader = begin()
    seen = read(reader, 0), read(reader, 10)
    assert seen == ([(0,)], [(1,)])
    outcome = committed(reader)
    try:
        write(pivot, 0)
    except errors.SerializationFailure:
        return
    outcome += committed(pivot)
    assert False in outcome


def test_who_does_not_meet_commits(begin: Callable[..., psycopg.Connection]) -> None:
    first, second = begin(), begin()
    read(first, 0)
    write(first, 10)
    read(second, 2)
    write(second, 12)
    third = begin()
    read(third, 4)
    write(third, 6)
    assert committed(first, second, third) == [True, True, True]


def test_the_touch_is_taken_back(cluster: Cluster, begin: Callable[..., psycopg.Connection]) -> None:
    connection = begin()
    read(connection, 0)
    write(connection, 10)
    assert committed(connection) == [True]
    for rows in cluster.ask_instances("SELECT count(*) FROM hanse.touch").values():
        assert rows == [(0,)]


def test_a_lost_witness_ends_the_commit(cluster: Cluster, begin: Callable[..., psycopg.Connection]) -> None:
    """It is looked for before the decision; here it goes while g1 waits to prepare."""
    dsn = cluster.group_dsns()["g1"]
    connection = begin()
    read(connection, 0)
    write(connection, 10)
    with (
        psycopg.connect(dsn) as barrier,
        psycopg.connect(dsn, autocommit=True) as system,
        ThreadPoolExecutor(1) as pool,
    ):
        barrier.execute("LOCK TABLE hanse.gate_over_groups IN SHARE MODE")
        outcome = pool.submit(committed, connection)
        wait_until("the commit waits", lambda: system.execute(WAITING).fetchall(), timeout_s=30)
        system.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM ({WITNESSES}) w")
        barrier.rollback()
        assert outcome.result(30) == [False]
    with psycopg.connect(dsn, autocommit=True) as system:
        wait_until("nothing is left prepared", lambda: system.execute(LEFT).fetchone() == (0,), timeout_s=30)
