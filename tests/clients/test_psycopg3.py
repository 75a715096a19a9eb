"""psycopg 3: sync and async, pipelines, COPY, cursors, types, transactions, notifications."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import rows, sql
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from clients.home import LETTERS, PEOPLE, Home

CLIENT = "psycopg 3"
VERSION = psycopg.__version__


@pytest.fixture
def connection(home: Home) -> Iterator[psycopg.Connection]:
    with psycopg.connect(home.dsn) as connection:
        yield connection
        connection.rollback()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_queries(connection: psycopg.Connection, binary: bool, prepare: bool) -> None:
    """parameters, text and binary results, prepared statements"""
    for i in range(1, 12):
        row = connection.execute(
            "SELECT name, age, tags FROM person WHERE id = %s", (i,), binary=binary, prepare=prepare
        ).fetchone()
        assert row == (f"person {i}", i, [f"t{i}"])
    found = connection.execute(
        "SELECT p.name, sum(l.weight) FROM person p JOIN letter l ON l.person_id = p.id WHERE p.id = ANY(%s)"
        " GROUP BY 1 ORDER BY 1", ([1, 2, 3],), binary=binary, prepare=prepare,
    ).fetchall()  # fmt: skip
    assert found == [(f"person {i}", decimal.Decimal(f"{3 * i + 0.75:.2f}")) for i in (1, 2, 3)]


def test_server_side_binding_cursors(home: Home) -> None:
    """ClientCursor and RawCursor"""
    for factory, place in ((psycopg.ClientCursor, "%s"), (psycopg.RawCursor, "$1")):
        with psycopg.connect(home.dsn, cursor_factory=factory) as connection:
            got = connection.execute(f"SELECT count(*) FROM person WHERE age > {place}", (50,)).fetchone()
            assert got == (PEOPLE - 50,)


def test_row_factories(connection: psycopg.Connection) -> None:
    """row factories: dict, namedtuple, class, scalar"""

    @dataclasses.dataclass
    class Person:
        id: int
        name: str

    query = "SELECT id, name FROM person WHERE id = 3"
    assert connection.cursor(row_factory=rows.dict_row).execute(query).fetchone() == {"id": 3, "name": "person 3"}
    got = connection.cursor(row_factory=rows.namedtuple_row).execute(query).fetchone()
    assert got is not None and got.name == "person 3"
    assert connection.cursor(row_factory=rows.class_row(Person)).execute(query).fetchone() == Person(3, "person 3")
    assert connection.cursor(row_factory=rows.scalar_row).execute(query).fetchone() == 3


def test_pipeline(connection: psycopg.Connection) -> None:
    """pipeline mode over several groups, and an error in the middle of one"""
    with connection.pipeline():
        names = [connection.execute("SELECT name FROM person WHERE id = %s", (i,)) for i in range(1, 30)]
        written = connection.execute("UPDATE letter SET body = body WHERE n = 1")
    assert [cursor.fetchone() for cursor in names] == [(f"person {i}",) for i in range(1, 30)]
    assert written.rowcount == PEOPLE
    connection.rollback()
    with pytest.raises(psycopg.errors.UniqueViolation), connection.pipeline():
        connection.execute("INSERT INTO person (id, name) VALUES (9001, 'a')")
        connection.execute("INSERT INTO person (id, name) VALUES (1, 'dup')")
        connection.execute("INSERT INTO person (id, name) VALUES (9002, 'b')")
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM person WHERE id > 9000").fetchone() == (0,)


@pytest.mark.parametrize("options", ["", "(FORMAT binary)"])
@pytest.mark.parametrize("table", ["person", "town", "note"])
def test_copy(connection: psycopg.Connection, table: str, options: str) -> None:
    """COPY in and out, text and binary, of sharded, reference and single tables"""
    columns, types = {
        "person": ("id, name, age", ["int8", "text", "int4"]),
        "town": ("code, name", ["text", "text"]),
        "note": ("id, body", ["int4", "text"]),
    }[table]
    records = [(f"k{i}", f"n{i}") if table == "town" else (7000 + i, f"n{i}", i)[: len(types)] for i in range(200)]
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY {table} ({columns}) FROM STDIN {options}") as copy:
            copy.set_types(types)
            for record in records:
                copy.write_row(record)
        assert cursor.rowcount == 200
        with cursor.copy(f"COPY {table} ({columns}) TO STDOUT {options}") as copy:
            copy.set_types(types)
            assert set(records) <= set(copy.rows())


def test_cursors(connection: psycopg.Connection) -> None:
    """server-side cursors: fetch, scroll, WITH HOLD, iteration"""
    with connection.cursor("reader", scrollable=True) as cursor:
        cursor.execute("SELECT id FROM person ORDER BY id")
        assert cursor.fetchmany(2) == [(1,), (2,)]
        cursor.scroll(-2)
        assert cursor.fetchone() == (1,)
        cursor.scroll(10, mode="absolute")
        assert [row[0] for row in cursor] == list(range(11, PEOPLE + 1))
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT n FROM letter")
        connection.commit()
        assert len(cursor.fetchall()) == PEOPLE * LETTERS


def test_transactions(connection: psycopg.Connection) -> None:
    """transactions, savepoints, isolation levels, read only, autocommit"""
    with connection.transaction(force_rollback=True):
        connection.execute("UPDATE person SET age = age + 100")
        with pytest.raises(psycopg.errors.CheckViolation) as caught, connection.transaction():
            connection.execute("UPDATE person SET age = -1 WHERE id = 1")
        assert (caught.value.diag.table_name, caught.value.diag.constraint_name) == ("person", "age_is_sane")
        assert connection.execute("SELECT min(age) FROM person").fetchone() == (101,)
    assert connection.execute("SELECT min(age) FROM person").fetchone() == (1,)
    connection.rollback()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM letter")
    connection.rollback()
    connection.autocommit = True
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_executemany(connection: psycopg.Connection) -> None:
    """executemany with RETURNING; identity and serial values; ON CONFLICT"""
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO person (name) VALUES (%s) RETURNING id", [("x",)] * 5, returning=True)
        ids = [cursor.fetchone()]
        while cursor.nextset():
            ids.append(cursor.fetchone())
        assert len(set(ids)) == 5
        cursor.executemany(
            "INSERT INTO letter VALUES (%s, %s, 'new') ON CONFLICT (person_id, n) DO UPDATE SET body = excluded.body",
            [(1, 0), (2, 0), (3, 9)],
        )
        assert cursor.rowcount == 3


def test_types(connection: psycopg.Connection) -> None:
    """registered enums and composites, arrays, ranges, JSON, dates; binary"""
    connection.execute("CREATE TYPE pair AS (a int, b text)")
    connection.execute("CREATE TABLE kinds (id int PRIMARY KEY, p pair, m mood[], r int4range, j jsonb, d date)")
    connection.execute("SELECT create_distributed_table('kinds', 'id', shard_count => 2)")
    pair = CompositeInfo.fetch(connection, "pair")
    mood = EnumInfo.fetch(connection, "mood")
    assert pair is not None and mood is not None
    register_composite(pair, connection)
    register_enum(mood, connection)
    assert pair.python_type is not None and mood.enum is not None
    row = (pair.python_type(1, "x"), [mood.enum["glad"]], Range(1, 5), {"a": [1]}, datetime.date(2026, 1, 2))
    for i in range(6):
        connection.execute(
            "INSERT INTO kinds VALUES (%s, %s, %s, %s, %s, %s)", (i, row[0], row[1], row[2], Jsonb(row[3]), row[4])
        )
    for binary in (False, True):
        got = connection.execute("SELECT p, m, r, j, d FROM kinds", binary=binary).fetchall()
        assert got == [row] * 6


def test_errors_notices_and_notifications(home: Home) -> None:
    """notices, NOTIFY and LISTEN, diagnostics of errors"""
    with psycopg.connect(home.dsn, autocommit=True) as connection:
        heard: list[str | None] = []
        connection.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary))
        connection.execute("DO $$ BEGIN RAISE NOTICE 'psst'; END $$")
        assert heard == ["psst"]
        connection.execute("LISTEN post")
        connection.execute("SELECT pg_notify('post', 'came')")
        assert [note.payload for note in connection.notifies(timeout=5, stop_after=1)] == ["came"]
        with pytest.raises(psycopg.errors.NotNullViolation) as caught:
            connection.execute("INSERT INTO person (id, name) VALUES (1, NULL)")
        assert (caught.value.diag.table_name, caught.value.diag.column_name) == ("person", "name")
        with pytest.raises(psycopg.errors.ForeignKeyViolation) as broken:
            connection.execute(sql.SQL("DELETE FROM {} WHERE id = 1").format(sql.Identifier("person")))
        assert (broken.value.diag.table_name, broken.value.diag.constraint_name) == ("letter", "letter_person_id_fkey")


async def test_async(home: Home) -> None:
    """AsyncConnection: queries, pipeline, COPY, transactions, cancel"""
    async with await psycopg.AsyncConnection.connect(home.dsn) as connection:
        async with connection.pipeline():
            first = await connection.execute("SELECT count(*) FROM person")
            second = await connection.execute("SELECT count(*) FROM letter")
        assert (await first.fetchone(), await second.fetchone()) == ((PEOPLE,), (PEOPLE * LETTERS,))
        async with connection.cursor() as cursor, cursor.copy("COPY letter (person_id, n) TO STDOUT") as copy:
            assert len([row async for row in copy.rows()]) == PEOPLE * LETTERS
        async with connection.transaction(force_rollback=True):
            await connection.execute("DELETE FROM letter")
        await connection.rollback()
        await connection.cancel_safe()
        assert (await (await connection.execute("SELECT count(*) FROM letter")).fetchone()) == (PEOPLE * LETTERS,)
