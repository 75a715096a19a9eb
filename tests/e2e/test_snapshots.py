"""Statements and transactions over several groups see every transaction whole or not at all (`transactions/snapshots.py`)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster

ACCOUNTS, EACH = 40, 100
TOTAL = ACCOUNTS * EACH
BANK_S = 2.0
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hanse barrier' AND query LIKE '%LOCK TABLE%'"
PATIENT = """
SELECT count(*) FROM pg_locks
WHERE relation IN ('hanse.gate'::regclass, 'hanse.gate_over_groups'::regclass) AND NOT granted
    AND waitstart < clock_timestamp() - interval '100 ms'
"""
# One of each way that a statement over several groups is run.
QUERIES = (
    "SELECT sum(v) FROM t",  # in two phases
    "SELECT v FROM t",  # put together
    "SELECT v FROM t ORDER BY id",  # merged
    "SELECT a.v FROM t a JOIN (VALUES (1)) x (y) ON true",  # gathered
    "WITH z AS (SELECT id, v FROM t) SELECT sum(z.v) FROM z JOIN t ON t.id = z.id",
)


@pytest.fixture
def bank(cluster_schema: Schema) -> Schema:
    """Accounts 0 to 19 in g1 and 20 to 39 in g2."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)")
        for name, low, high in (("g1", 0, 20), ("g2", 20, 40)):
            connection.execute(
                f"CREATE TABLE t_{name} PARTITION OF t FOR VALUES FROM ({low}) TO ({high}) TABLESPACE {name}"
            )
        connection.execute(f"INSERT INTO t SELECT i, {EACH} FROM generate_series(0, {ACCOUNTS - 1}) i")
    return cluster_schema


def total(connection: psycopg.Connection, sql: str = QUERIES[0]) -> int:
    return sum(int(row[0]) for row in connection.execute(sql).fetchall())  # type: ignore[call-overload]


def move(connection: psycopg.Connection, low: int, high: int) -> None:
    with connection.transaction():
        connection.execute("UPDATE t SET v = v - 1 WHERE id = %s", (low,))
        connection.execute("UPDATE t SET v = v + 1 WHERE id = %s", (high,))


@pytest.fixture
def hasty(bank: Schema) -> Iterator[str]:
    """A role that waits for its locks but briefly."""
    name = f"hasty_{bank.name}"
    with bank.connect() as connection:
        connection.execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'p'")  # type: ignore[call-overload]
        connection.execute(f"ALTER ROLE {name} SET lock_timeout = '50ms'")  # type: ignore[call-overload]
        yield name
        connection.execute(f"DROP ROLE {name}")  # type: ignore[call-overload]


@contextmanager
def half_committed(cluster: Cluster) -> Iterator[None]:
    """As if a transaction over several groups had decided, and had not told g1 yet."""
    with psycopg.connect(cluster.group_dsns()["g1"]) as connection:
        connection.execute("LOCK TABLE hanse.gate_over_groups, hanse.gate IN ROW EXCLUSIVE MODE")
        yield
        connection.rollback()


def waits(cluster: Cluster, reader: Future[Any]) -> None:
    with psycopg.connect(cluster.group_dsns()["g1"], autocommit=True) as connection:
        wait_until("the barrier", lambda: connection.execute(WAITING).fetchone() != (0,))
    assert not reader.done()


# --- the bank --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["autocommit", "read committed", "repeatable read", "serializable"])
def test_the_bank_keeps_its_total(bank: Schema, level: str) -> None:
    stop = threading.Event()

    def write(seed: int) -> int:
        draw, moved = random.Random(seed), 0
        with bank.connect() as connection:
            while not stop.is_set():
                move(connection, draw.randrange(20), draw.randrange(20, 40))
                moved += 1
        return moved

    def read(seed: int) -> list[int]:
        draw, seen = random.Random(seed), []
        with bank.connect() as connection:
            connection.autocommit = level == "autocommit"
            if level != "autocommit":
                connection.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}")
                connection.commit()
            while not stop.is_set():
                connection.execute("SELECT v FROM t WHERE id = %s", (draw.randrange(40),))
                seen += [total(connection, draw.choice(QUERIES)) for _ in range(2)]
                connection.rollback()
        return seen

    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(write, seed) for seed in range(3)]
        readers = [pool.submit(read, seed) for seed in range(2)]
        time.sleep(BANK_S)
        stop.set()
        moved = sum(writer.result(60) for writer in writers)
        seen = [number for reader in readers for number in reader.result(60)]
    assert moved > 0 and seen
    assert set(seen) == {TOTAL}


