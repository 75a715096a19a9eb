"""Parameters as part of the text, for plans whose statements cannot carry `$n` (COPY (…), the workspace's final query …)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pglast import ast

from ..sql.literals import is_plain
from ..sql.parse import parse
from ..sql.scanning import tokens_of
from ..sql.walk import walk

_PARAMETER = re.compile(r"'[^']*+'|(?<![\w$])\$(\d++)").finditer


def substitute(text: bytes, values: Sequence[str]) -> bytes:
    """The text with every `$n` replaced by values[n-1]. Text in strings, comments and names is left alone."""
    sql = text.decode()
    pieces: list[str] = []
    done = 0
    columns = _columns(sql)
    for start, end in _parameters(text, sql):
        name = ' AS "?column?" ' if start in columns else ""
        pieces += (sql[done:start], f" {values[int(sql[start + 1 : end]) - 1]} {name}")
        done = end
    pieces.append(sql[done:])
    return "".join(pieces).encode()


def _parameters(text: bytes, sql: str) -> Iterator[tuple[int, int]]:
    """Where `$n` stand. A text that is plain need not be read by the lexer, which makes an object of each of its words."""
    if b'"' not in text and is_plain(text):
        return (found.span() for found in _PARAMETER(sql) if found[1])
    return ((token.start, token.end + 1) for token in tokens_of(sql) if token.name == "PARAM")


def _columns(sql: str) -> frozenset[int]:
    """Where a parameter alone is a column of a result: it has no name, but a constant with a cast would have its type's."""
    nodes = [found for parsed in parse(sql.encode()) if parsed.node is not None for found in walk(parsed.node)]
    lists = [getattr(node, "targetList", None) for node in nodes if isinstance(node, ast.SelectStmt)]
    lists += [getattr(node, "returningList", None) for node in nodes]
    bare = (target.val for targets in lists for target in targets or () if target.name is None)
    return frozenset(value.location or 0 for value in bare if isinstance(value, ast.ParamRef))


def argument_list(text: str) -> list[str]:
    """`1, 'a,b', f(2, 3)` → its arguments, at top-level commas. Parentheses around the whole list are taken off."""
    stripped = text.strip()
    if not stripped:
        return []
    tokens = tokens_of(stripped)
    if tokens[0].name == "ASCII_40" and _closes_at_end(stripped, tokens):
        stripped = stripped[1:-1]
        tokens = tokens_of(stripped)
    arguments, start, depth = [], 0, 0
    for token in tokens:
        character = stripped[token.start]
        if token.name in ("ASCII_40", "ASCII_91"):
            depth += 1
        elif token.name in ("ASCII_41", "ASCII_93"):
            depth -= 1
        elif token.name == "ASCII_44" and character == "," and depth == 0:
            arguments.append(stripped[start : token.start].strip())
            start = token.end + 1
    arguments.append(stripped[start:].strip())
    return [argument for argument in arguments if argument]


def _closes_at_end(text: str, tokens: Sequence[object]) -> bool:
    """The first parenthesis is closed by the last token."""
    depth = 0
    for index, token in enumerate(tokens):
        name = token.name  # type: ignore[attr-defined]
        depth += (name == "ASCII_40") - (name == "ASCII_41")
        if depth == 0:
            return index == len(tokens) - 1
    return False
