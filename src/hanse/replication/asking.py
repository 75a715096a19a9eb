"""How a member's agent is asked: a question, an answer, over TLS. For agents and gateways; the only I/O of this package.

A frame is its length (4 bytes) and JSON ``[kind, body]``. A connection has one question at a time, and is kept for the next when
that was answered, because making one costs more than all that is said over it. Each question has a time limit, and ends its
connection when that is over: one that hangs must not delay the next question. A kept connection may have been closed by the other
side meanwhile; then the question is asked again over a new one, for all messages are made to come late and twice
(`replication/pledge.py`).
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.limits import PEER_ANSWER_S_MAX, PEER_MESSAGE_BYTES_MAX
from ..core.links import open_connection
from ..core.node_tls import NodeTls
from .failover import Established, Refusal, Report
from .pledge import Heartbeat, Message, Promote, Recruit

_LENGTH = struct.Struct("!I")


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


@dataclass(frozen=True, slots=True)
class WhoLeads:
    """A gateway's question, or a member's that hears of no leader. Nobody is pledged by it."""


@dataclass(frozen=True, slots=True)
class Leads:
    """`serving`: results of this member may be used that arrive within `lease_left_s`. None: for ever.

    `hears`: it serves, or a leader has been heard of lately. `begins`: it leads, and is going to serve if its record reaches
    the quorum.
    """

    name: str
    term: int
    serving: bool
    lease_left_s: float | None = 0.0
    hears: bool = False
    begins: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    """To the leader of `term`: let `to` lead. The answer says whether it begins to; the next leader, how it ended.

    `streaming`: the followers that stream from it now.
    """

    term: int
    to: str
    streaming: tuple[str, ...]


Reply = Report | Refusal | Established | Renewed | Heard

_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Recruit, Promote, Heartbeat, Report, Refusal, Established, Renewed, Heard, WhoLeads, Leads, HandOver)
}


Address = tuple[str, str, int]  # the agent's node, which its certificate names; host, port
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def encode(value: Message | Reply | WhoLeads | Leads | HandOver) -> bytes:
    body = msgspec.json.encode([type(value).__name__, value])
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Any:
    """Raises ValueError for what this version does not know."""
    try:
        kind, content = msgspec.json.decode(body, type=tuple[str, msgspec.Raw])
        return msgspec.json.decode(content, type=_KINDS[kind])
    except (msgspec.DecodeError, KeyError) as error:
        raise ValueError(f"a frame that cannot be read: {error}") from None


async def read(reader: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > PEER_MESSAGE_BYTES_MAX:
        raise ValueError(f"a frame of {length} bytes")
    return decode(await reader.readexactly(length))


class Asker:
    """Keeps one connection to each agent that it has asked. `close` ends them."""

    def __init__(self, tls: NodeTls) -> None:
        self._tls = tls
        self._kept: dict[Address, Connection] = {}

    def close(self) -> None:
        for _, writer in self._kept.values():
            writer.transport.abort()
        self._kept.clear()

    async def ask(self, address: Address, message: Message | WhoLeads | HandOver, *, timeout_s: float) -> Any:
        """The answer of a member's agent. Raises OSError, EOFError, ValueError or TimeoutError without one."""
        async with asyncio.timeout(timeout_s):
            kept = self._kept.pop(address, None)
            if kept is not None:
                try:
                    return await self._over(kept, address, message)
                except (OSError, EOFError):
                    pass  # it was closed: over a new one
            return await self._over(await self._connected(address), address, message)

    async def _connected(self, address: Address) -> Connection:
        node, host, port = address
        return await open_connection(
            host, port, ssl=self._tls.client, server_hostname=node, ssl_handshake_timeout=PEER_ANSWER_S_MAX
        )

    async def _over(self, connection: Connection, address: Address, message: Message | WhoLeads | HandOver) -> Any:
        reader, writer = connection
        try:
            writer.write(encode(message))
            answer = await read(reader)
        except BaseException:
            writer.transport.abort()
            raise
        if address in self._kept:
            writer.transport.abort()
        else:
            self._kept[address] = connection
        return answer
