"""The session of the demo: placement, then each chapter's statements with their route, result and time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .dataset import Source
from .loading import SCHEMA, ensure_loaded
from .story import Chapter, chapters

if TYPE_CHECKING:
    from .screen import Screen

EXPLAINED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")
TABLES = f"""
SELECT name, kind, strategy, array_to_string(key, ', ') AS key,
       (SELECT string_agg(format('%s: %s', group_name, shards), ', ' ORDER BY group_name)
        FROM (SELECT group_name, count(*) AS shards FROM hanse.shards
              WHERE schema = t.schema AND table_name = t.name GROUP BY group_name) placed) AS shards
FROM hanse.tables t WHERE schema = '{SCHEMA}' ORDER BY kind, name
"""
SHARDS = f"""
SELECT shard_name, bound, group_name FROM hanse.shards
WHERE schema = '{SCHEMA}' AND table_name = 'weather' ORDER BY shard_name
"""

Connection = Any  # asyncpg has no types


async def tell(dsn: str, sources: tuple[Source, ...], screen: Screen) -> None:
    """The whole demo, on the cluster at `dsn`. Raises asyncpg's errors where the cluster fails."""
    import asyncpg

    settings = {"search_path": f"{SCHEMA}, public", "TimeZone": "America/New_York", "application_name": "hanse demo"}
    connection = await asyncpg.connect(dsn, server_settings=settings)
    try:
        screen.heading("The data: every flight that left New York in 2013")
        await ensure_loaded(connection, sources, screen)
        screen.heading("Where it lies")
        for sql in (TABLES, SHARDS):
            await _query(connection, sql.strip(), screen)
        for number, chapter in enumerate(chapters(), start=1):
            await _chapter(connection, number, chapter, screen)
    finally:
        await connection.close(timeout=5)


async def _chapter(connection: Connection, number: int, chapter: Chapter, screen: Screen) -> None:
    screen.heading(f"{number}. {chapter.title}")
    screen.say(chapter.narration)
    for sql in chapter.statements:
        if sql.startswith(EXPLAINED):
            await _query(connection, sql, screen, explained=True)
        else:
            screen.statement(f"{sql};")
            started = time.perf_counter()
            tag = await connection.execute(sql)
            screen.took(tag, time.perf_counter() - started)


async def _query(connection: Connection, sql: str, screen: Screen, *, explained: bool = False) -> None:
    screen.statement(f"{sql};")
    if explained:
        screen.route(route([row[0] for row in await connection.fetch(f"EXPLAIN {sql}")]))
    started = time.perf_counter()
    statement = await connection.prepare(sql)
    rows = await statement.fetch()
    seconds = time.perf_counter() - started
    columns = [attribute.name for attribute in statement.get_attributes()]
    if columns:
        screen.rows(columns, rows)
    screen.took(statement.get_statusmsg(), seconds)


def route(lines: list[str]) -> list[str]:
    """Hanse's own lines of an EXPLAIN, and the places whose plans follow them."""
    ours = []
    for line in lines:
        if line.startswith("  At "):
            break
        ours.append(line)
    places = [line.strip()[len("At ") : -1] for line in lines if line.startswith("  At ")]
    return [*ours, f"  Asked: {', '.join(places)}"] if places else ours