# --- the gate --------------------------------------------------------------------------------------------------------


OWN_WRITE = "BEGIN; UPDATE t SET v = v WHERE id IN (5, 25)"


@pytest.mark.parametrize("begin", ["", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ", OWN_WRITE])
def test_a_reader_waits_and_nobody_else(cluster: Cluster, bank: Schema, begin: str) -> None:
    with bank.connect() as reader, bank.connect() as other, ThreadPoolExecutor(1) as pool:
        for statement in filter(None, begin.split("; ")):
            reader.execute(statement)  # type: ignore[call-overload]
        with half_committed(cluster):
            waiting = pool.submit(total, reader)
            waits(cluster, waiting)
            move(other, 1, 21)  # commits need not wait for a barrier that waits
            assert other.execute("SELECT v FROM t WHERE id = 1").fetchone() == (EACH - 1,)
            other.execute("SET hanse.read_consistency = 'fast'")
            assert total(other) == TOTAL
            assert not waiting.done()
        assert waiting.result(30) == TOTAL


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET v = v WHERE v > 0",
        "BEGIN; DECLARE c CURSOR FOR SELECT v FROM t WHERE id = 1; FETCH c; UPDATE t SET v = v WHERE v > 0",
        "INSERT INTO copied SELECT sum(v) FROM t",
        "INSERT INTO copied SELECT v FROM t RETURNING v",
        "WITH w AS (UPDATE t SET v = v RETURNING v) INSERT INTO copied SELECT sum(v) FROM w",
    ],
)
def test_a_write_reads_at_one_moment(cluster: Cluster, bank: Schema, sql: str) -> None:
    with bank.connect() as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("CREATE TABLE copied (v int)")
        *before, last = sql.split("; ")
        for statement in before:
            writer.execute(statement)  # type: ignore[call-overload]
        with half_committed(cluster):
            waiting = pool.submit(writer.execute, last)
            waits(cluster, waiting)
        waiting.result(30)


@pytest.mark.parametrize("written", ["", "UPDATE t SET v = v WHERE id = 2"])
def test_a_write_beside_a_cursor_keeps_no_gate_while_it_waits(bank: Schema, written: str) -> None:
    """The branch's snapshot cannot be seen, as the cursor has one; and who has the row could not commit under the barrier."""
    with bank.connect() as one, bank.connect() as other, ThreadPoolExecutor(1) as pool:
        one.execute(f"BEGIN; DECLARE c CURSOR FOR SELECT v FROM t WHERE id = 1; {written}")  # type: ignore[call-overload]
        one.execute("FETCH c")
        other.execute("BEGIN")
        other.execute("UPDATE t SET v = v + 1 WHERE id = 1")
        waiting = pool.submit(one.execute, "UPDATE t SET v = v + 1 WHERE id % 20 = 1")
        time.sleep(0.2)
        assert not waiting.done()
        other.execute("COMMIT")
        assert waiting.result(30).rowcount == 2
        one.execute("COMMIT")
        assert one.execute("SELECT v FROM t WHERE id % 20 = 1 ORDER BY id").fetchall() == [(EACH + 2,), (EACH + 1,)]


def test_a_copy_whose_rows_come_late_keeps_no_gate(bank: Schema) -> None:
    """CopyOutResponse comes with the first 8 kB of rows: here after more than SNAPSHOT_TAKE_S_MAX."""
    with bank.connect() as reader, bank.connect() as writer, ThreadPoolExecutor(1) as pool:
        copied = pool.submit(copied_total, reader, "SELECT v FROM t WHERE pg_sleep(0.13) IS NOT NULL")
        moved = 0
        while not copied.done():
            move(writer, moved % 20, 20 + moved % 20)
            moved += 1
        assert copied.result() == TOTAL
        assert moved > 1


def copied_total(connection: psycopg.Connection, query: str) -> int:
    with connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:  # type: ignore[arg-type]
        return sum(int(row[0]) for row in copy.rows())


