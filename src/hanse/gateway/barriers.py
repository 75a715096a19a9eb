"""Barriers of one gateway worker: `transactions.snapshots` driven over system sessions, shared by readers that wait.

For each set of groups one barrier is under way at a time. Readers that come meanwhile wait for the next one, which serves all
of them together; so the number of barriers does not grow with the number of readers, and a group that is stuck
only holds up who wants to read it.

Commits wait as long as a gate is held, so nothing is done meanwhile that can be done before or after, and each step follows from
within the call that brings the last one's answer (`engines/postgres/asking.py` says what that saves).

A gate is never held for long by somebody who is gone: the sessions end their transaction when they are idle in it
(`idle_in_transaction_session_timeout`), notice a lost gateway while they wait (`client_connection_check_interval`), and
readers have SNAPSHOT_TAKE_S_MAX to take their snapshots under the barrier.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.limits import SNAPSHOT_TAKE_S_MAX, SNAPSHOT_WAIT_S_MAX
from ..engines.postgres.asking import Answer
from ..engines.postgres.backend import Backend
from ..pgwire import frontend
from ..transactions.snapshots import SETTING, GiveBack, Held, Pause, Step, Take, barrier
from .system_sessions import SystemSessions

if TYPE_CHECKING:
    from .gateway import Gateway

_SETTINGS = (
    f"SET idle_in_transaction_session_timeout = '{2 * SNAPSHOT_TAKE_S_MAX:g}s'; {SETTING}; "
    "SET client_connection_check_interval = '100ms'; SET application_name = 'hanse barrier'"
)


class Reader:
    """Who takes snapshots under a barrier: `messages` do, and the answers come after them.

    `done` has what came of it, when all have answered.
    """

    def __init__(self, messages: Mapping[Backend, list[bytes]]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.missing = Counter(backend.place for backend in messages)  # answers, by group
        self._messages = messages
        self._answers: list[Answer] = []
        self._failure: PgError | None = None
        self._told: Callable[[], None] | None = None

    def begin(self, told: Callable[[], None]) -> None:
        """`told` is called whenever somebody may have taken the last snapshot in a group."""
        self._told = told
        self._answers = [Answer(backend, message, self._answered) for backend, message in self._messages.items()]

    def _answered(self, answer: Answer) -> None:
        self._failure = self._failure or answer.failure
        self.missing[answer.backend.place] -= 1
        if not any(self.missing.values()):
            self.end(self._failure)
        elif self._told is not None:
            self._told()

    def end(self, error: PgError | None = None) -> None:
        """It has its snapshots, or will not have them."""
        self.missing.clear()
        for answer in self._answers:
            answer.give_up()
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        told, self._told = self._told, None
        if told is not None:
            told()


class Working(Reader):
    """One whose snapshots are taken by more than messages; it keeps the gates of all `groups` until `work` ends."""

    def __init__(self, groups: Sequence[str], work: Callable[[], Awaitable[None]]) -> None:
        super().__init__({})
        self.missing = Counter(groups)
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def begin(self, told: Callable[[], None]) -> None:
        self._told = told
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            await self._work()
        except PgError as error:
            self.end(error)
        else:
            self.end()

    def end(self, error: PgError | None = None) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        super().end(error)


@dataclass(slots=True)
class _Line:
    """The readers of one set of groups."""

    groups: tuple[str, ...]
    waiting: list[Reader] = field(default_factory=list)

    def next_readers(self) -> list[Reader]:
        served, self.waiting = self.waiting, []
        return [reader for reader in served if not reader.done.done()]


class Barriers:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.sessions = SystemSessions(gateway, _SETTINGS)
        self._lines: dict[tuple[str, ...], _Line] = {}

    async def during(self, groups: tuple[str, ...], reader: Reader) -> None:
        """Has `reader` take its snapshots while nothing becomes visible in `groups` (in the global order).

        Raises what stood against it, 55P03 when a commit in one of the groups does not end in time, 08… when one is away.
        """
        line = self._lines.get(groups)
        if line is None:
            line = self._lines[groups] = _Line(groups)
            self._gateway.spawn(self._run(line))
        line.waiting.append(reader)
        try:
            await reader.done
        finally:
            reader.end()  # who is cancelled keeps nobody waiting

    async def _run(self, line: _Line) -> None:
        try:
            while line.waiting:
                await self._serve(line)
        finally:
            del self._lines[line.groups]

    async def _serve(self, line: _Line) -> None:
        """One barrier, for all who are waiting when its gates are held."""
        sessions: dict[str, Backend] = {}
        held: list[Reader] = []
        try:
            async with asyncio.timeout(SNAPSHOT_WAIT_S_MAX):
                for group in line.groups:
                    sessions[group] = await self.sessions.take(group)
                await _Barrier(line, sessions, held).run()
        except BaseException as error:
            for session in sessions.values():
                session.close()  # in no known state: with the connections their gates go
            for reader in held + line.next_readers():
                reader.end(_told(error, line.groups))
            if not isinstance(error, Exception):
                raise
        else:
            for session in sessions.values():
                self.sessions.keep(session)


class _Barrier:
    """The steps of one barrier, each begun when the last one's answers are there."""

    def __init__(self, line: _Line, sessions: Mapping[str, Backend], readers: list[Reader]) -> None:
        self._line = line
        self._sessions = sessions
        self._readers = readers  # those whom it serves
        self._steps = barrier(line.groups)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._held: set[str] = set()  # groups whose gates are to be let go when their snapshots are taken
        self._missing = 0  # answers
        self._busy: list[str] = []
        self._failure: PgError | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        try:
            self._begin(next(self._steps))
            await self._ended
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _begin(self, step: Step) -> None:
        if isinstance(step, Take):
            self._ask(step.sql)
        elif isinstance(step, GiveBack):
            self._ask(dict.fromkeys(step.groups, step.sql))
        elif isinstance(step, Pause):
            self._timer = self._loop.call_later(step.seconds * random.uniform(0.5, 1), self._go_on)
        else:
            self._serve(step)

    def _go_on(self) -> None:
        busy, self._busy = self._busy, []
        if self._ended.done():
            return
        try:
            step = self._steps.send(busy)
        except StopIteration:
            self._ended.set_result(None)
        else:
            self._begin(step)

    def _ask(self, sql: Mapping[str, str]) -> None:
        self._missing += len(sql)
        for group, text in sql.items():
            Answer(self._sessions[group], [frontend.query(text.encode())], self._answered)

    def _answered(self, answer: Answer) -> None:
        self._missing -= 1
        if answer.failure is not None and answer.failure.sqlstate == "55P03":
            self._busy.append(answer.backend.place)
        else:
            self._failure = self._failure or answer.failure
        if self._missing or self._held or self._ended.done():
            return
        if self._failure is None:
            self._go_on()
        else:
            self._ended.set_exception(self._failure)

    def _serve(self, step: Held) -> None:
        self._held = set(self._line.groups)
        self._readers += self._line.next_readers()
        self._timer = self._loop.call_later(SNAPSHOT_TAKE_S_MAX, self._late)

        def missing(group: str) -> bool:
            return any(reader.missing[group] for reader in self._readers)

        def told() -> None:
            if missing(step.pivot):
                return
            free = [group for group in self._line.groups if group in self._held and not missing(group)]
            self._held.difference_update(free)
            self._ask(dict.fromkeys(free, step.sql))

        for reader in self._readers:
            reader.begin(told)
        told()

    def _late(self) -> None:
        """Told to the slow ones; who comes after them has his own barrier."""
        for reader in self._readers:
            if not reader.done.done():
                reader.end(_too_late(()))


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
