"""The extended protocol, the thorough way: Parse, Bind, Describe, Execute, Close, Sync, Flush in any order.

PostgreSQL manual 55.2.3. What a client sends up to Sync is one transaction if he has not begun one: with more than one Execute
(or a Flush before Sync) an implicit transaction is opened, and Sync commits it over all groups it has written.

After an error everything up to Sync is skipped. Statements are analysed by the schema-complete database when they are
parsed, so errors come where PostgreSQL gives them. Portals run when they are executed; one that is read in pieces
(Execute with a row limit) keeps its rows in a buffer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ..core.errors import FatalError, LostSynchronization, PgError, as_error
from ..core.limits import STATEMENTS_PER_CLIENT_MAX
from ..executor.buffer import ResultBuffer
from ..executor.request import Request, Sink
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.backend import Field
from ..pgwire.diagnostics import error_response
from ..pgwire.framing import Message
from ..planner.plan import Planned
from ..planner.plan import Session as SessionPlan
from ..planner.values import NO_PARAMETERS, Parameters
from ..sql.parse import only, parse_one
from . import aside, cursors, drawn, longmessages, sqlprepare
from .analysis import analyze
from .encoding import Codec, Recoder
from .longinsert import run_long
from .prepared import Analysis, Portal
from .shown import as_one_table
from .simple import abort, end_implicit
from .sinks import ExecuteSink
from .statements import (
    aborted,
    carries_parameters,
    execute,
    inlined,
    plan_statement,
    refuse_unparsed,
    run_parsed,
)
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session

EXECUTE, SYNC, FLUSH = ord("E"), ord("S"), ord("H")


async def run_batch(session: Session, batch: list[Message]) -> None:
    """The messages up to a Sync or Flush, which is the last one. Takes them out: a Bind's values are in its portal then."""
    several = _needs_transaction(session, batch)
    session.copied = False
    batch.reverse()
    while batch:
        message = batch.pop()
        if session.closed:
            return
        if several and message.kind == EXECUTE and session.transaction is None and not session.skip_to_sync:
            session.transaction = Transaction("", session.state, explicit=False)  # also behind a COMMIT in the middle
        if message.kind == SYNC:
            if not session.copied:  # Flush and Sync are ignored during COPY FROM STDIN; another Sync follows the data
                await _sync(session, message)
        elif not session.skip_to_sync:
            try:
                if not message.raw:
                    raise longmessages.out_of_memory()
                await _HANDLERS[message.kind](session, message)
            except FatalError:
                raise
            except (PgError, RecursionError) as error:
                await _failed(session, as_error(error))
    session.plans.forget_large()


def _needs_transaction(session: Session, batch: Sequence[Message]) -> bool:
    """Several statements before Sync, or perhaps more to come: they succeed or fail together."""
    executes = sum(message.kind == EXECUTE for message in batch)
    return executes > 1 or (executes == 1 and batch[-1].kind == FLUSH)


async def _failed(session: Session, error: PgError) -> None:
    await abort(session)
    session.write(error_response(as_one_table(session.judged(error), session.plans.snapshot)))
    session.skip_to_sync = True
    if isinstance(error, LostSynchronization):
        session.fail(error.end)


async def _flush(session: Session, message: Message) -> None:
    frontend.parse_empty(message.raw)


async def _sync(session: Session, message: Message) -> None:
    try:
        frontend.parse_empty(message.raw)
        if not session.skip_to_sync:
            await end_implicit(session)
        elif session.transaction is not None and not session.transaction.explicit:
            await abort(session)
    except FatalError:
        raise
    except PgError as error:
        await abort(session)
        session.write(error_response(as_one_table(error, session.plans.snapshot)))
    session.skip_to_sync = False
    if session.transaction is None:
        session.end_portals()
    session.write_ready()


# --- Parse, Bind, Describe, Close --------------------------------------------------------------------------------


async def _parse(session: Session, message: Message) -> None:
    parsed = frontend.parse_parse(message.raw)
    if session.codec is not None:
        parsed = parsed._replace(sql=session.codec.decode(parsed.sql))
    if parsed.name and parsed.name in session.statements:
        name = parsed.name.decode(errors="replace")
        raise PgError("42P05", f'prepared statement "{name}" already exists')
    if len(session.statements) >= STATEMENTS_PER_CLIENT_MAX:
        raise PgError("53400", f"more than {STATEMENTS_PER_CLIENT_MAX} prepared statements in one session")
    check_failed(session, parsed.sql)
    statement = session.make_statement(parsed.sql, parsed.parameter_types)
    statement.analysis = await analyze(session, statement)
    session.statements[parsed.name] = statement
    session.write(server_messages.parse_complete())


