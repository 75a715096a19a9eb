"""The rows of a VALUES list as lines for COPY FROM STDIN.

    VALUES (12300::bigint + 0, 7, 'a'), (12300::bigint + 1, 7, 'b'), …
    →  12300	7	a
       12301	7	b

A server spends half as much on a line as on a row of VALUES: nothing is parsed, and rows go to a page together. Whether COPY
would do the same as the statement is the plan's to say (`InsertRows.copied`: no triggers, rules, policies, RETURNING …). Here it
is asked of the values: a constant whose type is left open goes through its column's input function either way, and so does
a number into a column of numbers. Everything else gives None, and the rows go as they came.

COPY's errors are other ones (they name a line), so a statement that fails is run again as it came; see `CopyRefused`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..catalog.model import Column, Relation
from ..core.ids import quote_identifier, quote_qualified
from ..pgwire import frontend
from ..planner.plan import InsertRows
from ..planner.values import Parameters
from .insert_inline import as_text, rows_alike
from .insert_keys import ROWS_MIN, Keys

_INTEGERS = frozenset((20, 21, 23))
_DECIMALS = frozenset((700, 701, 1700))
_TEXTS = frozenset((25, 1042, 1043))
_BOOLEAN, _INTERVAL, _NUMERIC = 16, 1186, 1700
_DECIMAL = re.compile(rb"[0-9]+(?:\.[0-9]+)?").fullmatch
# A value in a row's text, where \0 stands for each literal or parameter.
_ALONE = re.compile(rb"\s*(-?)\0(?:::([a-z][a-z0-9 ]*))?\s*").fullmatch
_SUM = re.compile(rb"\s*\0(?:::(?:bigint|int8))?\s*\+\s*\0(?:::(?:bigint|int8))?\s*").fullmatch
_WORDS = {b"null": b"\\N", b"true": b"t", b"false": b"f"}
_NAMES = {  # what a cast may call a type, as format_type() does
    "int8": "bigint", "int": "integer", "int4": "integer", "int2": "smallint", "bool": "boolean", "varchar": "character varying",
    "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone", "float8": "double precision",
    "float4": "real", "decimal": "numeric",
}  # fmt: skip
_ESCAPES = {b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r"}


@dataclass(frozen=True, slots=True)
class _Cell:
    """One column's values: literals (their numbers) and parameters (~n), by row; None: the sums that the rows are routed by."""

    column: Column
    places: tuple[int, ...] | None
    negative: bool = False
    bound: bool = False  # parameters are among them

    def texts(self, literals: Sequence[bytes], parameters: Parameters, keys: Keys) -> list[bytes] | None:
        if self.places is None:
            return list(map(b"%d".__mod__, keys.tolist()))
        if self.bound:
            return self._of_both(literals, parameters, self.places)
        found = self._of_literals([literals[place] for place in self.places])
        return [b"-" + each for each in found] if self.negative and found is not None else found

    def _of_literals(self, found: list[bytes]) -> list[bytes] | None:
        type_oid = self.column.type_oid
        if not found[0].startswith(b"'"):
            if type_oid in _INTEGERS:
                return found if b"".join(found).isdigit() else None
            signed_zero = self.negative and type_oid != _NUMERIC  # SQL's -0 is 0, which floats tell from their own
            return found if type_oid in _DECIMALS and not signed_zero and all(map(_DECIMAL, found)) else None
        joined = b"\0".join(found)
        plain = joined[1:-1].split(b"'\0'")
        if self.negative or b"\\" in joined or type_oid == _INTERVAL or len(plain) != len(found):
            return None  # not all of them are strings
        if joined.count(b"'") != 2 * len(found):
            plain = [each.replace(b"''", b"'") for each in plain]
        return [_escaped(each) for each in plain] if _is_special(joined) else plain

    def _of_both(self, literals: Sequence[bytes], parameters: Parameters, places: Sequence[int]) -> list[bytes] | None:
        texts: list[bytes] = []
        for place in places:
            text = self._of_parameter(parameters, ~place) if place < 0 else None
            if place >= 0 and (read := self._of_literals([literals[place]])) is not None:
                text = read[0]
            if text is None:
                return None
            texts.append(text)
        return texts

    def _of_parameter(self, parameters: Parameters, index: int) -> bytes | None:
        if self.negative or index >= len(parameters.values):
            return None
        value, type_oid = parameters.values[index], parameters.type_of(index)
        if type_oid and not _goes_into(type_oid, self.column.type_oid):
            return None
        if value is None:
            return b"\\N"
        if parameters.format_of(index):
            value = as_text(value, type_oid)
        if value is None or b"\\" in value or b"\0" in value or self.column.type_oid == _INTERVAL:
            return None
        return _escaped(value) if _is_special(value) else value


