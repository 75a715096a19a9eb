"""INSERTs of many rows over two groups: the same answer, error and rows as from one PostgreSQL, in every form of values.

Each case runs in the simple protocol (without parameters) or by libpq's PQexecParams, alone and in a transaction; into a table with
a trigger, whose rows are inserted, and into one without, whose rows are copied.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

import psycopg
import pytest
from psycopg import pq

from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster

COLUMNS = (
    "id bigint PRIMARY KEY, n int CHECK (n < 1000), s varchar(8), b text DEFAULT 'none', d date, m numeric(6,2), "
    "g int GENERATED ALWAYS AS (n * 2) STORED, at timestamptz"
)
TRIGGER = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN IF new.n = 666 THEN RAISE 'not this one' USING ERRCODE = 'P0666'; END IF; RETURN new; END$$"""
BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%c (id, n)%'"
ROWS = 12  # more than a long list needs (insert_keys.ROWS_MIN)
INT8, INT4, TEXT, VARCHAR, DATE, NUMERIC, TIMESTAMPTZ = 20, 23, 25, 1043, 1082, 1700, 1184


@dataclass
class Case:
    """One INSERT. `row`: its columns' SQL, `{}` is the next parameter; `values` of a row, from the row's number."""

    row: str
    values: Callable[[int], tuple[bytes | None, ...]] = lambda i: ()
    types: tuple[int, ...] = ()
    formats: tuple[int, ...] = ()
    columns: str = "id, n, s"
    tail: str = ""

    def sql(self, table: str) -> str:
        """Parameters are numbered column by column: $1 … $12 are the first ones of the rows."""
        rows = []
        for i in range(ROWS):
            row = self.row.replace("#", str(i))
            for nth in count():
                if "{}" not in row:
                    break
                row = row.replace("{}", f"${nth * ROWS + i + 1}", 1)
            rows.append(f"({row})")
        return f"INSERT INTO {table} ({self.columns}) VALUES {', '.join(rows)}{self.tail}"


def int8(value: int) -> bytes:
    return struct.pack("!q", value)


