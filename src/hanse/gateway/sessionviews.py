"""Views whose rows the gateway knows, and no backend does.

`pg_prepared_statements` and `pg_cursors` behind a pool are the session's; `hanse.transactions`, `hanse.groups` and
`pg_prepared_xacts` are asked of every group, `hanse.jobs` of the home group. In a statement that reads them the view is replaced
by its rows, so that it can run anywhere and join anything::

    SELECT name FROM pg_cursors   →   SELECT name FROM (SELECT … FROM (VALUES ('c'::text, …)) AS v (name, …)) AS pg_cursors

`pg_prepared_xacts` has what users have prepared (driver's recovery, as psycopg's `tpc_recover`, is not to see ours).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pglast.parser import scan

from ..core.ids import quote_literal
from ..transactions.indoubt import USERS, rows_of
from . import grouprows, indoubt, jobs
from .prepared import Portal

if TYPE_CHECKING:
    from .session import Session

PREPARED, CURSORS, XACTS = "pg_prepared_statements", "pg_cursors", "pg_prepared_xacts"
TRANSACTIONS, GROUPS, JOBS = OURS = ("transactions", "groups", "jobs")  # of schema hanse, which must be named
_OURS_NAMED = re.compile(rb"\bhanse\s*\.\s*(transactions|groups|jobs)\b")
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
    XACTS: (
        ("transaction", "xid"),
        ("gid", "text"),
        ("prepared", "timestamptz"),
        ("owner", "name"),
        ("database", "name"),
    ),
    TRANSACTIONS: (
        ("gid", "text"),
        ("state", "text"),
        ("decider", "text"),
        ("groups", "text[]"),
        ("owner", "name"),
        ("prepared", "timestamptz"),
    ),
    GROUPS: (
        ("name", "text"),
        ("leader", "text"),
        ("durability", "text"),
        ("instances", "jsonb"),
        ("term", "int8"),
        ("members", "text[]"),
        ("k", "int4"),
        ("location", "jsonb"),
    ),
    JOBS: (
        ("id", "text"),
        ("command", "text"),
        ("statement", "text"),
        ("owner", "name"),
        ("state", "text"),
        ("groups", "text[]"),
        ("done", "text[]"),
        ("started", "timestamptz"),
    ),
}
_COMPUTED = {TRANSACTIONS: ", pg_catalog.clock_timestamp() - v.prepared AS age"}
_BEFORE_TABLE = frozenset(("FROM", "JOIN", "ASCII_44", "ASCII_40", "TABLE", "ONLY"))
_DOT = "ASCII_46"


def asks(lower: bytes) -> bool:
    return b"pg_prepared_" in lower or b"pg_cursors" in lower or _OURS_NAMED.search(lower) is not None


async def replaced(session: Session, sql: str) -> str:
    """The text with the rows in the place of the views. A view that is made of them is left to say that it cannot be."""
    tokens = [token for token in scan(sql) if token.name not in ("SQL_COMMENT", "C_COMMENT")]
    words = [sql[token.start : token.end + 1] for token in tokens]
    if _makes_view(tokens):
        return sql
    starts = {i: _table_start(tokens, words, i) for i, word in enumerate(words) if word.lower() in _COLUMNS}
    shared = await _of_groups(session, {words[i].lower() for i, start in starts.items() if start is not None})
    pieces: list[str] = []
    done = 0
    for index, start in starts.items():
        if start is None:
            continue
        word = words[index]
        following = tokens[index + 1].name if index + 1 < len(tokens) else ""
        alias = "" if following in ("AS", "IDENT") else f" AS {word}"
        select = "SELECT * FROM " if start and tokens[start - 1].name == "TABLE" else ""
        begin = tokens[start - 1].start if select else tokens[start].start
        pieces += (sql[done:begin], f"{select}({_rows(session, word.lower(), shared)}){alias}")
        done = tokens[index].end + 1
    return "".join((*pieces, sql[done:]))


def _makes_view(tokens: list[Any]) -> bool:
    names = [token.name for token in tokens[:6]]
    return names[:1] == ["CREATE"] and "VIEW" in names


def _table_start(tokens: list[Any], words: list[str], index: int) -> int | None:
    """The first token of a table's name that ends at `index`; None: no table is named there."""
    if index + 1 < len(tokens) and tokens[index + 1].name == _DOT:
        return None  # name.column
    start = index
    ours = words[index].lower() in OURS
    if index >= 2 and tokens[index - 1].name == _DOT:
        if words[index - 2].lower() != ("hanse" if ours else "pg_catalog"):
            return None
        start = index - 2
    elif ours:
        return None
    return start if start and tokens[start - 1].name in _BEFORE_TABLE else None


