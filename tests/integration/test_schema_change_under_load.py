"""Schema changes while clients of two gateways read and write: nothing is lost, and nobody who did not touch the changed
object sees an error (findings-gateway 3, 18)."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster

ROUND = (
    "CREATE INDEX changing_n ON changing (n)",
    "ALTER TABLE changing ADD COLUMN extra text DEFAULT 'x'",
    "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'value {round}'",
    "ALTER TABLE changing ALTER COLUMN extra SET NOT NULL",
    "CREATE TABLE passing (id int PRIMARY KEY, m mood) PARTITION BY HASH (id) WITH (shards = 2)",
    "ALTER TABLE changing RENAME COLUMN extra TO more",
    "ALTER TABLE changing DROP COLUMN more",
    "ALTER TABLE changing ALTER COLUMN other TYPE bigint",
    "ALTER TABLE changing ALTER COLUMN other TYPE int",
    "DROP TABLE passing",
    "DROP INDEX changing_n",
)
WAITING = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX late%'"
ROUNDS = 1
CLIENTS = 16
ASKING, COPIES = 8, 5


class Client:
    """Writes and reads until told to stop, and keeps account of what was acknowledged."""

    def __init__(self, number: int, dsn: str) -> None:
        self.number = number
        self.dsn = dsn
        self.inserted: dict[str, int] = {"steady": 0, "changing": 0}
        self.added = 0  # to the reference table's only row

    def run(self, stop: threading.Event) -> None:
        dice = random.Random(self.number)
        with psycopg.connect(self.dsn, autocommit=True, prepare_threshold=2) as connection:
            while not stop.is_set():
                for step in (self.insert, self.several, self.read, self.count, self.look):
                    step(connection, dice)

    def _next_id(self, table: str) -> int:
        return self.number * 1_000_000 + self.inserted[table]

    def insert(self, connection: psycopg.Connection, dice: random.Random) -> None:
        for table in self.inserted:
            connection.execute(f"INSERT INTO {table} (id, n) VALUES (%s, 1)", (self._next_id(table),))
            self.inserted[table] += 1

    def several(self, connection: psycopg.Connection, dice: random.Random) -> None:
        """One transaction over several groups and tables, in an order of its own."""
        with connection.transaction():
            for table in dice.sample(sorted(self.inserted), 2):
                first = self._next_id(table)
                for i in range(3):
                    connection.execute(f"INSERT INTO {table} (id, n) VALUES (%s, 1)", (first + i,))
        for table in self.inserted:
            self.inserted[table] += 3
        connection.execute("UPDATE everywhere SET n = n + 1")
        self.added += 1

    def read(self, connection: psycopg.Connection, dice: random.Random) -> None:
        for table, inserted in self.inserted.items():
            number = self.number * 1_000_000 + dice.randrange(inserted)
            row = connection.execute(f"SELECT id, n FROM {table} WHERE id = %s", (number,)).fetchone()
            assert row == (number, 1), f"{table}: {number} is lost"
            connection.execute(f"UPDATE {table} SET n = 1 WHERE id = %s", (number,))
        connection.execute("SELECT * FROM steady JOIN everywhere e ON e.id = 1 WHERE steady.id = %s", (1,))

    def count(self, connection: psycopg.Connection, dice: random.Random) -> None:
        first = self.number * 1_000_000
        for table, inserted in self.inserted.items():
            query = f"SELECT count(*), sum(n) FROM {table} WHERE id BETWEEN %s AND %s"
            assert connection.execute(query, (first, first + 999_999)).fetchone() == (inserted, inserted)
            change = f"UPDATE {table} SET n = 1 WHERE id BETWEEN %s AND %s"
            assert connection.execute(change, (first, first + 999_999)).rowcount == inserted

    def look(self, connection: psycopg.Connection, dice: random.Random) -> None:
        """As drivers and psql do all the time, in the database that every new workspace is a copy of."""
        for _ in range(10):
            assert connection.execute("SELECT oid FROM pg_class WHERE relname = 'steady'").fetchall()


@pytest.fixture
def tables(cluster_schema: Schema) -> Schema:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
        for table in ("steady", "changing"):
            columns = "id bigint PRIMARY KEY, n int NOT NULL, other int DEFAULT 7, m mood DEFAULT 'ok'"
            connection.execute(f"CREATE TABLE {table} ({columns}) PARTITION BY HASH (id) WITH (shards = 4)")
        connection.execute("CREATE TABLE everywhere (id int PRIMARY KEY, n int) WITH (distribution = 'reference')")
        connection.execute("INSERT INTO everywhere VALUES (1, 0)")
    return cluster_schema


def _through(gateway: object, schema: Schema) -> str:
    return gateway.dsn_for(options=f"-c search_path={schema.name},public")  # type: ignore[attr-defined, no-any-return]


def test_nothing_is_lost_and_nobody_is_disturbed(cluster: Cluster, tables: Schema) -> None:
    gateways = cluster.gateways
    clients = [Client(number, _through(gateways[number % len(gateways)], tables)) for number in range(CLIENTS)]
    stop = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        work = [pool.submit(client.run, stop) for client in clients]
        try:
            with tables.connect() as connection:
                for number in range(ROUNDS):
                    for statement in ROUND:
                        connection.execute(statement.format(round=number))
        finally:
            stop.set()
    for each in work:
        each.result()
    with tables.connect() as connection:
        for table in ("steady", "changing"):
            expected = sum(client.inserted[table] for client in clients)
            assert connection.execute(f"SELECT count(*), sum(n) FROM {table}").fetchone() == (expected, expected)
        added = sum(client.added for client in clients)
        assert added > 0
        assert connection.execute("SELECT n FROM everywhere").fetchone() == (added,)
    for dsn in cluster.group_dsns().values():
        with psycopg.connect(dsn) as group:
            assert group.execute(f"SELECT n FROM {tables.name}.everywhere").fetchone() == (added,)


def test_a_schema_change_waits_for_a_reader_and_lets_others_pass(tables: Schema) -> None:
    """One that wants a lock behind a long transaction gives way again and again; on one server everybody would queue."""
    with tables.connect() as reader, tables.connect() as other, ThreadPoolExecutor(1) as pool:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM changing")
        change = pool.submit(_change, tables, "ALTER TABLE changing ADD COLUMN late int")
        for number in range(200):
            other.execute("INSERT INTO changing (id, n) VALUES (%s, 1)", (number,))
        assert not change.done()
        reader.execute("COMMIT")
        change.result(timeout=20)
        assert other.execute("SELECT count(*), count(late) FROM changing").fetchone() == (200, 0)


def test_a_transaction_over_groups_and_a_schema_change_do_not_wait_for_each_other(
    tables: Schema, somebody_waits: Callable[[], bool]
) -> None:
    """The transaction has written in one group, where the change waits, holding the other; it must let go of that."""
    with tables.connect() as writer, ThreadPoolExecutor(1) as pool:
        for first in range(2):
            writer.execute("BEGIN")
            writer.execute("INSERT INTO changing (id, n) VALUES (%s, 1)", (first,))
            change = pool.submit(_change, tables, f"CREATE INDEX late_{first} ON changing (n)")
            wait_until("the change to wait", somebody_waits, timeout_s=20, every_s=0.01)
            writer.execute("SET LOCAL statement_timeout = '20s'")
            values = ", ".join(f"({first * 10 + i}, 1)" for i in range(100, 110))
            writer.execute(f"INSERT INTO changing (id, n) VALUES {values}")
            writer.execute("COMMIT")
            change.result(timeout=20)
        assert writer.execute("SELECT count(*), sum(n) FROM changing").fetchone() == (22, 22)


@pytest.fixture
def somebody_waits(cluster: Cluster) -> Iterator[Callable[[], bool]]:
    """Whether in some group somebody waits for a lock to make an index."""
    with contextlib.ExitStack() as stack:
        dsns = cluster.group_dsns().values()
        groups = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for dsn in dsns]
        yield lambda: any(group.execute(WAITING).fetchall() for group in groups)


def test_a_clients_own_lock_timeout_holds(tables: Schema) -> None:
    with tables.connect() as reader, tables.connect() as changer:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM changing")
        changer.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            changer.execute("ALTER TABLE changing ADD COLUMN late int")
        reader.execute("COMMIT")
        changer.execute("ALTER TABLE changing ADD COLUMN late int")
        assert changer.execute("SHOW lock_timeout").fetchone() == ("100ms",)


def _change(tables: Schema, sql: str) -> None:
    with tables.connect() as connection:
        connection.execute(sql)


def test_workspaces_are_made_while_the_catalog_is_asked_all_the_time(tables: Schema) -> None:
    """A copy of the main database needs it without anybody else; clients that never pause must not keep it from being made."""
    stop = threading.Event()

    def ask() -> int:
        asked = 0
        with tables.connect() as connection:
            while not stop.is_set():
                assert connection.execute("SELECT relname FROM pg_class WHERE relname = 'steady'").fetchone()
                asked += 1
        return asked

    with tables.connect() as connection, ThreadPoolExecutor(ASKING) as pool:
        connection.execute("INSERT INTO steady (id, n) SELECT g, g % 5 FROM generate_series(1, 20) g")
        connection.execute("INSERT INTO changing (id, n) SELECT g, g % 5 FROM generate_series(1, 20) g")
        work = [pool.submit(ask) for _ in range(ASKING)]
        try:
            connection.execute("SET statement_timeout = '20s'")
            for number in range(COPIES):
                connection.execute(f"ALTER TABLE changing ADD COLUMN made_{number} int")
                joined = "SELECT count(*) FROM steady a JOIN changing b ON a.n = b.n"
                assert connection.execute(joined).fetchone() == (80,)
        finally:
            stop.set()
        assert min(each.result() for each in work) > COPIES
