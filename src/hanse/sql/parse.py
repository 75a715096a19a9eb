"""The one door to PostgreSQL's grammar: text in, statements out.

pglast carries the grammar of PostgreSQL 18 while servers may be 16. Syntax errors are the same grammar's words at the
same position, so they are raised here. Where the words come from elsewhere in PostgreSQL's parser (their SQLSTATE is
not known here), the statement is returned *unparsed* (`node` None), and a server, asked to run it, says what is
wrong. What 18 accepts and 16 does not reaches a server in the end, whose word wins.

A text of one statement is kept as the client sent it, so that it can be a key of the plan cache. A text of several is
cut, and each statement is parsed again on its own: every position and every number of a literal refers to the
statement's own text. `start` and `end` say where it was.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import msgspec
from pglast import ast
from pglast.parser import ParseError, parse_sql, parse_sql_json, split

from ..core.errors import PgError
from . import depth, literals
from .inlists import TEXT_BYTES_MIN, Shortened, shortened
from .verbs import verb_of
from .walk import walk

# Of PostgreSQL's grammar; a group of servers has no directory. Said or not, it stands behind the name.
_TABLESPACE = re.compile(
    r'(?i)(\s*CREATE\s+TABLESPACE\s+(?:"(?:[^"]|"")+"|[^\W\d][\w$]*))(?=\s*(?:WITH\b.*)?;?\s*$)', re.DOTALL
)
# What the grammar and the lexer report as 42601; any other message is left to a server.
_BLOCK = 1_024  # characters
_QUERIES = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_SYNTAX = ("syntax error", "unterminated", "trailing junk", "WITH TIES")


@dataclass(frozen=True, eq=False)
class Parsed:
    """One statement; it lies at bytes `start` to `end` of what the client sent.

    `text` may have spaces around it and end with a semicolon; `sql` ends with the statement itself, so that it can be
    put into parentheses. `node` is pglast's node, None where only a server can say what is wrong; its `location`s are
    characters of `text`. `size` is the length of `sql` in characters. `shortened`: what the tree was made of, where that is not
    the text itself.
    """

    text: bytes
    node: Any
    verb: str
    start: int = 0
    end: int = 0
    size: int | None = None
    shortened: Shortened | None = None

    @cached_property
    def sql(self) -> str:
        return self.text.decode()[: self.size]

    @cached_property
    def parts(self) -> list[bytes]:
        """`literals.split` of the text: what plans' `Literal` and `RowSpan` refer to."""
        return literals.split(self.text)

    @cached_property
    def plain(self) -> bool:
        return literals.is_plain(self.text)

    @cached_property
    def templatable(self) -> bool:
        """Whether a plan can refer to the text's literals by number."""
        return self.shortened is None and self.plain and (bool(self.constant_offsets) or len(self.parts) == 1)

    @cached_property
    def literal_offsets(self) -> dict[int, int]:
        """Byte at which a literal starts → its number."""
        found: dict[int, int] = {}
        offset = 0
        for position, part in enumerate(self.parts):
            if position % 2:
                found[offset] = position // 2
            offset += len(part)
        return found

    @cached_property
    def constant_offsets(self) -> dict[int, int]:
        """id() of an A_Const node → the byte at which it is written (a negative number: its sign)."""
        return _constant_offsets(self.text.decode() if self.shortened is None else self.shortened.sql, self.node)

    def literal_of(self, node: Any) -> tuple[int, bool] | None:
        """The number of the literal that an A_Const was written as, and whether a minus sign belongs to it."""
        offset = self.constant_offsets.get(id(node))
        if offset is None:
            return None
        index = self.literal_offsets.get(offset)
        if index is not None:
            return index, False
        if self.text[offset : offset + 1] != b"-":
            return None
        rest = self.text[offset + 1 :]
        index = self.literal_offsets.get(offset + 1 + len(rest) - len(rest.lstrip()))
        return None if index is None else (index, True)

    def byte_offset(self, location: int) -> int:
        """A node's `location` (characters) as bytes."""
        if self._is_ascii:
            return location
        block = location // _BLOCK
        return self._block_offsets[block] + len(self.sql[block * _BLOCK : location].encode())

    @cached_property
    def _is_ascii(self) -> bool:
        return self.text.isascii()

    @cached_property
    def _block_offsets(self) -> list[int]:
        """The bytes before each block of _BLOCK characters."""
        sql = self.sql
        sizes = (len(sql[start : start + _BLOCK].encode()) for start in range(0, len(sql), _BLOCK))
        return list(accumulate(sizes, initial=0))

    @cached_property
    def _segment_bounds(self) -> tuple[list[int], list[int]]:
        starts, ends, done = [], [], 0
        for index, part in enumerate(self.parts):
            if not index % 2:
                starts.append(done)
                ends.append(done + len(part))
            done += len(part)
        return starts, ends

    def position(self, offset: int) -> tuple[int, int]:
        """(segment, byte in it) of a byte of the text that does not lie inside a literal.

        Where a literal begins it is the end of the segment before; where one ends, the beginning of the segment after.
        """
        starts, ends = self._segment_bounds
        segment = bisect_left(ends, offset)
        assert segment < len(starts) and offset >= starts[segment], "a position inside a literal"
        return segment, offset - starts[segment]


_last = Parsed(b"", None, "")  # a long one: a statement is parsed several times on its way, its tree is never changed


