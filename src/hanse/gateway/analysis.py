"""What PostgreSQL says of a statement before it runs: parameter types, result columns, or its error.

The schema-complete database is asked: it has every table with all its columns, so its parser is the cluster's. Statements
on temporary tables are asked where those are. Answers are kept per catalog version, text, types and settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.backend import Field
from ..planner.plan import Session as SessionPlan
from ..planner.plan import SessionVerb
from ..sql.longlists import head_end
from ..sql.parse import Parsed, only, parse_one
from ..sql.scope import table_refs
from . import aside, cursors, drawn, own_settings
from .prepared import Analysis, Statement

if TYPE_CHECKING:
    from .session import Session

ANALYSES_MAX = 4_096
TEXT = 25  # the type's oid
_NOTHING = Analysis((), None)
_NO_SERVER_NEEDED = frozenset(SessionVerb) - {
    SessionVerb.SHOW,
    SessionVerb.EXECUTE,
    SessionVerb.DECLARE,
    SessionVerb.FETCH,
}


async def analyze(session: Session, statement: Statement) -> Analysis:
    """Raises the server's error for a statement that cannot be."""
    gateway = session.gateway
    key = (statement.number, session.plans.snapshot.version, session.temporary)
    changing = session.transaction is not None and session.transaction.change is not None
    found = None if changing else gateway.analyses.get(key)
    if found is None:
        found = await _analyze(session, statement)
        if not changing and found.lasting:
            if len(gateway.analyses) >= ANALYSES_MAX:
                gateway.analyses.clear()
            gateway.analyses[key] = found
    return found


async def _analyze(session: Session, statement: Statement) -> Analysis:
    if not statement.text.strip(b" \t\r\n;"):
        return _NOTHING
    if head_end(statement.text) is not None and not session.temporary:
        return await _ask_in(session, statement, WORKSPACE_PLACE)  # an INSERT whose tree would take long to make
    plans = session.plans
    parsed = only(await aside.parse(plans, statement.text))
    asks = parsed.node is not None and not drawn.asks_drawn(statement.text)
    if asks and not cursors.names_current_of(parsed):  # where the cursor is only matters when it runs
        try:
            plan = plans.make(parsed).plan
        except PgError:
            await _ask(session, statement, parsed)  # what PostgreSQL says against it goes first
            raise
        if isinstance(plan, SessionPlan):
            return await _of_verb(session, plan, statement)
    return await _ask(session, statement, parsed)


async def _of_verb(session: Session, plan: SessionPlan, statement: Statement) -> Analysis:
    if plan.verb in _NO_SERVER_NEEDED:
        return _NOTHING
    if plan.verb is SessionVerb.SHOW and plan.name in own_settings.DEFAULTS:
        return Analysis((), (Field(plan.name, 0, 0, TEXT, -1, -1, 0),))
    if plan.verb is SessionVerb.EXECUTE:
        inner = session.statements.get(plan.name.encode())
        if inner is None:
            raise PgError("26000", f'prepared statement "{plan.name}" does not exist')
        return Analysis((), (inner.analysis or await analyze(session, inner)).fields, lasting=False)
    if plan.verb is SessionVerb.FETCH:
        fields = await cursors.fields_of(session, plan.name)
        return Analysis((), None if plan.move else fields, lasting=False)
    return await _ask(session, statement, parse_one(statement.text))


async def _ask(session: Session, statement: Statement, parsed: Parsed) -> Analysis:
    temporary = _names_temporary(session, parsed)
    return await _ask_in(session, statement, session.gateway.snapshot.home_group if temporary else WORKSPACE_PLACE)


async def _ask_in(session: Session, statement: Statement, place: str) -> Analysis:
    in_change = session.transaction is not None and session.transaction.change is not None
    if in_change or (place != WORKSPACE_PLACE and session.transaction is not None):
        backend = (await session.branch(place)).backend
        return await describe(backend, statement.text, statement.declared_types)
    if place == WORKSPACE_PLACE:
        await session.gateway.workspace.catch_up(session.gateway.snapshot.version)
    backend = await session.acquire(place)
    try:
        return await describe(backend, statement.text, statement.declared_types)
    finally:
        session.give_back(backend)


def _names_temporary(session: Session, parsed: Parsed) -> bool:
    """What cannot be parsed here, or has other objects than tables, is asked where the temporary tables are."""
    if not session.temporary:
        return False
    if parsed.node is None:
        return True
    refs = table_refs(parsed.node, session.plans.snapshot, session.context)
    return not refs or any(ref.temporary or ref.unknown for ref in refs)


