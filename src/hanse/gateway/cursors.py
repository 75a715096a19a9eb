"""Cursors: DECLARE, FETCH, MOVE, CLOSE.

A cursor whose query one place answers *is* a cursor there, in the transaction's branch: lazy, scrolling as PostgreSQL does,
good for `WHERE CURRENT OF`. So is one that a function has opened and given back (refcursor), where it was.

The rows of any other cursor are computed when it is declared and kept in a `ResultBuffer` (memory, then disk), so a cursor
over many shards moves in any direction and may outlive its transaction (WITH HOLD). The price: DECLARE takes as long as the
whole query. It is insensitive, which PostgreSQL's are, too; `WHERE CURRENT OF` is not possible with it. Rows are kept in
the format in which DECLARE's client takes results, which is the one that he fetches them in; should he want another, a server
reads and writes the values again (`_converted`).

A cursor ends with the savepoint that it was declared after: cursors are numbered, and a savepoint knows the last number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pglast import ast

from ..catalog.model import Relation, Shard
from ..core.errors import PgError
from ..core.ids import quote_identifier, quote_literal
from ..engines.postgres.backend import split_messages
from ..executor.buffer import ResultBuffer
from ..executor.request import ROWS, Discard, Request, Rows, Sink, pump
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.backend import Field
from ..planner.leaving import Leaves, of_text
from ..planner.plan import Forward, Planned
from ..planner.plan import Session as SessionPlan
from ..sql.parse import Parsed, parse_one
from ..sql.render import NotRenderable, render, replace_tables
from ..sql.scope import table_refs
from ..sql.walk import walk
from . import error_places, versions
from .prepared import Portal, Statement

if TYPE_CHECKING:
    from .session import Session

FETCH_ROWS_AT_ONCE = 1_000


@dataclass(slots=True)
class Cursor(Portal):
    """A portal whose position is: 0 before the first row, n on row n, len+1 after the last.

    `place` is where PostgreSQL has the cursor; then there is no buffer.
    """

    scroll: bool = True
    binary: bool = False
    number: int = 0
    place: str | None = None
    partition: tuple[Relation, Shard] | None = None  # the only one that it can read, where that is known
    settled: bool = False  # WITH HOLD, and its transaction has been committed
    failed: bool = False  # a FETCH has failed: it can only be closed


async def declare(session: Session, plan: SessionPlan, request: Request, sink: Sink) -> bytes:
    transaction = session.transaction
    hold = "hold" in plan.options
    if not hold and (transaction is None or not transaction.explicit):
        raise PgError("25P01", "DECLARE CURSOR can only be used in transaction blocks")
    if plan.name in session.cursors or plan.name.encode() in session.portals:
        raise PgError("42P03", f'cursor "{plan.name}" already exists')
    session.cursors_declared += 1
    cursor = Cursor(
        Statement(plan.argument.encode(), (), 0, shown=request.text),
        hold=hold,
        scroll="no scroll" not in plan.options,
        binary="binary" in plan.options,
        number=session.cursors_declared,
    )
    if hold or not await _declare_in_place(session, cursor, plan, request, sink):
        with error_places.counted_in(request.text.decode(), plan.argument):
            await _compute(session, cursor, request)
    session.cursors[plan.name] = cursor
    return b"DECLARE CURSOR"


async def _declare_in_place(session: Session, cursor: Cursor, plan: SessionPlan, request: Request, sink: Sink) -> bool:
    """Where one place answers the query. False: several must."""
    from .statements import plan_statement

    transaction = session.transaction
    assert transaction is not None
    planned, parts = plan_statement(session, parse_one(cursor.statement.text))
    if not isinstance(planned.plan, Forward):
        return False
    if await session.gateway.wait_thawed(planned, session.exempt):
        planned, parts = plan_statement(session, parse_one(cursor.statement.text))
    if not isinstance(planned.plan, Forward):
        return False
    route = session.plans.route(planned)
    cursor.place, shard = route.resolve(parts[1::2])
    if shard is not None and route.relation is not None:
        cursor.partition = (route.relation, route.relation.shards[shard])
    if cursor.place is None and route.any_group:
        cursor.place = next(iter(transaction.branches), session.gateway.snapshot.home_group)
    if cursor.place is None:
        return False
    if planned.pins is not None:
        await session.pin(session.gateway.snapshot.home_group, planned.pins)
    branch = await session.branch(cursor.place)
    if not session.gateway.control.assured and not session.changes_schema:
        await versions.confirm(session, branch.backend, session.plans.snapshot.schema_version)
    transaction.touched[id(planned)] = planned
    branch.wrote |= planned.writes
    if not planned.neutral:  # FETCH runs it, and nobody looks at that
        leaves = planned.leaves | of_text(plan.argument)
        transaction.left[cursor.place] = transaction.left.get(cursor.place, Leaves()) | leaves
    sql = request.text.decode()
    sql = sql[: sql.rindex(plan.argument)] + (planned.plan.sql or plan.argument)
    await _in_place(session, cursor.place, Request(text=sql.encode(), snapshot=request.snapshot), sink)
    return True


async def _in_place(session: Session, place: str, request: Request, sink: Sink) -> bytes:
    """A statement about a cursor that PostgreSQL has."""
    assert session.transaction is not None
    backend = session.transaction.branches[place].backend
    session.running[place] = backend
    try:
        backend.write_pieces(request.message())
        return await pump(backend, sink)
    finally:
        session.running.pop(place, None)


async def _compute(session: Session, cursor: Cursor, request: Request) -> None:
    from .statements import run_parsed

    text = cursor.statement.text
    wanted = request.result_formats if len(request.result_formats) == 1 else ()
    formats = wanted if request.extended else (1,) if cursor.binary else ()
    inner = Request(text=text, snapshot=request.snapshot, extended=any(formats), result_formats=formats)
    cursor.buffer = ResultBuffer()
    try:
        await run_parsed(session, parse_one(text), cursor.buffer, inner)
    except BaseException:
        cursor.close()
        raise


async def _cursor(session: Session, name: str) -> Cursor:
    cursor = session.cursors.get(name)
    if not isinstance(cursor, Cursor):
        cursor = session.cursors[name] = await _of_a_function(session, name)
    return cursor


async def _of_a_function(session: Session, name: str) -> Cursor:
    """One that a function has opened (refcursor), in a branch of the transaction. Raises 34000."""
    branches = {} if session.transaction is None or session.transaction.failed else session.transaction.branches
    for place, branch in branches.items():
        query = f"SELECT statement FROM pg_catalog.pg_cursors WHERE name = {quote_literal(name)}"
        for (text,) in await branch.backend.query(query):
            session.cursors_declared += 1
            shown = (text or "").encode()
            return Cursor(Statement(shown, (), 0, shown=shown), number=session.cursors_declared, place=place)
    raise PgError("34000", f'cursor "{name}" does not exist')


async def fields_of(session: Session, name: str) -> tuple[Field, ...]:
    """The columns that FETCH gives. Raises 34000."""
    portal = session.portals.get(name.encode())
    if portal is not None:
        return (portal.statement.analysis.fields or ()) if portal.statement.analysis is not None else ()
    cursor = await _cursor(session, name)
    if cursor.place is not None:
        return await _fields_in_place(session, cursor.place, name)
    assert cursor.buffer is not None
    fields = server_messages.parse_row_description(cursor.buffer.description)
    return tuple(field._replace(format=int(cursor.binary)) for field in fields)


async def _fields_in_place(session: Session, place: str, name: str) -> tuple[Field, ...]:
    """A cursor is a portal of its name, which can be described."""
    assert session.transaction is not None
    backend = session.transaction.branches[place].backend
    description = Rows()
    backend.write(frontend.describe_portal(name.encode()) + frontend.sync())
    await pump(backend, description)
    return server_messages.parse_row_description(description.description) if description.description else ()


def names_current_of(statement: Parsed) -> bool:
    return statement.verb in ("UPDATE", "DELETE") and b"current" in statement.text.lower()


def plan_current_of(session: Session, statement: Parsed) -> Planned | None:
    """`UPDATE … WHERE CURRENT OF cursor` goes where PostgreSQL has the cursor. None: it is no such statement."""
    for found in walk(statement.node):
        if isinstance(found, ast.CurrentOfExpr):
            cursor = session.cursors.get(found.cursor_name or "")
            if cursor is None and (found.cursor_name or "").encode() not in session.portals:
                if session.transaction is not None and session.transaction.modes.read_only:
                    raise PgError("25006", f"cannot execute {statement.verb} in a read-only transaction")
                raise PgError("34000", f'cursor "{found.cursor_name}" does not exist')
            if not isinstance(cursor, Cursor) or cursor.place is None:
                return None
            refs = table_refs(statement.node, session.plans.snapshot, session.context)
            relations = frozenset(ref.relation.identity for ref in refs if ref.relation is not None)
            rows = bool(
                getattr(statement.node, "returningClause", None) or getattr(statement.node, "returningList", None)
            )
            plan = Forward(place=cursor.place, sql=_of_partition(session, cursor, statement))
            return Planned(plan=plan, verb=statement.verb, returns_rows=rows, writes=True, relations=relations)
    return None


def _of_partition(session: Session, cursor: Cursor, statement: Parsed) -> str | None:
    """The statement for the cursor's partition: PostgreSQL wants the cursor to read each partition that it is to change."""
    if cursor.partition is None:
        return None
    relation, shard = cursor.partition
    target = statement.node.relation
    snapshot, path = session.plans.snapshot, session.context.search_path
    if snapshot.find(target.schemaname, target.relname, path) is not relation or not shard.nameable:
        return None

    def rename(table: ast.RangeVar) -> tuple[str | None, str] | None:
        same = (table.schemaname, table.relname) == (target.schemaname, target.relname)
        return (shard.schema, shard.name) if same else None

    try:
        return render(replace_tables(statement.node, rename))
    except NotRenderable:
        return None