def parse(text: bytes | str) -> tuple[Parsed, ...]:
    """The statements of a text; () for one of nothing but spaces, comments and semicolons.

    Raises PgError 42601 in the server's words, 22021 where the text is not UTF-8.
    """
    data = text.encode() if isinstance(text, str) else text
    if len(data) >= TEXT_BYTES_MIN and data == _last.text:
        return (_last,)
    sql = _decode(data)
    short = shortened(data, sql)
    if short is not None and (found := _parse_shortened(data, short)) is not None:
        return (found,)
    depth.check(data, sql)
    try:
        if b";" in data.rstrip(b" \t\r\n\f;"):
            pieces = _pieces(sql)
            if len(pieces) > 1:
                return tuple(_reparse(sql, pieces))
        statements = parse_sql(sql)
    except ParseError as error:
        unlocated = _TABLESPACE.match(sql)
        if unlocated is not None:
            return parse(f"{unlocated[1]} LOCATION ''{sql[unlocated.end() :]}")
        return (_refused(data, sql, error),)
    return (_kept(_statement(data, sql, statements[0])),) if statements else ()


def _kept(found: Parsed) -> Parsed:
    global _last
    if len(found.text) >= TEXT_BYTES_MIN and isinstance(found.node, _QUERIES) and not _is_into(found.node):
        _last = found
    return found


def forget_last() -> None:
    global _last
    literals.forget_last()
    _last = Parsed(b"", None, "")


def _parse_shortened(data: bytes, short: Shortened) -> Parsed | None:
    """None: it is parsed as it is, being several, or wrong, or a statement whose tree is used in more ways."""
    depth.check(short.sql.encode(), short.sql)
    try:
        statements = parse_sql(short.sql)
    except ParseError:
        return None
    if len(statements) != 1 or any(_needs_lists(found) for found in walk(statements[0].stmt)):
        return None
    return _kept(replace(_statement(data, short.sql, statements[0]), shortened=short))


def _needs_lists(node: Any) -> bool:
    """SELECT … INTO, and an INSERT of a VALUES list."""
    inserts = isinstance(node, ast.InsertStmt) and getattr(node.selectStmt, "valuesLists", None)
    return bool(inserts) or _is_into(node)


def _is_into(node: Any) -> bool:
    return getattr(node, "intoClause", None) is not None


def _pieces(sql: str) -> Sequence[slice]:
    """Where the statements of a text lie. pglast makes no tree for this, so that each is made once."""
    if sql.isascii():
        return split(sql, only_slices=True)
    found: list[slice] = []
    done = 0
    for text in split(sql):  # its positions would cost a walk over all that is not ASCII, for each
        start = sql.index(text, done)
        done = start + len(text)
        found.append(slice(start, done))
    return found


def parse_one(text: bytes | str) -> Parsed:
    """The only statement of a text. Raises PgError 42601 where there are several, or none."""
    return only(parse(text))


def only(statements: tuple[Parsed, ...]) -> Parsed:
    if len(statements) != 1:
        raise PgError("42601", "cannot insert multiple commands into a prepared statement")
    return statements[0]


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        wrong = " ".join(f"0x{byte:02x}" for byte in data[error.start : error.end])
        raise PgError("22021", f'invalid byte sequence for encoding "UTF8": {wrong}') from None


def _bounds(sql: str, statement: Any) -> tuple[int, int]:
    start = statement.stmt_location
    end = start + statement.stmt_len if statement.stmt_len else len(sql)
    while end > start and sql[end - 1] in " \t\r\n\f;":
        end -= 1
    while start < end and sql[start] in " \t\r\n\f":
        start += 1
    return start, end


def _statement(data: bytes, sql: str, statement: Any) -> Parsed:
    _, end = _bounds(sql, statement)
    return Parsed(data, statement.stmt, verb_of(statement.stmt), 0, len(data), end)


def _reparse(sql: str, pieces: Sequence[slice]) -> Iterator[Parsed]:
    """Each on its own, so that locations count from the statement's own beginning."""
    done = first = 0
    for piece in pieces:
        first += len(sql[done : piece.start].encode())
        own = sql[piece].rstrip(" \t\r\n\f;")
        encoded = own.encode()
        node = parse_sql(own)[0].stmt
        yield Parsed(encoded, node, verb_of(node), first, first + len(encoded))
        done, first = piece.start + len(own), first + len(encoded)


def _refused(data: bytes, sql: str, error: ParseError) -> Parsed:
    message = str(error.args[0])
    location = error.args[1] if len(error.args) > 1 else None
    if not message.startswith(_SYNTAX):
        return Parsed(data, None, "", 0, len(data))
    if message == "syntax error at end of input":
        location = len(sql.rstrip(" \t\r\n\f")) if location is None else location
    raise PgError("42601", message, position=None if location is None else location + 1)


def _constant_offsets(sql: str, node: Any) -> dict[int, int]:
    """pglast's Python nodes lack the position of constants; its JSON has them, in the same order of fields."""
    constants = [found for found in walk(node) if isinstance(found, ast.A_Const)]
    if not constants:
        return {}
    tree = msgspec.json.decode(parse_sql_json(sql))
    offsets: list[int] = []
    _json_constants(tree["stmts"][0], offsets)
    if len(offsets) != len(constants):  # never seen; without positions a plan only serves its exact text
        return {}
    return {id(constant): offset for constant, offset in zip(constants, offsets, strict=True)}


def _json_constants(value: Any, offsets: list[int]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "A_Const":
                offsets.append(inner.get("location", 0))
            else:
                _json_constants(inner, offsets)
    elif isinstance(value, list):
        for inner in value:
            _json_constants(inner, offsets)
