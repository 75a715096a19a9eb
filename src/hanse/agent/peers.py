"""The agents of a group's members: who answers, and how the others are asked (`replication/asking.py`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from ..core.limits import PEER_ANSWER_S_MAX, PEER_CONNECTIONS_MAX, PEER_IDLE_S_MAX
from ..core.node_tls import NodeTls
from ..core.serving import NodeServer
from ..engines.postgres.streaming import Access
from ..replication.asking import Address, Asker, HandOver, Leads, Reply, WhoLeads, encode, read
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
        tls: NodeTls,
        leads: Callable[[], Leads] | None = None,
        hand_over: Callable[[HandOver], Reply] | None = None,
    ) -> None:
        self._handle = handle
        self._leads = leads
        self._hand_over = hand_over
        self.server = NodeServer(
            self._serve, tls.server, handshake_s_max=PEER_ANSWER_S_MAX, connections_max=PEER_CONNECTIONS_MAX
        )

    async def start(self, host: str, port: int) -> None:
        await self.server.start(host, port)

    async def stop(self) -> None:
        """Nobody is answered any more by this member when it returns."""
        await self.server.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ValueError):  # it is of another version
            await self._answer_all(reader, writer)

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(PEER_IDLE_S_MAX):
                message = await read(reader)
            async with asyncio.timeout(PEER_ANSWER_S_MAX):
                answer = await self._answer(message)
                if answer is None:
                    return
                writer.write(encode(answer))
                await writer.drain()

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

    def __init__(self, addresses: Mapping[str, Address], accesses: Mapping[str, Access], tls: NodeTls) -> None:
        self._addresses = addresses
        self._accesses = accesses
        self._asker = Asker(tls)

    def know(self, addresses: Mapping[str, Address], accesses: Mapping[str, Access]) -> None:
        """Who the members are from now on."""
        self._addresses = addresses
        self._accesses = accesses

    def close(self) -> None:
        """Ends the connections; those that are asked again are called again."""
        self._asker.close()

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
        reply: Reply | Leads = await self._asker.ask(self._addresses[name], message, timeout_s=timeout_s)
        return reply
