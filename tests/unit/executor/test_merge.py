"""The k-way merge: order, limits, bounded look-ahead, and how values compare."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from hanse.core.errors import PgError
from hanse.executor.merge import Merger, Unsortable, bounds, key_function, merged
from hanse.executor.rows import field_reader, first_fields, split_messages
from hanse.executor.sort_values import decoder
from hanse.pgwire.backend import data_row, parse_data_row
from hanse.planner.merge_rules import SORTABLE_TYPES
from hanse.planner.plan import Merge, Param, SortKey


@dataclass(frozen=True)
class Column:
    type_oid: int
    format: int = 0


INT, TEXT = Column(23), Column(25)


def rows_of(chunk: bytes) -> list[list[bytes | None]]:
    return [parse_data_row(message) for message in split_messages(chunk)]


def run(merger: Merger, sources: list[list[bytes]]) -> list[list[bytes | None]]:
    """Feeds one row at a time, only where it is wanted."""
    waiting = [list(source) for source in sources]
    found: list[list[bytes | None]] = []
    while not merger.done:
        for source in merger.wants:
            if waiting[source]:
                merger.feed(source, waiting[source].pop(0))
            else:
                merger.finish(source)
        found += rows_of(merger.take())
    return found


def test_merges_by_two_keys() -> None:
    keys = (SortKey(column=0), SortKey(column=1, descending=True))
    sources = [
        [data_row((b"1", b"b")), data_row((b"1", b"a")), data_row((b"10", b"a"))],
        [data_row((b"1", b"c")), data_row((b"2", b"z")), data_row((None, b"x"))],
        [],
    ]
    merger = Merger(sources=3, key=key_function(keys, (INT, TEXT)))
    assert run(merger, sources) == [[b"1", b"c"], [b"1", b"b"], [b"1", b"a"], [b"2", b"z"], [b"10", b"a"], [None, b"x"]]


def test_limit_offset_and_dropped_columns() -> None:
    sources = [[data_row((b"x%d" % n, b"%d" % n)) for n in range(start, 20, 2)] for start in (0, 1)]
    key = key_function((SortKey(column=-1),), (TEXT, INT))
    merger = Merger(sources=2, key=key, limit=3, offset=4, keep=1)
    assert run(merger, sources) == [[b"x4"], [b"x5"], [b"x6"]]
    assert merger.done
    assert merger.rows_given == 3


def test_without_key_one_group_after_the_other() -> None:
    sources = [[data_row((b"a",)), data_row((b"b",))], [data_row((b"c",)), data_row((b"d",))]]
    assert run(Merger(sources=2, key=None, limit=2, offset=1), sources) == [[b"b"], [b"c"]]


def test_limit_zero_reads_nothing() -> None:
    merger = Merger(sources=2, key=key_function((SortKey(column=0),), (INT,)), limit=0)
    assert merger.done
    assert merger.wants == ()


def test_reads_only_what_it_needs() -> None:
    merger = Merger(sources=2, key=key_function((SortKey(column=0),), (INT,)))
    merger.feed(0, data_row((b"1",)) + data_row((b"5",)))
    assert merger.take() == b""
    assert merger.wants == (1,)
    merger.feed(1, data_row((b"2",)))
    assert rows_of(merger.take()) == [[b"1"], [b"2"]]
    assert merger.wants == (1,)


@pytest.mark.parametrize("nulls_first", [False, True])
@pytest.mark.parametrize("descending", [False, True])
def test_against_sorting_everything(descending: bool, nulls_first: bool) -> None:
    draw = random.Random(5)
    key = SortKey(column=0, descending=descending, nulls_first=nulls_first)
    values = [draw.choice([None, *range(-5, 30)]) for _ in range(300)]

    def place(value: int | None) -> tuple[int, int]:
        if value is None:
            return (0 if nulls_first else 2, 0)
        return (1, -value if descending else value)

    parts: list[list[int | None]] = [[], [], []]
    for value in values:
        draw.choice(parts).append(value)
    sources = [[data_row((None if v is None else b"%d" % v,)) for v in sorted(part, key=place)] for part in parts]
    found = run(Merger(sources=3, key=key_function((key,), (INT,))), sources)
    assert [None if row[0] is None else int(row[0]) for row in found] == sorted(values, key=place)


async def test_driver_over_async_sources() -> None:
    async def source(*chunks: bytes) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    sources = [source(data_row((b"1",)), data_row((b"4",))), source(data_row((b"2",)) + data_row((b"3",)))]
    merger = Merger(sources=2, key=key_function((SortKey(column=0),), (INT,)), limit=3)
    found = [row for chunk in [c async for c in merged(merger, sources)] for row in rows_of(chunk)]
    assert found == [[b"1"], [b"2"], [b"3"]]


def test_top_ten_is_fast() -> None:
    """Ten rows of two groups: far below a millisecond even on a busy machine (about 40 µs on a quiet one)."""
    keys = (SortKey(column=1, descending=True), SortKey(column=0))
    chunks = [b"".join(data_row((b"%d" % n, b"%d" % (1000 - n))) for n in range(start, 20, 2)) for start in (0, 1)]
    best = 1.0
    for _ in range(50):
        began = time.perf_counter()
        merger = Merger(sources=2, key=key_function(keys, (INT, INT)), limit=10)
        for source, chunk in enumerate(chunks):
            merger.feed(source, chunk)
            merger.finish(source)
        taken = merger.take()
        best = min(best, time.perf_counter() - began)
    assert len(rows_of(taken)) == 10
    assert best < 0.001


# --- LIMIT and OFFSET as parameters ------------------------------------------------------------------------------


def test_bounds() -> None:
    assert bounds(Merge(limit=3, offset=2)) == (3, 2)
    assert bounds(Merge(limit=Param(1), offset=Param(0)), (b"4", None)) == (None, 4)
    assert bounds(Merge(limit=Param(0)), (struct.pack("!q", 7),), (1,)) == (7, 0)


@pytest.mark.parametrize(
    ("merge", "value", "sqlstate"),
    [
        (Merge(limit=Param(0)), b"-1", "2201W"),
        (Merge(offset=Param(0)), b"-1", "2201X"),
        (Merge(limit=Param(0)), b"ten", "22P02"),
    ],
)
def test_wrong_bounds(merge: Merge, value: bytes, sqlstate: str) -> None:
    with pytest.raises(PgError) as caught:
        bounds(merge, (value,))
    assert caught.value.sqlstate == sqlstate


# --- values ------------------------------------------------------------------------------------------------------

ASCENDING: dict[int, list[bytes]] = {
    16: [b"f", b"t"],
    20: [b"-9223372036854775808", b"-1", b"0", b"9", b"10", b"9223372036854775807"],
    25: [b"", b"A", b"Z", b"a", b"a ", b"aa", "ä".encode()],
    701: [b"-Infinity", b"-1e+300", b"-0.5", b"0", b"1e-300", b"2", b"10", b"Infinity", b"NaN"],
    1700: [b"-Infinity", b"-10", b"-9.99", b"0.00", b"0.001", b"9", b"10.5", b"1" + b"0" * 40, b"Infinity", b"NaN"],
    1082: [b"-infinity", b"4713-01-01 BC", b"0044-03-15 BC", b"0001-01-01", b"2024-01-31", b"9999-12-31", b"10000-01-01",
           b"infinity"],
    1083: [b"00:00:00", b"00:00:00.5", b"09:00:00", b"23:59:59.999999", b"24:00:00"],
    1114: [b"-infinity", b"0044-03-15 10:00:00 BC", b"0044-03-15 10:00:00.5 BC", b"2024-01-01 00:00:00",
           b"2024-01-01 00:00:00.5", b"10000-01-01 00:00:00", b"infinity"],
    1184: [b"-infinity", b"0044-03-15 10:00:00+00 BC", b"2024-01-01 02:00:00+05:30", b"2024-01-01 00:00:00+01",
           b"2023-12-31 23:30:00.5+00", b"2024-01-01 00:00:00-01", b"99999-01-01 00:00:00+00", b"infinity"],
    2950: [b"00000000-0000-0000-0000-000000000001", b"a0000000-0000-0000-0000-000000000000"],
}  # fmt: skip


@pytest.mark.parametrize("type_oid", ASCENDING)
def test_text_values_ascend(type_oid: int) -> None:
    decode = decoder(type_oid, binary=False)
    values = [decode(text) for text in ASCENDING[type_oid]]
    assert all(a < b for a, b in zip(values, values[1:], strict=False))  # type: ignore[operator]


def test_equal_values() -> None:
    assert decoder(1700, False)(b"1.0") == decoder(1700, False)(b"1.000")
    assert decoder(701, False)(b"-0") == decoder(701, False)(b"0")
    assert decoder(1042, False)(b"ab  ") == decoder(1042, False)(b"ab")
    assert decoder(1184, False)(b"2024-01-01 01:00:00+01") == decoder(1184, False)(b"2024-01-01 00:00:00+00")
    assert decoder(701, False)(b"NaN") == decoder(701, False)(b"NaN")


def test_binary_values() -> None:
    assert decoder(20, True)(struct.pack("!q", -5)) == -5
    assert decoder(26, True)(struct.pack("!I", 4_000_000_000)) == 4_000_000_000
    numeric = decoder(1700, True)
    parts = [(0x4000, 2, 0, ()), (0, 0, 1, (12, 3400)), (0, 0, 0, ()), (0, -1, 2, (100,)), (0, 1, 0, (1, 2))]
    del parts[0]
    packed = [struct.pack(f"!hhHh{len(d)}h", len(d), weight, sign, scale, *d) for sign, weight, scale, d in parts]
    assert [numeric(value) for value in packed] == [
        decoder(1700, False)(t) for t in (b"12.34", b"0", b"0.01", b"10002")
    ]
    negative = struct.pack("!hhHhhh", 2, 0, 0x4000, 1, 12, 5000)
    assert numeric(negative) == decoder(1700, False)(b"-12.5")
    assert numeric(struct.pack("!hhHh", 0, 0, 0xC000, 0)) == decoder(1700, False)(b"NaN")


@pytest.mark.parametrize(("type_oid", "iso"), [(3802, True), (1009, True), (1186, True), (1082, False), (1184, False)])
def test_unsortable(type_oid: int, iso: bool) -> None:
    with pytest.raises(Unsortable):
        key_function((SortKey(column=0),), (Column(type_oid),), iso_dates=iso)


def test_planner_and_executor_agree_on_sortable_types() -> None:
    for binary in (False, True):
        for type_oid in SORTABLE_TYPES:
            decoder(type_oid, binary)
    assert set(ASCENDING) <= SORTABLE_TYPES


# --- messages ----------------------------------------------------------------------------------------------------


def test_fields_are_read_in_the_order_asked_for() -> None:
    row = data_row((b"a", None, b"", b"dd"))
    assert field_reader((3, 0, 1))(row) == [b"dd", b"a", None]
    assert field_reader((2, 2))(row) == [b"", b""]


def test_shortened_messages() -> None:
    assert first_fields(data_row((b"a", None, b"c")), 2) == data_row((b"a", None))
    assert first_fields(data_row((b"a",)), 0) == data_row(())
