"""Rows that were read, written again as SQL constants: VALUES lists of `'text'::type`."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.ids import quote_literal
from ..pgwire import backend as server_messages

Texts = list[str | None]
Typed = tuple[tuple[int, str], ...]  # each column's type: its oid, and its name as a cast writes it

ROWS = "hanse_rows"


def row_texts(message: bytes) -> Texts:
    """The values of a DataRow message in text format."""
    return [None if value is None else bytes(value).decode() for value in server_messages.parse_data_row(message)]


def constant(text: str | None, type_name: str) -> str:
    return f"NULL::{type_name}" if text is None else f"{quote_literal(text).strip()}::{type_name}"


def assignments(row: Sequence[str | None], types: Typed) -> str:
    """A row of INSERT … VALUES. A NULL needs no type there, and one that does not suit the column would be refused."""
    return "(" + ", ".join("NULL" if t is None else constant(t, n) for t, (_, n) in zip(row, types, strict=True)) + ")"


def values_list(rows: Sequence[Sequence[str | None]], types: Typed) -> tuple[str, list[str]]:
    """`(VALUES …) AS hanse_rows (hanse_0, …)` for a FROM list, and the qualified names of its columns."""
    names = [f"hanse_{number}" for number in range(len(types))]
    values = ", ".join(
        "(" + ", ".join(constant(text, name) for text, (_, name) in zip(row, types, strict=True)) + ")" for row in rows
    )
    return f"(VALUES {values}) AS {ROWS} ({', '.join(names)})", [f"{ROWS}.{name}" for name in names]
