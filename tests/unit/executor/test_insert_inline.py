"""Parameters of a long VALUES list as constants, where they mean the same."""

from __future__ import annotations

import struct

import pytest

from hanse.catalog.model import Column, Kind, Relation
from hanse.executor.insert_inline import constants, inline_texts
from hanse.planner.plan import Equal, InsertRows
from hanse.planner.values import Parameters
from hanse.sql.literals import split
from support.inserts import spans_of

INT8, INT4, TEXT, INTERVAL = 20, 23, 25, 1186


def relation(*types: int) -> Relation:
    columns = tuple(Column(name=f"c{i}", type_oid=oid, type_name=str(oid)) for i, oid in enumerate(types))
    return Relation(schema="s", name="t", kind=Kind.SHARDED, columns=columns)


def planned(row: str, tail: str = "", count: int = 8) -> tuple[InsertRows, list[bytes]]:
    """A plan of `count` such rows; `@` and `&` are the first and second parameter of a row."""
    rows = [row.replace("@", f"${2 * i + 1}").replace("&", f"${2 * i + 2}") for i in range(count)]
    parts = split(f"INSERT INTO t VALUES {', '.join(rows)}{tail}".encode())
    spans = spans_of(parts)
    return InsertRows(relation=("s", "t"), keys=tuple(Equal(()) for _ in spans), rows=spans), parts


def test_rows_are_chosen_with_their_values() -> None:
    plan, parts = planned("(@::bigint + 5 % 3, 'a%b', &)", tail=" ;")
    texts = inline_texts(plan, relation(INT8, TEXT), parts)
    assert texts is not None and texts.parameters == 16
    values = [b"'%d'" % number for number in range(1, 17)]
    chosen = texts.joined(parts[1::2], values, [2, 0])
    assert chosen == b"('5'::bigint + 5 % 3, 'a%b', '6'), ('1'::bigint + 5 % 3, 'a%b', '2')"


@pytest.mark.parametrize(
    ("row", "tail"),
    [
        ("(@, 'a')", " RETURNING 1"),
        ("(@, 'a')", " ON CONFLICT DO NOTHING"),
        ("(@, $1, 'a')", ""),  # one parameter in two places
        ("(@::\"my$1type\", 'a')", ""),
        ("(a$1, 'a', @)", ""),
        ("(@::interval year, 'a')", ""),
    ],
)
def test_lists_that_go_as_they_came(row: str, tail: str) -> None:
    plan, parts = planned(row, tail)
    assert inline_texts(plan, relation(INT8, TEXT), parts) is None


def test_other_columns_types_go_as_they_came() -> None:
    plan, parts = planned("(@, 'a')")
    assert inline_texts(plan, relation(INT8, INTERVAL), parts) is None


def test_few_rows_go_as_they_came() -> None:
    plan, parts = planned("(@, 'a')", count=7)
    assert inline_texts(plan, relation(INT8, TEXT), parts) is None


@pytest.mark.parametrize(
    ("value", "form", "oid", "written"),
    [
        (b"12", 0, 0, b"'12'"),
        (b"12", 0, INT8, b"('12'::bigint)"),
        (b"it's", 0, TEXT, b"('it''s'::pg_catalog.text)"),
        (None, 0, 0, b"NULL"),
        (None, 1, INT4, b"(NULL::integer)"),
        (struct.pack("!q", -(2**63)), 1, INT8, b"('-9223372036854775808'::bigint)"),
        (b"abc", 1, TEXT, b"('abc'::pg_catalog.text)"),
    ],
)
def test_a_constant(value: bytes | None, form: int, oid: int, written: bytes) -> None:
    assert constants(Parameters([value], [form], [oid])) == [written]


@pytest.mark.parametrize(
    ("value", "form", "oid"),
    [
        (rb"a\b", 0, TEXT),  # what a backslash means is a setting's affair
        (b"a\0b", 1, TEXT),  # would end the text
        (b"1 day", 0, INTERVAL),
        (b"abcd", 1, 0),
        (b"abcd", 1, INT8),
    ],
)
def test_what_is_not_written_as_a_constant(value: bytes, form: int, oid: int) -> None:
    assert constants(Parameters([value], [form], [oid])) is None
