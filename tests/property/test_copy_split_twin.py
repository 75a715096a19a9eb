"""The splitter against a naive twin that reads one character after the other, at every way of cutting the stream."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.catalog import keys
from hanse.catalog.keys import NotEvaluable, from_text
from hanse.catalog.routing import router_for
from hanse.core.errors import PgError
from hanse.executor import copy_split
from hanse.executor.copy_binary import HEADER, TRAILER
from hanse.executor.copy_formats import CopyOptions, encode_csv, encode_text
from hanse.executor.copy_split import Added, CopySplitter
from support.sharded import hashed

COLUMNS = ("note", "id")  # the key comes last: its field ends at the newline
INT_TABLE = hashed([keys.INT4], 4)
TEXT_TABLE = hashed([keys.TEXT], 4)

Row = tuple[bytes | None, bytes | None]


OCTAL = [b"%d" % digit for digit in range(8)]


def twin_text(data: bytes) -> list[list[bytes | None]]:
    """CopyReadLineText and CopyReadAttributesText for LF, tab and \\N, in one loop."""
    rows: list[list[bytes | None]] = []
    fields, raw, value, at = [], b"", b"", 0
    letters = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}

    def end_field() -> None:
        nonlocal raw, value
        fields.append(None if raw == b"\\N" else value)
        raw = value = b""

    while at < len(data):
        character = data[at : at + 1]
        if character == b"\\":
            following = data[at + 1 : at + 2]
            digits = b""
            while len(digits) < 3 and data[at + 1 + len(digits) : at + 2 + len(digits)] in OCTAL:
                digits += data[at + 1 + len(digits) : at + 2 + len(digits)]
            if digits:
                raw, value, at = raw + character + digits, value + bytes((int(digits, 8) & 0xFF,)), at + 1 + len(digits)
                continue
            raw, value, at = raw + character + following, value + letters.get(following, following), at + 2
            continue
        at += 1
        if character == b"\t":
            end_field()
        elif character == b"\n":
            end_field()
            rows.append(list(fields))
            fields.clear()
        else:
            raw, value = raw + character, value + character
    if fields or raw:
        end_field()
        rows.append(list(fields))
    return rows


def twin_csv(data: bytes) -> list[list[bytes | None]]:
    """The same for CSV with LF, comma and double quotes."""
    rows: list[list[bytes | None]] = []
    fields: list[bytes | None] = []
    value, quoted, inside, at = b"", False, False, 0
    while at < len(data):
        character = data[at : at + 1]
        at += 1
        if inside and character == b'"' and data[at : at + 1] == b'"':
            value, at = value + b'"', at + 1
        elif character == b'"':
            inside, quoted = not inside, True
        elif not inside and character in b",\n":
            fields.append(value if value or quoted else None)
            value, quoted = b"", False
            if character == b"\n":
                rows.append(fields)
                fields = []
        else:
            value += character
    if fields or value or quoted:
        rows.append([*fields, value if value or quoted else None])
    return rows


def split_all(
    splitter: CopySplitter, data: bytes, cuts: list[int], allow: Callable[[int], None] | None = None
) -> dict[int, bytes]:
    """Feed in pieces; a key that only PostgreSQL could read is given as 0 or 'x'. `allow` hears rows_at_most()."""
    out: dict[int, bytes] = {}
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    stand_in = b"0" if splitter._router.types == (keys.INT4,) else b"x"

    def take(batches: list[tuple[int, bytes]]) -> None:
        for destination, piece in batches:
            out[destination] = out.get(destination, b"") + piece
        if splitter.unrouted:
            take(splitter.resolve([[stand_in] for _ in splitter.unrouted]))

    for start, end in zip(places, places[1:], strict=False):
        if allow is not None:
            allow(splitter.rows_at_most(data[start:end]))
        take(splitter.feed(data[start:end]))
    if allow is not None:
        allow(splitter.rows_at_most(b""))
    take(splitter.finish())
    return out


FIELD = st.one_of(
    st.none(),
    st.integers(-300, 300).map(lambda n: str(n).encode()),
    st.sampled_from(
        [b"", b" 7 ", b"1_0", b"\\N", b"\\.", b"a\\", b"a\nb", b"\t", b'"', b'""', b"a,b", "é".encode(), b"null"]
    ),
    st.text("ab,\t\\\n\"'N.0", max_size=6).map(str.encode),
)
ROWS = st.lists(st.tuples(FIELD, FIELD), max_size=30)
CUTS = st.lists(st.integers(0, 400), max_size=6)


def expected_shard(table: object, value: bytes | None) -> int:
    router = router_for(table)  # type: ignore[arg-type]
    type_oid = router.types[0]
    try:
        canonical = None if value is None else from_text(type_oid, value)
    except NotEvaluable:
        canonical = 0 if type_oid == keys.INT4 else b"x"
    shard = router.shard_of((canonical,))
    assert shard is not None
    return shard


def check(data: bytes, rows: list[list[bytes | None]], options: CopyOptions, cuts: list[int], batch: int) -> None:
    read = twin_csv if options.format == "csv" else twin_text
    for table in (INT_TABLE, TEXT_TABLE):
        with patch.object(copy_split, "COPY_BATCH_BYTES", batch):
            found = split_all(CopySplitter(options, table, COLUMNS), data, cuts)
        wanted: dict[int, list[list[bytes | None]]] = {}
        for row in rows:
            wanted.setdefault(expected_shard(table, row[1]), []).append(row)
        assert {shard: read(stream) for shard, stream in found.items()} == wanted


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, cuts=CUTS, batch=st.sampled_from([1, 40, 100_000]), last_newline=st.booleans())
def test_text(rows: list[Row], cuts: list[int], batch: int, last_newline: bool) -> None:
    options = CopyOptions()
    data = b"".join(encode_text(a, options) + b"\t" + encode_text(b, options) + b"\n" for a, b in rows)
    check(data if last_newline else data[:-1], [list(row) for row in rows], options, cuts, batch)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, cuts=CUTS, batch=st.sampled_from([1, 40, 100_000]), bare=st.booleans(), last_newline=st.booleans())
def test_csv(rows: list[Row], cuts: list[int], batch: int, bare: bool, last_newline: bool) -> None:
    options = CopyOptions.of([("format", "csv")])

    def field(value: bytes | None) -> bytes:
        if bare and value and not set(value) & set(b'",\n\r\\'):
            return value
        return encode_csv(value, options)

    data = b"".join(field(a) + b"," + field(b) + b"\n" for a, b in rows)
    check(data if last_newline else data[:-1], twin_csv(data), options, cuts, batch)


@settings(max_examples=100, deadline=None)
@given(data=st.text('ab1,\n"', max_size=60).map(str.encode), cuts=CUTS, batch=st.sampled_from([1, 10, 100_000]))
def test_any_csv_text_is_read_like_the_twin_or_refused(data: bytes, cuts: list[int], batch: int) -> None:
    rows = twin_csv(data)
    try:
        check(data, rows, CopyOptions.of([("format", "csv")]), cuts, batch)
    except PgError as error:
        assert error.sqlstate == "22P04"
        assert data.count(b'"') % 2 or any(len(row) != 2 for row in rows)
    else:
        assert all(len(row) == 2 for row in rows)


@settings(max_examples=100, deadline=None)
@given(data=st.text("ab1\t\n\\\\N", max_size=60).map(str.encode), cuts=CUTS, batch=st.sampled_from([1, 10, 100_000]))
def test_any_text_is_read_like_the_twin_or_refused(data: bytes, cuts: list[int], batch: int) -> None:
    rows = twin_text(data)
    try:
        check(data, rows, CopyOptions(), cuts, batch)
    except PgError as error:
        assert error.sqlstate == "22P04"
        assert any(len(row) != 2 for row in rows)
    else:
        assert all(len(row) == 2 for row in rows)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.none() | st.binary(max_size=8), st.none() | st.integers(-(1 << 31), (1 << 31) - 1))),
    cuts=CUTS,
    batch=st.sampled_from([1, 40, 100_000]),
    trailer=st.booleans(),
)
def test_binary(rows: list[tuple[bytes | None, int | None]], cuts: list[int], batch: int, trailer: bool) -> None:
    def field(value: bytes | None) -> bytes:
        return b"\xff" * 4 if value is None else len(value).to_bytes(4, "big") + value

    encoded = [
        b"\0\2" + field(note) + field(None if key is None else key.to_bytes(4, "big", signed=True))
        for note, key in rows
    ]
    data = HEADER[:-4] + (3).to_bytes(4, "big") + b"ext" + b"".join(encoded) + (TRAILER if trailer else b"")
    with patch.object(copy_split, "COPY_BATCH_BYTES", batch):
        found = split_all(CopySplitter(CopyOptions.of([("format", "binary")]), INT_TABLE, COLUMNS), data, cuts)
    wanted: dict[int, bytes] = {}
    for (_, key), row in zip(rows, encoded, strict=True):
        shard = router_for(INT_TABLE).shard_of((key,))
        assert shard is not None
        wanted[shard] = wanted.get(shard, HEADER) + row
    assert found == {shard: stream + TRAILER for shard, stream in wanted.items()}


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 60), cuts=CUTS, batch=st.sampled_from([1, 40, 100_000]), csv=st.booleans())
def test_added_columns(count: int, cuts: list[int], batch: int, csv: bool) -> None:
    """The key itself is among the added columns."""
    options = CopyOptions.of([("format", "csv")]) if csv else CopyOptions()
    drawn = iter(range(1000))
    allowed, asked = [0], [0]

    def allow(rows: int) -> None:
        allowed[0], asked[0] = rows, 0

    def draw(rows: int) -> list[tuple[bytes | None, ...]]:
        asked[0] += rows
        assert asked[0] <= allowed[0]
        return [(str(next(drawn)).encode(), None) for _ in range(rows)]

    data = b"".join(b"note %d\n" % n for n in range(count))
    with patch.object(copy_split, "COPY_BATCH_BYTES", batch):
        splitter = CopySplitter(options, INT_TABLE, ("note",), added=Added(("id", "other"), draw))
        found = split_all(splitter, data, cuts, allow)
    read = twin_csv if csv else twin_text
    assert sorted(row for stream in found.values() for row in read(stream)) == sorted(
        [b"note %d" % n, b"%d" % n, None] for n in range(count)
    )
    assert all(expected_shard(INT_TABLE, row[1]) == shard for shard, stream in found.items() for row in read(stream))
    assert next(drawn) == count
