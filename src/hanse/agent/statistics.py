"""Statistics of partitioned tables (findings-gateway 26): autovacuum keeps those of partitions, never those of a parent.

The planner needs both: a join of a sharded table is planned by the parent's. So the agent of the node that leads a group
looks every ANALYZE_PERIOD_S for parents that were never analysed and have rows, or have a partition that autovacuum has
analysed since the parent was, and runs ANALYZE on them, one after another. Autovacuum is the clock: it acts when a tenth of
a partition has changed, and so do we, one period later at most. Nothing waits for it: a table that somebody has locked is
skipped until the next turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..config import InstanceConfig, NodeConfig, Secrets
from ..core.errors import PgError
from ..core.limits import ANALYZE_PERIOD_S, ANALYZES_PER_TURN_MAX
from ..engines.postgres.system_connection import translated
from .access import system_access

log = logging.getLogger(__name__)

# `pg_partition_tree` gives the leaves at any depth; reltuples is -1 until the first ANALYZE.
_OVERDUE = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT max(s.last_autoanalyze) AS newest, sum(s.n_live_tup) AS rows
    FROM pg_catalog.pg_partition_tree(c.oid) t
    JOIN pg_catalog.pg_stat_all_tables s ON s.relid = t.relid
    WHERE t.isleaf
) leaves
WHERE c.relkind = 'p' AND NOT c.relispartition
  AND (c.reltuples < 0 AND leaves.rows > 0 OR leaves.newest > pg_catalog.pg_stat_get_last_analyze_time(c.oid))
ORDER BY c.reltuples, leaves.newest
LIMIT $1
"""


class Statistics:
    """Of one group, by the agent of its leader's node. `run` goes on until it is cancelled."""

    def __init__(
        self,
        config: NodeConfig,
        secrets: Secrets,
        instance: InstanceConfig,
        period_s: float = ANALYZE_PERIOD_S,
        *,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self.group = instance.group
        self._database = config.database
        self._period_s = period_s
        self._access = system_access(secrets, config.host, instance.port, config.socket_directory)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            if not self._leads():
                continue
            try:
                await self.refresh()
            except PgError as error:
                log.info("statistics of %s wait: %s", self.group, error.message)
            except Exception:  # the agent lives on: the next turn tries again
                log.exception("statistics of %s", self.group)

    async def refresh(self) -> list[str]:
        """Analyses the parents that need it; gives their names."""
        connection: Any = await self._access.connect(self._database, application_name="hanse statistics")
        try:
            with translated("statistics were looked at"):
                rows = await connection.fetch(_OVERDUE, ANALYZES_PER_TURN_MAX)
            names = [str(row[0]) for row in rows]
            for name in names:
                with translated(f"{name} was analysed"):
                    await connection.execute(f"ANALYZE (SKIP_LOCKED) {name}")
            return names
        finally:
            connection.terminate()
