from __future__ import annotations

import pytest

from hanse.core.errors import PgError
from hanse.engines.postgres.backend import split_messages
from hanse.executor.copy_binary import HEADER, TRAILER, append_fields
from hanse.executor.copy_concatenate import Concatenation
from hanse.executor.copy_formats import CopyOptions, encode_csv, encode_text, unescape_text, unquote_csv
from hanse.pgwire.backend import copy_data

CSV = CopyOptions.of([("format", "csv")])


def test_options_and_their_defaults() -> None:
    assert CopyOptions.of([]) == CopyOptions()
    assert (CSV.delimiter, CSV.null, CSV.quote, CSV.escape) == (b",", b"", b'"', b'"')
    given = CopyOptions.of(
        [("format", "csv"), ("quote", "'"), ("header", "MATCH"), ("force_null", 'a, "B"'), ("force_not_null", "*")]
    )
    assert (given.escape, given.header, given.force_null, given.force_not_null) == (b"'", "match", ("a", "B"), ("*",))
    assert not CopyOptions.of([], "LATIN1").utf8
    with pytest.raises(PgError, match="SJIS"):
        CopyOptions.of([("encoding", "SJIS")])


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (rb"a\tb", b"a\tb"),
        (rb"\\\N", b"\\N"),
        (rb"\101\x41\60x", b"AA0x"),
        (rb"\q", b"q"),
        (b"a\\", b"a"),
        (rb"\xg", b"xg"),
    ],
)
def test_unescape_text(raw: bytes, value: bytes) -> None:
    assert unescape_text(raw) == value


@pytest.mark.parametrize(
    ("raw", "value", "quoted"),
    [
        (b"abc", b"abc", False),
        (b'"abc"', b"abc", True),
        (b'"a""b"', b'a"b', True),
        (b'a"b,"c', b"ab,c", True),
        (b'""', b"", True),
        (b'"a\\"', b"a\\", True),
    ],
)
def test_unquote_csv(raw: bytes, value: bytes, quoted: bool) -> None:
    assert unquote_csv(raw, CSV) == (value, quoted)


def test_encoded_values_read_back() -> None:
    pipe = CopyOptions.of([("delimiter", "|"), ("null", "none")])
    other = CopyOptions.of([("format", "csv"), ("quote", "'"), ("escape", "|")])
    for value in (b"", b"plain", b"a\tb\nc\\d\re", b"x|y", b"none", b"'it''s|'", b'"', b"\\."):
        assert unescape_text(encode_text(value, pipe)) == value
        assert encode_text(value, pipe) != pipe.null
        assert unquote_csv(encode_csv(value, other), other) == (value, True)
    assert encode_text(None, pipe) == b"none"
    assert encode_csv(None, other) == b""


def _joined(options: list[tuple[str, str]], streams: list[list[bytes]]) -> list[bytes]:
    """The payloads that a client gets of these streams, each given as payloads; fed one by one and all at once."""
    found: list[list[bytes]] = []
    for at_once in (False, True):
        joined = Concatenation(CopyOptions.of(options), len(streams))
        out = b""
        for stream in streams:
            joined.next_stream()
            messages = [copy_data(payload) for payload in stream]
            for piece in [b"".join(messages)] if at_once else messages:
                out += joined.feed(piece)
        found.append([message[5:] for message in split_messages(out + joined.finish())])
    assert found[0] == found[1]
    return found[0]


def test_binary_streams_become_one() -> None:
    rows = [b"\0\1\0\0\0\1" + character for character in (b"a", b"b", b"c")]
    one = [HEADER + rows[0], rows[1], TRAILER]
    empty = [HEADER + TRAILER]
    other = [HEADER + rows[2], TRAILER]
    binary = [("format", "binary")]
    assert _joined(binary, [one]) == one
    assert _joined(binary, [one, other]) == [HEADER + rows[0], rows[1], rows[2], TRAILER]
    assert _joined(binary, [empty, other]) == [HEADER + rows[2], TRAILER]
    assert _joined(binary, [empty, empty]) == [HEADER + TRAILER]


def test_a_header_line_is_kept_once() -> None:
    options = [("format", "csv"), ("header", "true")]
    header = b'a,"b\nc"\n'
    assert _joined(options, [[header, b"1,2\n"], [header], [header, b"3,4\n"]]) == [header, b"1,2\n", b"3,4\n"]
    assert _joined([("format", "csv")], [[b"1,2\n"], [], [b"3,4\n"]]) == [b"1,2\n", b"3,4\n"]


def test_append_fields_to_a_binary_row() -> None:
    assert append_fields(b"\0\1\0\0\0\1a", [b"bc", None]) == b"\0\3\0\0\0\1a\0\0\0\2bc\xff\xff\xff\xff"