# --- FETCH and MOVE ----------------------------------------------------------------------------------------------


async def fetch(session: Session, plan: SessionPlan, request: Request, sink: Sink) -> bytes:
    cursor = await _open(session, plan.name)
    if isinstance(cursor, Cursor) and cursor.place is not None:
        return await _in_place(session, cursor.place, request, sink)
    buffer = cursor.buffer
    assert buffer is not None
    if isinstance(cursor, Cursor) and cursor.failed:
        raise PgError("55000", f'portal "{plan.name}" cannot be run')
    rows = _move(cursor, plan, len(buffer))
    if plan.move:
        return b"MOVE %d" % len(rows)
    fields = server_messages.parse_row_description(buffer.description)
    kept = tuple(field.format for field in fields)
    wanted = _wanted(cursor, request, len(fields))
    shown = [field._replace(format=form) for field, form in zip(fields, wanted, strict=True)]
    sink.describe(server_messages.row_description(shown))
    for first in range(0, len(rows), FETCH_ROWS_AT_ONCE):
        messages = _read(buffer, rows[first : first + FETCH_ROWS_AT_ONCE])
        await sink.rows(messages if wanted == kept else await _converted(session, fields, wanted, messages))
    return b"FETCH %d" % len(rows)


async def _open(session: Session, name: str) -> Portal:
    """The cursor, or the portal that the client has bound under this name: SQL may move and read it as well."""
    from .extended import run_portal

    portal = session.portals.get(name.encode())
    if portal is None or name in session.cursors:
        return await _cursor(session, name)
    if portal.buffer is None:
        portal.buffer = ResultBuffer()
        portal.tag = await run_portal(session, portal, portal.buffer)
    return portal


