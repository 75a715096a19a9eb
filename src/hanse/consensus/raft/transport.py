"""Messages between nodes over TCP, with TLS on both sides: each node shows a certificate of the cluster's authority.

A certificate's DNS name is the node's name: the caller checks that it reached whom it called, and the called one that
`Hello` names whom the certificate names. So nobody without a key can speak, and no node for another.

The transport promises nothing, and Raft asks for nothing: what cannot be sent now is dropped. For each receiver a bounded
queue, and one connection, which is made anew after a pause that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ...core.errors import UserMistake
from ...core.limits import (
    RAFT_CONNECT_S_MAX,
    RAFT_CONNECTIONS_MAX,
    RAFT_QUEUE_BYTES_MAX,
    RAFT_RECONNECT_S_MAX,
    RAFT_RECONNECT_S_MIN,
)
from ...core.links import open_connection
from ...core.node_tls import NodeTls, certified_names
from ...core.serving import NodeServer
from . import wire

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Peer:
    """One receiver. `frames` wait for the connection; it ends, and they are gone."""

    address: str
    frames: deque[bytes] = field(default_factory=deque)
    size: int = 0
    reachable: bool = True  # until it is found that it is not; the first messages wait for the connection
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Transport:
    """`arrived` is called with every message of another node, on the event loop."""

    def __init__(self, node: str, cluster: str, tls: NodeTls, arrived: Callable[[wire.BetweenNodes], None]) -> None:
        self._node = node
        self._cluster = cluster
        self._tls = tls
        self._arrived = arrived
        self._peers: dict[str, Peer] = {}
        self._server = NodeServer(
            self._serve, tls.server, handshake_s_max=RAFT_CONNECT_S_MAX, connections_max=RAFT_CONNECTIONS_MAX
        )
        self.addresses: dict[str, str] = {}  # of nodes that have called, as they say themselves

    async def listen(self, address: str) -> str:
        """Gives the address in use: 'host:port'; port 0 is any. Raises UserMistake."""
        host, _, port = address.rpartition(":")
        try:
            await self._server.start(host, int(port))
        except OSError as error:
            raise UserMistake(f"the control plane cannot listen on {address}: {error.strerror}") from error
        self._address = f"{host}:{self._server.port}"
        return self._address

    async def close(self) -> None:
        tasks = [peer.task for peer in self._peers.values() if peer.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(self._server.stop(), *tasks, return_exceptions=True)
        self._peers.clear()

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(self, message: wire.BetweenNodes, address: str | None) -> bool:
        """Queues `message` for its receiver; False: it was dropped."""
        address = address or self.addresses.get(message.receiver)
        if address is None:
            return False
        peer = self._peers.get(message.receiver)
        if peer is None:
            peer = self._peers[message.receiver] = Peer(address)
            peer.task = asyncio.create_task(self._keep_connected(message.receiver, peer))
        peer.address = address
        if not peer.reachable or peer.size >= RAFT_QUEUE_BYTES_MAX:
            return False
        frame = wire.encode(message)
        peer.frames.append(frame)
        peer.size += len(frame)
        peer.filled.set()
        return True

    def keep(self, members: tuple[str, ...]) -> None:
        """Ends connections to nodes that are no members any more."""
        for name in set(self._peers) - set(members):
            peer = self._peers.pop(name)
            if peer.task is not None:
                peer.task.cancel()

    async def _keep_connected(self, name: str, peer: Peer) -> None:
        pause_s = RAFT_RECONNECT_S_MIN
        while True:
            try:
                async with asyncio.timeout(RAFT_CONNECT_S_MAX):
                    reader, writer = await self._connect(name, peer)
            except (OSError, TimeoutError) as error:
                log.debug("%s cannot reach %s: %s", self._node, name, error)
                self._drop(peer)
            else:
                pause_s = RAFT_RECONNECT_S_MIN
                await self._relay(name, peer, reader, writer)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RAFT_RECONNECT_S_MAX)

    async def _connect(self, name: str, peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = peer.address.rpartition(":")
        reader, writer = await open_connection(host, int(port), ssl=self._tls.client, server_hostname=name)
        hello = wire.Hello(
            format=wire.FORMAT, cluster=self._cluster, sender=self._node, receiver=name, address=self._address
        )
        writer.write(wire.encode(hello))
        return reader, writer

    async def _relay(self, name: str, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the connection ends."""
        peer.reachable = True
        end = asyncio.create_task(reader.read())  # nothing is ever answered: what comes is the end
        end.add_done_callback(lambda _: peer.filled.set())
        try:
            while not end.done():
                await peer.filled.wait()
                peer.filled.clear()
                frames, peer.frames, peer.size = peer.frames, deque(), 0
                writer.write(b"".join(frames))
                await writer.drain()
        except OSError as error:
            log.debug("the connection of %s to %s ended: %s", self._node, name, error)
        finally:
            self._drop(peer)
            end.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await end
            writer.transport.abort()

    def _drop(self, peer: Peer) -> None:
        peer.reachable = False
        peer.frames.clear()
        peer.size = 0

    # --- receiving ---------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._receive(reader, writer)
        except wire.WireError as error:
            log.warning("%s refused a connection: %s", self._node, error)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(RAFT_CONNECT_S_MAX):
            hello = await wire.read(reader)
        if not isinstance(hello, wire.Hello) or hello.format != wire.FORMAT:
            raise wire.WireError("it is of another version")
        certified = certified_names(writer)
        if hello.sender not in certified:
            raise wire.WireError(f"the certificate of {sorted(certified)} does not speak for {hello.sender}")
        if (hello.cluster, hello.receiver) != (self._cluster, self._node):
            raise wire.WireError(f"it is for {hello.receiver} of cluster {hello.cluster}")
        self.addresses[hello.sender] = hello.address
        while True:
            message = await wire.read(reader)
            if isinstance(message, wire.Hello) or (message.sender, message.receiver) != (hello.sender, self._node):
                raise wire.WireError(f"{hello.sender} sent a message of somebody else")
            self._arrived(message)
