"""What nodes of either consensus have in common: who waits for a version or for a leader is told, or told that there is no more."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from .contract import Leadership, unavailable


class Watched(ABC):
    version = 0
    failed: asyncio.Future[None]

    @property
    @abstractmethod
    def leadership(self) -> Leadership: ...

    async def changed(self, since: int) -> int:
        while self.version <= since:
            if self.failed.done():
                raise unavailable()
            await self._moved.wait()
        return self.version

    async def leadership_changed(self, known: Leadership) -> Leadership:
        while self.leadership == known:
            if self.failed.done():
                raise unavailable()
            await self._led.wait()
        return self.leadership

    def _begin(self) -> None:
        """On the event loop, before anybody can wait."""
        self._moved, self._led = asyncio.Event(), asyncio.Event()
        self.failed = asyncio.get_running_loop().create_future()

    def _tell_version(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _tell_leadership(self) -> None:
        self._led.set()
        self._led = asyncio.Event()

    def _tell_end(self) -> None:
        """`failed` is done: nobody waits from now on."""
        self._moved.set()
        self._led.set()
