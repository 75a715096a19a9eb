"""Connections to the agents of other nodes, through whatever `hanse chaos` has done to the links between nodes.

A node's agent and its gateways open them here: Raft, the control service, the agents of a group's members. PostgreSQL's own
(replication, and gateways' to the servers) are not among them.

What is wrong is said by a file in the node's `run` directory, which nobody else can write, and no message can change::

    {"127.0.0.1:20017": [200, null]}    what is sent there comes 200 ms late, and what it answers is lost

So all faults are on the side that calls, which knows whom it calls. Where bytes were lost nothing comes through any more in that
direction, and the connection is broken off when its link is whole again: half a message would be nonsense.
"""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

from .clock import to_tick

log = logging.getLogger(__name__)

LINKS_FILE = "links.json"
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Fault:
    """By how many seconds what is sent, and what comes back, is late. None: it is lost."""

    there_s: float | None = 0.0
    back_s: float | None = 0.0


NO_FAULT = Fault()


class Links:
    """Of this process, to all other nodes. `watch` goes on until it is cancelled; without it nothing is ever wrong."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._open: weakref.WeakSet[_Writer] = weakref.WeakSet()

    async def watch(self, path: Path) -> None:
        seen: object = None
        while True:
            now = _stamp(path)
            if now != seen:
                seen = now
                self.use(_read(path))
            await asyncio.sleep(to_tick(POLL_S))

    def use(self, faults: Mapping[str, Fault]) -> None:
        if faults:
            log.warning("links to %s are disturbed", ", ".join(sorted(faults)))
        elif self._faults:
            log.warning("all links are whole")
        self._faults = dict(faults)
        for writer in tuple(self._open):
            writer.mend(self.fault(writer.address))

    def fault(self, address: str) -> Fault:
        return self._faults.get(address, NO_FAULT)

    async def open_connection(
        self, host: str, port: int, **more: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As asyncio's. To connect is always possible, where there is somebody who accepts."""
        address = f"{host}:{port}"
        loop = asyncio.get_running_loop()
        reader = _Reader(lambda: self.fault(address).back_s)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, host, port, **more)
        writer = _Writer(transport, protocol, reader, address, lambda: self.fault(address).there_s)
        self._open.add(writer)
        return reader, writer


def _stamp(path: Path) -> object:
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _read(path: Path) -> dict[str, Fault]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        return {address: Fault(*(None if ms is None else ms / 1000 for ms in ways)) for address, ways in found.items()}
    return {}


class _Line:
    """One direction of one connection: items go to `deliver` in order, each as late as the link is when it is taken."""

    def __init__(self, late_s: Callable[[], float | None], deliver: Callable[[bytes | None], None]) -> None:
        self._late_s = late_s
        self._deliver = deliver
        self._under_way: deque[tuple[float, bytes | None]] = deque()
        self.broken = False

    def take(self, item: bytes | None) -> None:
        late_s = self._late_s()
        if self.broken or late_s is None:
            self.broken = True
            self._under_way.clear()
        elif late_s or self._under_way:
            loop = asyncio.get_running_loop()
            if not self._under_way:
                loop.call_later(late_s, self._arrive)
            self._under_way.append((loop.time() + late_s, item))
        else:
            self._deliver(item)

    def _arrive(self) -> None:
        loop = asyncio.get_running_loop()
        while self._under_way and self._under_way[0][0] <= loop.time():
            self._deliver(self._under_way.popleft()[1])
        if self._under_way:
            loop.call_at(self._under_way[0][0], self._arrive)


class _Reader(asyncio.StreamReader):
    def __init__(self, late_s: Callable[[], float | None]) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.line = _Line(late_s, self._arrived)
        self.closing: Callable[[], bool] = lambda: False
        self._ended = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self.line.take(bytes(data))

    def feed_eof(self) -> None:
        if self.closing():  # by this side, which needs no link for that
            self._arrived(None)
        else:
            self.line.take(None)

    def _arrived(self, item: bytes | None) -> None:
        if item is None:
            self._ended = True
            super().feed_eof()
        elif not self._ended:
            super().feed_data(item)


class _Writer(asyncio.StreamWriter):
    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.StreamReaderProtocol,
        reader: _Reader,
        address: str,
        late_s: Callable[[], float | None],
    ) -> None:
        super().__init__(transport, protocol, reader, asyncio.get_running_loop())
        self.address = address
        self._lines = (_Line(late_s, self._leave), reader.line)
        reader.closing = transport.is_closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._lines[0].take(bytes(data))

    def _leave(self, item: bytes | None) -> None:
        if item is not None and not self.is_closing():
            super().write(item)

    def mend(self, now: Fault) -> None:
        """Breaks the connection off if it has lost something, and would not any more."""
        whole = now.there_s is not None and now.back_s is not None
        if whole and any(line.broken for line in self._lines):
            self.transport.abort()


LINKS = Links()
open_connection = LINKS.open_connection
