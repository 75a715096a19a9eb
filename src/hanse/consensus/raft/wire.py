"""Frames between nodes: a length (4 bytes, big-endian, of what follows) and one MessagePack value, tagged with its kind.

A connection carries messages in one direction, and begins with `Hello`. Who the sender is, is what its certificate says.
"""

from __future__ import annotations

import asyncio
import struct

import msgspec

from ...core.limits import RAFT_FRAME_BYTES_MAX
from .messages import AnyMessage, Message

FORMAT = 1
_LENGTH = struct.Struct("!I")


class WireError(Exception):
    """The other side sent what no node sends. The connection ends; connecting again is safe."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`address`: where the sender listens, for whoever does not know it yet."""

    format: int
    cluster: str
    sender: str
    receiver: str
    address: str


class Forward(Message, frozen=True, kw_only=True):
    """A proposal for the leader of `term`."""

    request: int
    command: bytes


class Forwarded(Message, frozen=True, kw_only=True):
    """Where the proposal is in the log; 0: it was not proposed."""

    request: int
    index: int
    entry_term: int


AnyFrame = Hello | Forward | Forwarded | AnyMessage
BetweenNodes = Forward | Forwarded | AnyMessage

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyFrame] = msgspec.msgpack.Decoder(AnyFrame)


def encode(frame: AnyFrame) -> bytes:
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> AnyFrame:
    """Raises WireError, and what the reader raises."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > RAFT_FRAME_BYTES_MAX:
        raise WireError(f"a frame of {length} bytes is larger than {RAFT_FRAME_BYTES_MAX}")
    body = await reader.readexactly(length)
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, ValueError) as error:
        raise WireError(f"not a message between nodes: {error}") from error
