"""`pg_prepared_statements` and `pg_cursors` behind a pool: the gateway has what they show, no backend does.

In a statement that reads them the view is replaced by its rows, so that it can run anywhere and join anything::

    SELECT name FROM pg_cursors   →   SELECT name FROM (SELECT … FROM (VALUES ('c'::text, …)) AS v (name, …)) AS pg_cursors
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pglast.parser import scan

from ..core.ids import quote_literal
from .prepared import Portal

if TYPE_CHECKING:
    from .session import Session

PREPARED, CURSORS = "pg_prepared_statements", "pg_cursors"
_COLUMNS = {
    PREPARED: (
        ("name", "text"),
        ("statement", "text"),
        ("prepare_time", "timestamptz"),
        ("parameter_types", "regtype[]"),
        ("result_types", "regtype[]"),
        ("from_sql", "bool"),
        ("generic_plans", "int8"),
        ("custom_plans", "int8"),
    ),
    CURSORS: (
        ("name", "text"),
        ("statement", "text"),
        ("is_holdable", "bool"),
        ("is_binary", "bool"),
        ("is_scrollable", "bool"),
        ("creation_time", "timestamptz"),
    ),
}
_BEFORE_TABLE = frozenset(("FROM", "JOIN", "ASCII_44", "ASCII_40", "TABLE", "ONLY"))
_DOT = "ASCII_46"


def asks(lower: bytes) -> bool:
    return b"pg_prepared_statements" in lower or b"pg_cursors" in lower


def replaced(session: Session, sql: str) -> str:
    """The text with the rows in the place of the views."""
    tokens = [token for token in scan(sql) if token.name not in ("SQL_COMMENT", "C_COMMENT")]
    words = [sql[token.start : token.end + 1] for token in tokens]
    pieces: list[str] = []
    done = 0
    for index, word in enumerate(words):
        start = _table_start(tokens, words, index)
        if word.lower() not in _COLUMNS or start is None:
            continue
        following = tokens[index + 1].name if index + 1 < len(tokens) else ""
        alias = "" if following in ("AS", "IDENT") else f" AS {word}"
        select = "SELECT * FROM " if start and tokens[start - 1].name == "TABLE" else ""
        begin = tokens[start - 1].start if select else tokens[start].start
        pieces += (sql[done:begin], f"{select}({_rows(session, word.lower())}){alias}")
        done = tokens[index].end + 1
    return "".join((*pieces, sql[done:]))


def _table_start(tokens: list[Any], words: list[str], index: int) -> int | None:
    """The first token of a table's name that ends at `index`; None: no table is named there."""
    if index + 1 < len(tokens) and tokens[index + 1].name == _DOT:
        return None  # name.column
    start = index
    if index >= 2 and tokens[index - 1].name == _DOT:
        if words[index - 2].lower() != "pg_catalog":
            return None
        start = index - 2
    return start if start and tokens[start - 1].name in _BEFORE_TABLE else None


def _rows(session: Session, view: str) -> str:
    rows = list(_prepared(session) if view == PREPARED else _cursors(session))
    columns = _COLUMNS[view]
    if not rows:
        nothing = ", ".join(f"NULL::pg_catalog.{kind} AS {name}" for name, kind in columns)
        return f"SELECT {nothing} WHERE false"
    written = ", ".join("(" + ", ".join(_constants(row, columns)) + ")" for row in rows)
    return f"SELECT * FROM (VALUES {written}) AS v ({', '.join(name for name, _ in columns)})"


def _constants(row: tuple[str | None, ...], columns: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for value, (_, kind) in zip(row, columns, strict=True):
        yield f"{'NULL' if value is None else quote_literal(value).strip()}::pg_catalog.{kind}"


def _time(epoch_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch_s, UTC).isoformat(sep=" ")


def _types(oids: list[int]) -> str:
    return "{" + ",".join(map(str, oids)) + "}"


def _prepared(session: Session) -> Iterator[tuple[str | None, ...]]:
    for name, statement in session.statements.items():
        analysis = statement.analysis
        if not name or analysis is None:
            continue
        results = None if analysis.fields is None else _types([field.type_oid for field in analysis.fields])
        shown = (statement.shown or statement.text).decode(errors="replace")
        yield (
            name.decode(errors="replace"),
            shown,
            _time(statement.made),
            _types(list(analysis.parameter_types)),
            results,
            "t" if statement.shown else "f",
            "0",
            "0",
        )


def _cursors(session: Session) -> Iterator[tuple[str | None, ...]]:
    named: dict[str, Portal] = {name.decode(errors="replace"): portal for name, portal in session.portals.items()}
    for name, portal in {**named, **session.cursors}.items():
        text = portal.statement.shown or portal.statement.text
        scroll = bool(getattr(portal, "scroll", False))
        binary = bool(getattr(portal, "binary", False))
        flags = ("t" if flag else "f" for flag in (portal.hold, binary, scroll))
        yield (name, text.decode(errors="replace"), *flags, _time(portal.statement.made))