CASES = {
    "constants": Case("#, # * 2, 'a'"),
    "constants_error_late": Case("#, # * 100, 'a'"),
    "constants_too_long": Case("#, #, 'abcdefgh#'"),
    "constants_comment_behind": Case("#, #, 'a'", tail=" -- the end"),
    "constants_semicolon": Case("#, #, 'a'", tail=" ;"),
    "constants_trigger": Case("#, 655 + #, 'a'"),
    "constants_unknown_function": Case("#, nowhere(#), 'a'"),
    "untyped": Case("{}, 7, 'it''s #'", lambda i: (b"%d" % i,)),
    "sums": Case("{}::bigint + #, 7, 'a%b'", lambda i: (b"%d" % (i * 1000),)),
    "typed": Case(
        "{}, {}, {}",
        lambda i: (b"%d" % i, b"-%d" % i, b"it's %d" % i),
        (INT8,) * ROWS + (INT4,) * ROWS + (VARCHAR,) * ROWS,
    ),
    "binary": Case(
        "{}, {}, {}",
        lambda i: (int8(i), struct.pack("!i", -i), b"b%d" % i),
        (INT8,) * ROWS + (INT4,) * ROWS + (TEXT,) * ROWS,
        (1,) * (3 * ROWS),
    ),
    "all_types": Case(
        "{}, {}, {}, {}, {}, {}, {}",
        lambda i: (
            *(b"%d" % i, b"%d" % i, b"s%d" % i, "é\u4e2d %d %% $1".encode() % i),
            *(b"2024-02-%02d" % (i + 1), b"%d.125" % i, b"2024-02-01 10:00:00+0%d" % (i % 9)),
        ),
        columns="id, n, s, b, d, m, at",
    ),
    "all_types_typed": Case(
        "{}, {}, {}, {}, {}, {}, {}",
        lambda i: (
            *(b"%d" % i, b" %d " % i, b"s%d" % i, b"'quoted' %d''" % i),
            *(b"02/0%d/2024" % (i % 9 + 1), b"-%d.5e1" % i, b"infinity" if i % 2 else b"epoch"),
        ),
        tuple(oid for oid in (INT8, INT4, TEXT, TEXT, DATE, NUMERIC, TIMESTAMPTZ) for _ in range(ROWS)),
        columns="id, n, s, b, d, m, at",
    ),
    "words": Case("#, NULL, 'a', '', '2024-02-01'::date, 1.5", columns="id, n, s, b, d, m"),
    "tabs": Case("#, -1, 'a\tb', 'line\nline\r', '2024-02-01', -1.5", columns="id, n, s, b, d, m"),
    "numbers_in_texts": Case("#, '7', 7, 8, '2024-02-01', '1.5'", columns="id, n, s, b, d, m"),
    "twice": Case("#::bigint + {}::bigint, 1, 'a', {}", lambda i: (b"007", b"x"), columns="id, n, s, b"),
    "casts": Case(
        "#::bigint, '#'::int, 'a'::varchar, 'b'::text, '2024-02-01'::timestamp, 1.5::numeric",
        columns="id, n, s, b, d, m",
    ),
    "nulls": Case("{}, {}, {}", lambda i: (b"%d" % i, None if i % 2 else b"1", None)),
    "nulls_typed": Case("{}, {}, 'a'", lambda i: (b"%d" % i, None), (INT8,) * ROWS + (INT4,) * ROWS),
    "null_key": Case("{}, 1, 'a'", lambda i: (b"%d" % i if i < 9 else None,)),
    "backslashes": Case("{}, 1, {}", lambda i: (b"%d" % i, b"\\%d\\'" % i)),
    "defaults": Case("{}, 1, {}, DEFAULT", lambda i: (b"%d" % i, b"x"), columns="id, n, s, b"),
    "bad_number": Case("{}, {}, 'a'", lambda i: (b"%d" % i, b"1" if i < 9 else b"one")),
    "bad_number_typed": Case("{}, {}, 'a'", lambda i: (b"%d" % i, b"9" * i), (INT8,) * ROWS + (INT4,) * ROWS),
    "bad_date": Case("{}, 1, {}", lambda i: (b"%d" % i, b"2024-02-3%d" % (i % 10)), columns="id, n, d"),
    "too_long": Case("{}, 1, {}", lambda i: (b"%d" % i, b"x" * i)),
    "wrong_type": Case("{}, {}, 'a'", lambda i: (b"%d" % i, b"1"), (INT8,) * ROWS + (TEXT,) * ROWS),
    "bad_utf8": Case("{}, 1, {}", lambda i: (b"%d" % i, b"\xff" if i == 9 else b"x")),
    "zero_byte": Case(
        "{}, 1, {}",
        lambda i: (b"%d" % i, b"a\0b" if i == 9 else b"x"),
        (INT8,) * ROWS + (TEXT,) * ROWS,
        (0,) * ROWS + (1,) * ROWS,
    ),
    "check": Case("{}, {}, 'a'", lambda i: (b"%d" % i, b"%d" % (990 + i))),
    "duplicate": Case("{}, 1, 'a'", lambda i: (b"%d" % (i % 10),)),
    "trigger": Case("{}, {}, 'a'", lambda i: (b"%d" % i, b"%d" % (655 + i))),
    "generated": Case("{}, {}, 5", lambda i: (b"%d" % i, b"1"), columns="id, n, g"),
    "returning": Case("{}, 1, {}", lambda i: (b"%d" % i, b"x"), tail=" RETURNING id, n"),
    "on_conflict": Case("{}, 1, {}", lambda i: (b"%d" % (i % 10), b"x"), tail=" ON CONFLICT DO NOTHING"),
}


