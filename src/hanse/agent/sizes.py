"""Sizes, row estimates and activity, summed over the groups (findings-gateway 11): every node's workspace is told them.

Every SIZES_PERIOD_S the agent asks each group's leader for the sizes of its relations and for `pg_class.reltuples`, adds them
up by name, and writes them into its workspace: sizes into `hanse.sizes`, which the size functions there read
(engines/postgres/sizes.sql), row counts into pg_class itself. So a user sees them SIZES_PERIOD_S late at most. Activity comes
along (counters.py). As on one
server, a partitioned table has the size 0, and its partitions theirs; a reference table's copies all count.

A workspace that has not followed the newest schema changes yet gets the estimates of new tables one period later.
pg_class is written under the cluster's lock for schema changes, since two writers of one of its rows fail, and only
when an estimate has changed. A workspace or a group that does not answer is asked again the next time.
"""

from __future__ import annotations

import asyncio
import logging
import secrets as random
from typing import Any

from ..catalog.client import ControlClient
from ..catalog.model import Kind, Snapshot
from ..catalog.told import services
from ..config import WORKSPACE_PLACE, NodeConfig, Secrets
from ..core.errors import PgError, UserMistake
from ..core.limits import SIZES_LOCK_WAIT_S_MAX, SIZES_PERIOD_S
from ..engines.postgres.system_connection import translated
from . import counters
from .access import system_access

log = logging.getLogger(__name__)

_OF_GROUP = """
SELECT n.nspname, c.relname, pg_relation_size(c.oid), pg_table_size(c.oid), pg_indexes_size(c.oid),
       pg_total_relation_size(c.oid), c.reltuples::float8, c.relpages
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'i', 'I', 'm', 'S') AND c.relpersistence <> 't'
  AND left(n.nspname::text, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', 'hanse')
UNION ALL
SELECT '', '', 0, 0, 0, pg_database_size(current_database()), -1, 0
"""
_WRITE = """
WITH told AS (SELECT * FROM unnest($1::name[], $2::name[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])
    AS t(schema, name, main, whole, indexes, total)
), gone AS (DELETE FROM hanse.sizes s WHERE NOT EXISTS (
    SELECT FROM told t WHERE t.schema = s.schema AND t.name = s.name))
INSERT INTO hanse.sizes AS s SELECT * FROM told
ON CONFLICT (schema, name) DO UPDATE
SET main = excluded.main, whole = excluded.whole, indexes = excluded.indexes, total = excluded.total
WHERE (s.main, s.whole, s.indexes, s.total) <> (excluded.main, excluded.whole, excluded.indexes, excluded.total)
"""
_ESTIMATES = """
FROM unnest($1::name[], $2::name[], $3::float4[], $4::int4[]) AS t(schema, name, tuples, pages)
JOIN pg_namespace n ON n.nspname = t.schema
WHERE c.relnamespace = n.oid AND c.relname = t.name AND (c.reltuples, c.relpages) <> (t.tuples, t.pages)
"""
_DIFFER = f"SELECT EXISTS (SELECT FROM pg_class c, {_ESTIMATES.strip().removeprefix('FROM ')})"
_ESTIMATE = f"UPDATE pg_class c SET reltuples = t.tuples, relpages = t.pages {_ESTIMATES}"

Name = tuple[str, str]


