"""Functions whose bodies change roles or rights: these must be the same in every group, and a body runs inside one."""

from __future__ import annotations

from collections.abc import Sequence

from pglast.parser import ParseError, scan

from ..catalog.model import Function, Snapshot
from ..core.errors import not_supported

_PAIRS = frozenset(
    (verb, noun) for verb in ("CREATE", "ALTER", "DROP") for noun in ("ROLE", "USER", "GROUP_P", "OWNED")
) | {("REASSIGN", "OWNED")}
_MARKS = frozenset(("ROLE", "USER", "GROUP_P", "OWNED", "GRANT", "REVOKE"))
_STATEMENT_BEGINS = frozenset(("ASCII_59", "BEGIN_P", "THEN", "ELSE", "IDENT"))  # IDENT: LOOP, which SQL does not know


def refuse_roles(functions: Sequence[Function], snapshot: Snapshot) -> None:
    """Raises 0A000 where one of them, or one that they call, does so in plain words. Dynamic SQL is not looked into."""
    pending, seen = list(functions), set[tuple[str, str, str]]()
    while pending:
        function = pending.pop()
        mark = (function.schema, function.name, function.source)
        if mark in seen or function.language not in ("sql", "plpgsql"):
            continue
        seen.add(mark)
        kinds, words = _words(function.source)
        if not kinds.isdisjoint(_MARKS) and _changes_roles(function.source):
            raise not_supported(
                f"function {function.name} cannot be used here",
                detail="It changes roles or rights, which must be the same in every group, and it runs inside one of them.",
                hint="Run these statements by themselves, not inside a function or DO block.",
            )
        pending += [other for name in words for other in snapshot.function_names.get(name, ())]


def _changes_roles(source: str) -> bool:
    """Whether a statement of the body makes, changes or drops roles, or gives or takes rights."""
    before = "ASCII_59"
    for token in scan(source):
        if token.name in ("SQL_COMMENT", "C_COMMENT"):
            continue
        if (before, token.name) in _PAIRS or (token.name in ("GRANT", "REVOKE") and before in _STATEMENT_BEGINS):
            return True
        before = token.name
    return False


def _words(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """The kinds of a text's tokens, and its words as names."""
    data = source.encode()
    try:
        tokens = scan(source)
    except ParseError:
        return frozenset(), frozenset()
    texts = (data[token.start : token.end + 1].decode() for token in tokens)
    words = (text[1:-1].replace('""', '"') if text.startswith('"') else text.lower() for text in texts)
    return frozenset(token.name for token in tokens), frozenset(words)