def check_failed(session: Session, text: bytes) -> None:
    """In a failed transaction only its end may be parsed."""
    if session.transaction is None or not session.transaction.failed:
        return
    first = text.strip().split(None, 1)[0].upper().rstrip(b";") if text.strip() else b""
    if first not in (b"ROLLBACK", b"COMMIT", b"ABORT", b"END", b"PREPARE"):
        raise aborted()


def _unknown_statement(name: bytes) -> PgError:
    if not name:
        return PgError("26000", "unnamed prepared statement does not exist")
    return PgError("26000", f'prepared statement "{name.decode(errors="replace")}" does not exist')


async def _bind(session: Session, message: Message) -> None:
    bind = await longmessages.parse_bind(message.raw)
    statement = session.statements.get(bind.statement)
    if statement is None:
        raise _unknown_statement(bind.statement)
    check_failed(session, statement.text)
    if bind.portal and (bind.portal in session.portals or bind.portal.decode(errors="replace") in session.cursors):
        raise PgError("42P03", f'portal "{bind.portal.decode(errors="replace")}" already exists')
    analysis = statement.analysis
    if analysis is None or not analysis.lasting:
        analysis = statement.analysis = await analyze(session, statement)
    if len(bind.values) != len(analysis.parameter_types):
        raise PgError(
            "08P01",
            f"bind message supplies {len(bind.values)} parameters, but prepared statement"
            f' "{bind.statement.decode(errors="replace")}" requires {len(analysis.parameter_types)}',
        )
    if session.codec is not None:
        bind = _translated(session.codec, bind, analysis.parameter_types)
    for index, value in enumerate(bind.values):
        if value is not None and bind.parameter_format(index) == 0:
            await longmessages.check_text(value)
    old = session.portals.pop(bind.portal, None)
    if old is not None:
        old.close()
    portal = Portal(
        statement,
        Parameters(bind.values, bind.parameter_formats, analysis.parameter_types),
        tuple(bind.result_formats),
        fields=analysis.fields or (),
    )
    portal.bound = bind
    session.portals[bind.portal] = portal
    session.write(server_messages.bind_complete())


def _translated(codec: Codec, bind: frontend.Bind, types: Sequence[int]) -> frontend.Bind:
    return bind._replace(
        values=[
            codec.parameter(value, bind.parameter_format(index), oid)
            for index, (value, oid) in enumerate(zip(bind.values, types, strict=True))
        ]
    )


async def _describe(session: Session, message: Message) -> None:
    target = frontend.parse_describe(message.raw)
    if target.kind == b"S":
        statement = session.statements.get(target.name)
        if statement is None:
            raise _unknown_statement(target.name)
        analysis = statement.analysis = statement.analysis or await analyze(session, statement)
        session.write(server_messages.parameter_description(analysis.parameter_types))
        _write_fields(session, analysis, ())
        return
    name = target.name.decode(errors="replace")
    if name in session.cursors:
        session.write(server_messages.row_description(await cursors.fields_of(session, name)))
        return
    portal = _portal(session, target.name)
    _write_fields(session, portal.statement.analysis or Analysis((), None), portal.result_formats)


def _portal(session: Session, name: bytes) -> Portal:
    portal = session.portals.get(name)
    if portal is None:
        raise PgError("34000", f'portal "{name.decode(errors="replace")}" does not exist')
    return portal


def _write_fields(session: Session, analysis: Analysis, formats: Sequence[int]) -> None:
    fields = analysis.fields
    if fields is None:
        session.write(server_messages.no_data())
        return
    shown: list[Field] = []
    for number, field in enumerate(fields):
        form = formats[number] if len(formats) > 1 else formats[0] if formats else 0
        shown.append(field._replace(format=form))
    session.write(server_messages.row_description(shown))


async def _close(session: Session, message: Message) -> None:
    target = frontend.parse_close(message.raw)
    if target.kind == b"S":
        session.statements.pop(target.name, None)
    elif target.name in session.portals or target.name.decode(errors="replace") in session.cursors:
        await cursors.close_cursor(session, target.name.decode(errors="replace"))
    session.write(server_messages.close_complete())


# --- Execute -----------------------------------------------------------------------------------------------------


async def _execute(session: Session, message: Message) -> None:
    request = frontend.parse_execute(message.raw)
    portal = _portal(session, request.portal)
    if portal.complete and portal.tag.startswith(b"SELECT "):  # it is at its end
        _write_tag(session, b"SELECT 0")
        return
    if portal.complete:
        raise PgError("55000", f'portal "{request.portal.decode(errors="replace")}" cannot be run')
    if request.max_rows > 0 or portal.buffer is not None:
        await _execute_in_pieces(session, portal, request.max_rows)
        return
    tag = portal.tag = await run_portal(session, portal, ExecuteSink(session))
    portal.complete = session.transaction is not None and portal.statement.analysis is not None
    if portal.complete:
        portal.forget_values()
    _write_tag(session, tag)


