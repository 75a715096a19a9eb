"""psycopg2: cursors of all kinds, bulk helpers, COPY, types, errors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import psycopg2.sql
import pytest

from clients.home import LETTERS, PEOPLE, Home

CLIENT = "psycopg2"
VERSION = psycopg2.__version__.split()[0]


@pytest.fixture
def connection(home: Home) -> Iterator[Any]:
    with closing(psycopg2.connect(home.dsn)) as connection:
        yield connection
        connection.rollback()


def test_cursors(connection: Any) -> None:
    """named cursors, dict and namedtuple cursors, `mogrify`, composed SQL"""
    with connection.cursor("reader", scrollable=True) as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id FROM person ORDER BY id")
        assert [row[0] for row in cursor] == list(range(1, PEOPLE + 1))
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
    with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        query = psycopg2.sql.SQL("SELECT name FROM {} WHERE id = {}").format(
            psycopg2.sql.Identifier("person"), psycopg2.sql.Placeholder()
        )
        cursor.execute(query, (4,))
        assert cursor.fetchone() == {"name": "person 4"}
    with connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
        cursor.execute(cursor.mogrify("SELECT count(*) AS n FROM letter WHERE person_id = ANY(%s)", ([1, 2],)))
        assert cursor.fetchone().n == 2 * LETTERS


def test_bulk(connection: Any) -> None:
    """`execute_values`, `execute_batch`, `executemany`"""
    rows = [(8000 + i, f"bulk {i}") for i in range(250)]
    with connection.cursor() as cursor:
        got = psycopg2.extras.execute_values(
            cursor, "INSERT INTO person (id, name) VALUES %s RETURNING id", rows, fetch=True
        )
        assert sorted(got) == [(8000 + i,) for i in range(250)]
        psycopg2.extras.execute_batch(cursor, "UPDATE person SET age = %s WHERE id = %s", [(1, id_) for id_, _ in rows])
        cursor.executemany("DELETE FROM person WHERE id = %s", [(id_,) for id_, _ in rows[:50]])
        cursor.execute("SELECT count(*), sum(age) FROM person WHERE id >= 8000")
        assert cursor.fetchone() == (200, 200)


def test_copy(connection: Any) -> None:
    """`copy_expert`, `copy_from`, `copy_to`"""
    with connection.cursor() as cursor:
        cursor.copy_expert("COPY person (id, name) FROM STDIN CSV", io.StringIO('8500,a\n8501,b\n8502,"c,d"\n'))
        cursor.copy_from(io.StringIO("XX\tExtra\n"), "town", columns=("code", "name"))
        out = io.StringIO()
        cursor.copy_to(out, "town", columns=("code",))
        assert sorted(out.getvalue().split()) == ["HH", "HL", "TL", "XX"]
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT name FROM person WHERE id >= 8500 ORDER BY id) TO STDOUT", out)
        assert out.getvalue() == "a\nb\nc,d\n"


def test_transactions_and_errors(connection: Any) -> None:
    """transactions, isolation, autocommit, diagnostics, notices, notifications"""
    with pytest.raises(psycopg2.errors.UniqueViolation) as caught, connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO person (id, name) VALUES (8600, 'a'), (1, 'dup')")
    assert (caught.value.diag.table_name, caught.value.diag.constraint_name) == ("person", "person_pkey")
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM person WHERE id = 8600")
        assert cursor.fetchone() == (0,)
    connection.rollback()
    connection.set_session(isolation_level="READ COMMITTED", readonly=False, autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'hear'; END $$; LISTEN psycopg2; NOTIFY psycopg2, 'this'")
        assert connection.notices[-1] == "NOTICE:  hear\n"
        connection.poll()
        assert connection.notifies[0].payload == "this"


def test_types(connection: Any) -> None:
    """registered composites, JSON, ranges, arrays, large texts"""
    with connection.cursor() as cursor:
        psycopg2.extras.register_composite("town", connection)
        cursor.execute(
            "SELECT t, %s::int4range, %s::jsonb, %s FROM town t WHERE code = 'HL'",
            (psycopg2.extras.NumericRange(1, 3), psycopg2.extras.Json({"a": 1}), ["x", None]),
        )
        town, span, data, texts = cursor.fetchone()
        assert (town.name, span.upper, data, texts) == ("Lübeck", 3, {"a": 1}, ["x", None])
        cursor.execute(
            "UPDATE letter SET body = %s WHERE person_id = 1 AND n = 0 RETURNING length(body)", ("ä" * 300_000,)
        )
        assert cursor.fetchone() == (300_000,)
