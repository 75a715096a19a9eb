"""The agents of a group's members: who answers, and how the others are asked (`replication/asking.py`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from ..core.limits import PEER_ANSWER_S_MAX
from ..engines.postgres.streaming import Access
from ..replication.asking import HandOver, Leads, Reply, WhoLeads, ask, encode, read
from ..replication.pledge import Heartbeat, Message, Promote, Recruit


class Peers(Protocol):
    """The members of a group, the one that asks included."""

    @property
    def names(self) -> frozenset[str]: ...
    def access(self, name: str) -> Access: ...
    async def ask(self, name: str, message: Message | WhoLeads, timeout_s: float) -> Reply | Leads: ...


class PeerServer:
    """Answers questions to one member."""

    def __init__(
        self,
        handle: Callable[[Message], Awaitable[Reply]],
        key: bytes,
        leads: Callable[[], Leads] | None = None,
        hand_over: Callable[[HandOver], Reply] | None = None,
    ) -> None:
        self._handle = handle
        self._leads = leads
        self._hand_over = hand_over
        self._key = key
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, host, port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError):
            async with asyncio.timeout(PEER_ANSWER_S_MAX):
                message = await read(reader, self._key)
                answer = await self._answer(message)
                if answer is not None:
                    writer.write(encode(self._key, answer))
                    await writer.drain()
        writer.close()

    async def _answer(self, message: object) -> Reply | Leads | None:
        if isinstance(message, Recruit | Promote | Heartbeat):
            return await self._handle(message)
        if isinstance(message, WhoLeads) and self._leads is not None:
            return self._leads()
        if isinstance(message, HandOver) and self._hand_over is not None:
            return self._hand_over(message)
        return None


class TcpPeers:
    """The members of a group by their agents' addresses, and by how their servers are reached."""

    def __init__(self, addresses: Mapping[str, tuple[str, int]], accesses: Mapping[str, Access], key: bytes) -> None:
        self._addresses = addresses
        self._accesses = accesses
        self._key = key

    def know(self, addresses: Mapping[str, tuple[str, int]], accesses: Mapping[str, Access]) -> None:
        """Who the members are from now on."""
        self._addresses = addresses
        self._accesses = accesses

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._addresses)

    def access(self, name: str) -> Access:
        if name not in self._accesses:
            raise ValueError(f"{name} is no member any more")
        return self._accesses[name]

    async def ask(self, name: str, message: Message | WhoLeads, timeout_s: float) -> Reply | Leads:
        if name not in self._addresses:
            raise ValueError(f"{name} is no member any more")
        host, port = self._addresses[name]
        reply: Reply | Leads = await ask(host, port, self._key, message, timeout_s=timeout_s)
        return reply