def _write_tag(session: Session, tag: bytes) -> None:
    session.write(server_messages.command_complete(tag.decode()) if tag else server_messages.empty_query())


async def _execute_in_pieces(session: Session, portal: Portal, max_rows: int) -> None:
    buffer = portal.buffer
    if buffer is None:
        buffer = ResultBuffer()
        try:
            portal.tag = await run_portal(session, portal, buffer)
        except BaseException:
            buffer.close()
            raise
        portal.forget_values()
        portal.buffer = buffer  # not before: a COMMIT ends all portals, itself among them
    total = len(buffer)
    portal.position = min(portal.position, total)  # MOVE may have gone past the end
    count = max_rows if max_rows > 0 else total - portal.position
    taken = min(count, total - portal.position)
    if isinstance(session.output, Recoder):
        session.output.expect(server_messages.parse_row_description(buffer.description))
    for first in range(portal.position, portal.position + taken, 1_000):
        session.write(buffer.read(first, min(1_000, portal.position + taken - first)))
        await session.output.drain()
    portal.position += taken
    if max_rows > 0 and taken == max_rows:
        session.write(server_messages.portal_suspended())
        return
    verb, _, count_text = portal.tag.rpartition(b" ")
    _write_tag(session, verb + b" %d" % taken if verb == b"SELECT" and count_text.isdigit() else portal.tag)


async def run_portal(session: Session, portal: Portal, sink: Sink) -> bytes:
    """The portal's statement with its values; gives the command tag."""
    statement = portal.statement
    if not statement.text.strip(b" \t\r\n;"):
        return b""
    found = session.plans.find(statement.text)
    if found is None:
        if portal.parameters is None or not portal.parameters.values:
            request = _request(session, portal, statement.text, ())
            if (tag := await run_long(session, statement.text, sink, request)) is not None:
                return tag
        parsed = only(await aside.parse(session.plans, statement.text))
        if parsed.node is None:
            await refuse_unparsed(session, parsed)
        if (full := await sqlprepare.expanded(session, parsed)) is not None:
            return await run_parsed(session, full, sink, _request(session, portal, full.text, full.parts))
        if drawn.asks_drawn(parsed.text):
            return await run_drawn(session, portal, sink)
        await aside.plan(session.plans, parsed)
        found = plan_statement(session, parsed)
    planned, parts = found
    request = _request(session, portal, statement.text, parts)
    if isinstance(planned.plan, SessionPlan) and not request.parameter_types:
        return await execute(session, planned, request, sink)
    if carries_parameters(planned, portal.parameters or NO_PARAMETERS):
        return await execute_portal(session, planned, request, sink)
    await inlined(session, request)
    return await run_parsed(session, only(await aside.parse(session.plans, request.text)), sink, request)


async def run_drawn(session: Session, portal: Portal, sink: Sink) -> bytes:
    """A statement with currval() or lastval(), with the values that are known in it."""
    parsed = parse_one(await drawn.replaced(session, portal.statement.text))
    request = _request(session, portal, parsed.text, parsed.parts)
    if portal.parameters is not None and portal.parameters.values:
        await inlined(session, request)
        parsed = parse_one(request.text)
    return await run_parsed(session, parsed, sink, request)


def _request(session: Session, portal: Portal, text: bytes, parts: Sequence[bytes]) -> Request:
    statement = portal.statement
    return Request(
        text=text,
        snapshot=session.plans.snapshot,
        parts=parts,
        literals=parts[1::2],
        parameters=portal.parameters,
        parameter_types=statement.analysis.parameter_types if statement.analysis else statement.declared_types,
        result_formats=portal.result_formats,
        bound=portal.bound,
        extended=True,
    )


async def execute_portal(session: Session, planned: Planned, request: Request, sink: Sink) -> bytes:
    if await session.gateway.wait_thawed(planned, session.exempt):
        planned, request.parts = plan_statement(session, parse_one(request.text))
        request.literals = request.parts[1::2]
        request.snapshot = session.plans.snapshot
    return await execute(session, planned, request, sink)


Handler = Callable[["Session", Message], Awaitable[None]]
_HANDLERS: dict[int, Handler] = {
    ord("P"): _parse,
    ord("B"): _bind,
    ord("D"): _describe,
    ord("E"): _execute,
    ord("C"): _close,
    FLUSH: _flush,
}
