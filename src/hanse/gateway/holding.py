"""A group that cannot be reached is waited for: statements that had not begun there are held, and then run.

A server that was killed is started again within a second or so, and a group that fails over has its next leader soon; clients
need not notice more than a pause. What is held has done nothing in that group yet: it asks for a connection there, for
itself or for a branch of its transaction. All wait for one prober per group, for GROUP_HELD_S_MAX at most, and a cancel
request ends the wait; so neither the group, when it comes back, nor the gateway is overrun.

A query of its own that was under way when its connection was lost is asked again, as long as nothing of its answer has been sent.
A write that was under way is not repeated: nobody knows whether it was done, and the client is told so (08006). A COMMIT
is looked up (`lost_commits.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import WORKSPACE_PLACE
from ..core.errors import FatalError, PgError
from ..core.limits import GROUP_HELD_S_MAX, GROUP_PROBE_S_MAX, GROUP_PROBE_S_MIN
from ..engines.postgres.backend import Backend, lost_connection
from ..executor.request import Request, Sink
from ..planner.plan import Planned
from ..transactions.commit import is_lost
from . import holds, roles
from .interruption import interruptible

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

DEAD_BACKENDS_MAX = 5  # in a row, before a statement gives up
READS_MAX = 5  # of one query whose connections are lost
_SERVER_CRASHED = re.compile(rb"\0C57P02\0")
_FAREWELL = re.compile(rb"\0C57P0[12]\0")
_NOT_THERE = ("08001", "08006", "57P03")  # nobody listens, it went away in the login, it starts or stops


class Prober:
    """Tries to reach one group until it can be; whoever waits for that waits for the same."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._news: dict[str, asyncio.Event] = {}  # of those that are probed

    @property
    def is_busy(self) -> bool:
        return bool(self._under_way)

    def hurry(self, group: str) -> None:
        """It has another leader: whoever probes it tries at once."""
        if group in self._news:
            self._news[group].set()

    async def until_there(self, group: str) -> None:
        """Returns when a connection could be made."""
        found = self._under_way.get(group)
        if found is None:
            self._gateway.leaders.hurry()
            found = self._under_way[group] = asyncio.get_running_loop().create_future()
            self._gateway.spawn(self._probe(group, found))
        await asyncio.shield(found)

    async def _probe(self, group: str, found: asyncio.Future[None]) -> None:
        """Not for ever: who still waits then begins another."""
        pause_s = GROUP_PROBE_S_MIN
        news = self._news[group] = asyncio.Event()
        deadline = asyncio.get_running_loop().time() + GROUP_HELD_S_MAX
        try:
            while asyncio.get_running_loop().time() < deadline:
                try:
                    (await self._gateway.system_backend(group)).close()
                    return
                except PgError:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), pause_s * random.uniform(0.5, 1))
                    news.clear()
                    pause_s = min(2 * pause_s, GROUP_PROBE_S_MAX)
        finally:
            del self._under_way[group], self._news[group]
            if not found.done():
                found.set_result(None)


class Untold:
    """A sink that knows whether anything has been said."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.told = False

    def describe(self, message: bytes) -> None:
        self.told = True
        self._sink.describe(message)

    async def rows(self, messages: bytes) -> None:
        self.told = True
        await self._sink.rows(messages)

    def notice(self, message: bytes) -> None:
        if not _SERVER_CRASHED.search(message):  # a farewell
            self.told = True
            self._sink.notice(message)


def may_read_again(session: Session, planned: Planned) -> bool:
    """A query of its own."""
    return session.transaction is None and leaves_nothing(session, planned)


def leaves_nothing(session: Session, planned: Planned) -> bool:
    """A query that may be asked anywhere, and again."""
    return (
        planned.verb == "SELECT"
        and not planned.writes
        and planned.neutral
        and planned.draws is None
        and not session.pinned
    )


async def read_again(request: Request, sink: Sink, read: Callable[[Request, Sink], Awaitable[bytes]]) -> bytes:
    """`read` of a query of its own, again where a connection was lost before anything was said.

    A server's sessions do not end all at the same moment: the next connection may be one that is about to.
    """
    for number in range(1, READS_MAX):
        untold = Untold(sink)
        try:
            return await read(replace(request), untold)
        except PgError as error:
            if untold.told or not _may_be_asked_again(error):
                raise
        await asyncio.sleep(number * GROUP_PROBE_S_MIN)
    return await read(request, sink)


async def first_answer(session: Session, place: str, question: str) -> tuple[Backend, tuple[str | None, ...]]:
    """One row, and the backend that told it; of a question that leaves nothing behind, asked again as in `read_again`."""
    for number in range(1, READS_MAX + 1):
        backend = await session.acquire(place)
        try:
            (row,) = await backend.query(question)
            return backend, row
        except BaseException as error:
            session.give_back(backend)
            if number == READS_MAX or not isinstance(error, PgError) or not _may_be_asked_again(error):
                raise
        await asyncio.sleep(number * GROUP_PROBE_S_MIN)
    raise AssertionError("the last try has raised")


def _may_be_asked_again(error: PgError) -> bool:
    """A connection was lost that is not the client's own: a FatalError ends his."""
    return is_lost(error) and not isinstance(error, FatalError)


def is_farewell(message: bytes) -> bool:
    """Whether an error or a notice only says that its server ends. `57P01` (administrator), `57P02` (crash)."""
    return _FAREWELL.search(message) is not None


async def acquire(session: Session, place: str, database: str) -> Backend:
    """A backend from the pool, in the session's state. Raises 08001 where the place stays away."""
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        await holds.passed(session, place)
        try:
            backend = await acquire_once(session, place, database)
            if not holds.holds(session, place):
                return backend
            session.give_back(backend)  # the hold came meanwhile
        except PgError as error:
            left_s = began + GROUP_HELD_S_MAX - clock()
            if place == WORKSPACE_PLACE or error.sqlstate not in _NOT_THERE or left_s <= 0:
                raise
            waiting = asyncio.wait_for(session.gateway.prober.until_there(place), left_s)
            with contextlib.suppress(TimeoutError):
                await interruptible(session, waiting)


async def acquire_once(session: Session, place: str, database: str) -> Backend:
    """The same without waiting for the place."""
    pool = session.gateway.pool(place)
    for left in reversed(range(DEAD_BACKENDS_MAX)):
        try:
            backend = await roles.acquire(session, pool, database)
        except PgError as error:
            if place != WORKSPACE_PLACE or error.sqlstate != "08001" or not left:
                raise
            await session.gateway.workspace.gate.passed()  # making a private database has ended it as it began
            continue
        if not backend.names <= session.state.names or backend.standing != session.state.standing:
            backend.close()  # given to us in the line of those who wait
        elif await _is_alive(session, backend):
            return backend
    raise lost_connection(place)


async def _is_alive(session: Session, backend: Backend) -> bool:
    """Brings the backend to the session's state. False: it had died in the pool, and nothing was lost with it.

    The workspace's are asked in any case: making a private database ends idle sessions there.
    """
    try:
        if backend.state is not session.state:
            await session.bring_to_state(backend)
        elif backend.place == WORKSPACE_PLACE:
            await backend.query("")
    except PgError as error:
        backend.close()
        if error.sqlstate.startswith(("08", "57P")):
            return False
        raise
    except BaseException:
        backend.close()
        raise
    return True
