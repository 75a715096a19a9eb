"""The followers of each group, as one gateway worker knows them: who they are, and how far they have replayed.

Nobody is asked while no session reads from followers. Then leaders and followers are asked for their positions every
LEADERS_PERIOD_S, and in between where a read needs to know: many that ask at once share a question. What the answers mean is
`replication/freshness.py`. A follower that does not answer is left: its connections are ended, and what ran on them is asked
again at the leader.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..catalog.model import Group, Instance
from ..core.errors import PgError
from ..core.limits import FOLLOWERS_ASK_S_MAX, FOLLOWERS_IDLE_S, LEADERS_PERIOD_S
from ..replication.freshness import Freshness, Position, Sample
from .system_sessions import SystemSessions

if TYPE_CHECKING:
    from .gateway import Gateway

PLACE = "follower "  # what the places of followers begin with
_TERM = "(SELECT max(term) FROM hanse.leadership)"
_WHERE_LEADER = (
    f"SELECT {_TERM}, pg_current_wal_flush_lsn() - '0/0', pg_snapshot_xmin(s), pg_snapshot_xmax(s) "
    "FROM pg_current_snapshot() s"
)
_WHERE_FOLLOWER = f"SELECT {_TERM}, pg_last_wal_replay_lsn() - '0/0' WHERE pg_is_in_recovery()"


def place_of(follower: str) -> str:
    return PLACE + follower


class Shared:
    """A question that many ask: who comes while one is under way waits for the next, with all others."""

    def __init__(self, ask: Callable[[], Awaitable[None]]) -> None:
        self._ask = ask
        self._under_way: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None

    async def ask(self) -> None:
        """Returns when the question was asked, and answered or not, after this call."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._after(self._under_way))
        await asyncio.shield(self._next)

    async def _after(self, under_way: asyncio.Future[None] | None) -> None:
        if under_way is not None:
            await asyncio.wait((under_way,))
        self._under_way, self._next = self._next, None
        await self._ask()


class Followers:
    """See the module's docstring. `run` goes on until it is cancelled."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sessions = SystemSessions(gateway, "SET application_name = 'hanse positions'")
        self._freshness: dict[str, Freshness] = {}
        self._used_at: dict[str, float] = {}
        self._questions: dict[str, Shared] = {}
        self.late_until: dict[str, float] = {}  # followers that were waited for in vain

    def of(self, group: str) -> Freshness:
        return self._freshness.setdefault(group, Freshness())

    def candidates(self, group: Group) -> list[Instance]:
        leader = self._gateway.leaders.of(group).name
        return [each for each in group.instances if each.name != leader]

    def find(self, place: str) -> Instance | None:
        """The instance of a follower's place."""
        for group in self._gateway.snapshot.groups:
            for instance in group.instances:
                if place == place_of(instance.name):
                    return instance
        return None

    def used(self, group: str) -> None:
        self._used_at[group] = time.monotonic()

    def forget(self) -> None:
        """The groups may have moved."""
        self._sessions.forget()
        for place, pool in self._gateway.pools.items():
            if place.startswith(PLACE):
                pool.retire()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LEADERS_PERIOD_S)
            since = time.monotonic() - FOLLOWERS_IDLE_S
            groups = [each for each in self._gateway.snapshot.groups if self._used_at.get(each.name, since) > since]
            await asyncio.gather(*map(self._look, groups))

    async def _look(self, group: Group) -> None:
        await self.ask_leader(group.name)
        await asyncio.gather(*(self.ask_follower(group.name, each.name) for each in self.candidates(group)))

    # --- questions

    async def ask_leader(self, group: str) -> bool:
        """Whether the leader's position at some moment after this call is known."""
        asked_at = time.monotonic()
        await self._shared(group, self._ask_leader, group)
        newest = self.of(group).newest
        return newest is not None and newest.asked_at >= asked_at

    async def ask_follower(self, group: str, name: str) -> None:
        await self._shared(place_of(name), self._ask_follower, group, name)

    async def _shared(self, place: str, ask: Callable[..., Awaitable[None]], *arguments: str) -> None:
        question = self._questions.get(place)
        if question is None:
            question = self._questions[place] = Shared(lambda: ask(*arguments))
        await question.ask()

    async def _ask_leader(self, group: str) -> None:
        version, asked_at = self._gateway.snapshot.version, time.monotonic()
        row = await self._ask(group, _WHERE_LEADER)
        if row is not None:
            term, lsn, oldest, following = row
            position = Position(term, lsn)
            sample = Sample(asked_at=asked_at, position=position, oldest_xid=oldest, next_xid=following)
            self.of(group).note_leader(sample, version)

    async def _ask_follower(self, group: str, name: str) -> None:
        asked_at = time.monotonic()
        row = await self._ask(place_of(name), _WHERE_FOLLOWER)
        if row is not None:
            self.of(group).note_follower(name, Position(*row), asked_at)
        else:
            self.of(group).followers.pop(name, None)

    async def _ask(self, place: str, sql: str) -> tuple[int, ...] | None:
        """None: the server is away, or is not what it was taken for."""
        backend = None
        try:
            async with asyncio.timeout(FOLLOWERS_ASK_S_MAX):
                backend = await self._sessions.take(place)
                rows = await backend.query(sql)
        except (PgError, TimeoutError):
            if backend is not None:
                backend.close()
            if place.startswith(PLACE):
                self._sessions.leave(place)
                self._gateway.pool(place).abandon()
            return None
        self._sessions.keep(backend)
        if not rows or None in rows[0]:
            return None
        return tuple(int(value or 0) for value in rows[0])
