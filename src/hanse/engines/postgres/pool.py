"""Connections to one place (a group's leader, or the workspace), shared by all sessions of a gateway worker.

A backend session runs as the user it logged in as, so idle backends are kept by (user, database) and, among those, by
the session state they were last brought to: `take` prefers one that needs nothing. A place has one cap over all users
(limits.BACKENDS_PER_PLACE_MAX); who comes when it is reached waits in line, and an idle backend of another user is
closed for him. The hot path is `take`: no await, no task.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ...core.errors import PgError
from ...core.limits import BACKEND_IDLE_S_MAX, BACKEND_WAIT_S_MAX, BACKENDS_PER_PLACE_MAX
from .backend import Backend

Connect = Callable[[str, str, str, object], Awaitable[Backend]]  # (place, user, database, credentials)

_IDLE = ord("I")
_RETIRED = -1  # no generation of any pool


@dataclass(slots=True)
class _Shelf:
    """The idle backends of one (user, database), by session state; within a state the last used is first."""

    by_state: dict[object, list[Backend]] = field(default_factory=dict)
    count: int = 0


@dataclass(slots=True, eq=False)
class _Waiter:
    user: str
    database: str
    granted: asyncio.Future[Backend | None]  # a backend, or None: there is room to connect


class Pool:
    """All connections of this worker to one place."""

    def __init__(self, place: str, connect: Connect, *, size_max: int = BACKENDS_PER_PLACE_MAX) -> None:
        self.place = place
        self.size_max = size_max
        self.size = 0  # connections that exist or are being made
        self._connect = connect
        self._shelves: dict[tuple[str, str], _Shelf] = {}
        self._waiters: deque[_Waiter] = deque()
        self._generation = 0
        self._made: set[Backend] = set()  # all connections that exist
        self._retirements = 0  # of users

    def take(self, user: str, database: str, state: object) -> Backend | None:
        """An idle backend that is already in `state`, or None: then `acquire`."""
        shelf = self._shelves.get((user, database))
        if shelf is None:
            return None
        backends = shelf.by_state.get(state)
        while backends:
            shelf.count -= 1
            backend = backends.pop()
            if backend.unread:
                backend.close()  # what came while nobody asked is for nobody
            if not backend.closed:
                return backend
        return None

    def take_this(self, backend: Backend) -> bool:
        """Takes one certain backend, if it is idle."""
        shelf = self._shelves.get((backend.user, backend.database))
        for backends in shelf.by_state.values() if shelf is not None and not backend.closed else ():
            if backend in backends:
                backends.remove(backend)
                shelf.count -= 1  # type: ignore[union-attr]
                return True
        return False

    async def acquire(
        self,
        user: str,
        database: str,
        state: object,
        credentials: object,
        names: frozenset[str] = frozenset(),
        standing: object = (),
    ) -> Backend:
        """A backend of this user in any state (the caller brings it to his own). Waits in line when all are busy.

        One that knows custom settings beyond `names` is not given: it cannot forget them; nor one that has begun with other
        settings than `standing`. Who waited in line must look himself.

        Raises PgError 53300 after BACKEND_WAIT_S_MAX, or whatever the server says to the login.
        """
        backend = self.take(user, database, state) or self._take_any(user, database, names, standing)
        if backend is not None:
            return backend
        if self.size >= self.size_max:
            self._evict_one()
        if self.size < self.size_max:
            return await self._open(user, database, credentials)
        return await self._wait(user, database, credentials)

    async def _open(self, user: str, database: str, credentials: object) -> Backend:
        self.size += 1
        generation, retirements = self._generation, self._retirements
        try:
            backend = await self._connect(self.place, user, database, credentials)
        except BaseException:
            self._gone()
            raise
        backend.on_close = self._on_close
        backend.pool_generation = generation if retirements == self._retirements else _RETIRED
        self._made.add(backend)
        return backend

    async def _wait(self, user: str, database: str, credentials: object) -> Backend:
        waiter = _Waiter(user, database, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            backend = await asyncio.wait_for(asyncio.shield(waiter.granted), BACKEND_WAIT_S_MAX)
        except BaseException as error:
            self._abandon(waiter)
            if isinstance(error, TimeoutError):
                raise PgError(
                    "53300",
                    f"no connection to {self.place} became free within {BACKEND_WAIT_S_MAX:g} s",
                    detail=f"All {self.size_max} connections of this gateway worker are in use.",
                    hint="End open transactions sooner, or run more gateway workers.",
                ) from None
            raise
        if backend is not None:
            return backend
        self.size -= 1  # the room that was kept for us; _open counts itself
        return await self._open(user, database, credentials)

    def _abandon(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.granted.done() and not waiter.granted.cancelled():
            backend = waiter.granted.result()
            if backend is None:
                self._gone()
            else:
                self.release(backend)

    def release(self, backend: Backend) -> None:
        """Gives a backend back: outside any transaction, all its answers read, `state` telling what it is in."""
        if backend.answering:
            backend.close()  # its user went away in the middle of an answer, which the next one would be given
            return
        if backend.closed or backend.unread or backend.pool_generation != self._generation or backend.status != _IDLE:
            backend.close()  # the status is a second look: nobody may inherit another's transaction
            return
        if backend.cancelling is not None and not backend.cancelling.done():
            backend.cancelling.add_done_callback(lambda _: self.release(backend))
            return
        for waiter in self._waiters:
            if (waiter.user, waiter.database) == (backend.user, backend.database):
                self._waiters.remove(waiter)
                waiter.granted.set_result(backend)
                return
        if self._waiters:
            backend.close()  # its end makes room for the first in line
            return
        shelf = self._shelves.get((backend.user, backend.database))
        if shelf is None:
            shelf = self._shelves[(backend.user, backend.database)] = _Shelf()
        backend.idle_since = time.monotonic()
        shelf.by_state.setdefault(backend.state, []).append(backend)
        shelf.count += 1

    def _take_any(
        self, user: str, database: str, names: frozenset[str] | None = None, standing: object = ()
    ) -> Backend | None:
        """Without `names`, really any."""
        shelf = self._shelves.get((user, database))
        if shelf is None or shelf.count == 0:
            return None
        for backends in shelf.by_state.values():
            for backend in list(backends):
                fits = names is None or (backend.names <= names and backend.standing == standing)
                if not fits and not backend.closed:
                    continue
                shelf.count -= 1
                backends.remove(backend)
                if backend.unread:
                    backend.close()
                if not backend.closed:
                    return backend
        return None

    def _evict_one(self) -> None:
        for key in list(self._shelves):
            backend = self._take_any(*key)
            if backend is not None:
                backend.close()
                return

    def _on_close(self, backend: Backend) -> None:
        self._made.discard(backend)
        shelf = self._shelves.get((backend.user, backend.database))
        if shelf is not None:
            for backends in shelf.by_state.values():
                if backend in backends:
                    backends.remove(backend)
                    shelf.count -= 1
        self._gone()

    def _gone(self) -> None:
        """A connection has ended: the first in line may make a new one."""
        self.size -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.granted.done():
                self.size += 1
                waiter.granted.set_result(None)
                return

    def close_idle(self, older_than_s: float = 0.0, user: str | None = None, database: str | None = None) -> None:
        """Closes idle backends (of one user, in one database): by age in the background, all of them when rights or places
        change.
        """
        now = time.monotonic()
        for (owner, where), shelf in self._shelves.items():
            if user not in (None, owner) or database not in (None, where):
                continue
            for backends in shelf.by_state.values():
                for backend in [b for b in backends if now - b.idle_since >= older_than_s]:
                    backend.close()

    @property
    def lent(self) -> int:
        """How many backends are somebody's at this moment."""
        return len(self._made) - sum(shelf.count for shelf in self._shelves.values())

    def retire_user(self, user: str) -> None:
        """The name is another role's now: no backend made before this moment is used again."""
        self._retirements += 1  # for those that are being made
        for backend in self._made:
            if backend.user == user:
                backend.pool_generation = _RETIRED
        self.close_idle(user=user)

    def retire(self) -> None:
        """The place has a new address: no backend made before this moment is used again."""
        self._generation += 1
        self.close_idle()

    def abandon(self) -> None:
        """The place has another server now: what the former one still answers is not to be heard."""
        self._generation += 1
        for backend in tuple(self._made):
            backend.abort()

    def sweep(self) -> None:
        self.close_idle(BACKEND_IDLE_S_MAX)
        for shelf in self._shelves.values():
            shelf.by_state = {state: backends for state, backends in shelf.by_state.items() if backends}
