"""Asks who leads a group what became of a COMMIT whose answer was lost: `transactions/lost_commit.py` says why it can tell.

`Positions` keeps what is to be known before: how far each group's server had come, asked twice a second while commits go there.
It also says which commits are marked. A mark costs the server 15 to 20 µs, an eighth of what it does for a small transaction; so
those that go the fast way share a budget, which bounds the cost by about one percent of a core for each gateway worker: with no
more than MARKS_PER_PERIOD commits in POSITIONS_PERIOD_S each is marked, with n times as many every n-th. Those that go
the thorough way cost more in any case, and are all marked.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.limits import (
    LOST_COMMIT_WAL_BYTES_MAX,
    MARKS_PER_PERIOD,
    POSITIONS_ASK_S_MAX,
    POSITIONS_PERIOD_S,
    RESOLVE_PAUSE_S,
    RESOLVE_WAIT_S_MAX,
)
from ..engines.postgres.backend import Backend
from ..engines.postgres.promotion import history_file, parse_history
from ..transactions.lost_commit import PAGE_BYTES, Fate, Mark, Search, judge, timeline_of

if TYPE_CHECKING:
    from .gateway import Gateway

log = logging.getLogger(__name__)

READ_BYTES = 1 << 20  # at a time
_POSITION = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')"
# When this is answered, everything up to there is flushed, and those that a commit waits for have it.
_SETTLE = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_logical_emit_message(true, 'hanse', 'settled'), '0/0')"
_TIMELINE = (
    "SELECT pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8), "
    "pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))"
)


class Positions:
    """Of one gateway worker. `run` goes on until it is cancelled."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._noted: dict[str, tuple[int, float]] = {}  # by group: position, when it was asked for
        self._used: set[str] = set()  # groups where something was committed since they were asked last
        self._sessions: dict[str, Backend] = {}
        self._prefix = secrets.token_hex(8).encode()
        self._numbers = itertools.count()
        self._hasty = 0  # commits on the fast way in this period
        self._stride = 1  # every so many of them are marked

    def mark_hasty(self, backend: Backend) -> Mark | None:
        """For a COMMIT on the fast way: as `mark`, or None if it is not its turn."""
        self._hasty += 1
        return None if self._hasty % self._stride else self.mark(backend)

    def mark(self, backend: Backend) -> Mark | None:
        """For the COMMIT that this connection is told next. None: there is no position that is known to be before it."""
        self._used.add(backend.place)
        noted = self._noted.get(backend.place)
        if noted is None or backend.made_at >= noted[1]:
            return None
        return Mark(b"%s-%d" % (self._prefix, next(self._numbers)), noted[0])

    def leave(self, group: str) -> None:
        """It has another leader: what the former one still answers is not to be heard."""
        self._noted.pop(group, None)
        session = self._sessions.pop(group, None)
        if session is not None:
            session.abort()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(POSITIONS_PERIOD_S)
            self._stride = max(1, -(-self._hasty // MARKS_PER_PERIOD))
            self._hasty = 0
            used, self._used = self._used, set()
            await asyncio.gather(*(self._note(group) for group in used))

    async def _note(self, group: str) -> None:
        try:
            async with asyncio.timeout(POSITIONS_ASK_S_MAX):
                session = self._sessions.get(group)
                if session is None or session.closed or session.unread:
                    session = self._sessions[group] = await self._gateway.system_backend(group)
                    await session.query("SET application_name = 'hanse positions'")
                asked_at = time.monotonic()
                ((position,),) = await session.query(_POSITION)
        except (PgError, TimeoutError):  # the older position is as true as it was
            self._drop(group)
            return
        if self._sessions.get(group) is session:
            self._noted[group] = (int(position or 0), asked_at)

    def _drop(self, group: str) -> None:
        session = self._sessions.pop(group, None)
        if session is not None:
            session.abort()


async def fate_of(gateway: Gateway, lost: Backend, mark: Mark) -> Fate:
    """COMMITTED, ROLLED_BACK, or UNKNOWN after RESOLVE_WAIT_S_MAX at most."""
    try:
        async with asyncio.timeout(RESOLVE_WAIT_S_MAX):
            while True:
                fate = await _look(gateway, lost, mark)
                if fate is not Fate.OPEN:
                    return fate
                await asyncio.sleep(RESOLVE_PAUSE_S)
    except TimeoutError:
        return Fate.UNKNOWN


async def _look(gateway: Gateway, lost: Backend, mark: Mark) -> Fate:
    try:
        server = await gateway.system_backend(lost.place)
    except PgError:  # it is away, or does not lead any more
        return Fate.OPEN
    try:
        return await _ask(server, lost.pid, mark)
    except PgError as error:
        log.info("a lost COMMIT in %s could not be looked up: %s", lost.place, error)
        return Fate.OPEN
    finally:
        server.close()


async def _ask(server: Backend, pid: int, mark: Mark) -> Fate:
    sessions = await server.query(f"SELECT pid FROM pg_catalog.pg_stat_get_activity({pid})")
    ((end,),) = await server.query(_SETTLE)
    search = Search(mark)
    complete = await _read(server, search, int(end or 0))
    status = None
    if search.xid is not None:
        ((status,),) = await server.query(f"SELECT pg_catalog.pg_xact_status('{search.xid}')")
    fate = judge(session_there=bool(sessions), complete=complete, xid=search.xid, status=status)
    if fate is Fate.COMMITTED:
        await server.query(_SETTLE)
    return fate


async def _read(server: Backend, search: Search, end: int) -> bool:
    """Feeds the WAL up to `end`, or to the mark. False: not all of it is there."""
    if end - search.position > LOST_COMMIT_WAL_BYTES_MAX:
        return False
    ((number, size),) = await server.query(_TIMELINE)
    timeline, segment_bytes = int(number or "0", 16), int(size or 0)
    timelines = await _timelines(server, timeline)
    while search.position < end and search.xid is None:
        segment, offset = divmod(search.position, segment_bytes)
        length = min(READ_BYTES, segment_bytes - offset, end - search.position)
        high, low = divmod(segment, (1 << 32) // segment_bytes)
        file = f"pg_wal/{timeline_of(segment, segment_bytes, timelines):08X}{high:08X}{low:08X}"
        rows = await server.query(f"SELECT pg_catalog.pg_read_binary_file('{file}', {offset}, {length}, true)")
        pages = bytes.fromhex((rows[0][0] or "\\x")[2:])
        if len(pages) < length or not search.feed(pages):
            return False
    return True


async def _timelines(server: Backend, timeline: int) -> list[tuple[int, int]]:
    """(number, where it begins), oldest first."""
    if timeline == 1:
        return [(1, 0)]
    rows = await server.query(f"SELECT pg_catalog.pg_read_file('pg_wal/{history_file(timeline)}')")
    begin, found = 0, []
    for branch in parse_history(rows[0][0] or "", timeline):
        found.append((branch.timeline, begin))
        begin = branch.end_lsn or begin
    return found


assert READ_BYTES % PAGE_BYTES == 0
