"""How a member's agent is asked: a question, an answer, over TCP. For agents and gateways; the only I/O of this package.

A frame is its length (4 bytes), a SHA-256 MAC under the cluster's token (32 bytes), and JSON ``[kind, body]``. A frame with a
wrong MAC ends the connection. Frames are not protected against being sent again by somebody who has seen one: all messages
are made to come late and twice (`replication/pledge.py`). Each question has a connection of its own, and a time limit: a
connection that hangs must not delay the next question.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.limits import PEER_MESSAGE_BYTES_MAX
from ..core.links import open_connection
from .failover import Established, Refusal, Report
from .pledge import Heartbeat, Message, Promote, Recruit

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


@dataclass(frozen=True, slots=True)
class WhoLeads:
    """A gateway's question, or a member's that hears of no leader. Nobody is pledged by it."""


@dataclass(frozen=True, slots=True)
class Leads:
    """`serving`: results of this member may be used that arrive within `lease_left_s`. None: for ever.

    `hears`: it serves, or a leader has been heard of lately.
    """

    name: str
    term: int
    serving: bool
    lease_left_s: float | None = 0.0
    hears: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    """To the leader of `term`: let `to` lead. The answer says whether it begins to; the next leader, how it ended."""

    term: int
    to: str


Reply = Report | Refusal | Established | Renewed | Heard

_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Recruit, Promote, Heartbeat, Report, Refusal, Established, Renewed, Heard, WhoLeads, Leads, HandOver)
}


def encode(key: bytes, value: Message | Reply | WhoLeads | Leads | HandOver) -> bytes:
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


async def read(reader: asyncio.StreamReader, key: bytes) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > PEER_MESSAGE_BYTES_MAX:
        raise ValueError(f"a frame of {length} bytes")
    mac = await reader.readexactly(_MAC_BYTES)
    return decode(key, mac, await reader.readexactly(length))


async def ask(host: str, port: int, key: bytes, message: Message | WhoLeads | HandOver, *, timeout_s: float) -> Any:
    """The answer of a member's agent. Raises OSError, EOFError, ValueError or TimeoutError without one."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await open_connection(host, port)
        try:
            writer.write(encode(key, message))
            return await read(reader, key)
        finally:
            writer.close()
