"""asyncpg: everything is prepared and binary; types are looked up in the catalog."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import io
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from clients.home import LETTERS, PEOPLE, Home

CLIENT = "asyncpg"
VERSION = asyncpg.__version__


def _arguments(home: Home) -> dict[str, Any]:
    return {**home.server.url_parts, "server_settings": {"search_path": f"{home.schema}, public"}}


@pytest.fixture
async def connection(home: Home) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(**_arguments(home))
    yield connection
    await connection.close()


async def test_queries(connection: Any) -> None:
    """fetch, fetchrow, fetchval, prepared statements, executemany, fetchmany"""
    assert await connection.fetchval("SELECT count(*) FROM letter") == PEOPLE * LETTERS
    one = await connection.prepare("SELECT name, mood FROM person WHERE id = $1")
    assert [tuple(await one.fetchrow(i))[0] for i in range(1, 20)] == [f"person {i}" for i in range(1, 20)]
    assert one.get_attributes()[1].type.name == "mood" and one.get_parameters()[0].name == "int8"
    transaction = connection.transaction()
    await transaction.start()
    await connection.executemany("UPDATE person SET age = $2 WHERE id = $1", [(i, 7) for i in range(1, 31)])
    assert await connection.fetchval("SELECT count(*) FROM person WHERE age = 7 AND id <= 30") == 30
    got = await connection.fetchmany("INSERT INTO person (name) VALUES ($1) RETURNING name", [("a",), ("b",)])
    assert [row["name"] for row in got] == ["a", "b"]
    await transaction.rollback()


async def test_copy(connection: Any) -> None:
    """copy_records_to_table, copy_to_table, copy_from_query, copy_from_table"""
    async with connection.transaction():
        records = [(9100 + i, f"r {i}", "glad", [f"{i}"]) for i in range(300)]
        done = await connection.copy_records_to_table("person", records=records, columns=("id", "name", "mood", "tags"))
        assert done == "COPY 300"
        assert await connection.copy_to_table("town", source=io.BytesIO(b"ZZ,Z\n"), format="csv") == "COPY 1"
        for table, where, wanted in (("person", "id >= 9100", 300), ("town", "code = 'ZZ'", 1)):
            out = io.BytesIO()
            assert (
                await connection.copy_from_query(f"SELECT * FROM {table} WHERE {where}", output=out) == f"COPY {wanted}"
            )
            assert out.getvalue().count(b"\n") == wanted
        assert await connection.copy_from_table("town", output=io.BytesIO(), format="binary") == "COPY 4"
        await connection.execute("DELETE FROM person WHERE id >= 9100; DELETE FROM town WHERE code = 'ZZ'")


async def test_types(connection: Any) -> None:
    """introspection of enums, arrays, composites, domains and ranges, binary, in every group"""
    await connection.execute(
        "CREATE TYPE point3 AS (x int, y numeric, m mood); CREATE DOMAIN small AS int CHECK (VALUE < 100);"
        "CREATE TYPE span AS RANGE (subtype = numeric);"
        "CREATE TABLE shapes (id int PRIMARY KEY, p point3, ps point3[], s small, r span, m mood[], t timestamptz)"
        " PARTITION BY HASH (id) WITH (shards = 4)"
    )
    moment = datetime.datetime(2026, 5, 4, tzinfo=datetime.UTC)
    point = (1, decimal.Decimal("2.5"), "glad")
    span = asyncpg.Range(decimal.Decimal(1), decimal.Decimal("2.5"))
    row = (point, [point, point], 99, span, ["calm", "cross"], moment)
    for i in range(8):
        await connection.execute("INSERT INTO shapes VALUES ($1, $2, $3, $4, $5, $6, $7)", i, *row)
    rows = await connection.fetch("SELECT p, ps, s, r, m, t FROM shapes")
    rows += [await connection.fetchrow("SELECT p, ps, s, r, m, t FROM shapes WHERE id = $1", i) for i in range(8)]
    assert [tuple(found) for found in rows] == [row] * 16
    await connection.set_type_codec(
        "mood",
        schema=await connection.fetchval("SELECT current_schema()"),
        encoder=str.lower,
        decoder=str.upper,
        format="text",
    )
    assert await connection.fetchval("SELECT m FROM shapes WHERE id = 3") == ["CALM", "CROSS"]
    await connection.execute("DROP TABLE shapes; DROP TYPE point3, span; DROP DOMAIN small")


async def test_transactions_and_cursors(connection: Any) -> None:
    """transactions, savepoints, isolation levels, cursors"""
    async with connection.transaction(isolation="repeatable_read"):
        with pytest.raises(asyncpg.UniqueViolationError) as caught:
            async with connection.transaction():
                await connection.execute("INSERT INTO person (id, name) VALUES (1, 'dup')")
        assert (caught.value.table_name, caught.value.constraint_name) == ("person", "person_pkey")
        ids = [row["id"] async for row in connection.cursor("SELECT id FROM person ORDER BY id", prefetch=9)]
        assert ids == list(range(1, PEOPLE + 1))
        cursor = await connection.cursor("SELECT n FROM letter WHERE person_id = $1 ORDER BY n", 5)
        assert (await cursor.fetchrow())["n"] == 0 and await cursor.forward(1) == 1


async def test_listeners(connection: Any, home: Home) -> None:
    """listeners, log listeners, reset"""
    heard: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener("door", lambda _connection, _pid, _channel, payload: heard.put_nowait(payload))
    other = await asyncpg.connect(**_arguments(home))
    await other.execute("NOTIFY door, 'knock'")
    assert await asyncio.wait_for(heard.get(), 10) == "knock"
    await other.close()
    notes: asyncio.Queue[str] = asyncio.Queue()
    connection.add_log_listener(lambda _connection, message: notes.put_nowait(message.message))
    await connection.execute("DO $$ BEGIN RAISE NOTICE 'creak'; END $$")
    assert await asyncio.wait_for(notes.get(), 10) == "creak"
    await connection.execute("SET search_path = nowhere")
    await connection.reset()
    assert await connection.fetchval("SELECT count(*) FROM person") == PEOPLE


async def test_pool(home: Home) -> None:
    """pools: many tasks, reset on release, statement cache"""
    async with asyncpg.create_pool(**_arguments(home), min_size=1, max_size=4) as pool:
        names = await asyncio.gather(
            *(pool.fetchval("SELECT name FROM person WHERE id = $1", 1 + i % PEOPLE) for i in range(80))
        )
        assert names == [f"person {1 + i % PEOPLE}" for i in range(80)]
        async with pool.acquire() as connection:
            await connection.execute("SET work_mem = '7MB'; SELECT pg_advisory_lock(77)")
            await connection.fetch("DECLARE open CURSOR WITH HOLD FOR SELECT id FROM person")
        await asyncio.gather(*(_is_clean(pool) for _ in range(4)))


async def _is_clean(pool: Any) -> None:
    async with pool.acquire() as connection:
        assert await connection.fetchval("SHOW work_mem") != "7MB"
        assert await connection.fetchval("SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0
        assert (
            await connection.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            )
            == 0
        )
