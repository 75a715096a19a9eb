"""A consensus of one process: what the catalog's services see of Raft, without network and disk.

Several `LocalNode`s share a `LocalLog`; who leads is what a test says. It meets `consensus.contract.Consensus` as far as services
use it. A node that is `cut_off` knows nothing of what happens elsewhere: it believes that it leads on, and its reads fail.
"""

from __future__ import annotations

import asyncio

from hanse.catalog.machine import CatalogMachine
from hanse.catalog.model import Snapshot
from hanse.consensus.contract import Leadership, unavailable


class LocalLog:
    def __init__(self, initial: Snapshot) -> None:
        self.initial = initial
        self.entries: list[bytes] = []
        self.nodes: list[LocalNode] = []
        self.term = 0

    def node(self, name: str = "n1") -> LocalNode:
        node = LocalNode(name, self)
        self.nodes.append(node)
        node.take_in()
        return node

    def elect(self, leader: LocalNode | None, *, unknown_to: LocalNode | None = None) -> None:
        """Everybody else who is not cut off knows at once."""
        self.term += 1
        for node in self.nodes:
            if not node.cut_off and node is not unknown_to:
                name = None if leader is None else leader.name
                node.learn(Leadership(term=self.term, leader=name, leads=node is leader))


class LocalNode:
    def __init__(self, name: str, log: LocalLog) -> None:
        self.name = name
        self.machine = CatalogMachine(log.initial)
        self.leadership = Leadership(term=0, leader=None, leads=False)
        self.version = 0
        self.cut_off = False
        self.hung = asyncio.Event()  # set: proposals go on
        self.hung.set()
        self._log = log
        self._moved = asyncio.Event()

    def learn(self, leadership: Leadership) -> None:
        self.leadership = leadership
        self._move()

    def take_in(self) -> bytes:
        """Applies what it has not; gives the last result."""
        result = b""
        for entry in self._log.entries[self.version :]:
            self.version += 1
            result = self.machine.apply(self.version, entry)
        self._move()
        return result

    async def propose(self, command: bytes, *, term: int | None = None) -> bytes:
        await self.hung.wait()
        if self.cut_off or term not in (None, self._log.term):
            raise unavailable()
        self._log.entries.append(command)
        for node in self._log.nodes:
            if node is not self and not node.cut_off:
                node.take_in()
        return self.take_in()

    async def read(self, *, lease: bool = True) -> None:
        await asyncio.sleep(0)
        if self.cut_off or self._log.term == 0:
            raise unavailable()

    async def changed(self, since: int) -> int:
        while self.version <= since:
            await self._moved.wait()
        return self.version

    async def leadership_changed(self, known: Leadership) -> Leadership:
        while self.leadership == known:
            await self._moved.wait()
        return self.leadership

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
