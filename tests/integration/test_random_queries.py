"""Random queries and writes answer as on one plain PostgreSQL (support/random_queries.py).

HANSE_TEST_RANDOM_QUERIES=seed,count runs other seeds, for longer, and shows every difference.
"""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import pytest

from support.differential import Comparison, difference
from support.random_queries import KEYS, SETUP, Generator, Query
from support.servers import Cluster, Server
from support.wire import Mode, Wire

FIRST, COUNT = (int(part) for part in os.environ.get("HANSE_TEST_RANDOM_QUERIES", "1,60").split(","))
ASYNCPG_EVERY, TRANSACTIONS_EVERY = 6, 12
READERS = {"int": int, "bigint": int, "numeric": Decimal}
REFUSED = "0A000"
REFUSED_SHARE_MAX = 0.1  # of the writes: what the guide names among limits


@pytest.fixture(scope="module")
def schema(plain_postgres: Server, cluster: Cluster) -> Iterator[str]:
    name = f"random_{uuid.uuid4().hex[:10]}"
    for server in (plain_postgres, cluster.server):
        setup = re.sub(r"/\*(.*?)\*/", r"\1" if server is cluster.server else "", SETUP)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}; SET search_path = {name}")  # type: ignore[call-overload]
            for statement in setup.split(";\n"):
                connection.execute(statement)  # type: ignore[call-overload]
    yield name
    for server in (plain_postgres, cluster.server):
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def wires(schema: str, plain_postgres: Server, cluster: Cluster) -> Iterator[tuple[Wire, Wire]]:
    options = f"-c search_path={schema} -c statement_timeout=60s"
    plain, ours = Wire(plain_postgres.dsn_for(options=options)), Wire(cluster.server.dsn_for(options=options))
    yield plain, ours
    plain.close()
    ours.close()


def test_as_postgres(wires: tuple[Wire, Wire]) -> None:
    refused, found = 0, []
    for seed in range(FIRST, FIRST + COUNT):
        told = _difference(wires, seed)
        if told is None:
            continue
        if REFUSED in told:
            refused += 1
        found.append(f"-- seed {seed}\n{_shown(seed)};\n{told}")
    wrong = [each for each in found if REFUSED not in each]
    assert not wrong, "\n\n".join(wrong)
    assert refused <= REFUSED_SHARE_MAX * COUNT, "\n\n".join(found)
    if "HANSE_TEST_RANDOM_QUERIES" in os.environ:
        print("\n\n".join(found))


def test_asyncpg_as_on_postgres(schema: str, plain_postgres: Server, cluster: Cluster) -> None:
    """Results in binary, decoded by what the driver looks up of their types."""
    found = asyncio.run(_by_asyncpg(schema, plain_postgres, cluster.server))
    assert not found, "\n\n".join(found)


async def _by_asyncpg(schema: str, *servers: Server) -> list[str]:
    settings = {"search_path": schema}
    drivers = [await asyncpg.connect(**server.url_parts, server_settings=settings) for server in servers]
    found = []
    for seed in range(FIRST, FIRST + COUNT, ASYNCPG_EVERY):
        generator = Generator(seed, parameters=bool(seed % 2))
        query = generator.statement()
        kinds = {int(number): kind for number, kind in re.findall(r"\$(\d+)::(\w+)", query.sql)}
        given = generator.values[: max(kinds, default=0)]  # some were drawn for what was not written in the end
        values = [
            READERS[kinds[number]](value) if number in kinds else None for number, value in enumerate(given, start=1)
        ]
        expected, got = [await _fetched(driver, query, values) for driver in drivers]
        if expected != got and got != REFUSED:
            found.append(f"-- seed {seed}\n{query.sql};\n-- {values}\nexpected {expected!r}\ngot      {got!r}"[:4000])
    for driver in drivers:
        await driver.close()
    return found


async def _fetched(driver: asyncpg.Connection[Any], query: Query, values: Sequence[object]) -> object:
    """Names, types and rows; or the error. What it writes is undone."""
    transaction = driver.transaction()
    await transaction.start()
    try:
        statement = await driver.prepare(query.sql)
        rows = [tuple(row) for row in await statement.fetch(*values)]
        columns = [(each.name, each.type.name) for each in statement.get_attributes()]
        return columns, rows if query.ordered else sorted(rows, key=repr)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    finally:
        await transaction.rollback()


def test_transactions_as_postgres(wires: tuple[Wire, Wire]) -> None:
    """Several writes with savepoints between them, some of which are gone back to; then what all tables hold."""
    found = []
    for seed in range(FIRST, FIRST + COUNT, TRANSACTIONS_EVERY):
        script = _transaction(seed)
        for query in script:
            expected, got = (wire.run(query.sql, Mode.SIMPLE) for wire in wires)
            told = difference(expected, got, Comparison(ordered=query.ordered))
            if told is not None:
                found.append(
                    f"-- seed {seed}\n" + ";\n".join(each.sql for each in script) + f"\n-- {query.sql}\n{told}"
                )
                break
        for wire in wires:
            wire.run("ROLLBACK")
    wrong = [each for each in found if REFUSED not in each]
    assert not wrong, "\n\n".join(wrong)


def _transaction(seed: int) -> list[Query]:
    generator = Generator(seed)
    script = [Query("BEGIN", (), ordered=False)]
    for number, write in enumerate(generator.writes(4)):
        script += (Query(f"SAVEPOINT s{number}", (), ordered=False), write)
        how = generator.random.choice(("", "", "RELEASE", "ROLLBACK TO"))
        if how:
            script.append(Query(f"{how} s{generator.random.randint(max(0, number - 1), number)}", (), ordered=False))
        script.append(generator.query(1))
    return [*script, *map(_look, KEYS)]


def _look(table: str) -> Query:
    return Query(f"SELECT * FROM {table} ORDER BY {', '.join(KEYS[table])}", (), ordered=True)


def _shown(seed: int) -> str:
    generator = _generator(seed)
    return f"{generator.statement().sql} -- {generator.values}"


def _difference(wires: tuple[Wire, Wire], seed: int) -> str | None:
    """A write is undone, after what it left was compared, and what a query sees of it."""
    mode = tuple(Mode)[seed % len(Mode)]
    generator = _generator(seed)
    query = generator.statement()
    values = generator.values
    script: list[tuple[str, Mode, bool, list[str]]] = [(query.sql, mode, query.ordered, values)]
    if query.writes:
        mode = Mode.EXTENDED if mode is Mode.PREPARED else mode  # it would run twice
        after = Generator(seed).query(2)
        script = [
            ("BEGIN", Mode.SIMPLE, False, []),
            (query.sql, mode, query.ordered, values),
            *((_look(table).sql, Mode.SIMPLE, True, []) for table in query.writes),
            (after.sql, Mode.SIMPLE, after.ordered, []),
            ("ROLLBACK", Mode.SIMPLE, False, []),
        ]
    told = None
    for sql, how, ordered, given in script:
        expected, got = (wire.run(sql, how, parameters=given) for wire in wires)
        told = told or difference(expected, got, Comparison(ordered=ordered))
    return told


def _generator(seed: int) -> Generator:
    return Generator(seed, parameters=seed % 3 == 0 and tuple(Mode)[seed % len(Mode)] is not Mode.SIMPLE)
