"""INSERT … VALUES of many rows, cut into its rows without a parse tree.

pglast's tree of 100,000 rows takes seconds to make and to walk, and nobody else's statement runs meanwhile. Here one regular
expression finds where a row ends; what the rows say is left to the parser, which is shown a few of them at a time
(`planner.longinsert`).

The expression reads a row as PostgreSQL's lexer does: outside of strings there may be anything but what could hide a
parenthesis or a quote: comments, quoted identifiers, dollar quotes, strings with a prefix (`E''`, `DATE''`), a semicolon.
A text with one of those among its rows is not cut. Parentheses may be nested twice.

Measured (one shared core): 0.7 µs for a row of five values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LIST_BYTES_MIN = 8_192  # shorter texts are parsed as a whole
LIST_ROWS_MIN = 100
_HEAD_BYTES_MAX = 65_536

_STRING = rb"(?<![\w&\x80-\xff])'[^']*+(?:''[^']*+)*+'"
_PLAIN = rb"[^()'\"$\\;/-]++|-(?!-)|/(?!\*)|" + _STRING
_NESTED = rb"\((?:" + _PLAIN + rb"|\((?:" + _PLAIN + rb")*+\))*+\)"
_ROW = rb"\((?:" + _PLAIN + rb"|" + _NESTED + rb")*+\)"
_HEAD = re.compile(
    rb"\s*+INSERT\s++INTO\s++(?:[\w.\s\x80-\xff]|\"[^\"]*+\")+?(?:\((?:[\w\s,\x80-\xff]|\"[^\"]*+\")*+\)\s*+)?"
    rb"(?:OVERRIDING\s++\w++\s++VALUE\s++)?\(?\s*+\bVALUES\s*+(?=\()",
    re.IGNORECASE,
)
_NEXT = re.compile(rb"(" + _ROW + rb")\s*+(,?)\s*+").match
_MANY = re.compile(rb"(?:" + _ROW + rb"\s*+,\s*+){%d}" % LIST_ROWS_MIN).match


def head_end(text: bytes) -> int | None:
    """Where the first row of a long VALUES list begins; None: the text is none that can be cut."""
    if len(text) < LIST_BYTES_MIN:
        return None
    head = _HEAD.match(text, 0, _HEAD_BYTES_MAX)
    return head.end() if head is not None and _MANY(text, head.end()) is not None else None


def rows_of(text: bytes, start: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each row, parentheses included, from `start` to the last of the list."""
    while (found := _NEXT(text, start)) is not None:
        yield found.span(1)
        if not found.end(2) - found.start(2):
            return
        start = found.end()
    yield (start, start)  # after a comma there is something else: an empty row, which no parser accepts


__all__ = ["head_end", "rows_of"]
