"""Barriers of one gateway worker: `transactions.snapshots` driven over system sessions, shared by readers that wait.

For each set of groups one barrier is under way at a time. Readers that come meanwhile wait for the next one, which serves all
of them together; so the number of barriers does not grow with the number of readers, and a group that is stuck
only holds up who wants to read it.

A gate is never held for long by somebody who is gone: the sessions end their transaction when they are idle in it
(`idle_in_transaction_session_timeout`), notice a lost gateway while they wait (`client_connection_check_interval`), and
readers have SNAPSHOT_TAKE_S_MAX to take their snapshots under the barrier.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.limits import SNAPSHOT_TAKE_S_MAX, SNAPSHOT_WAIT_S_MAX
from ..engines.postgres.backend import Backend
from ..transactions.snapshots import GiveBack, Held, Pause, Step, Take, barrier
from .system_sessions import SystemSessions

if TYPE_CHECKING:
    from .gateway import Gateway

Snapshots = Callable[[], Awaitable[None]]
_SETTINGS = (
    f"SET idle_in_transaction_session_timeout = '{2 * SNAPSHOT_TAKE_S_MAX:g}s'; "
    "SET client_connection_check_interval = '100ms'; SET application_name = 'hanse barrier'"
)


@dataclass(slots=True)
class _Line:
    """The readers of one set of groups."""

    groups: tuple[str, ...]
    waiting: list[tuple[Snapshots, asyncio.Future[None]]] = field(default_factory=list)

    def next_readers(self) -> list[tuple[Snapshots, asyncio.Future[None]]]:
        served, self.waiting = self.waiting, []
        return [(take, done) for take, done in served if not done.done()]


class Barriers:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.sessions = SystemSessions(gateway, _SETTINGS)
        self._lines: dict[tuple[str, ...], _Line] = {}

    async def during(self, groups: tuple[str, ...], take: Snapshots) -> None:
        """Runs `take` while no transaction over several groups is half visible in `groups` (in the global order).

        Raises what `take` raises, 55P03 when a commit in one of the groups does not end in time, 08… when one is away.
        """
        line = self._lines.get(groups)
        if line is None:
            line = self._lines[groups] = _Line(groups)
            self._gateway.spawn(self._run(line))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append((take, done))
        await done

    async def _run(self, line: _Line) -> None:
        try:
            while line.waiting:
                await self._serve(line)
        finally:
            del self._lines[line.groups]

    async def _serve(self, line: _Line) -> None:
        """One barrier, for all who are waiting when its gates are held."""
        sessions: dict[str, Backend] = {}
        try:
            async with asyncio.timeout(SNAPSHOT_WAIT_S_MAX):
                for group in line.groups:
                    sessions[group] = await self.sessions.take(group)
                await _drive(line, sessions)
        except BaseException as error:
            for session in sessions.values():
                session.close()  # in no known state: with the connections their gates go
            for _, done in line.next_readers():
                done.set_exception(_told(error, line.groups))
            if not isinstance(error, Exception):
                raise
        else:
            for session in sessions.values():
                self.sessions.keep(session)


async def _drive(line: _Line, sessions: dict[str, Backend]) -> None:
    steps = barrier(line.groups)
    step = next(steps)
    try:
        while True:
            step = steps.send(await _step(step, line, sessions))
    except StopIteration:
        return


async def _step(step: Step, line: _Line, sessions: dict[str, Backend]) -> bool:
    if isinstance(step, Take):
        return await _take(step, sessions[step.group])
    if isinstance(step, Pause):
        await asyncio.sleep(step.seconds * random.uniform(0.5, 1))
    elif isinstance(step, GiveBack):
        await asyncio.gather(*(sessions[group].query(step.sql) for group in step.groups))
    else:
        assert isinstance(step, Held)
        with contextlib.suppress(TimeoutError):  # told to the slow ones; who comes after them has his own barrier
            async with asyncio.timeout(SNAPSHOT_TAKE_S_MAX):
                await asyncio.gather(*(_serve_one(take, done) for take, done in line.next_readers()))
    return True


async def _take(step: Take, session: Backend) -> bool:
    try:
        await session.query(step.sql)
    except PgError as error:
        if error.sqlstate != "55P03":
            raise
        return False
    return True


async def _serve_one(take: Snapshots, done: asyncio.Future[None]) -> None:
    try:
        await take()
    except BaseException as error:
        if not done.done():
            done.set_exception(_too_late(()) if isinstance(error, asyncio.CancelledError) else error)
        if not isinstance(error, Exception):
            raise
    else:
        if not done.done():
            done.set_result(None)


def _told(error: BaseException, groups: tuple[str, ...]) -> PgError:
    """Each reader gets an error of his own: what is done to it must not show at the others."""
    if isinstance(error, PgError):
        return PgError(error.sqlstate, error.message, detail=error.detail, hint=error.hint)
    return _too_late(groups)


def _too_late(groups: tuple[str, ...]) -> PgError:
    return PgError(
        "55P03",
        "could not take a snapshot of several groups in time",
        detail=f"A commit in one of the groups {', '.join(groups)} has not ended." if groups else None,
        hint="Repeat the statement, or SET hanse.read_consistency = 'fast' to read without a common snapshot.",
    )
