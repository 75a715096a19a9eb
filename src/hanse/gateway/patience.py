"""How a schema change waits for others to end: briefly, then it lets go of everything and tries again (findings-gateway 18).

Two reasons. Who waits for an ACCESS EXCLUSIVE lock, or for a table's transactions to end (`Freeze`), stops everybody who
comes after him, for as long as some old reader likes. And a schema change locks in every group: a transaction that has
read in one group and goes on to another would wait there for the change, which waits for it here; no server sees such
a circle.

So each statement runs under a savepoint with a short lock_timeout; undone, it holds nothing. It waits longer each time,
and pauses as long as it has waited: others are stopped for half of the time at most. A client that has set lock_timeout
gets its error when that is over. Locks of earlier statements of the same transaction stay; what they bring about
ends with 55P03 after SCHEMA_CHANGE_WAIT_S_MAX.
"""

from __future__ import annotations

import asyncio
import random

from ..catalog.ddl_lock import CLIENTS_LOCK_TIMEOUT
from ..core.errors import PgError
from ..core.limits import SCHEMA_CHANGE_WAIT_S_MAX, SCHEMA_LOCK_WAIT_S_MAX, SCHEMA_LOCK_WAIT_S_MIN
from ..engines.postgres.backend import Backend

_WAITED = ("55P03", "40P01")
_OWN = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'"

AS_BEFORE = f"SELECT pg_catalog.set_config('lock_timeout', pg_catalog.current_setting('{CLIENTS_LOCK_TIMEOUT}'), true)"


class Patience:
    """Of one statement, over all its attempts. `wait_s`: how long this attempt may wait for one thing."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self.wait_s = SCHEMA_LOCK_WAIT_S_MIN

    def briefly(self) -> str:
        """Sets lock_timeout until `AS_BEFORE`, or until the savepoint is gone."""
        return (
            f"SELECT pg_catalog.set_config('{CLIENTS_LOCK_TIMEOUT}', pg_catalog.current_setting('lock_timeout'), true),"
            " pg_catalog.set_config('lock_timeout', CASE pg_catalog.current_setting('lock_timeout')"
            f" WHEN '0' THEN '{self.wait_s * 1000:.0f}' ELSE pg_catalog.current_setting('lock_timeout') END, true)"
        )

    def applies(self, error: PgError) -> bool:
        return error.sqlstate in _WAITED

    async def pause(self, error: PgError, backend: Backend) -> None:
        """Before the next attempt. Raises where there is none; `backend` has the client's settings again."""
        rows = await backend.query(_OWN)
        own_ms = int(rows[0][0] or 0)
        waited_s = self._clock() - self._began
        if own_ms and waited_s * 1000 >= own_ms:
            raise error
        if waited_s > SCHEMA_CHANGE_WAIT_S_MAX:
            raise PgError(
                "55P03",
                "canceling statement due to lock timeout",
                detail=error.detail or "A transaction has held a lock on the object all the time.",
                hint="Repeat the schema change when that transaction has ended.",
            ) from error
        await asyncio.sleep(self.wait_s * random.uniform(0.75, 1.25))
        self.wait_s = min(SCHEMA_LOCK_WAIT_S_MAX, 2 * self.wait_s)
