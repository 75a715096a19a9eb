"""Frames between nodes: every message comes back as it was, and anything else is refused in one way."""

from __future__ import annotations

import asyncio
import random
import struct

import msgspec
import pytest

from hanse.consensus.raft import wire
from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.messages import (
    Append,
    AppendResponse,
    Entry,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Kind,
    ReadRequest,
    ReadResponse,
    SnapshotResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from hanse.core.limits import RAFT_FRAME_BYTES_MAX

HEAD = {"sender": "n1", "receiver": "n2", "term": 3}
CONFIGURATION = Configuration(voters=("n1", "n2"), outgoing=("n1",), learners=("n3",), addresses={"n1": "h:1"})
FRAMES: tuple[wire.AnyFrame, ...] = (
    wire.Hello(format=1, cluster="c", sender="n1", receiver="n2", address="h:1"),
    wire.Forward(**HEAD, request=1, command=b"\0x"),
    wire.Forwarded(**HEAD, request=1, index=9, entry_term=3),
    VoteRequest(**HEAD, last_index=1, last_term=1, pre=True, forced=True),
    VoteResponse(**HEAD, granted=True),
    Append(**HEAD, prev_index=1, prev_term=1, entries=(Entry(2, 3, Kind.CONFIGURATION, b"y"),), commit=1),
    AppendResponse(**HEAD, rejected=4, hint_index=2, hint_term=1),
    Heartbeat(**HEAD, commit=1, round=2),
    HeartbeatResponse(**HEAD, round=2),
    InstallSnapshot(
        **HEAD, index=5, index_term=2, configuration=CONFIGURATION, checksum=7, total=9, offset=3, data=b"abc"
    ),
    SnapshotResponse(**HEAD, index=5, received=6),
    TimeoutNow(**HEAD),
    ReadRequest(**HEAD, ticket=(1 << 60) - 1),
    ReadResponse(**HEAD, ticket=1, index=None),
)


async def read(data: bytes) -> wire.AnyFrame:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await wire.read(reader)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
async def test_a_message_comes_back_as_it_was(frame: wire.AnyFrame) -> None:
    assert await read(wire.encode(frame)) == frame


async def test_what_is_no_message_is_refused() -> None:
    draw, refused = random.Random(1), 0
    for _ in range(3000):
        data = bytearray(wire.encode(draw.choice(FRAMES)))
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(4, len(data))] = draw.randrange(256)
        try:
            await read(bytes(data))  # a number may have become another number
        except wire.WireError:
            refused += 1
    assert refused > 1000


async def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(wire.WireError, match="larger than"):
        await read(struct.pack("!I", RAFT_FRAME_BYTES_MAX + 1))
    with pytest.raises(EOFError):
        await read(wire.encode(FRAMES[0])[:-1])


async def test_a_configuration_that_cannot_be_is_refused() -> None:
    body = msgspec.msgpack.decode(wire.encode(FRAMES[9])[4:])
    body["configuration"]["learners"] = ["n1"]
    encoded = msgspec.msgpack.encode(body)
    with pytest.raises(wire.WireError):
        await read(struct.pack("!I", len(encoded)) + encoded)
