"""Cutting a stream into messages."""

from __future__ import annotations

import pytest

from hanse.core.errors import PgError
from hanse.pgwire import backend, frontend
from hanse.pgwire.framing import Framer, Message, scan, take_message

STREAM = [frontend.query(b"SELECT 1"), frontend.sync(), frontend.copy_data(b"x" * 300), frontend.terminate()]


def drained(framer: Framer) -> list[bytes]:
    return [message.raw for message in iter(framer.next, None)]


def test_chunk_of_whole_messages_is_sliced() -> None:
    framer = Framer()
    framer.feed(b"".join(STREAM))
    assert drained(framer) == STREAM
    assert len(framer) == 0


def test_single_message_chunk_is_not_copied() -> None:
    framer = Framer()
    raw = frontend.query(b"SELECT 1")
    framer.feed(raw)
    message = framer.next()
    assert message is not None and message.raw is raw
    assert (message.kind, message.body) == (frontend.QUERY, b"SELECT 1\0")


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [1, 2, 5, 7, 64])
def test_any_chunk_size_and_type(size: int, wrap: type) -> None:
    framer = Framer()
    whole = b"".join(STREAM)
    found: list[bytes] = []
    for start in range(0, len(whole), size):
        framer.feed(wrap(whole[start : start + size]))
        found += drained(framer)
    assert found == STREAM
    assert all(type(raw) is bytes for raw in found)


def test_messages_may_be_left_in_the_framer_while_more_is_fed() -> None:
    framer = Framer()
    framer.feed(STREAM[0] + STREAM[1][:2])
    framer.feed(STREAM[1][2:] + STREAM[2])
    first = framer.next()
    assert first is not None and first.raw == STREAM[0]
    framer.feed(STREAM[3])
    assert drained(framer) == STREAM[1:]


def test_feed_all_continues_what_was_cut() -> None:
    framer = Framer()
    whole = b"".join(STREAM)
    for cut in range(len(whole) + 1):
        assert [m.raw for m in framer.feed_all(whole[:cut]) + framer.feed_all(whole[cut:])] == STREAM
        assert len(framer) == 0


@pytest.mark.parametrize("length", [0, 3, 101, 0x7FFFFFFF, 0xFFFFFFFF])
def test_length_is_refused_before_the_body_comes(length: int) -> None:
    header = b"Q" + length.to_bytes(4, "big")
    framer = Framer(bytes_max=100)
    framer.feed(header)
    for _ in range(2):  # and stays refused
        with pytest.raises(PgError, match="invalid message length") as caught:
            framer.next()
        assert caught.value.sqlstate == "08P01"
    with pytest.raises(PgError):
        Framer(bytes_max=100).feed_all(header)
    with pytest.raises(PgError):
        scan(header, bytes_max=100)
    with pytest.raises(PgError):
        take_message(bytearray(header), 100)


def test_the_limit_itself_is_allowed() -> None:
    framer = Framer(bytes_max=100)
    raw = frontend.copy_data(b"x" * 96)
    framer.feed(raw)
    assert drained(framer) == [raw]


def test_huge_message_in_small_chunks_moves_bytes_once() -> None:
    """Quadratic copying of 32 MiB in 16 KiB chunks would move 32 GiB and run into the timeout."""
    framer = Framer()
    raw = frontend.copy_data(bytes(32 << 20))
    for start in range(0, len(raw), 1 << 14):
        assert framer.next() is None
        framer.feed(raw[start : start + (1 << 14)])
    assert drained(framer) == [raw]
    assert framer.next() is None
    assert framer._buffer == b""  # and nothing of it is kept


def test_rest_hands_the_stream_on() -> None:
    framer = Framer()
    framer.feed(STREAM[0] + STREAM[1][:3])
    framer.next()
    assert framer.rest() == STREAM[1][:3]
    assert len(framer) == 0 and framer.next() is None


def test_scan_reports_places_and_stops_at_a_cut_message() -> None:
    row, ready = backend.data_row([b"1"]), backend.ready_for_query(b"I")
    buffer = b"??" + row + ready + row[:-1]
    assert scan(buffer, 2) == [(ord("D"), 2, 2 + len(row)), (ord("Z"), 2 + len(row), 2 + len(row) + len(ready))]
    assert scan(memoryview(buffer), 2) == scan(bytearray(buffer), 2) == scan(buffer, 2)
    assert scan(b"") == []


def test_take_message_leaves_the_rest() -> None:
    buffer = bytearray(b"".join(STREAM[:2]))
    assert take_message(buffer, 1000) == Message(frontend.QUERY, STREAM[0])
    assert bytes(buffer) == STREAM[1]
    assert take_message(bytearray(STREAM[0][:-1]), 1000) is None
