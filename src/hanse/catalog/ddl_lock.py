"""The cluster's one lock for schema changes: first come, first served, held by a connection."""

from __future__ import annotations

import asyncio
from collections import deque

from ..core.errors import PgError

CLIENTS_LOCK_TIMEOUT = "hanse.lock_timeout"  # custom setting: the client's, while a schema change has its own


class DdlLock:
    """`holder` is any object that stands for a client's connection; it must release when that ends."""

    def __init__(self) -> None:
        self.holder: object | None = None
        self._waiting: deque[tuple[object, asyncio.Future[None]]] = deque()

    async def acquire(self, holder: object, timeout_s: float) -> None:
        """Raises PgError 55P03 when it is not free in time, 55000 when `holder` has it already."""
        if self.holder is holder:
            raise PgError("55000", "this client holds the lock for schema changes already")
        if self.holder is None:
            self.holder = holder
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (holder, turn)
        self._waiting.append(place)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except TimeoutError:
            self._withdraw(place)
            raise PgError(
                "55P03",
                "canceling statement due to lock timeout",
                detail="Another schema change is under way in the cluster.",
            ) from None
        except asyncio.CancelledError:
            self._withdraw(place)
            raise

    def _withdraw(self, place: tuple[object, asyncio.Future[None]]) -> None:
        if place in self._waiting:
            self._waiting.remove(place)
        elif self.holder is place[0]:  # the turn came in the same moment as the end of waiting
            self.release(place[0])

    def release(self, holder: object) -> None:
        """Passes the lock on. Does nothing when `holder` does not have it."""
        if self.holder is not holder:
            return
        self.holder = None
        while self._waiting:
            following, turn = self._waiting.popleft()
            if not turn.done():
                self.holder = following
                turn.set_result(None)
                return
