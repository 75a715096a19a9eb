"""How agents of a group's members talk: a question, an answer, over TCP.

A frame is its length (4 bytes), a SHA-256 MAC under the cluster's token (32 bytes), and JSON ``[kind, body]``. A frame with a
wrong MAC ends the connection. Frames are not protected against being sent again by somebody who has seen one: all messages
are made to come late and twice (`replication/pledge.py`). Each question has a connection of its own, and a time limit: a
connection that hangs must not delay the next question.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.limits import PEER_ANSWER_S_MAX, PEER_MESSAGE_BYTES_MAX
from ..engines.postgres.streaming import Access
from ..replication.failover import Established, Refusal, Report
from ..replication.pledge import Heartbeat, Message, Promote, Recruit

_LENGTH = struct.Struct("!I")
_MAC_BYTES = 32


@dataclass(frozen=True, slots=True)
class Renewed:
    """The follower's answer to a heartbeat that asked for a lease."""

    name: str
    term: int


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer that says nothing more."""

    name: str
    term: int


Reply = Report | Refusal | Established | Renewed | Heard

_KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (Recruit, Promote, Heartbeat, Report, Refusal, Established, Renewed, Heard)
}


def encode(key: bytes, value: Message | Reply) -> bytes:
    body = msgspec.json.encode([type(value).__name__, value])
    return _LENGTH.pack(len(body)) + _mac(key, body) + body


def decode(key: bytes, mac: bytes, body: bytes) -> Any:
    """Raises ValueError for what nobody with the key has sent, or what this version does not know."""
    if not hmac.compare_digest(mac, _mac(key, body)):
        raise ValueError("a frame without the cluster's token")
    try:
        kind, content = msgspec.json.decode(body, type=tuple[str, msgspec.Raw])
        return msgspec.json.decode(content, type=_KINDS[kind])
    except (msgspec.DecodeError, KeyError) as error:
        raise ValueError(f"a frame that cannot be read: {error}") from None


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).digest()


async def _read(reader: asyncio.StreamReader, key: bytes) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > PEER_MESSAGE_BYTES_MAX:
        raise ValueError(f"a frame of {length} bytes")
    mac = await reader.readexactly(_MAC_BYTES)
    return decode(key, mac, await reader.readexactly(length))


class PeerServer:
    """Answers questions to one member."""

    def __init__(self, handle: Callable[[Message], Awaitable[Reply]], key: bytes) -> None:
        self._handle = handle
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
                message = await _read(reader, self._key)
                if isinstance(message, Recruit | Promote | Heartbeat):
                    writer.write(encode(self._key, await self._handle(message)))
                    await writer.drain()
        writer.close()


class TcpPeers:
    """The members of a group by their agents' addresses, and by how their servers are reached."""

    def __init__(self, addresses: Mapping[str, tuple[str, int]], accesses: Mapping[str, Access], key: bytes) -> None:
        self._addresses = addresses
        self._accesses = accesses
        self._key = key

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._addresses)

    def access(self, name: str) -> Access:
        return self._accesses[name]

    async def ask(self, name: str, message: Message, timeout_s: float) -> Reply:
        host, port = self._addresses[name]
        reply: Reply = await ask(host, port, self._key, message, timeout_s=timeout_s)
        return reply


async def ask(host: str, port: int, key: bytes, message: Message, *, timeout_s: float) -> Any:
    """The answer of a member's agent. Raises OSError, EOFError, ValueError or TimeoutError without one."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(encode(key, message))
            return await _read(reader, key)
        finally:
            writer.close()
