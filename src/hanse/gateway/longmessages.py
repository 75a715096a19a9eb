"""Long messages of clients: how many a worker holds, and how their values are taken out while others are served.

A long message counts from its first bytes to the end of the unit it belongs to, and the values of a portal that was bound but not
run count on. Who finds no room waits and is not read meanwhile; in the end his message is dropped as it comes, as PostgreSQL
does where it has no memory, and the session goes on after 53200. Who waits may hold locks that others need before they
give room: so nobody waits for ever.

A copy of a gigabyte takes a second. What must be copied is, in turns with the other sessions' work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from io import BytesIO
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.limits import LONG_MESSAGE_BYTES, LONG_MESSAGE_WAIT_S_MAX, LONG_MESSAGES_BYTES_MAX
from ..pgwire import frontend

if TYPE_CHECKING:
    from .prepared import Portal
    from .session import Session

TURN_BYTES = 4 << 20  # copied or read before others have their turn: about two milliseconds


class LongMessages:
    """The room of one worker, given in the order in which it was asked for."""

    def __init__(self, bytes_max: int = LONG_MESSAGES_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int, patience_s: float = LONG_MESSAGE_WAIT_S_MAX) -> bool:
        """Whether there was room within that time."""
        if not self._waiting and self.held + size <= self.bytes_max:
            self.held += size
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await asyncio.wait((turn,), timeout=patience_s)
        except asyncio.CancelledError:
            if turn.done():
                self.give(size)
            else:
                self._leave(size, turn)
            raise
        if turn.done():
            return True
        self._leave(size, turn)
        return False

    def give(self, size: int) -> None:
        self.held -= size
        while self._waiting and self.held + self._waiting[0][0] <= self.bytes_max:
            wanted, turn = self._waiting.popleft()
            self.held += wanted
            turn.set_result(None)

    def _leave(self, size: int, turn: asyncio.Future[None]) -> None:
        self._waiting.remove((size, turn))
        self.give(0)  # whoever stood behind may find room


def lacks_room(session: Session) -> bool:
    """A long message has begun for which there was not yet asked."""
    announced = session.framer.announced
    return bool(announced) and announced + session.batch_bytes > session.long_bytes


async def make_room(session: Session) -> None:
    """For the message that has begun; else it is dropped."""
    if not await take(session, session.framer.announced + session.batch_bytes):
        session.framer.drop()


async def take(session: Session, size: int) -> bool:
    """Whether the session may hold so much in all."""
    wanted = size - session.long_bytes
    if wanted <= 0:
        return True
    if not await session.gateway.long_messages.take(wanted):
        return False
    session.long_bytes += wanted
    return True


async def hold(session: Session, size: int) -> None:
    """For a row of COPY FROM, whose length nobody announces: it has come to `size` bytes, and is not at its end."""
    if size >= session.gateway.long_messages.bytes_max:  # no row may be as long, in PostgreSQL's words (stringinfo.c)
        more = f"Cannot enlarge string buffer containing {session.long_bytes} bytes by {size - session.long_bytes} more bytes."
        raise PgError("54000", "out of memory", detail=more)
    if not await take(session, size):
        raise out_of_memory()


def release(session: Session) -> None:
    """The unit is over: what it held is free, but for the values of portals that are still to run."""
    if session.framer.announced and not session.closed:
        return
    kept = 0 if session.closed else sum(map(_bytes_of, session.portals.values()))
    given, session.long_bytes = session.long_bytes - kept, min(kept, session.long_bytes)
    if given > 0:
        session.gateway.long_messages.give(given)


def _bytes_of(portal: Portal) -> int:
    values = portal.parameters.values if portal.parameters is not None else ()
    return sum(len(value) for value in values if value is not None and len(value) >= LONG_MESSAGE_BYTES)


def out_of_memory() -> PgError:
    return PgError(
        "53200",
        "out of memory",
        detail="The gateway holds as many long messages of clients as it may.",
        hint="Try again when other sessions' large values have been stored.",
    )


async def parse_bind(raw: bytes) -> frontend.Bind:
    if len(raw) < LONG_MESSAGE_BYTES:
        return frontend.parse_bind(raw)
    bind = frontend.parse_bind(raw, memoryview(raw))
    return bind._replace(values=[None if value is None else await _copy(value) for value in bind.values])


async def _copy(view: bytes) -> bytes:
    if len(view) < LONG_MESSAGE_BYTES:
        return bytes(view)
    copied = BytesIO()
    for start in range(0, len(view), TURN_BYTES):
        copied.write(view[start : start + TURN_BYTES])
        await asyncio.sleep(0)
    return copied.getvalue()


async def check_text(value: bytes) -> None:
    """As `frontend.check_text`."""
    if len(value) < LONG_MESSAGE_BYTES:
        frontend.check_text(value)
        return
    view = memoryview(value)
    start = 0
    while start < len(view):
        end = _end_of_character(value, start + TURN_BYTES)
        frontend.check_text(bytes(view[start:end]))
        start = end
        await asyncio.sleep(0)


def _end_of_character(value: bytes, end: int) -> int:
    """Near `end`, where a character of UTF-8 begins."""
    if end >= len(value):
        return len(value)
    return next((place for place in range(end, end - 4, -1) if value[place] & 0xC0 != 0x80), end)