async def describe(backend: Backend, text: bytes, types: tuple[int, ...]) -> Analysis:
    backend.write(frontend.parse(b"", text, types) + frontend.describe_statement(b"") + frontend.sync())
    parameter_types: tuple[int, ...] = ()
    fields: tuple[Field, ...] | None = None
    async for kind, raw in backend.answers():
        if kind == ord("t"):
            parameter_types = server_messages.parse_parameter_description(raw)
        elif kind == ord("T"):
            fields = server_messages.parse_row_description(raw)
    return Analysis(parameter_types, fields)


@contextlib.asynccontextmanager
async def _schema_complete(session: Session) -> AsyncIterator[Backend]:
    """A backend in the schema-complete database as the session sees it, for questions of ours."""
    if session.transaction is not None and session.transaction.change is not None:
        yield (await session.branch(WORKSPACE_PLACE)).backend
        return
    backend = await session.acquire(WORKSPACE_PLACE)
    try:
        yield backend
    finally:
        session.give_back(backend)


_TYPE_NAMES = {
    16: "bool", 17: "bytea", 18: '"char"', 19: "name", 20: "bigint", 21: "smallint", 23: "integer", 25: "text",
    26: "oid", 114: "json", 700: "real", 701: "double precision", 1042: "bpchar", 1043: "varchar", 1082: "date",
    1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval", 1700: "numeric", 2950: "uuid", 3802: "jsonb",
}  # fmt: skip


async def type_names(session: Session, types: tuple[int, ...]) -> list[str]:
    """Names that casts can use; types of users are looked up in the schema-complete database."""
    unknown = [oid for oid in types if oid not in _TYPE_NAMES]
    found: dict[int, str] = {}
    if unknown:
        calls = ", ".join(f"pg_catalog.format_type({oid}, -1)" for oid in unknown)
        async with _schema_complete(session) as backend:
            rows = await backend.query(f"SELECT {calls}")
        found = {oid: name or "text" for oid, name in zip(unknown, rows[0], strict=True)}
    return [_TYPE_NAMES.get(oid) or found[oid] for oid in types]


async def field_type_names(session: Session, fields: tuple[Field, ...]) -> list[str]:
    """The types of result columns as CREATE TABLE would write them, modifiers included, under any search_path."""
    if not fields:
        return []
    calls = ", ".join(f"pg_catalog.format_type({field.type_oid}, {field.type_modifier})" for field in fields)
    if session.transaction is None or session.transaction.change is None:
        (row,) = await session.gateway.workspace.query(f"SELECT {calls}")  # its search_path is pg_catalog
    else:
        branch = await session.branch(WORKSPACE_PLACE)
        (row,) = await branch.backend.query(
            f"SAVEPOINT hanse_types; SET LOCAL search_path = ''; SELECT {calls}; "
            "ROLLBACK TO SAVEPOINT hanse_types; RELEASE SAVEPOINT hanse_types"
        )
    return [name or "text" for name in row]


async def parameter_literals(session: Session, types: tuple[int, ...], bind: frontend.Bind) -> list[str]:
    """Each bound value as an SQL constant of its type: `'5'::bigint`. Binary ones are read by a server."""
    from ..core.ids import quote_literal

    names = await type_names(session, types)
    texts: list[str | None] = []
    binary: list[int] = []
    for index, value in enumerate(bind.values):
        if value is None or bind.parameter_format(index) == 0:
            texts.append(None if value is None else value.decode())
        elif len(value) == _INTEGER_BYTES.get(types[index]):
            texts.append(str(int.from_bytes(value, "big", signed=True)))
        else:
            binary.append(index)
            texts.append(None)
    for first in range(0, len(binary), COLUMNS_MAX):
        some = binary[first : first + COLUMNS_MAX]
        for index, text in zip(some, await _as_text(session, types, bind, some), strict=True):
            texts[index] = text
    return [
        f"NULL::{name}" if text is None else f"{quote_literal(text).strip()}::{name}"
        for text, name in zip(texts, names, strict=True)
    ]


_INTEGER_BYTES = {21: 2, 23: 4, 20: 8}
COLUMNS_MAX = 1_600  # of one SELECT; PostgreSQL's limit is 1,664


async def _as_text(session: Session, types: tuple[int, ...], bind: frontend.Bind, which: list[int]) -> list[str | None]:
    names = await type_names(session, tuple(types[index] for index in which))
    columns = ", ".join(f"(${number + 1}::{name})::pg_catalog.text" for number, name in enumerate(names))
    async with _schema_complete(session) as backend:
        backend.write(
            frontend.parse(b"", f"SELECT {columns}".encode(), tuple(types[index] for index in which))
            + frontend.bind(b"", b"", [bind.values[index] for index in which], parameter_formats=(1,))
            + frontend.execute()
            + frontend.sync()
        )
        row: list[bytes | None] = []
        async for kind, raw in backend.answers():
            if kind == ord("D"):
                row = server_messages.parse_data_row(raw)
    return [None if value is None else value.decode() for value in row]