def _read(buffer: ResultBuffer, rows: range) -> bytes:
    if rows.step == 1:
        return buffer.read(rows.start - 1, len(rows))
    return b"".join(buffer.read(row - 1, 1) for row in rows)


def _wanted(cursor: Portal, request: Request, columns: int) -> tuple[int, ...]:
    """The result formats of a FETCH; in the simple protocol the cursor's own."""
    if not request.extended:
        return (int(isinstance(cursor, Cursor) and cursor.binary),) * columns
    formats = request.result_formats or (0,)
    return tuple(formats) if len(formats) == columns and columns > 1 else (formats[0],) * columns


async def _converted(session: Session, fields: tuple[Field, ...], wanted: tuple[int, ...], messages: bytes) -> bytes:
    """The rows with their values in other formats: a server reads them as parameters and gives them back."""
    if not messages or not fields:
        return messages
    query = f"SELECT {', '.join(f'${number + 1}' for number in range(len(fields)))}"
    kept = tuple(field.format for field in fields)
    pieces = [frontend.parse(b"", query.encode(), tuple(field.type_oid for field in fields))]
    for message in split_messages(messages):
        values = server_messages.parse_data_row(message)
        pieces.append(frontend.bind(b"", b"", values, parameter_formats=kept, result_formats=wanted))
        pieces.append(frontend.execute(b"", 0))
    backend = await session.statement_backend()
    try:
        backend.write(b"".join(pieces) + frontend.sync())
        return b"".join([raw async for kind, raw in backend.answers() if kind == ROWS])
    finally:
        session.end_statement_backend(backend)


