"""Messages of a client: exact bytes, and PostgreSQL's words for malformed ones."""

from __future__ import annotations

import pytest

from hanse.core.errors import PgError
from hanse.core.limits import MESSAGE_BYTES_MAX
from hanse.pgwire import frontend
from hanse.pgwire.frontend import Bind, Execute, Parse, Target
from hanse.pgwire.primitives import frame


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


BUILT = {
    "query": (frontend.query(b"SELECT"), "51 0000000b 53454c45435400"),
    "parse": (frontend.parse(b"s", b"Q", (23, 0)), "50 00000012 7300 5100 0002 00000017 00000000"),
    "bind": (
        frontend.bind(b"p", b"s", [b"ab", None, b""], parameter_formats=[0, 1, 0], result_formats=[1]),
        "42 00000024 7000 7300 0003 0000 0001 0000 0003 00000002 6162 ffffffff 00000000 0001 0001",
    ),
    "bind nothing": (frontend.bind(b"", b""), "42 0000000c 00 00 0000 0000 0000"),
    "describe statement": (frontend.describe_statement(b"s"), "44 00000007 53 7300"),
    "describe portal": (frontend.describe_portal(b""), "44 00000006 50 00"),
    "close statement": (frontend.close_statement(b"s"), "43 00000007 53 7300"),
    "close portal": (frontend.close_portal(b"p"), "43 00000007 50 7000"),
    "execute": (frontend.execute(b"p", 5), "45 0000000a 7000 00000005"),
    "execute all": (frontend.execute(b"", -1), "45 00000009 00 00000000"),
    "flush": (frontend.flush(), "48 00000004"),
    "sync": (frontend.sync(), "53 00000004"),
    "terminate": (frontend.terminate(), "58 00000004"),
    "copy data": (frontend.copy_data(b"1\n"), "64 00000006 310a"),
    "copy done": (frontend.copy_done(), "63 00000004"),
    "copy fail": (frontend.copy_fail(b"no"), "66 00000007 6e6f00"),
    "password": (frontend.password(b"pw"), "70 00000007 707700"),
    "sasl initial": (frontend.sasl_initial_response("M", b"ab"), "70 0000000c 4d00 00000002 6162"),
    "sasl initial without response": (frontend.sasl_initial_response("M", None), "70 0000000a 4d00 ffffffff"),
    "sasl response": (frontend.sasl_response(b"ab"), "70 00000006 6162"),
    "startup": (frontend.startup({"user": "u"}), "00000010 00030000 7573657200 7500 00"),
    "ssl request": (frontend.ssl_request(), "00000008 04d2162f"),
    "gss request": (frontend.gss_request(), "00000008 04d21630"),
    "cancel request": (frontend.cancel_request(7, 0x80000001), "00000010 04d2162e 00000007 80000001"),
}


@pytest.mark.parametrize("name", BUILT)
def test_exact_bytes(name: str) -> None:
    built, expected = BUILT[name]
    assert built.hex() == hexed(expected).hex()


def test_parsers_read_what_builders_write() -> None:
    assert frontend.parse_query(frontend.query(b"SELECT 'a'")) == b"SELECT 'a'"
    assert frontend.parse_parse(frontend.parse(b"n", b"q", (23, 0))) == Parse(b"n", b"q", (23, 0))
    bind = frontend.bind(b"p", b"s", [b"", None, b"x"], parameter_formats=[1], result_formats=[0, 1])
    assert frontend.parse_bind(bind) == Bind(b"p", b"s", (1,), [b"", None, b"x"], (0, 1))
    assert frontend.parse_describe(frontend.describe_statement(b"n")) == Target(b"S", b"n")
    assert frontend.parse_close(frontend.close_portal(b"")) == Target(b"P", b"")
    assert frontend.parse_execute(frontend.execute(b"p", 7)) == Execute(b"p", 7)
    assert frontend.parse_copy_fail(frontend.copy_fail(b"why")) == b"why"
    assert frontend.parse_sasl_initial_response(frontend.sasl_initial_response("M", b"")) == ("M", b"")
    assert frontend.parse_sasl_initial_response(frontend.sasl_initial_response("M", None)) == ("M", None)


def test_parameter_format_follows_the_three_ways_to_write_it() -> None:
    assert [Bind(b"", b"", formats, [], ()).parameter_format(1) for formats in ((), (1,), (1, 0, 1))] == [0, 1, 0]


