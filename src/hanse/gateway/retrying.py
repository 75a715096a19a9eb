"""A statement of its own that another transaction got in the way of is run again, with all its reads done anew.

A write over several groups reads them at one moment and so runs at REPEATABLE READ, where PostgreSQL answers 40001 to who
would change a row that has changed since. On one server, at READ COMMITTED, the client would not have been told of it. So it is run
again while nothing has been sent to him: rows of RETURNING are held back until they are too many. If it fails again
and again, the tables are locked before the moment is chosen, which nobody can get in the way of then.

The same helps against deadlocks (40P01), and at the levels where 40001 is the client's affair: he has lost nothing by it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from ..core.errors import NotTogether, PgError, ShortcutFailed, StalePlan
from ..core.limits import CONFLICT_PAUSE_S, CONFLICT_RETRIES_MAX, RETURNING_HELD_BYTES_MAX
from ..executor.request import Request, Sink

CONFLICTS = ("40001", "40P01")
OPTIMISTIC_ATTEMPTS = 2


class Held:
    """Keeps what a statement says until `release`, or until it is too much to keep."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._said: list[tuple[str, bytes]] = []
        self._bytes = 0
        self.gone = False  # something has been sent

    def describe(self, message: bytes) -> None:
        if self.gone:
            self._sink.describe(message)
        else:
            self._keep("describe", message)

    async def rows(self, messages: bytes) -> None:
        if self.gone:
            await self._sink.rows(messages)
            return
        self._keep("rows", messages)
        if self._bytes > RETURNING_HELD_BYTES_MAX:
            await self.release()

    def notice(self, message: bytes) -> None:
        if self.gone:
            self._sink.notice(message)
        else:
            self._keep("notice", message)

    def _keep(self, kind: str, messages: bytes) -> None:
        self._said.append((kind, messages))
        self._bytes += len(messages)

    async def release(self) -> None:
        self.gone = True
        said, self._said = self._said, []
        for kind, messages in said:
            if kind == "rows":
                await self._sink.rows(messages)
            elif kind == "describe":
                self._sink.describe(messages)
            else:
                self._sink.notice(messages)


@dataclass(frozen=True, slots=True)
class Try:
    """What one attempt is to know."""

    since: float  # when the first one began
    locks_first: bool = False


Attempt = Callable[[Request, Sink, Try], Awaitable[bytes]]


async def run(request: Request, sink: Sink, attempt: Attempt) -> bytes:
    """`attempt(request, sink, …)` until it succeeds; gives its tag. Raises its error in the end."""
    number, since = 0, time.time()
    conflict: PgError | None = None
    while True:
        held = Held(sink)
        try:
            tag = await attempt(replace(request), held, Try(since, number >= OPTIMISTIC_ATTEMPTS))
        except StalePlan:  # nothing was done, and the same plan would be as old
            raise
        except NotTogether:
            request.alone = True
            continue
        except ShortcutFailed:
            request.plainly = True
            continue
        except PgError as error:
            if conflict is not None and error.sqlstate == "42501":  # he may write, but not lock the table
                raise conflict from error
            if error.sqlstate not in CONFLICTS or held.gone or number >= CONFLICT_RETRIES_MAX:
                await held.release()
                raise
            conflict = error
        else:
            await held.release()
            return tag
        number += 1
        await asyncio.sleep(CONFLICT_PAUSE_S * number * random.uniform(0.5, 1.5))
