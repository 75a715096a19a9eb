"""A long VALUES list with parameters as one with constants, so that its shares are parsed once and answered once.

    VALUES ($1::bigint + 0, 'a', $2), ($3::bigint + 0, 'b', $4), …
    →  VALUES ('12300'::bigint + 0, 'a', 'x'), …

The groups get other numbers of rows each time, so nothing that was prepared there would serve twice; and a text with a
hundred parameters costs PostgreSQL more than one with a hundred constants. A constant in a parameter's place means the
same where

- its type is written, or was left open to PostgreSQL, which then finds it for a constant as for a parameter, if no
  parameter stands twice (its two places would have to agree) and no interval is about (of which a constant learns its
  column's fields, a parameter does not);
- the statement gives no rows: their format is the client's to choose.

Everything else gives None and goes as it came.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from ..catalog.model import Relation
from ..planner.plan import InsertRows
from ..planner.values import Parameters
from .insert_keys import ROWS_MIN

VALUE_BYTES_MAX = 1 << 16  # longer ones are not worth being copied and parsed

_PARAMETER = re.compile(rb"(?<![\w$\x80-\xff])\$([0-9]+)(?![\w$\x80-\xff])")
_INTEGERS = {20: struct.Struct("!q"), 21: struct.Struct("!h"), 23: struct.Struct("!i")}
_TEXTS = frozenset((25, 1043))
# As SQL writes them: names that no schema of the user's can shadow.
_TYPES = {
    16: b"boolean",
    20: b"bigint",
    21: b"smallint",
    23: b"integer",
    25: b"pg_catalog.text",
    700: b"real",
    701: b"double precision",
    1043: b"character varying",
    1082: b"pg_catalog.date",
    1114: b"timestamp",
    1184: b"timestamp with time zone",
    1700: b"numeric",
    2950: b"pg_catalog.uuid",
}


@dataclass(frozen=True, slots=True)
class InlineTexts:
    """Every row is `format` around its values: the numbers of literals, and ~n for parameters."""

    format: bytes
    rows: tuple[tuple[int, ...], ...]
    parameters: int  # must have come with it

    def joined(self, literals: Sequence[bytes], constants: Sequence[bytes], rows: Sequence[int]) -> bytes:
        places = chain.from_iterable([self.rows[row] for row in rows])
        chosen = tuple([literals[place] if place >= 0 else constants[~place] for place in places])
        return b", ".join([self.format] * len(rows)) % chosen


def inline_texts(plan: InsertRows, relation: Relation, parts: Sequence[bytes]) -> InlineTexts | None:
    """How the plan's rows are written with constants; None: not at all."""
    if "inline" not in plan.compiled:
        plan.compiled["inline"] = _recognise(plan, relation, parts)
    found = plan.compiled["inline"]
    return found if isinstance(found, InlineTexts) else None


def _recognise(plan: InsertRows, relation: Relation, parts: Sequence[bytes]) -> InlineTexts | None:
    if len(plan.rows) < ROWS_MIN or plan.added or plan.replaced or len(parts) < 2:
        return None
    if any(column.type_oid not in _TYPES for column in relation.columns) or not _only_rows(plan, parts):
        return None
    found = rows_alike(plan, parts)
    if found is None:
        return None
    format_, rows = found
    return InlineTexts(format_, rows, max((~place + 1 for row in rows for place in row if place < 0), default=0))


def rows_alike(plan: InsertRows, parts: Sequence[bytes]) -> tuple[bytes, tuple[tuple[int, ...], ...]] | None:
    """The format of all rows, and the places of each, as `InlineTexts` has them; None where a parameter stands twice, too."""
    format_: bytes | None = None
    rows: list[tuple[int, ...]] = []
    for span in plan.rows:
        pieces = list(parts[2 * span.first_segment : 2 * span.last_segment + 1 : 2])
        pieces[-1] = pieces[-1][: span.end]
        pieces[0] = pieces[0][span.start :]
        found = _written(pieces, span.first_segment)
        if found is None or (format_ is not None and format_ != found[0]):
            return None
        format_ = found[0]
        rows.append(found[1])
    bound = [place for row in rows for place in row if place < 0]
    if format_ is None or len(set(bound)) != len(bound):
        return None
    return format_, tuple(rows)


def _only_rows(plan: InsertRows, parts: Sequence[bytes]) -> bool:
    """Nothing follows the rows (ON CONFLICT, RETURNING), and no parameter stands before them."""
    first, last = plan.rows[0], plan.rows[-1]
    tail = parts[2 * last.last_segment][last.end :] + b"".join(parts[2 * last.last_segment + 1 :])
    before = b"".join(parts[: 2 * first.first_segment]) + parts[2 * first.first_segment][: first.start]
    return not tail.strip(b" \t\r\n;") and b"$" not in before


def _written(pieces: Sequence[bytes], first: int) -> tuple[bytes, tuple[int, ...]] | None:
    """One row's format and places. `first`: the number of the literal behind its first piece."""
    texts: list[bytes] = []
    places: list[int] = []
    for number, piece in enumerate(pieces):
        if b'"' in piece or b"interval" in piece.lower():
            return None
        split = _PARAMETER.split(piece)
        places += [~(int(index) - 1) for index in split[1::2]]
        texts += split[::2]
        if number < len(pieces) - 1:
            places.append(first + number)
    if any(b"$" in text for text in texts):
        return None
    return b"%b".join(text.replace(b"%", b"%%") for text in texts), tuple(places)


def constants(parameters: Parameters) -> list[bytes] | None:
    """The parameters as SQL constants; None: not all of them can be written with certainty."""
    written: list[bytes] = []
    for index, value in enumerate(parameters.values):
        type_oid = parameters.type_of(index)
        if type_oid and type_oid not in _TYPES:
            return None
        if value is not None and len(value) > VALUE_BYTES_MAX:
            return None
        if value is not None and parameters.format_of(index):
            value = as_text(value, type_oid)
            if value is None:
                return None
        text = b"NULL" if value is None else b"'%b'" % value.replace(b"'", b"''")
        if value is not None and (b"\\" in value or b"\x00" in value):
            return None
        written.append(b"(%b::%b)" % (text, _TYPES[type_oid]) if type_oid else text)
    return written


def as_text(value: bytes, type_oid: int) -> bytes | None:
    """A binary value's text form."""
    if type_oid in _TEXTS:
        return value
    integer = _INTEGERS.get(type_oid)
    if integer is None or len(value) != integer.size:
        return None
    number: int = integer.unpack(value)[0]
    return b"%d" % number
