"""Who follows the catalog: what each client has taken over, and when one that is gone has surely stopped.

The service's bookkeeping, with the clock as an argument and without I/O. `protocol.py` tells why leases are counted as
they are. A watcher is *live* while its connection stands. One that went away without saying so leaves a *ghost* until
its lease has run out; a ghost holds back a change as a live watcher does that has not acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    def __call__(self) -> float: ...


@dataclass(eq=False, slots=True)
class Watcher:
    name: str
    pinged_at: float  # when its last ping arrived, by our clock
    acknowledged: int = -1
    sent: int = -1  # the version under way to it; equal to `acknowledged` when none is
    drained: set[str] = field(default_factory=set)  # freezes


class Watchers:
    def __init__(self, clock: Clock, lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._ghosts: list[float] = []  # when each one's lease ends
        self._moved = asyncio.Event()
        self.live: set[Watcher] = set()

    def haunt(self) -> None:
        """A former service's clients may be about: as if one had pinged just now."""
        self._ghosts.append(self._clock() + self._lease_s)

    def join(self, watcher: Watcher) -> None:
        self.live.add(watcher)

    def leave(self, watcher: Watcher, *, certainly_stopped: bool) -> None:
        if watcher not in self.live:
            return
        self.live.remove(watcher)
        if not certainly_stopped:
            self._ghosts.append(watcher.pinged_at + self._lease_s)
        self.moved()

    def moved(self) -> None:
        """Something changed that a waiting change may look at."""
        self._moved.set()
        self._moved = asyncio.Event()

    @property
    def any_lease(self) -> bool:
        return bool(self.live) or self._ghosts_end() is not None

    def behind(self, version: int) -> set[Watcher]:
        return {watcher for watcher in self.live if watcher.acknowledged < version}

    def undrained(self, freeze: str) -> set[Watcher]:
        return {watcher for watcher in self.live if freeze not in watcher.drained}

    async def wait(self, late: Callable[[], set[Watcher]], timeout_s: float) -> set[Watcher]:
        """Until nobody is late, or time is over; gives who is late then."""
        deadline = self._clock() + timeout_s
        while late():
            left = deadline - self._clock()
            if left <= 0:
                return late()
            await _wait_for(self._moved, left)
        return set()

    async def wait_for_ghosts(self) -> None:
        """Until every lease of a vanished watcher has run out: bounded by one lease after the last of them left."""
        while (end := self._ghosts_end()) is not None:
            await asyncio.sleep(max(0.0, end - self._clock()))

    def _ghosts_end(self) -> float | None:
        now = self._clock()
        self._ghosts = [end for end in self._ghosts if end > now]
        return max(self._ghosts, default=None)


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