def _goes_into(type_oid: int, column_oid: int) -> bool:
    """Whether a parameter's text is what the column would be given. (Not from char(n): its blanks count for nothing.)"""
    if type_oid in (25, 1043):
        return column_oid in _TEXTS
    return type_oid == column_oid or (type_oid in _INTEGERS and column_oid in _INTEGERS)


def _is_special(text: bytes) -> bool:
    return b"\n" in text or b"\t" in text or b"\r" in text  # a regular expression takes ten times as long


def _escaped(value: bytes) -> bytes:
    return re.sub(rb"[\t\n\r]", lambda found: _ESCAPES[found.group()], value)


@dataclass(frozen=True, slots=True)
class CopyTexts:
    sql: bytes
    cells: tuple[_Cell | bytes, ...]  # bytes: the text of all rows

    def lines(self, literals: Sequence[bytes], parameters: Parameters, keys: Keys) -> list[bytes] | None:
        """Each row as COPY reads it; None: they do not go by COPY."""
        columns: list[list[bytes]] = []
        for cell in self.cells:
            values = [cell] * len(keys) if isinstance(cell, bytes) else cell.texts(literals, parameters, keys)
            if values is None:
                return None
            columns.append(values)
        return list(map(b"\t".join, zip(*columns, strict=True)))


def copy_data(lines: Sequence[bytes], rows: Sequence[int]) -> bytes:
    return frontend.copy_data(b"\n".join([lines[row] for row in rows]) + b"\n")


def copy_texts(plan: InsertRows, relation: Relation, parts: Sequence[bytes]) -> CopyTexts | None:
    """How the plan's rows become lines; None: they do not."""
    if "copy" not in plan.compiled:
        plan.compiled["copy"] = _recognise(plan, relation, parts)
    found = plan.compiled["copy"]
    return found if isinstance(found, CopyTexts) else None


def _recognise(plan: InsertRows, relation: Relation, parts: Sequence[bytes]) -> CopyTexts | None:
    if len(plan.rows) < ROWS_MIN or not plan.copied or len(parts) < 2:
        return None
    found = rows_alike(plan, parts)
    if found is None:
        return None
    common, rows = found
    items = common.replace(b"%b", b"\0").replace(b"%%", b"%").strip()[1:-1].split(b",")
    columns = [relation.column_by_name[name] for name in plan.copied]
    if len(items) != len(columns):
        return None
    return _compiled(relation, columns, items, list(zip(*rows, strict=True)))


def _compiled(
    relation: Relation, columns: list[Column], items: list[bytes], places: list[tuple[int, ...]]
) -> CopyTexts | None:
    """`places`: by literal or parameter of a row, those of all rows."""
    cells: list[_Cell | bytes] = []
    done = 0
    for column, item in zip(columns, items, strict=True):
        word = item.strip().lower()
        if word in _WORDS and (word == b"null" or column.type_oid == _BOOLEAN):
            cells.append(_WORDS[word])
            continue
        width = item.count(b"\0")
        if column.name in relation.key and _SUM(item) is not None:
            cells.append(_Cell(column, None))
        else:
            alone = _ALONE(item)
            if alone is None or not _same_type(column, alone[2]):
                return None
            cells.append(_Cell(column, places[done], bool(alone[1]), any(place < 0 for place in places[done])))
        done += width
    names = ", ".join(map(quote_identifier, (column.name for column in columns)))
    sql = f"COPY {quote_qualified(*relation.identity)} ({names}) FROM STDIN"
    return CopyTexts(sql.encode(), tuple(cells))


def _same_type(column: Column, cast: bytes | None) -> bool:
    if cast is None:
        return True
    name = cast.decode().strip()
    return _NAMES.get(name, name) == column.type_name
