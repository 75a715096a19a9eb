"""The protocol's parts without sockets, against very many streams: framer, parsers, handshake.

HANSE_FUZZ_SEED repeats one seed (it is in a failure's message), HANSE_FUZZ_STREAMS makes a run longer.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from fuzz.streams import Streams, startup_packets
from hanse.core.errors import PgError
from hanse.core.limits import AUTH_MESSAGE_BYTES_MAX, STARTUP_BYTES_MAX
from hanse.gateway.intake import LARGE
from hanse.pgwire import frontend
from hanse.pgwire.dump import dump_frontend
from hanse.pgwire.framing import Framer
from hanse.pgwire.packets import startup_settings
from hanse.pgwire.scram import make_verifier
from hanse.pgwire.server_handshake import Authenticated, NeedVerifier, Refused, ServerHandshake

STREAMS = int(os.environ.get("HANSE_FUZZ_STREAMS", "9600"))
VERIFIER = make_verifier("pencil", b"salt", 16)
PARSERS = {
    ord("Q"): frontend.parse_query,
    ord("P"): frontend.parse_parse,
    ord("B"): frontend.parse_bind,
    ord("D"): frontend.parse_describe,
    ord("C"): frontend.parse_close,
    ord("E"): frontend.parse_execute,
    ord("S"): frontend.parse_empty,
    ord("f"): frontend.parse_copy_fail,
    ord("p"): frontend.parse_sasl_initial_response,
}


def seeds(count: int) -> Iterator[int]:
    given = os.environ.get("HANSE_FUZZ_SEED")
    yield from [int(given)] if given else range(count)


def whole(data: bytes) -> tuple[list[bytes], bool]:
    """The messages of a stream, the plainest way, and whether its framing breaks."""
    found, position = [], 0
    while len(data) - position >= 5:
        length = int.from_bytes(data[position + 1 : position + 5], "big")
        if not 4 <= length <= 0x3FFFFFFF:
            return found, True
        if position + 1 + length > len(data):
            return found, length > 10_000 and data[position] not in LARGE
        found.append(data[position : position + 1 + length])
        position += 1 + length
    return found, False


def test_framer_and_parsers() -> None:
    """However a stream is cut, the same messages come out; a parser gives a value or a PgError, never anything else."""
    messages = 0
    for seed in seeds(STREAMS):
        source = Streams(seed)
        data = b"".join(source.stream())
        expected, broken = whole(data)
        framer, found, failed = Framer(large=LARGE), [], False
        try:
            for piece in source.cut(data):
                framer.feed(piece)
                while (message := framer.next()) is not None:
                    found.append(message)
        except PgError as error:
            failed = error.sqlstate == "08P01"
        assert [message.raw for message in found] == expected and failed == broken, f"HANSE_FUZZ_SEED={seed}"
        for message in found:
            check_parsers(message.raw, seed)
            assert dump_frontend(message), f"HANSE_FUZZ_SEED={seed}"
        messages += len(found)
    assert "HANSE_FUZZ_SEED" in os.environ or messages > 100_000 * STREAMS // 9600


def check_parsers(raw: bytes, seed: int) -> None:
    for parser in (PARSERS.get(raw[0]), lambda data: frontend.rebind(data, b"h1")):
        try:
            if parser is not None:
                parser(raw)
        except PgError as error:
            assert error.sqlstate in ("08P01", "22021"), f"HANSE_FUZZ_SEED={seed}"
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error} with HANSE_FUZZ_SEED={seed}")


def test_handshake() -> None:
    """Before authentication: an answer or silence, never another exception, and never more memory than a packet's."""
    for seed in seeds(STREAMS):
        source = random.Random(seed)
        streams = Streams(seed)
        handshake = ServerHandshake(random_bytes=source.randbytes, mock_secret=b"m")
        data = b"".join(startup_packets(source) for _ in range(source.randrange(1, 4)))
        ended = False
        for piece in streams.cut(data):
            for event in handshake.receive(piece):
                if isinstance(event, NeedVerifier):
                    later = handshake.provide_verifier(source.choice((None, VERIFIER, "md5abc")))
                    ended = ended or any(isinstance(each, Refused) for each in later)
                    check_settings(event, seed)
                assert not isinstance(event, Authenticated), f"HANSE_FUZZ_SEED={seed}"
                ended = ended or isinstance(event, Refused)
            handshake.data_to_send()
            assert len(handshake._unread) <= max(STARTUP_BYTES_MAX, AUTH_MESSAGE_BYTES_MAX), f"HANSE_FUZZ_SEED={seed}"
        if ended:
            assert handshake.receive(b"x" * 100) == [] and not handshake._unread, f"HANSE_FUZZ_SEED={seed}"


def check_settings(event: NeedVerifier, seed: int) -> None:
    try:
        startup_settings(event.parameters)
    except PgError as error:
        assert error.sqlstate == "42601", f"HANSE_FUZZ_SEED={seed}"
