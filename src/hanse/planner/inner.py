"""The statement inside another one's text: of PREPARE, DECLARE, EXPLAIN, COPY (…). Found by PostgreSQL's own lexer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..sql.parse import Parsed
from ..sql.scanning import tokens_of

_OPEN, _CLOSE = "ASCII_40", "ASCII_41"


def _tokens(parsed: Parsed) -> list[Any]:
    return [token for token in tokens_of(parsed.sql) if token.name not in ("SQL_COMMENT", "C_COMMENT")]


def _outside(tokens: list[Any]) -> Iterator[int]:
    """The numbers of the tokens that no parentheses enclose."""
    depth = 0
    for index, token in enumerate(tokens):
        depth -= token.name == _CLOSE
        if depth == 0:
            yield index
        depth += token.name == _OPEN


def inner_start(parsed: Parsed, after: str) -> int:
    """The character at which the inner statement begins: after the word AS, FOR, or EXPLAIN with its options."""
    tokens = _tokens(parsed)
    index = next(index for index in _outside(tokens) if tokens[index].name == after) + 1
    if after == "EXPLAIN":
        index = _after_options(tokens, index, bool(parsed.node.options))
    return int(tokens[index].start)


def _after_options(tokens: list[Any], index: int, options: bool) -> int:
    if options and tokens[index].name == _OPEN:
        return _closing(tokens, index) + 1
    while tokens[index].name in ("ANALYZE", "ANALYSE", "VERBOSE"):
        index += 1
    return index


def _closing(tokens: list[Any], opening: int) -> int:
    depth = 0
    for index in range(opening, len(tokens)):
        depth += (tokens[index].name == _OPEN) - (tokens[index].name == _CLOSE)
        if depth == 0:
            return index
    raise AssertionError("a parenthesis that does not close")


def _parenthesised(parsed: Parsed) -> str:
    """The text of the first parentheses, without them."""
    tokens = _tokens(parsed)
    opening = next(index for index, token in enumerate(tokens) if token.name == _OPEN)
    return parsed.sql[tokens[opening].end + 1 : tokens[_closing(tokens, opening)].start].strip()


def type_list(parsed: Parsed) -> str:
    """PREPARE name (types) AS …: '(types)'."""
    return f"({_parenthesised(parsed)})"


def arguments(parsed: Parsed) -> str:
    """EXECUTE name (arguments): the arguments."""
    return _parenthesised(parsed)


def parenthesised_query(parsed: Parsed) -> str:
    """COPY (query) TO …: the query."""
    return _parenthesised(parsed)


def without_data_clause(query: str) -> str:
    """The query of CREATE TABLE … AS without WITH [NO] DATA at its end."""
    tokens = [token for token in tokens_of(query) if token.name not in ("SQL_COMMENT", "C_COMMENT")]
    words = [query[token.start : token.end + 1].upper() for token in tokens]
    for clause in (["WITH", "NO", "DATA"], ["WITH", "DATA"]):
        if words[-len(clause) :] == clause:
            return query[: tokens[-len(clause)].start].rstrip()
    return query