class Sizes:
    """Of one node, for its workspace. `run` goes on until it is cancelled."""

    def __init__(self, config: NodeConfig, secrets: Secrets, period_s: float = SIZES_PERIOD_S) -> None:
        self._config = config
        self._secrets = secrets
        self._period_s = period_s
        self._port = next((each.port for each in config.instances if each.group == WORKSPACE_PLACE), None)

    async def run(self) -> None:
        while self._port is not None:
            await asyncio.sleep(self._period_s)
            try:
                await self.refresh()
            except PgError as error:
                if error.sqlstate == "28000":  # it happened while no gateway here could hear of it
                    raise UserMistake(f"{error.message}: {self._config.name}") from None
                log.info("sizes wait: %s", error.message)
            except Exception:  # the agent lives on: the next turn tries again
                log.exception("sizes")

    async def refresh(self) -> None:
        config = self._config
        name = f"{config.name}.sizes.{random.token_hex(2)}"
        control = ControlClient(services(config), config.tls_among_nodes(), name)
        await control.connect()
        try:
            found = await asyncio.gather(*self._asked(control.snapshot))
            sums = _sums([sizes for sizes, _ in found])
            counted = counters.added([counted for _, counted in found], control.snapshot)
            await self._tell(sums, counted, control)
        finally:
            await control.close()

    def _asked(self, snapshot: Snapshot) -> list[Any]:
        asked = []
        for group in snapshot.groups:
            leader = group.leader
            local = leader.socket_directory if leader.node == self._config.name else None
            asked.append(self._ask(leader.host, leader.port, local))
        return asked

    async def _ask(self, host: str, port: int, socket_directory: str | None) -> tuple[list[Any], list[Any]]:
        connection = await system_access(self._secrets, host, port, socket_directory).connect(self._config.database)
        try:
            with translated("sizes were asked for"):
                sizes = await connection.fetch(_OF_GROUP)
                counted = await connection.fetch(await connection.fetchval(counters.OF_GROUP))
                return sizes, counted
        finally:
            connection.terminate()

    async def _tell(self, sums: dict[Name, list[float]], counted: counters.Counters, control: ControlClient) -> None:
        assert self._port is not None
        config = self._config
        connection = await system_access(self._secrets, config.host, self._port, config.socket_directory).connect(
            config.database
        )
        try:
            with translated("sizes were written"):
                schemas, names = [name[0] for name in sums], [name[1] for name in sums]
                columns = [[int(sum_[i]) for sum_ in sums.values()] for i in range(4)]
                await connection.execute(_WRITE, schemas, names, *columns)
                await connection.execute(counters.WRITE, *counters.arguments(counted))
                estimates = _estimates(sums, control.snapshot)
                if await connection.fetchval(_DIFFER, *estimates):
                    async with control.ddl_lock(SIZES_LOCK_WAIT_S_MAX), connection.transaction():
                        await connection.execute(f"SET LOCAL lock_timeout = '{int(SIZES_LOCK_WAIT_S_MAX)}s'")
                        await connection.fetchval("SELECT version FROM hanse.applied FOR UPDATE")
                        await connection.execute(_ESTIMATE, *estimates)
        finally:
            connection.terminate()


def _sums(found: list[list[Any]]) -> dict[Name, list[float]]:
    """(schema, name) → sizes and estimates. -1 rows: never analysed there, and of no weight where another group knows."""
    sums: dict[Name, list[float]] = {}
    for rows in found:
        for schema, name, *values in rows:
            known = sums.setdefault((schema, name), [0, 0, 0, 0, -1, 0])
            for i in (0, 1, 2, 3, 5):
                known[i] += values[i] or 0  # NULL: dropped meanwhile
            if values[4] is not None and values[4] >= 0:
                known[4] = max(known[4], 0) + values[4]
    return sums


def _estimates(
    sums: dict[Name, list[float]], snapshot: Snapshot
) -> tuple[list[str], list[str], list[float], list[int]]:
    """Of tables: schemas, names, rows, pages. A table whose rows are in every group has them once."""
    found = []
    for relation in snapshot.relations:
        known = sums.get(relation.identity)
        if known is not None and known[4] >= 0:
            copied = relation.kind in (Kind.REFERENCE, Kind.MATERIALIZED_VIEW)
            copies = len(snapshot.groups) if copied else 1
            found.append(
                (*relation.identity, known[4] / copies, max(-1, int(known[5] / copies)))
            )  # a partitioned table's is -1
    return tuple(map(list, zip(*found, strict=True))) if found else ([], [], [], [])  # type: ignore[return-value]