def test_a_cut_in_a_transaction_that_writes(bank: Schema) -> None:
    """Portals give what statements would have given: types, texts, parameters, merged rows, COPY, cursors."""
    with bank.connect() as one:
        for binary in (False, True):
            one.execute("BEGIN")
            one.execute("UPDATE t SET v = v + 1 WHERE id IN (3, 33)")
            assert one.execute("SELECT sum(v) FROM t WHERE id <> %s", (3,), binary=binary).fetchone() == (
                TOTAL - EACH + 1,
            )
            rows = one.execute("SELECT id, v FROM t WHERE v > %s ORDER BY id DESC LIMIT 3", (EACH,), binary=binary)
            assert rows.fetchall() == [(33, EACH + 1), (3, EACH + 1)]
            assert len(one.execute("SELECT a.id FROM t a JOIN t b ON a.v = b.v + 1", binary=binary).fetchall()) == 76
            with one.cursor().copy("COPY t (v) TO STDOUT") as copy:
                assert sum(int(row[0]) for row in copy.rows()) == TOTAL + 2
            one.execute("DECLARE c CURSOR FOR SELECT sum(v) FROM t")
            one.execute("UPDATE t SET v = v + 1 WHERE id = 34")
            assert one.execute("FETCH c").fetchone() == (TOTAL + 2,)
            assert one.execute("SELECT sum(v) FROM t", prepare=True).fetchone() == (TOTAL + 3,)
            assert one.execute("SELECT now() = min(now()) FROM t").fetchone() == (True,)
            with pytest.raises(psycopg.errors.DivisionByZero):
                one.execute("SELECT sum(1 / (id - 30)) FROM t")
            one.execute("ROLLBACK")
            assert total(one) == TOTAL


# --- writes that meet ------------------------------------------------------------------------------------------------


def test_writes_that_meet_are_not_told_of_it(bank: Schema) -> None:
    """At READ COMMITTED one server would have let each wait for the others; here each is done again until it is alone."""
    rounds, clients = 4, 6

    def add(_: int) -> int:
        with bank.connect() as connection:
            return sum(
                len(connection.execute("UPDATE t SET v = v + 1 WHERE id % 5 = 0 RETURNING id").fetchall())
                for _ in range(rounds)
            )

    with ThreadPoolExecutor(clients) as pool:
        assert list(pool.map(add, range(clients))) == [rounds * ACCOUNTS // 5] * clients
    with bank.connect() as connection:
        assert total(connection) == TOTAL + clients * rounds * ACCOUNTS // 5


def test_a_default_level_holds_for_transactions_with_other_modes(bank: Schema) -> None:
    with bank.connect() as one, bank.connect() as other:
        one.execute("SET default_transaction_isolation = 'repeatable read'")
        one.execute("BEGIN READ ONLY")
        assert total(one) == TOTAL
        other.execute("UPDATE t SET v = v + 1 WHERE id = 1")
        assert total(one) == TOTAL
        one.execute("COMMIT")
        assert total(one) == TOTAL + 1


def test_a_reader_that_waits_can_be_cancelled(cluster: Cluster, bank: Schema) -> None:
    with bank.connect() as reader, ThreadPoolExecutor(1) as pool, half_committed(cluster):
        waiting = pool.submit(total, reader)
        waits(cluster, waiting)
        # The barrier that was seen may be another test's: a request that comes before there is something to cancel is lost.
        wait_until("the end", lambda: waiting.done() or reader.cancel(), timeout_s=15, every_s=0.2)
        with pytest.raises(psycopg.errors.QueryCanceled):
            waiting.result(10)
        assert reader.execute("SELECT v FROM t WHERE id = 1").fetchone() == (EACH,)


def test_a_reader_that_vanishes_leaves_nothing(cluster: Cluster, bank: Schema) -> None:
    with half_committed(cluster), ThreadPoolExecutor(1) as pool:
        reader = bank.connect()
        waiting = pool.submit(total, reader)
        waits(cluster, waiting)
        reader.pgconn.finish()
        with pytest.raises(psycopg.Error):
            waiting.result(10)
    with bank.connect() as connection:
        assert total(connection) == TOTAL


# --- transactions with a snapshot of their own -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begin",
    [
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET default_transaction_isolation = 'repeatable read'; BEGIN",
        "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    ],
)
def test_the_snapshot_is_of_the_first_statement_everywhere(bank: Schema, begin: str) -> None:
    with bank.connect() as reader, bank.connect() as writer:
        with writer.transaction():
            writer.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            writer.execute("UPDATE t SET v = v WHERE id = 7")
            for statement in begin.split("; "):
                reader.execute(statement)  # type: ignore[call-overload]
            assert reader.execute("SELECT v FROM t WHERE id = 1").fetchone() == (EACH,)
        move(writer, 1, 21)
        assert reader.execute("SELECT v FROM t WHERE id = 21").fetchone() == (EACH,)
        assert total(reader) == TOTAL
        reader.execute("ROLLBACK")
        assert reader.execute("SELECT v FROM t WHERE id = 21").fetchone() == (EACH + 1,)


def test_read_committed_sees_the_newest_state_and_its_own_writes(bank: Schema) -> None:
    with bank.connect() as one, bank.connect() as other:
        one.execute("BEGIN")
        assert total(one) == TOTAL
        other.execute("UPDATE t SET v = v + 1 WHERE id = 30")
        assert total(one) == TOTAL + 1
        one.execute("SAVEPOINT s")
        one.execute("SET LOCAL work_mem = '5MB'")
        assert total(one) == TOTAL + 1
        assert one.execute("SHOW work_mem").fetchone() == ("5MB",)
        one.execute("UPDATE t SET v = v + 1 WHERE id = 2")
        assert [total(one, sql) for sql in QUERIES] == [TOTAL + 2] * len(QUERIES)
        one.execute("ROLLBACK TO s")
        assert total(one) == TOTAL + 1
        one.execute("COMMIT")
        assert total(one) == TOTAL + 1


def test_read_consistency_is_a_setting(bank: Schema) -> None:
    with bank.connect() as connection:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="snapshot, fast"):
            connection.execute("SET hanse.read_consistency = 'sometimes'")
        connection.execute("SET hanse.read_consistency = 'fast'")
        assert connection.execute("SHOW hanse.read_consistency").fetchone() == ("fast",)
        connection.execute("RESET hanse.read_consistency")
        with connection.transaction():
            connection.execute("SET LOCAL hanse.read_consistency TO fast")
            assert total(connection) == TOTAL


