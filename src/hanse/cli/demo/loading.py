"""The demo's schema and rows: made once, found again by the next run.

The comment of schema `nyc` says how far it is. A load that was interrupted is thrown away and begun again; a schema of
that name that somebody else made is left alone.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import IO, TYPE_CHECKING, Any

from ...core.errors import UserMistake
from .dataset import MISSING_VALUE, Source
from .story import read, split_statements

if TYPE_CHECKING:
    from .screen import Screen

SCHEMA = "nyc"
LOADING, COMPLETE = "hanse demo: loading", "hanse demo: complete"
CHUNK_BYTES = 256 << 10

Connection = Any  # asyncpg has no types


async def ensure_loaded(connection: Connection, sources: tuple[Source, ...], screen: Screen) -> None:
    """Raises UserMistake where schema `nyc` is not ours."""
    state = await _state(connection)
    if state == COMPLETE:
        screen.say(f"The data are in schema {SCHEMA} already, from an earlier run.")
        return
    if state == LOADING:
        screen.say("An earlier run was interrupted; its schema is dropped.")
        await connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    await _make_schema(connection, screen)
    for source in sources:
        await _load(connection, source, screen)
    started = time.perf_counter()
    await connection.execute(f"ANALYZE {', '.join(source.table for source in sources)}")
    screen.took("ANALYZE", time.perf_counter() - started)
    await connection.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{COMPLETE}'")


async def _state(connection: Connection) -> str | None:
    """None: there is no such schema."""
    row = await connection.fetchrow(
        "SELECT obj_description(oid, 'pg_namespace') AS comment FROM pg_namespace WHERE nspname = $1", SCHEMA
    )
    if row is None:
        return None
    comment: str = row["comment"]
    if comment not in (LOADING, COMPLETE):
        raise UserMistake(f"this database has a schema {SCHEMA} that the demo did not make; rename or drop it")
    return comment


async def _make_schema(connection: Connection, screen: Screen) -> None:
    statements = split_statements(read("schema.sql"))
    started = time.perf_counter()
    async with connection.transaction():
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await connection.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{LOADING}'")
        for statement in statements:
            await connection.execute(statement)
    screen.took("CREATE TABLE: six tables and four shards by name, in one transaction", time.perf_counter() - started)


async def _load(connection: Connection, source: Source, screen: Screen) -> None:
    started = time.perf_counter()
    with source.open() as file, screen.loading(source.table, source.text_bytes) as sent:
        tag = await connection.copy_to_table(
            source.table,
            schema_name=SCHEMA,
            columns=source.columns(),
            source=_chunks(file, sent),
            format="csv",
            header=True,
            null=MISSING_VALUE,
        )
    count = int(tag.split()[-1])
    if count != source.rows:
        raise UserMistake(f"{source.path.name} has {count} rows where {source.rows} were expected")
    screen.took(f"COPY {source.table:9}{count:>9,} rows", time.perf_counter() - started)


async def _chunks(file: IO[bytes], sent: Callable[[int], None]) -> AsyncIterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        sent(len(chunk))
