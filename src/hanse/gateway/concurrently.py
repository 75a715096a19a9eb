"""CREATE INDEX CONCURRENTLY on a table of one group, or a reference table: group after group, outside any transaction.

It cannot be atomic, so it can be repeated. The schema-complete database gets the index last: while it has none, whatever
the groups have under that name is left over from an attempt that did not end, valid or not, and the next attempt drops
it first. An attempt that fails, or is cancelled, drops what it has made; only where the gateway was killed something stays
until then.

DROP INDEX and DETACH PARTITION are the ordinary, atomic ones: a schema change waits briefly for its locks and lets
others pass (patience.py). So is CREATE INDEX without a name: only PostgreSQL could choose one, and it must be the same in
every group.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ..catalog.ddl import text as surgery
from ..catalog.model import Kind, Relation
from ..core.errors import PgError
from ..core.ids import quote_literal, quote_qualified
from ..executor.request import Sink, run
from ..planner.plan import Ddl
from ..sql.parse import parse_one
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session

_CONCURRENT = (Kind.SINGLE, Kind.REFERENCE, Kind.PARTITION)


def table_of(session: Session, statement: Any) -> Relation | None:
    """The table whose index is to be made group by group; None: it is an ordinary schema change."""
    if type(statement).__name__ != "IndexStmt" or not statement.idxname:
        return None
    name = statement.relation
    relation = session.gateway.snapshot.find(name.schemaname, name.relname, session.context.search_path)
    return relation if relation is not None and relation.kind in _CONCURRENT else None


async def create_index(session: Session, verb: str, text: bytes, sink: Sink, relation: Relation) -> bytes:
    """Raises PostgreSQL's errors; afterwards no group has the index."""
    from . import ddl

    sql = surgery.without_own_clauses(text.decode())
    index = (relation.schema, parse_one(text).node.idxname)
    plain = surgery.without_word(sql, "CONCURRENTLY")
    gateway = session.gateway
    await gateway.workspace.catch_up(gateway.snapshot.version)
    known = await gateway.workspace.query(f"SELECT to_regclass({quote_literal(quote_qualified(*index))}) IS NOT NULL")
    if known[0][0]:  # PostgreSQL's error, or its notice
        return await ddl.run(session, Ddl(verb=verb), plain.encode(), sink)
    groups = gateway.snapshot.group_names
    if relation.kind is Kind.PARTITION and relation.group is not None:
        groups = (relation.group,)
    lock = Transaction("", session.state, explicit=False)
    await gateway.lock_ddl(lock)
    try:
        await _make(session, sql, index, groups)
    finally:
        gateway.unlock_ddl(lock)
    try:
        await ddl.workspace_only(session, plain)
    except PgError:
        await _drop(session, index, groups)
        raise
    return verb.encode()


async def _make(session: Session, sql: str, index: tuple[str, str], groups: tuple[str, ...]) -> None:
    for group in groups:  # left over from an attempt that was killed
        await _run(session, group, _dropping(index))
    for group in groups:
        try:
            await _run(session, group, sql)
        except PgError as error:
            left = await _drop(session, index, groups)
            error.hint = error.hint or _hint(index, left)
            raise


def _hint(index: tuple[str, str], left: list[str]) -> str | None:
    if not left:
        return None
    return f'Index "{index[1]}" is left in {", ".join(left)}; CREATE INDEX CONCURRENTLY of this name replaces it.'


async def _drop(session: Session, index: tuple[str, str], groups: tuple[str, ...]) -> list[str]:
    """Gives the groups where that was not possible."""
    left = []
    for group in groups:
        try:
            await _run(session, group, _dropping(index))
        except PgError:
            left.append(group)
    return left


def _dropping(index: tuple[str, str]) -> str:
    return f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qualified(*index)}"


async def _run(session: Session, group: str, sql: str) -> None:
    backend = await session.acquire(group)
    session.running[group] = backend  # so that the client can cancel it
    try:
        await run(backend, sql)
    finally:
        session.running.pop(group, None)
        with contextlib.suppress(PgError):
            if backend.answering:
                await session.settle(backend)
        session.give_back(backend)