def _move(cursor: Portal, plan: SessionPlan, size: int) -> range:
    """Moves the cursor as FETCH's direction says; gives the rows passed (1-based), in the order they come.

    PostgreSQL manual, FETCH: a count of 0 fetches the current row again; a negative one goes the other way.
    """
    count, direction = plan.count, plan.direction
    if direction == "absolute" or (direction == "relative" and count):
        assert count is not None
        target = count if direction == "absolute" else cursor.position + count
        if direction == "absolute" and count < 0:
            target = size + 1 + count
        backward = target <= cursor.position and not target == cursor.position == 0
        _check_scroll(cursor, backward or count < 0)
        cursor.position = max(0, min(target, size + 1))
        return range(cursor.position, cursor.position + 1) if 1 <= cursor.position <= size else range(0)
    if count is not None and count < 0:
        count, direction = -count, "backward" if direction == "forward" else "forward"
    if count == 0:
        on_row = 1 <= cursor.position <= size
        _check_scroll(cursor, on_row and not plan.move)  # PostgreSQL goes one row back to fetch it again
        return range(cursor.position, cursor.position + 1) if on_row else range(0)
    if direction == "forward":
        first = cursor.position + 1
        last = size if count is None else min(size, cursor.position + count)
        cursor.position = size + 1 if count is None or cursor.position + count > size else last
        return range(first, last + 1) if last >= first else range(0)
    _check_scroll(cursor, True)
    first = min(cursor.position - 1, size)
    last = 1 if count is None else max(1, cursor.position - count)
    cursor.position = 0 if count is None or cursor.position - count < 1 else last
    return range(first, last - 1, -1) if first >= last else range(0)


def _check_scroll(cursor: Portal, backward: bool) -> None:
    if backward and not (isinstance(cursor, Cursor) and cursor.scroll):
        if isinstance(cursor, Cursor):
            cursor.failed = True
        raise PgError(
            "55000", "cursor can only scan forward", hint="Declare it with SCROLL option to enable backward scan."
        )


async def close(session: Session, plan: SessionPlan, request: Request, sink: Sink) -> bytes:
    if plan.name == "all":
        for name in list(session.cursors):
            await close_cursor(session, name)
        return b"CLOSE CURSOR ALL"
    await close_cursor(session, plan.name)
    return b"CLOSE CURSOR"


async def close_cursor(session: Session, name: str) -> None:
    portal = session.portals.pop(name.encode(), None)
    if portal is not None:
        portal.close()
        return
    cursor = await _cursor(session, name)
    if cursor.place is not None:
        sql = f"CLOSE {quote_identifier(name)}".encode()
        await _in_place(session, cursor.place, Request(text=sql, snapshot=session.plans.snapshot), Discard())
    session.cursors.pop(name).close()


# --- ends that come by themselves --------------------------------------------------------------------------------


def end_transaction(session: Session, *, committed: bool) -> None:
    """Cursors without HOLD end with their transaction, and those with HOLD if it is rolled back."""
    for name, cursor in list(session.cursors.items()):
        if isinstance(cursor, Cursor) and cursor.hold and (committed or cursor.settled):
            cursor.settled = True
        else:
            session.cursors.pop(name).close()


def end_savepoint(session: Session, last: int) -> None:
    """ROLLBACK TO a savepoint at which `last` cursors had been declared."""
    for name, cursor in list(session.cursors.items()):
        if isinstance(cursor, Cursor) and cursor.number > last:
            session.cursors.pop(name).close()
