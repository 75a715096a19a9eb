"""Rows of a long VALUES list as COPY's lines, where COPY would do the same with them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from hanse.catalog.model import Column, Kind, Relation
from hanse.executor.insert_copy import copy_data, copy_texts
from hanse.planner.plan import Equal, InsertRows
from hanse.planner.values import NO_PARAMETERS, Parameters
from hanse.sql.literals import split
from support.inserts import spans_of

INT8, INT4, TEXT, BOOL, NUMERIC, INTERVAL, BPCHAR, DATE, FLOAT8 = 20, 23, 25, 16, 1700, 1186, 1042, 1082, 701
NAMES = {INT8: "bigint", INT4: "integer", TEXT: "text", BOOL: "boolean", NUMERIC: "numeric(6,2)", DATE: "date"}
COUNT = 8


def relation(*types: int) -> Relation:
    columns = tuple(Column(name=f"c{i}", type_oid=oid, type_name=NAMES.get(oid, "?")) for i, oid in enumerate(types))
    return Relation(schema="S", name="t", kind=Kind.SHARDED, columns=columns, key=("c0",), key_types=types[:1])


def lines(row: str, *types: int, parameters: Parameters = NO_PARAMETERS, count: int = COUNT) -> list[bytes] | None:
    """Rows 5 and 2 as they are copied; `#` is the row's number, `@` its parameter. None: they are not."""
    rows = [row.replace("#", str(number)).replace("@", f"${number + 1}") for number in range(count)]
    parts = split(f"INSERT INTO t VALUES {', '.join(rows)}".encode())
    spans = spans_of(parts)
    table = relation(*types)
    plan = InsertRows(
        relation=table.identity,
        keys=tuple(Equal(()) for _ in spans),
        rows=spans,
        copied=tuple(column.name for column in table.columns),
    )
    texts = copy_texts(plan, table, parts)
    if texts is None:
        return None
    columns = ", ".join(plan.copied)
    assert texts.sql == f'COPY "S".t ({columns}) FROM STDIN'.encode()
    found = texts.lines(parts[1::2], parameters, np.arange(count, dtype=np.int64) * 100)
    if found is None:
        return None
    message = copy_data(found, [5, 2])
    (length,) = struct.unpack_from("!I", message, 1)
    assert message[:1] == b"d" and len(message) == 1 + length
    return message[5 : 1 + length].splitlines()


def bound(*values: bytes | None, oid: int = 0, form: int = 0) -> Parameters:
    return Parameters(values, (form,) * len(values), (oid,) * len(values))


@pytest.mark.parametrize(
    ("row", "types", "second"),
    [
        ("(#, 7, 'a')", (INT8, INT4, TEXT), b"2\t7\ta"),
        ("(#::bigint + 1, 'a%b')", (INT8, TEXT), b"200\ta%b"),
        ("(#, -7, NULL, true)", (INT8, INT4, TEXT, BOOL), b"2\t-7\t\\N\tt"),
        ("( # , '7' , 'it''s' )", (INT8, INT4, TEXT), b"2\t7\tit's"),
        ("(#, 1.50, '1.50')", (INT8, NUMERIC, NUMERIC), b"2\t1.50\t1.50"),
        ("(#::int8, 'a\tb', '')", (INT8, TEXT, TEXT), b"2\ta\\tb\t"),
        ("(#, '2024-02-01'::date, 'x'::text)", (INT8, DATE, TEXT), b"2\t2024-02-01\tx"),
    ],
)
def test_values_as_lines(row: str, types: tuple[int, ...], second: bytes) -> None:
    found = lines(row, *types)
    assert found is not None and len(found) == 2 and found[1] == second


@pytest.mark.parametrize(
    ("row", "types"),
    [
        ("(#, 'a\\b')", (INT8, TEXT)),  # what it means, a setting says
        ("(#, 7)", (INT8, TEXT)),  # 007 would be 7
        ("(#, 1.5)", (INT8, INT4)),  # is rounded
        ("(#, 1e3)", (INT8, NUMERIC)),
        ("(#, now())", (INT8, DATE)),
        ("(#, 7 + 1)", (INT8, INT4)),
        ("(#, -'7')", (INT8, INT4)),
        ("(#, -0)", (INT8, FLOAT8)),  # 0, and not the float's -0
        ("(#, true)", (INT8, TEXT)),
        ("(#, '1 year')", (INT8, INTERVAL)),
        ("(#, '2024-02-01'::timestamp)", (INT8, DATE)),
        ("(#, $1)", (INT8, TEXT)),  # one parameter in several places
    ],
)
def test_rows_that_are_inserted(row: str, types: tuple[int, ...]) -> None:
    assert lines(row, *types, parameters=bound(*(b"1",) * COUNT)) is None


def test_few_rows_are_inserted() -> None:
    assert lines("(#, 7)", INT8, INT4, count=7) is None


@pytest.mark.parametrize(
    ("value", "oid", "form", "column", "written"),
    [
        (b"a\nb", 0, 0, TEXT, b"a\\nb"),
        (None, 0, 0, TEXT, b"\\N"),
        (b"\0\0\0\7", INT4, 1, INT8, b"7"),
        (b"x", 1043, 1, TEXT, b"x"),
        (b"a\\b", TEXT, 0, TEXT, None),
        (b"a\0b", TEXT, 1, TEXT, None),
        (b"7", TEXT, 0, INT4, None),
        (b"a ", BPCHAR, 0, TEXT, None),
        (b"\0\0", DATE, 1, DATE, None),
        (b"1 year", 0, 0, INTERVAL, None),
    ],
)
def test_parameters(value: bytes | None, oid: int, form: int, column: int, written: bytes | None) -> None:
    found = lines("(#, @)", INT8, column, parameters=bound(*(value,) * COUNT, oid=oid, form=form))
    assert (found and found[0]) == (None if written is None else b"5\t" + written)