def test_deferred_constraints_are_checked_before_the_commit(bank: Schema) -> None:
    with bank.connect() as connection:
        connection.execute("CREATE TABLE kinds (kind int PRIMARY KEY) WITH (distribution = 'reference')")
        connection.execute(
            "CREATE TABLE items (id int PRIMARY KEY, kind int REFERENCES kinds DEFERRABLE INITIALLY DEFERRED) "
            "PARTITION BY HASH (id) WITH (shards = 4)"
        )
        with connection.transaction():
            connection.execute("INSERT INTO items SELECT i, 1 FROM generate_series(1, 20) i")
            connection.execute("INSERT INTO kinds VALUES (1)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation), connection.transaction():
            connection.execute("INSERT INTO items SELECT i, i % 2 + 1 FROM generate_series(21, 40) i")
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (20,)
        connection.execute("DROP TABLE items, kinds")


def test_a_lock_timeout_is_for_the_clients_own_locks(cluster: Cluster, bank: Schema, hasty: str) -> None:
    """Not for the gates, wherever it comes from; in one group and over two."""

    def commit(way: str, row: int) -> None:
        user = {"user": hasty, "password": "p"} if way == "role" else {}
        with bank.connect(**user) as connection:
            if way == "session":
                connection.execute("SET lock_timeout = '50ms'")
            with connection.transaction():
                if way == "transaction":
                    connection.execute("SET LOCAL lock_timeout = '50ms'")
                connection.execute("UPDATE t SET v = v - 1 WHERE id = %s", (row,))
                if row % 2:
                    connection.execute("UPDATE t SET v = v + 1 WHERE id = %s", (39 - row,))

    ways = ("role", "session", "transaction")
    with psycopg.connect(cluster.group_dsns()["g1"]) as barrier, ThreadPoolExecutor(6) as pool:
        barrier.execute("LOCK TABLE hanse.gate_over_groups, hanse.gate IN SHARE MODE")
        commits = [pool.submit(commit, way, row) for row, way in enumerate((*ways, *ways))]
        with psycopg.connect(cluster.group_dsns()["g1"], autocommit=True) as system:
            wait_until(
                "all wait for longer than that", lambda: system.execute(PATIENT).fetchone() == (6,), timeout_s=60
            )
        barrier.rollback()
        for each in commits:
            each.result(60)