@pytest.fixture(scope="module")
def sides(cluster, plain_postgres) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:  # type: ignore[no-untyped-def]
    name = f"insert_batches_{os.getpid()}"  # one for each worker
    connections = []
    for server, placed in ((plain_postgres, ""), (cluster.server, " PARTITION BY HASH (id) WITH (shards = 4)")):
        schema = Schema(name, server)
        connection = schema.connect()
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        connection.execute(f"CREATE SCHEMA {name}")
        for table in ("t", "c"):
            connection.execute(f"CREATE TABLE {table} ({COLUMNS}){placed}")
        connection.execute(TRIGGER)
        connection.execute("CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()")
        connections.append(connection)
    yield connections[0], connections[1]
    for connection in connections:
        connection.execute(f"DROP SCHEMA {name} CASCADE")
        connection.close()


def answer(connection: psycopg.Connection, case: Case, table: str) -> tuple[object, ...]:
    """Status, tag, SQLSTATE, message and rows."""
    rows = [case.values(i) for i in range(ROWS)]
    values = [value for column in zip(*rows, strict=True) for value in column]
    raw = connection.pgconn
    if values:
        result = raw.exec_params(case.sql(table).encode(), values, case.types or None, case.formats or None)
    else:
        result = raw.exec_(case.sql(table).encode())
    shown = [tuple(result.get_value(r, c) for c in range(result.nfields)) for r in range(result.ntuples)]
    error = pq.DiagnosticField
    return (
        pq.ExecStatus(result.status).name,
        result.command_status,
        result.error_field(error.SQLSTATE),
        result.error_field(error.MESSAGE_PRIMARY),
        result.error_field(error.MESSAGE_DETAIL),
        b"COPY" in (result.error_field(error.CONTEXT) or b""),
        shown,
    )


@pytest.mark.parametrize("table", ["t", "c"])
@pytest.mark.parametrize("name", CASES)
def test_a_batch(name: str, table: str, sides: tuple[psycopg.Connection, psycopg.Connection]) -> None:
    found = []
    for connection in sides:
        said = [answer(connection, CASES[name], table)]
        kept = connection.execute(f"SELECT t::text FROM {table} t ORDER BY id").fetchall()
        connection.execute(f"DELETE FROM {table}")
        connection.execute("BEGIN")
        said.append(answer(connection, CASES[name], table))
        connection.execute("ROLLBACK")
        left = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
        found.append((said, kept, left))
    plain, ours = found
    assert ours == plain
    assert plain[0][0][0] in ("COMMAND_OK", "TUPLES_OK", "FATAL_ERROR")


@pytest.mark.parametrize("tail", ["", " RETURNING id"])
def test_who_waits_for_a_lock_keeps_no_reader_waiting(
    tail: str,
    cluster: Cluster,
    sides: tuple[psycopg.Connection, psycopg.Connection],
) -> None:
    """Its part in the first group may be prepared by then, with the gate that snapshots over groups wait for."""
    _, ours = sides
    settings = f"-c search_path=insert_batches_{os.getpid()} -c statement_timeout=60s"
    rows = ", ".join(f"({number}, 1)" for number in range(ROWS))
    with ExitStack() as stack:
        groups = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for dsn in cluster.group_dsns().values()]
        password = ours.info.password
        holder = stack.enter_context(psycopg.connect(ours.info.dsn, password=password, options=settings))
        writer = stack.enter_context(
            psycopg.connect(ours.info.dsn, password=password, options=settings, autocommit=True)
        )
        pool = stack.enter_context(ThreadPoolExecutor(1))
        for key in range(4):  # whichever groups they lie in
            holder.execute("INSERT INTO c (id) VALUES (%s)", (key,))
            waiting = pool.submit(writer.execute, f"INSERT INTO c (id, n) VALUES {rows}{tail}".encode())
            wait_until("it waits", lambda: any(each.execute(BLOCKED).fetchall() for each in groups), timeout_s=30)
            for _ in range(3):
                assert ours.execute("SELECT count(*) FROM c").fetchone() == (0,)
            assert not waiting.done()
            holder.rollback()
            assert waiting.result().rowcount == ROWS
            ours.execute("DELETE FROM c")
