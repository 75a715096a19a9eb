"""Queries of a session that a follower may answer: `hanse.read_from = follower | nearest`.

Only queries that write nothing and leave nothing behind, of their own or in a READ ONLY transaction at READ COMMITTED: there each
statement has a snapshot of its own anyhow, and runs beside the transaction, which has no branch for it. At the higher levels a
transaction has one moment of all groups, which needs leaders. Over several groups they are for followers only where
`hanse.read_consistency = 'fast'`: gates, which make one moment of several groups, need leaders.

A follower serves if it is known to have replayed all of

* what the leader had at some moment within `hanse.max_staleness`,
* what this session may have seen: the *floor*. Statements that are no reads of a follower leave no trace here (the fast way
  must cost nothing); so where one has run since the last such read, or another follower answers, or this one may have been
  restarted, the leader is asked where it is now,
* what the catalog's version, on which the statement is planned, has changed.

What is not known is asked; a follower that lacks something is waited for, FOLLOWER_WAIT_S_MAX at most, and then the leader
serves. It also does for whatever a follower answers with an error: a conflict with recovery, a function that writes, a table
that is new. So what a client sees as an error is the leader's word. Rows are held back for that, up to
RETURNING_HELD_BYTES_MAX; behind that an error goes out as it is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..catalog.labels import FARTHEST, distance
from ..catalog.model import Group, Instance
from ..core.errors import PgError
from ..core.limits import FOLLOWER_LATE_S, FOLLOWER_WAIT_S_MAX, FOLLOWERS_ASK_S_MAX
from ..engines.postgres.backend import Backend
from ..executor.request import Request, Sink
from ..planner.plan import Forward, Plan, Planned, SessionVerb
from ..planner.plan import Session as SessionPlan
from ..replication.freshness import NOWHERE, Known, Position
from ..transactions.commit import is_lost
from . import holding, snapshots
from .fast import FastPath
from .followers import place_of
from .interruption import check
from .own_settings import DEFAULTS, GUARANTEE, MAX_STALENESS, MAX_STALENESS_S, READ_FROM, seconds
from .retrying import Held
from .settings import SessionState
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session

_CANCELLED = "57014"
_PAUSE_S = 0.001
_NOBODY = ""
_BOUNDS = (SessionVerb.BEGIN, SessionVerb.COMMIT, SessionVerb.ROLLBACK)


@dataclass(slots=True)
class Seen:
    """What the session has seen of a group."""

    floor: Position | None = None  # None: it may be anything up to now
    follower: str = _NOBODY  # that showed it
    at: float = 0.0


@dataclass(slots=True)
class FollowerReads:
    """Of one session that wants them."""

    mode: str
    max_staleness_s: float
    guarantee: str = DEFAULTS[GUARANTEE]
    _seen: dict[str, Seen] = field(default_factory=dict)
    _unit: int = -1  # of the last statement that was one

    def passed(self, session: Session) -> None:
        """A statement that shows nothing of any group."""
        if self._unit == session.unit - 1:
            self._unit = session.unit

    def forget(self) -> None:
        """Another statement has run."""
        self._unit = -1
        self.guarantee = DEFAULTS[GUARANTEE]

    def begin(self, session: Session) -> None:
        if session.unit - self._unit > 1:
            self._seen.clear()
        self._unit = session.unit
        self.guarantee = DEFAULTS[GUARANTEE]

    def of(self, group: str) -> Seen:
        return self._seen.setdefault(group, Seen())


def reads_of(state: SessionState, before: FollowerReads | None) -> FollowerReads | None:
    """What a session with these settings has; None: it reads from leaders."""
    mode = state.get(READ_FROM) if state.settings else None
    if mode not in ("follower", "nearest"):
        return None
    staleness_s = seconds(state.get(MAX_STALENESS))
    found = before if before is not None else FollowerReads(mode, MAX_STALENESS_S)
    found.mode, found.max_staleness_s = mode, MAX_STALENESS_S if staleness_s is None else staleness_s
    return found


def may(session: Session, planned: Planned) -> bool:
    transaction = session.transaction
    return (
        holding.leaves_nothing(session, planned)
        and not planned.of_server
        and session.gateway.is_replicated
        and session.gateway.control.assured
        and (
            not session.state.modes.serializable
            if transaction is None
            else _may_be_beside(transaction) and (type(planned.plan) is Forward or snapshots.reads_fast(session))
        )
    )


def _may_be_beside(transaction: Transaction) -> bool:
    """A statement of the transaction is the same outside of it."""
    return (
        transaction.explicit
        and not transaction.failed
        and transaction.modes.read_only
        and not transaction.keeps_snapshot
        and not transaction.local
        and transaction.change is None
    )


def shows_nothing(session: Session, plan: Plan) -> bool:
    """Of any group: the beginning of a transaction, and the end of one that has no branches."""
    if not isinstance(plan, SessionPlan) or plan.verb not in _BOUNDS:
        return False
    return session.transaction is None or not session.transaction.branches


class FollowerFastPath(FastPath):
    """The fast way of a session that reads from followers: for everything else."""

    __slots__ = ()

    def _allowed(self, planned: Planned) -> bool:
        return super()._allowed(planned) and not may(self.session, planned)


async def run(
    session: Session,
    reads: FollowerReads,
    request: Request,
    sink: Sink,
    execute: Callable[[Request, Sink, Choice | None], Awaitable[bytes]],
) -> bytes:
    """`execute` on followers, else on leaders."""
    reads.begin(session)
    held, choice = Held(sink), Choice(session, reads)
    try:
        tag = await execute(replace(request), held, choice)
    except PgError as error:
        if held.gone or error.sqlstate == _CANCELLED or not (choice.served or is_lost(error)):
            await held.release()
            raise
        check(session)
    else:
        choice.done()
        await held.release()
        return tag
    reads.forget()
    if session.transaction is not None:
        return await execute(request, sink, None)
    return await holding.read_again(request, sink, lambda own, to: execute(own, to, None))


class Choice:
    """Who serves one statement."""

    def __init__(self, session: Session, reads: FollowerReads) -> None:
        self._session = session
        self._reads = reads
        self._followers = session.gateway.followers
        self.served: dict[str, tuple[str, float]] = {}  # by group: the follower, and how old its rows may be (s)
        self._leaders: list[str] = []
        self._began = time.monotonic()

    def done(self) -> None:
        """The statement has succeeded."""
        now = time.monotonic()
        for group, (follower, _) in self.served.items():
            seen = self._reads.of(group)
            seen.follower, seen.at = follower, now
        for group in self._leaders:
            self._reads.of(group).floor = None
        parts = [
            f"{group}: follower {follower}, at most {1000 * age_s:.0f} ms old"
            for group, (follower, age_s) in sorted(self.served.items())
        ]
        if parts:
            parts += [f"{group}: leader" for group in sorted(set(self._leaders))]
            self._reads.guarantee = "; ".join(parts)

    async def backend(self, place: str) -> Backend | None:
        """A follower's, in the session's state; None: the leader serves."""
        group = self._session.gateway.snapshot.group_by_name.get(place)
        if group is None or len(group.instances) < 2:
            return None
        if self._session.transaction is not None and place in self._session.transaction.branches:
            self._leaders.append(place)
            return None
        if self.served and place not in self.served and not snapshots.reads_fast(self._session):
            return None
        self._followers.used(place)
        found = await self._choose(group)
        if found is None:
            self._leaders.append(place)
        return found

    async def _choose(self, group: Group) -> Backend | None:
        seen = self._reads.of(group.name)
        if self._reads.mode == "nearest" and self._distance(self._session.gateway.leaders.of(group)) == 0:
            return None
        schema = self._schema(group.name)
        if schema is None and await self._followers.ask_leader(group.name):
            schema = self._schema(group.name)
        if schema is None:
            return None
        if seen.floor is None and not await self._raise_floor(group.name, seen):
            return None
        for follower in self._in_order(group, seen, max(seen.floor or NOWHERE, schema)):
            if self._is_leader(group, follower):
                return None
            try:
                async with asyncio.timeout(FOLLOWERS_ASK_S_MAX):
                    backend = await holding.acquire_once(self._session, place_of(follower.name), self._session.database)
            except (PgError, TimeoutError):
                self._followers.late_until[follower.name] = time.monotonic() + FOLLOWERS_ASK_S_MAX
                continue
            try:
                age_s = await self._age(group.name, follower.name, backend, seen, schema)
            except BaseException:
                backend.close()
                raise
            if age_s is not None:
                self.served[group.name] = (follower.name, age_s)
                return backend
            self._session.give_back(backend)
            self._followers.late_until[follower.name] = time.monotonic() + FOLLOWER_LATE_S
        return None

    def _schema(self, group: str) -> Position | None:
        return self._followers.of(group).schema(self._session.gateway.snapshot.version)

    async def _raise_floor(self, group: str, seen: Seen) -> bool:
        if not await self._followers.ask_leader(group):
            return False
        newest = self._followers.of(group).newest
        assert newest is not None
        seen.floor = newest.position
        return True

    def _is_leader(self, group: Group, instance: Instance) -> bool:
        return instance.name == self._session.gateway.leaders.of(group).name

    def _in_order(self, group: Group, seen: Seen, wanted: Position) -> list[Instance]:
        """By distance, if that is wanted; then the one that served last, then those that are known to be there already."""
        now, known = time.monotonic(), self._followers.of(group.name).followers
        near = self._reads.mode == "nearest"
        found = list(group.instances) if near else self._followers.candidates(group)
        there = {each.name for each in found if self._age_by(known.get(each.name), wanted) is not None}
        found = [each for each in found if each.name in there or self._followers.late_until.get(each.name, now) <= now]
        random.shuffle(found)

        def rank(each: Instance) -> tuple[int, bool, bool]:
            return self._distance(each) if near else 0, each.name != seen.follower, each.name not in there

        return sorted(found, key=rank)

    def _distance(self, instance: Instance) -> int:
        """From this gateway; 0 on its node."""
        gateway = self._session.gateway
        nodes = gateway.snapshot.node_by_name
        here, there = nodes.get(gateway.config.name), nodes.get(instance.node)
        return FARTHEST if here is None or there is None else distance(here, there)

    async def _age(self, group: str, follower: str, backend: Backend, seen: Seen, schema: Position) -> float | None:
        """How old what it shows may be; None: too old."""
        if (seen.follower not in (_NOBODY, follower) or backend.made_at > seen.at > 0) and not await self._raise_floor(
            group, seen
        ):
            return None
        wanted = max(seen.floor or NOWHERE, schema)
        known = self._followers.of(group).followers.get(follower)
        if (age_s := self._age_by(known, wanted, backend.made_at)) is not None:
            return age_s
        deadline = time.monotonic() + FOLLOWER_WAIT_S_MAX
        newest = self._followers.of(group).newest
        if newest is None or newest.asked_at < self._began - self._reads.max_staleness_s / 2:
            if not await self._followers.ask_leader(group):
                return None
            deadline = time.monotonic() + FOLLOWER_WAIT_S_MAX
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                    await self._followers.ask_follower(group, follower)
            except TimeoutError:
                return None
            known = self._followers.of(group).followers.get(follower)
            if (age_s := self._age_by(known, wanted, backend.made_at)) is not None:
                return age_s
            if known is None or backend.closed or time.monotonic() > deadline:
                return None
            await asyncio.sleep(_PAUSE_S)

    def _age_by(self, known: Known | None, wanted: Position, made_at: float = 0.0) -> float | None:
        if known is None or known.at < made_at or known.position < wanted:
            return None
        age_s = max(0.0, self._began - known.fresh_since)
        return age_s if age_s <= self._reads.max_staleness_s else None
