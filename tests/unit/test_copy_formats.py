from __future__ import annotations

import pytest

from hanse.core.errors import PgError
from hanse.executor.copy_binary import HEADER, TRAILER, append_fields
from hanse.executor.copy_concatenate import StreamFilter, closing
from hanse.executor.copy_formats import CopyOptions, encode_csv, encode_text, unescape_text, unquote_csv

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


def test_binary_streams_become_one() -> None:
    options = CopyOptions.of([("format", "binary")])
    rows = [b"\0\1\0\0\0\1" + character for character in (b"a", b"b", b"c")]
    joined = b""
    for index, row in enumerate(rows):
        for size in (1, 7, 1000):
            stream, filtered = HEADER + row + TRAILER, b""
            one = StreamFilter(options, first=index == 0)
            for start in range(0, len(stream), size):
                filtered += one.feed(stream[start : start + size])
            one.finish()
            assert filtered == (HEADER if index == 0 else b"") + row
        joined += filtered
    assert joined + closing(options) == HEADER + b"".join(rows) + TRAILER


def test_a_binary_stream_without_its_end_is_noticed() -> None:
    one = StreamFilter(CopyOptions.of([("format", "binary")]), first=True)
    one.feed(HEADER + b"\0\1\0\0\0\1a")
    with pytest.raises(ValueError, match="trailer"):
        one.finish()


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_header_line_is_kept_once(size: int) -> None:
    options = CopyOptions.of([("format", "csv"), ("header", "true")])
    stream = b'a,"b\nc"\n1,2\n'
    kept = []
    for index in range(2):
        one = StreamFilter(options, first=index == 0)
        kept.append(b"".join(one.feed(stream[at : at + size]) for at in range(0, len(stream), size)))
        one.finish()
    assert kept == [stream, b"1,2\n"]


def test_append_fields_to_a_binary_row() -> None:
    assert append_fields(b"\0\1\0\0\0\1a", [b"bc", None]) == b"\0\3\0\0\0\1a\0\0\0\2bc\xff\xff\xff\xff"
