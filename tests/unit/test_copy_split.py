"""Errors, newline styles and headers. What is expected here was read from a PostgreSQL 16."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from hanse.catalog import keys
from hanse.catalog.model import Bound, Strategy
from hanse.core.errors import PgError
from hanse.core.limits import COPY_BATCH_BYTES
from hanse.executor import copy_split
from hanse.executor.copy_binary import HEADER, TRAILER
from hanse.executor.copy_formats import CopyOptions
from hanse.executor.copy_split import Added, CopySplitter
from support.sharded import hashed, sharded

TABLE = hashed([keys.INT4], 2, names=["a"])
CSV = (("format", "csv"),)
MATCH = (*CSV, ("header", "match"))


def copied(data: bytes, *options: tuple[str, str]) -> bytes:
    """All rows go to one destination: what it gets."""
    splitter = CopySplitter(CopyOptions.of(options), TABLE, ("a", "b"), destinations=[0, 0])
    batches = splitter.feed(data) + splitter.finish()
    assert not splitter.unrouted
    return b"".join(piece for _, piece in batches)


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        (b"1\ta\n2\tb\n\\.\n3\tc\n", (), b"1\ta\n2\tb\n"),
        (b"1\ta\n2\tb\\.\n3\tc\n", (), b"1\ta\n2\tb\n"),
        (b"1\ta\r\n2\tb\r\n\\.\r\n", (), b"1\ta\r\n2\tb\r\n"),
        (b"1\ta\r2\tb\r", (), b"1\ta\r2\tb\r"),
        (b"1\ta\\", (), b"1\ta\n"),
        (b"1\ta\\\nx\n2\tb\n", (), b"1\ta\\\nx\n2\tb\n"),
        (b"1\ta\\\\\n2\tb", (), b"1\ta\\\\\n2\tb\n"),
        (b"", (), b""),
        (b"\\.\n", (), b""),
        (b"1,a\n\\.\nzzz\n2,x\n", CSV, b"1,a\n"),
        (b'1,"a\n\\.\nb"\n2,x\n', CSV, b'1,"a\n\\.\nb"\n2,x\n'),
        (b'1,a\r\n2,"b\nc"\r\n', CSV, b'1,a\r\n2,"b\nc"\r\n'),
        (b'1,a\n2,"b\rc"\n', CSV, b'1,a\n2,"b\rc"\n'),
        (b"1,'a|'b|x'\n", (*CSV, ("quote", "'"), ("escape", "|")), b"1,'a|'b|x'\n"),
        (b"a,b\n1,x", (*CSV, ("header", "true")), b"1,x\n"),
        (b"a,b\r\n1,x\r\n", MATCH, b"1,x\r\n"),
        (b'"a",b', MATCH, b""),
        (b"a\tb\n1\tx", (("header", "match"),), b"1\tx\n"),
        (b"", (*CSV, ("header", "true")), b""),
    ],
)
def test_streams_that_postgresql_takes(data: bytes, options: tuple[tuple[str, str], ...], expected: bytes) -> None:
    assert copied(data, *options) == expected


@pytest.mark.parametrize(
    ("data", "options", "message", "context"),
    [
        (b"1\n", (), 'missing data for column "b"', 'line 1: "1"'),
        (b"1\t2\t3\n", (), "extra data after last expected column", 'line 1: "1\t2\t3"'),
        (b"1\t2\n1\t2\t3\n1\n", (), "extra data after last expected column", 'line 2: "1\t2\t3"'),
        (b"1\ta\n2\tb\n\\.", (), "end-of-copy marker corrupt", "line 3"),
        (b"1\ta\n2\tb\\.", (), "end-of-copy marker corrupt", "line 2"),
        (b"1\ta\n2\tb\n\\.x\n", (), "end-of-copy marker corrupt", "line 3"),
        (b"1\ta\n\\.\r\n", (), "end-of-copy marker does not match previous newline style", "line 2"),
        (b"1\ta\r\n2\tb\n", (), "literal newline found in data", "line 2"),
        (b"1\ta\n2\tb\r\n", (), "literal carriage return found in data", "line 2"),
        (b"1\ta\r2\tb\n", (), "literal newline found in data", "line 2"),
        (b'1,"a\n', CSV, "unterminated CSV quoted field", 'line 1: "1,"a\n"'),
        (b"1,a\n2,b\rc\n", CSV, "unquoted carriage return found in data", "line 2"),
        (b"1,a\r\n2,b\r", CSV, "unquoted carriage return found in data", "line 2"),
        (b"1,a\n2,b\n3\n", CSV, 'missing data for column "b"', 'line 3: "3"'),
        (b'1,"a\nb"\n3\n', CSV, 'missing data for column "b"', 'line 2: "3"'),
        (b'0,x\n1,"a\nb"\n3\n', CSV, 'missing data for column "b"', 'line 4: "3"'),
        (b"\n", CSV, 'missing data for column "b"', 'line 1: ""'),
        (b"a,c\n1,x", MATCH, 'column name mismatch in header line field 2: got "c", expected "b"', 'line 1: "a,c"'),
        (b"a\n1,x", MATCH, "wrong number of fields in header line: got 1, expected 2", 'line 1: "a"'),
        (
            b",b\n1,x",
            MATCH,
            'column name mismatch in header line field 1: got null value (""), expected "a"',
            'line 1: ",b"',
        ),
        (b"", MATCH, "wrong number of fields in header line: got 1, expected 2", 'line 1: ""'),
        (b"x" * 150 + b"\n", (), 'missing data for column "b"', f'line 1: "{"x" * 100}..."'),
        (b"PGCOPX\n\xff\r\n\0" + bytes(8), (("format", "binary"),), "COPY file signature not recognized", "line 0"),
        (HEADER + b"\0\3", (("format", "binary"),), "row field count is 3, expected 2", "line 1"),
        (HEADER + b"\0\2\0\0", (("format", "binary"),), "unexpected EOF in COPY data", "line 1"),
        (HEADER + TRAILER + b"x", (("format", "binary"),), "received copy data after EOF marker", "line 1"),
    ],
)
def test_streams_that_postgresql_refuses(
    data: bytes, options: tuple[tuple[str, str], ...], message: str, context: str
) -> None:
    with pytest.raises(PgError) as caught:
        copied(data, *options)
    assert (caught.value.sqlstate, caught.value.message) == ("22P04", message)
    assert caught.value.fields["W"] == f"COPY t, {context}"


def test_null_markers_are_not_numbers() -> None:
    table = sharded(Strategy.LIST, [keys.INT4], [Bound(values=("0",)), Bound(values=(None,))])
    for options in ((("null", "0"),), (*CSV, ("null", "0"))):
        splitter = CopySplitter(CopyOptions.of(options), table, ("id",))
        splitter.feed(b"0\n")
        assert splitter.finish() == [(1, b"0\n")]


def test_forced_null_and_not_null() -> None:
    table = sharded(Strategy.LIST, [keys.TEXT], [Bound(values=("",)), Bound(values=(None,))])

    def shard(data: bytes, *options: tuple[str, str]) -> int:
        splitter = CopySplitter(CopyOptions.of([*CSV, *options]), table, ("id", "b"))
        splitter.feed(data)
        return splitter.finish()[0][0]

    assert shard(b",x\n") == 1
    assert shard(b'"",x\n') == 0
    assert shard(b",x\n", ("force_not_null", "id")) == 0
    assert shard(b'"",x\n', ("force_null", "*")) == 1
    assert shard(b'"",x\n', ("force_null", "b")) == 0


def test_rows_keep_their_order_around_one_that_is_asked_for() -> None:
    table = sharded(Strategy.RANGE, [keys.DATE], [Bound(lower=("2020-01-01",), upper=(None,))])
    splitter = CopySplitter(CopyOptions(), table, ("id",))
    assert splitter.feed(b"2024-01-01\n1.2.2024\n2024-03-01\n") == []
    assert splitter.finish() == []
    assert [(row.row, row.keys) for row in splitter.unrouted] == [(1, (b"1.2.2024",))]
    assert splitter.resolve([(b"2024-02-01",)]) == [(0, b"2024-01-01\n1.2.2024\n2024-03-01\n")]
    assert splitter.rows == 3


def test_a_row_without_a_partition() -> None:
    table = sharded(Strategy.LIST, [keys.INT4], [Bound(values=("1",))])
    splitter = CopySplitter(CopyOptions(), table, ("id",))
    splitter.feed(b"1\n2\n")
    with pytest.raises(PgError) as caught:
        splitter.finish()
    assert (caught.value.sqlstate, caught.value.message) == ("23514", 'no partition of relation "t" found for row')
    assert caught.value.fields["W"] == 'COPY t, line 2: "2"'


def test_bytes_that_are_no_text() -> None:
    table = hashed([keys.TEXT], 2)
    for data, shown in ((b"a\xff\n", "0xff"), (b"a\\000\n", "0x00"), (b"\xe9a\n", "0xe9 0x61")):
        splitter = CopySplitter(CopyOptions(), table, ("id",))
        splitter.feed(data)
        with pytest.raises(PgError) as caught:
            splitter.finish()
        assert caught.value.sqlstate == "22021"
        assert caught.value.message == f'invalid byte sequence for encoding "UTF8": {shown}'


def test_a_missing_key_column_is_null_and_an_added_one_is_appended() -> None:
    table = hashed([keys.INT4], 4)
    without = CopySplitter(CopyOptions(), table, ("note",))
    without.feed(b"x\n")
    assert without.finish() == [(0, b"x\n")]
    binary = CopySplitter(
        CopyOptions.of([("format", "binary")]), table, ("note",), added=Added(("id",), lambda n: [(b"\0\0\0\1",)] * n)
    )
    binary.feed(HEADER + b"\0\1\0\0\0\1x" + TRAILER)
    row = b"\0\2\0\0\0\1x\0\0\0\4\0\0\0\1"
    assert binary.finish() == [(0, HEADER + row), (0, TRAILER)]


def test_a_long_row_is_not_scanned_again_and_again() -> None:
    splitter = CopySplitter(CopyOptions.of(CSV), TABLE, ("a", "b"))
    calls = 0
    scan = splitter._scanner.scan

    def counted(data: bytes, final: bool) -> object:
        nonlocal calls
        calls += 1
        return scan(data, final)

    splitter._scanner.scan = counted  # type: ignore[method-assign, assignment]
    splitter.feed(b'1,"')
    for _ in range(128):
        splitter.feed(b"x" * (64 << 10))
    batches = splitter.feed(b'"\n') + splitter.finish()
    assert sum(len(piece) for _, piece in batches) == (128 * 64 << 10) + 5
    assert calls <= 10


def test_a_row_has_a_greatest_length() -> None:
    splitter = CopySplitter(CopyOptions(), TABLE, ("a", "b"))
    with patch.object(copy_split, "MESSAGE_BYTES_MAX", 100), pytest.raises(PgError) as caught:
        splitter.feed(b"1\ta\n1\t" + b"x" * COPY_BATCH_BYTES)
    assert caught.value.sqlstate == "54000"