MALFORMED = [
    (frontend.parse_query, frame(b"Q", b"SELECT 1"), "invalid string in message"),
    (frontend.parse_query, frame(b"Q", b""), "invalid string in message"),
    (frontend.parse_query, frame(b"Q", b"a\0b\0"), "invalid message format"),
    (frontend.parse_parse, frame(b"P", b"a\0b"), "invalid string in message"),
    (frontend.parse_parse, frame(b"P", b"a\0b\0\0"), "insufficient data left in message"),
    (frontend.parse_parse, frame(b"P", b"a\0b\0\0\1\0\0\0"), "insufficient data left in message"),
    (frontend.parse_parse, frame(b"P", b"a\0b\0\0\0\0"), "invalid message format"),
    (frontend.parse_bind, frame(b"B", b"a"), "invalid string in message"),
    (frontend.parse_bind, frame(b"B", b"a\0b"), "invalid string in message"),
    (frontend.parse_bind, frame(b"B", b"\0\0\0\0\0\1\0\0\0\5abcd\0\0"), "insufficient data left in message"),
    (frontend.parse_bind, frame(b"B", b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"), "insufficient data left in message"),
    (frontend.parse_bind, frame(b"B", b"\0\0\0\0\0\1\x7f\xff\xff\xff\0\0"), "insufficient data left in message"),
    (frontend.parse_bind, frame(b"B", b"\0\0\0\0\xff\xff"), "insufficient data left in message"),
    (frontend.parse_bind, frame(b"B", b"\0\0\0\0\0\0\0\1\0"), "insufficient data left in message"),
    (frontend.parse_bind, frame(b"B", b"\0\0\0\0\0\0\0\0\0"), "invalid message format"),
    (
        frontend.parse_bind,
        frontend.bind(b"", b"", [b"1"], parameter_formats=[0, 1]),
        "bind message has 2 parameter formats but 1 parameters",
    ),
    (frontend.parse_describe, frame(b"D", b""), "no data left in message"),
    (frontend.parse_describe, frame(b"D", b"X\0"), "invalid DESCRIBE message subtype 88"),
    (frontend.parse_close, frame(b"C", b"X\0"), "invalid CLOSE message subtype 88"),
    (frontend.parse_execute, frame(b"E", b"\0\0\0\0"), "insufficient data left in message"),
    (frontend.parse_execute, frame(b"E", b"\0\0\0\0\0\0"), "invalid message format"),
    (frontend.parse_copy_fail, frame(b"f", b"why"), "invalid string in message"),
    (frontend.parse_empty, frame(b"S", b"x"), "invalid message format"),
    (frontend.parse_sasl_initial_response, frame(b"p", b"M\0\0\0\0\2a"), "insufficient data left in message"),
    (frontend.parse_sasl_initial_response, frame(b"p", b"M\0\0\0\0\0a"), "invalid message format"),
    (lambda raw: frontend.rebind(raw, b"s"), frame(b"B", b"ab\0c"), "invalid string in message"),
    (lambda raw: frontend.rebind(raw, b"s"), frame(b"B", b"abc"), "invalid string in message"),
    (lambda raw: frontend.rebind(raw, b"a\0b"), frontend.bind(b"", b""), "invalid string in message"),
]


@pytest.mark.parametrize(("parser", "raw", "words"), MALFORMED)
def test_malformed(parser, raw: bytes, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PgError) as caught:
        parser(raw)
    assert (caught.value.sqlstate, caught.value.message) == ("08P01", words)


def test_rebind_changes_the_name_only() -> None:
    for old in (b"", b"x", b"a_long_name"):
        for new in (b"", b"hanse_17"):
            raw = frontend.bind(b"portal", old, [b"v\0w", None], parameter_formats=[1], result_formats=[1])
            expected = frontend.bind(b"portal", new, [b"v\0w", None], parameter_formats=[1], result_formats=[1])
            assert frontend.rebind(raw, new) == expected


def test_a_zero_byte_cannot_be_smuggled_in() -> None:
    for build in (frontend.query, frontend.describe_statement, frontend.copy_fail, frontend.execute):
        with pytest.raises(PgError) as caught:
            build(b"a\0b")
        assert caught.value.sqlstate == "22021"
    for parameters in ({"a\0": "b"}, {"a": "b\0c"}, {"a": "\ud800"}, {"": "b"}):
        with pytest.raises(PgError):
            frontend.startup(parameters)


def test_what_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(PgError, match="65536 values"):
        frontend.bind(b"", b"", [None] * 65_536)
    with pytest.raises(PgError, match="a list in a message cannot be sent"):
        frontend.parse(b"", b"", [2**32])
    with pytest.raises(PgError, match="exceeds the limit"):
        frame(b"d", _Long())


class _Long(bytes):
    def __len__(self) -> int:
        return MESSAGE_BYTES_MAX


def test_refusals() -> None:
    assert frontend.function_call_refused().sqlstate == "0A000"
    unknown = frontend.unknown_message(ord("?"))
    assert (unknown.severity, unknown.message) == ("FATAL", "invalid frontend message type 63")
    assert frontend.unexpected_in_copy(ord("Q")).message == "unexpected message type 0x51 during COPY from stdin"
