"""Where the parts of an INSERT lie in its text: VALUES rows and their items, the column list, what comes after.

PostgreSQL's own lexer (`pglast.scan`) finds the tokens, so comments and every kind of quoting are understood; parse
trees do not say where a list ends. Positions are given as (segment, byte) of the split text, which is what plans
refer to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..sql.parse import Parsed
from ..sql.scanning import tokens_of
from .plan import RowSpan

_OPEN, _CLOSE, _COMMA = ("ASCII_40", "ASCII_91"), ("ASCII_41", "ASCII_93"), "ASCII_44"


@dataclass(frozen=True, slots=True)
class Row:
    """Characters of the text: the row with its parentheses, and its items without the commas."""

    start: int
    end: int
    items: tuple[tuple[int, int], ...]


class InsertText:
    """The text of one INSERT, cut into tokens (without comments)."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.text = parsed.text.decode()
        self._tokens = [token for token in tokens_of(self.text) if token.name not in ("SQL_COMMENT", "C_COMMENT")]
        self._depths = list(_depths(self._tokens))
        self._relation = self._index_at(parsed.node.relation.location)
        self._source = self._find_source()

    def _index_at(self, location: int) -> int:
        return next(index for index, token in enumerate(self._tokens) if token.start >= location)

    def _find_source(self) -> int:
        """The token with which VALUES, SELECT, WITH, DEFAULT VALUES … or a parenthesised query begins."""
        columns = bool(self.parsed.node.cols)
        for index in range(self._relation + 1, len(self._tokens)):
            if self._depths[index]:
                continue
            name = self._tokens[index].name
            if name in ("VALUES", "SELECT", "WITH", "TABLE", "DEFAULT"):
                return index
            if name == "ASCII_40":
                if not columns:
                    return index
                columns = False
        raise AssertionError("an INSERT without a source of rows")

    @property
    def in_parentheses(self) -> bool:
        """`INSERT INTO t (VALUES …)`: the list is a query, without DEFAULT and with ON CONFLICT behind the parenthesis."""
        return bool(self._tokens[self._source].name == "ASCII_40")

    def _before_source(self) -> int:
        """The last token before the source, OVERRIDING … VALUE not counted."""
        index = self._source - 1
        while self._tokens[index].name in ("OVERRIDING", "SYSTEM_P", "USER", "VALUE_P"):
            index -= 1
        return index

    def place(self, character: int) -> tuple[int, int]:
        return self.parsed.position(self.parsed.byte_offset(character))

    def columns_end(self) -> tuple[int, int]:
        """Before the column list's `)`; without one, right after the table's name (or alias)."""
        token = self._tokens[self._before_source()]
        return self.place(token.start if self.parsed.node.cols else token.end + 1)

    def values_start(self) -> tuple[int, int]:
        return self.place(self._tokens[self._source].start)

    def source_start(self) -> int:
        return int(self._tokens[self._source].start)

    def insert_start(self) -> int:
        """The character at which INSERT begins: after the WITH clause."""
        tokens = zip(self._tokens, self._depths, strict=True)
        return next(int(token.start) for token, depth in tokens if not depth and token.name == "INSERT")

    def tail_start(self) -> int:
        """The character at which ON CONFLICT or RETURNING begins, else the statement's end."""
        for index in range(self._source, len(self._tokens)):
            token = self._tokens[index]
            if self._depths[index]:
                continue
            conflict = token.name == "ON" and self._name_at(index + 1) == "CONFLICT"
            if conflict or token.name == "RETURNING":
                return int(token.start)
        return len(self.parsed.sql)

    def _name_at(self, index: int) -> str:
        return self._tokens[index].name if index < len(self._tokens) else ""

    def rows(self) -> list[Row]:
        """The rows of the VALUES list."""
        found: list[Row] = []
        index = self._source + 1
        while self._name_at(index) == "ASCII_40":
            row, index = self._row(index)
            found.append(row)
            if self._name_at(index) != _COMMA:
                break
            index += 1
        return found

    def _row(self, first: int) -> tuple[Row, int]:
        items: list[tuple[int, int]] = []
        inside = self._depths[first] + 1
        start = first + 1
        for index in range(first + 1, len(self._tokens)):
            name = self._tokens[index].name
            ends = name in _CLOSE and self._depths[index] == inside - 1
            if ends or (name == _COMMA and self._depths[index] == inside):
                items.append((self._tokens[start].start, self._tokens[index - 1].end + 1))
                start = index + 1
            if ends:
                row = Row(self._tokens[first].start, self._tokens[index].end + 1, tuple(items))
                return row, index + 1
        raise AssertionError("a VALUES row that does not end")

    def span(self, start: int, end: int) -> RowSpan:
        first_segment, first = self.place(start)
        last_segment, last = self.place(end)
        return RowSpan(first_segment=first_segment, start=first, last_segment=last_segment, end=last)


def _depths(tokens: list[Any]) -> Iterator[int]:
    """How many parentheses are open around each token; both parentheses count as outside."""
    depth = 0
    for token in tokens:
        if token.name in _CLOSE:
            depth -= 1
        yield depth
        if token.name in _OPEN:
            depth += 1


def returning_start(parsed: Parsed) -> int:
    """The character at which the RETURNING clause of an UPDATE or DELETE begins; the statement's end without one."""
    tokens = tokens_of(parsed.text.decode())
    for token, depth in zip(tokens, _depths(tokens), strict=True):
        if not depth and token.name == "RETURNING":
            return int(token.start)
    return len(parsed.sql)