Row = tuple[str | None, ...]


async def _of_groups(session: Session, views: set[str]) -> Mapping[str, Sequence[Row]]:
    """The rows of those views that the groups are asked for."""
    found: dict[str, Sequence[Row]] = {}
    if XACTS in views:
        found[XACTS] = await _xacts(session)
    if TRANSACTIONS in views:
        found[TRANSACTIONS] = [
            (each.gid, each.state, each.decider, _array(each.groups), each.owner, each.prepared)
            for each in await indoubt.transactions(session)
        ]
    if GROUPS in views:
        found[GROUPS] = await grouprows.rows(session.gateway)
    if JOBS in views:
        found[JOBS] = await _jobs(session)
    return found


def _rows(session: Session, view: str, shared: Mapping[str, Sequence[Row]]) -> str:
    rows = shared[view] if view in shared else list(_prepared(session) if view == PREPARED else _cursors(session))
    columns = _COLUMNS[view]
    computed = _COMPUTED.get(view, "")
    if rows:
        written = ", ".join("(" + ", ".join(_constants(row, columns)) + ")" for row in rows)
    else:
        written = "(" + ", ".join(f"NULL::pg_catalog.{kind}" for _, kind in columns) + ")"
    names = ", ".join(name for name, _ in columns)
    return f"SELECT v.*{computed} FROM (VALUES {written}) AS v ({names}){'' if rows else ' WHERE false'}"


def _constants(row: Row, columns: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for value, (_, kind) in zip(row, columns, strict=True):
        yield f"{'NULL' if value is None else quote_literal(value).strip()}::pg_catalog.{kind}"


def _time(epoch_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch_s, UTC).isoformat(sep=" ")


def _array(values: Sequence[object]) -> str:
    """Of numbers, or of groups' names, which need no quotes."""
    return "{" + ",".join(map(str, values)) + "}"


async def _xacts(session: Session) -> Sequence[Row]:
    """One row for each transaction, though several groups may hold a part of it: COMMIT PREPARED ends them all."""
    found = await indoubt.branches(session)
    ids = {branch.gid: branch.transaction for each in found.values() for branch in each}
    return [
        (ids[row.gid], row.gid, row.prepared, row.owner, session.gateway.snapshot.database)
        for row in rows_of(found, {})
        if row.state == USERS
    ]


async def _jobs(session: Session) -> Sequence[Row]:
    gateway = session.gateway
    backend = await gateway.system_backend(gateway.snapshot.home_group)
    try:
        return await backend.query(jobs.shown_sql(session.context.user))
    finally:
        backend.close()


def _prepared(session: Session) -> Iterator[Row]:
    for name, statement in session.statements.items():
        analysis = statement.analysis
        if not name or analysis is None:
            continue
        results = None if analysis.fields is None else _array([field.type_oid for field in analysis.fields])
        shown = (statement.shown or statement.text).decode(errors="replace")
        yield (
            name.decode(errors="replace"),
            shown,
            _time(statement.made),
            _array(list(analysis.parameter_types)),
            results,
            "t" if statement.shown else "f",
            "0",
            "0",
        )


def _cursors(session: Session) -> Iterator[Row]:
    named: dict[str, Portal] = {name.decode(errors="replace"): portal for name, portal in session.portals.items()}
    for name, portal in {**named, **session.cursors}.items():
        text = portal.statement.shown or portal.statement.text
        scroll = bool(getattr(portal, "scroll", False))
        binary = bool(getattr(portal, "binary", False))
        flags = ("t" if flag else "f" for flag in (portal.hold, binary, scroll))
        yield (name, text.decode(errors="replace"), *flags, _time(portal.statement.made))
