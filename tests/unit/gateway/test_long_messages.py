"""How many long messages a worker holds, and how the values of one are taken out of it."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from hanse.core.errors import PgError
from hanse.core.limits import LONG_MESSAGE_BYTES
from hanse.gateway.longliterals import Shortened, shortened
from hanse.gateway.longmessages import TURN_BYTES, LongMessages, check_text, hold, parse_bind
from hanse.pgwire import frontend
from hanse.pgwire.framing import Framer

LONG = b"v" * LONG_MESSAGE_BYTES


async def test_one_of_the_greatest_size_has_room_alone() -> None:
    room = LongMessages(100)
    assert await room.take(100)
    assert not await room.take(1, patience_s=0.01)
    assert room.held == 100


async def test_a_row_that_no_room_can_hold_is_refused_at_once() -> None:
    room = LongMessages(100)
    session: Any = SimpleNamespace(long_bytes=0, gateway=SimpleNamespace(long_messages=room))
    await hold(session, 60)
    with pytest.raises(PgError) as refused:
        await hold(session, 100)
    assert (refused.value.sqlstate, refused.value.message) == ("54000", "out of memory")
    assert refused.value.detail == "Cannot enlarge string buffer containing 60 bytes by 40 more bytes."
    assert room.held == session.long_bytes == 60


async def test_room_is_given_in_order() -> None:
    room, order = LongMessages(100), []

    async def come(name: str, size: int) -> None:
        assert await room.take(size)
        order.append(name)

    assert await room.take(60)
    waiting = [asyncio.create_task(come(name, size)) for name, size in (("large", 90), ("small", 10), ("next", 100))]
    await asyncio.sleep(0)
    assert not order  # the small one would fit, and does not overtake
    room.give(60)
    await asyncio.gather(*waiting[:2])
    assert order == ["large", "small"]
    room.give(100)
    await waiting[2]
    assert room.held == 100


async def test_who_leaves_holds_nothing_and_lets_others_pass() -> None:
    room = LongMessages(100)
    assert await room.take(60)
    large = asyncio.create_task(room.take(90))
    small = asyncio.create_task(room.take(10))
    await asyncio.sleep(0)
    large.cancel()
    assert await small
    with contextlib.suppress(asyncio.CancelledError):
        await large
    late = asyncio.create_task(room.take(40))
    await asyncio.sleep(0)
    room.give(60)
    late.cancel()  # has been given room in this very moment
    with contextlib.suppress(asyncio.CancelledError):
        await late
    assert room.held == 10


def test_a_long_message_can_be_dropped_and_the_stream_goes_on() -> None:
    messages = frontend.query(LONG) + frontend.query(b"SELECT 1")
    for place in (10, 1000, len(LONG), len(messages)):
        framer = Framer()
        framer.feed(messages[:10])
        assert framer.next() is None and framer.announced == len(LONG) + 6
        framer.feed(messages[10:place])
        framer.drop()
        assert framer.announced == 0
        framer.feed(messages[place:])
        dropped, following = framer.next(), framer.next()
        assert dropped is not None and (dropped.kind, dropped.raw) == (frontend.QUERY, b"")
        assert following is not None and following.raw == frontend.query(b"SELECT 1")
        assert framer.next() is None and len(framer) == 0


@pytest.mark.parametrize("chunk", [1 << 16, 100_003])
def test_a_long_message_in_chunks_and_put_back(chunk: int) -> None:
    messages = [frontend.sync(), frontend.query(LONG), frontend.sync(), frontend.query(LONG + b"x")]
    whole, framer, found = b"".join(messages), Framer(), []
    for start in range(0, len(whole), chunk):
        framer.feed(whole[start : start + chunk])
        while (message := framer.next()) is not None:
            framer.put_back(message)
            assert framer.kind == message.kind and len(framer) >= len(message.raw)
            assert framer.next() is message
            found.append(message.raw)
    assert found == messages


async def test_values_of_a_long_bind() -> None:
    values = [b"1", None, LONG * 9 + b"end", b""]
    raw = frontend.bind(b"p", b"s", values, parameter_formats=(1,), result_formats=(0, 1))
    assert await parse_bind(raw) == frontend.parse_bind(raw)


@pytest.mark.parametrize("shift", range(5))
async def test_long_texts_are_checked_in_turns(shift: int) -> None:
    text = b"x" * shift + "é€😀".encode() * (TURN_BYTES // 8)
    await check_text(text)
    for wrong in (b"\0", b"\xff", "€".encode()[:2]):
        for place in (0, TURN_BYTES - 9 - (TURN_BYTES - 9 - shift) % 9, None):
            broken = text + wrong if place is None else text[: shift + place * (shift == 0)] + wrong + text
            with pytest.raises(PgError) as caught:
                await check_text(broken)
            assert caught.value.sqlstate == "22021"


async def cut(text: bytes) -> Shortened | None:
    return await shortened(frontend.query(text))


async def test_long_literals_are_taken_out() -> None:
    quotes = b"''" * TURN_BYTES + b"x''" * 3
    text = b"""INSERT INTO "it is" ("a") VALUES (5, '%b', 'it''s $1', '%b')""" % (LONG, quotes)
    found = await cut(text)
    assert found is not None
    assert found.text == b"""INSERT INTO "it is" ("a") VALUES (5, $1, 'it''s $1', $2)"""
    assert found.values == [LONG, quotes.replace(b"''", b"'")]
    assert found.whole() == text
    assert found.text[found.first : found.first + 2] == b"$1"


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1",
        b"SELECT E'%b'",
        b"SELECT 'a'\n'%b'",
        b"SELECT '%b' -- it's",
        b"SELECT /* ' */ '%b'",
        b"SELECT $$it's$$, '%b'",
        b"SELECT $1, '%b'",
        b"SELECT '%b",
        b"SELECT 1 AS \"%b'",
        b"CREATE TABLE t (a text DEFAULT '%b')",
        b"SELECT '%b'\0",
    ],
)
async def test_what_is_not_plain_stays_as_it_is(text: bytes) -> None:
    raw = text.replace(b"%b", LONG) + b"\0"
    assert await shortened(b"Q" + (len(raw) + 4).to_bytes(4, "big") + raw) is None
