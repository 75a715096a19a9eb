"""One statement, from its plan to its command tag: the table of plan kinds, and what is done before any of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from ..config import WORKSPACE_PLACE
from ..core.errors import PgError, StalePlan
from ..executor import copying, copying_out, gathering, inserting, replicating, scattering, withwrites, writeback
from ..executor.environment import Environment
from ..executor.request import Places, Request, Sink, pump
from ..planner.plan import (
    Asked,
    Broadcast,
    Context,
    CopyIn,
    CopyOut,
    Ddl,
    Explain,
    FillTemporary,
    Forward,
    Gather,
    InsertRows,
    Plan,
    Planned,
    Replicate,
    Scatter,
    SessionVerb,
    TwoPhase,
    WithWrites,
    WriteBack,
)
from ..planner.plan import Session as SessionPlan
from ..planner.values import NO_PARAMETERS, Parameters
from ..sql.literals import split
from ..sql.parse import Parsed, parse_one
from . import (
    aside,
    cursors,
    ddl,
    drawing,
    drawn,
    durability,
    error_places,
    explaining,
    follower_reads,
    holding,
    leaving,
    maintenance,
    retrying,
    setconfig,
    snapshots,
    sqlprepare,
    temporary,
    verbs,
)
from .analysis import describe, parameter_literals
from .encoding import Recoder
from .fast import render, render_parts
from .follower_reads import Choice
from .inline import substitute
from .places import StatementPlaces, check_current
from .shown import moved_back

if TYPE_CHECKING:
    from .session import Session

_PLANNERS = ("42601", "0A000")
_AFTER_FAILURE = frozenset(
    (SessionVerb.ROLLBACK, SessionVerb.COMMIT, SessionVerb.ROLLBACK_TO, SessionVerb.PREPARE_TRANSACTION)
)
STALE_RETRIES_MAX, STALE_PAUSE_S = 6, 0.005
_MEETS = (Scatter, InsertRows, Replicate, WriteBack, WithWrites)
_MEETS_IN_ONE_GROUP = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"))  # others may commit in the middle
_MAY_UNPIN = frozenset(("SELECT", "DROP", "UNLISTEN", "DISCARD", "CREATE", "CLOSE", "CALL", "DO"))


async def run_text(session: Session, text: bytes, sink: Sink, request: Request | None = None) -> bytes | None:
    """Runs a text whose plan is known, without parsing it; None: it is not known."""
    found = session.fast.find(text)
    if found is None or session.gateway.frozen:
        return None
    planned, parts = found
    if request is None:
        request = Request(text=text, snapshot=session.plans.snapshot)
    request.parts, request.literals = parts, parts[1::2]
    return await execute(session, planned, request, sink)


async def run_parsed(session: Session, statement: Parsed, sink: Sink, request: Request | None = None) -> bytes:
    """Plans and runs one statement; gives its command tag. `request` None: the simple protocol."""
    if statement.node is None:
        await refuse_unparsed(session, statement)
    if (full := await sqlprepare.expanded(session, statement)) is not None:
        if request is not None:
            request.text = full.text
        with error_places.unknown():
            return await run_parsed(session, full, sink, request)
    if drawn.asks_drawn(statement.text):
        statement = parse_one(await drawn.replaced(session, statement.text))
        if request is not None:
            request.text = statement.text
    await aside.plan(session.plans, statement)
    try:
        planned, parts = plan_statement(session, statement)
    except PgError as error:
        if error.sqlstate in _PLANNERS:  # where PostgreSQL would refuse it, too, its words are better
            await session.analyze(session.make_statement(statement.text, ()))
        raise
    if await session.gateway.wait_thawed(planned, session.exempt):
        planned, parts = plan_statement(session, statement)
    if request is None:
        request = Request(text=statement.text, snapshot=session.plans.snapshot)
    request.snapshot = session.plans.snapshot  # it may have been made before something was waited for
    request.parts, request.literals = parts, parts[1::2]
    return await execute(session, planned, request, sink)


def plan_statement(session: Session, statement: Parsed) -> tuple[Planned, list[bytes]]:
    """The plan, and the text's parts (literals at odd places)."""
    plans = session.plans
    found = plans.find(statement.text)
    if found is not None:
        return found
    if cursors.names_current_of(statement) and (current := cursors.plan_current_of(session, statement)) is not None:
        return current, statement.parts
    planned = plans.make(statement)
    if not drawn.asks_drawn(statement.text):  # it is another statement when the session has drawn
        plans.keep(statement.text, planned)
    return planned, statement.parts


async def refuse_unparsed(session: Session, statement: Parsed) -> None:
    """Our parser did not understand the text: the server says why. It only parses, so nothing can happen by mistake."""
    backend = await session.acquire(WORKSPACE_PLACE)
    try:
        await describe(backend, statement.text, ())
    finally:
        session.give_back(backend)
    raise PgError("0A000", "this statement is not understood", hint="Please report it with its text.")


async def execute_text(session: Session, text: bytes, sink: Sink, *, binary: bool = False) -> bytes:
    """A statement inside another: of a cursor, of EXECUTE, of CREATE TABLE AS."""
    request = None
    if binary:
        request = Request(text=text, snapshot=session.plans.snapshot, extended=True, result_formats=(1,))
    return await run_parsed(session, parse_one(text), sink, request)


async def execute_once(session: Session, request: Request, sink: Sink) -> bytes:
    """A statement of ours that holds rows: it would only fill the plan cache."""
    parsed = parse_one(request.text)
    request.literals = parsed.parts[1::2]
    return await execute(session, session.plans.make(parsed), request, sink)


async def execute(session: Session, planned: Planned, request: Request, sink: Sink) -> bytes:
    """Runs a plan inside the session's transaction, or a statement's own.

    When another gateway of this node has just changed the schema, the workspace may be ahead of the plan. Nothing has been
    done then, and the news is on its way: the statement is planned again.
    """
    for attempt in range(STALE_RETRIES_MAX):
        try:
            return await _execute_again(session, planned, request, sink)
        except StalePlan:
            if request.parameters is not None and request.bound is None:
                raise
            await asyncio.sleep(STALE_PAUSE_S * 2**attempt)
            await session.gateway.wait_thawed(planned, session.exempt)
            planned, parts = plan_statement(session, parse_one(request.text))
            request.snapshot, request.parts, request.literals = session.plans.snapshot, parts, parts[1::2]
            request.rows = None
    return await _execute_again(session, planned, request, sink)


async def _execute_again(session: Session, planned: Planned, request: Request, sink: Sink) -> bytes:
    """A statement of its own that writes may meet others; a schema change, another change of the catalog (a new leader)."""
    reads = session.reads
    if reads is not None and follower_reads.may(session, planned):

        def served(own: Request, held: Sink, choice: Choice | None) -> Awaitable[bytes]:
            return _execute(session, planned, own, held, choice=choice)

        return await follower_reads.run(session, reads, request, sink, served)
    if reads is not None and follower_reads.shows_nothing(session, planned.plan):
        reads.passed(session)
    elif reads is not None and planned.verb != "SHOW":
        reads.forget()
    plan = planned.plan
    meets = planned.writes and isinstance(plan, _MEETS)
    meets |= planned.writes and isinstance(plan, Forward) and planned.verb in _MEETS_IN_ONE_GROUP
    meets |= isinstance(plan, Ddl) and plan.transactional
    if session.transaction is not None or not meets:
        if holding.may_read_again(session, planned):
            return await holding.read_again(request, sink, partial(_execute, session, planned))
        return await _execute(session, planned, request, sink)

    async def attempt(own: Request, held: Sink, this: retrying.Try) -> bytes:
        try:
            return await _execute(session, planned, own, held, this)
        except PgError as error:
            raise session.judged(error) from None

    return await retrying.run(request, sink, attempt)


async def _execute(
    session: Session,
    planned: Planned,
    request: Request,
    sink: Sink,
    this: retrying.Try | None = None,
    choice: Choice | None = None,
) -> bytes:
    plan = planned.plan
    transaction = session.transaction
    if isinstance(plan, SessionPlan):
        if transaction is not None and transaction.failed and plan.verb not in _AFTER_FAILURE:
            raise aborted()
        with_rows = verbs.WITH_ROWS.get(plan.verb)
        if with_rows is not None:
            return await with_rows(session, plan, request, sink)
        return await verbs.HANDLERS[plan.verb](session, plan, request.text, sink)
    if transaction is not None and transaction.failed:
        raise aborted()
    if transaction is None and planned.verb == "LOCK TABLE":
        raise PgError("25P01", "LOCK TABLE can only be used in transaction blocks")
    if transaction is not None and transaction.awaits_snapshot and not planned.verb.startswith("LOCK"):
        await snapshots.begin_transaction(session)
    if isinstance(plan, Ddl):
        if planned.verb == "ALTER ROLE":
            durability.check_role_setting(session, request.text)
        return await ddl.run(session, plan, request.text, sink)
    if isinstance(plan, Explain):
        return await explaining.run(session, plan, request, sink)
    if not planned.neutral and setconfig.calls_set_config(request.text):
        setconfig.refuse(session, request)
    if planned.leaves:
        durability.check_body(session, planned)
    if isinstance(session.output, Recoder) and planned.verb == "COPY":
        session.output.copy_as_is = has_encoding(request.text)
    if planned.pins is not None:
        await session.pin(session.gateway.snapshot.home_group, planned.pins)
    check_current(session, planned, request)
    async with StatementPlaces(session, planned, this, choice) as places:
        try:
            tag = await _run_plan(session, planned, request, places, sink)
        except PgError as error:
            leaving.note_failed(session, planned.leaves)
            if planned.leaves and durability.may_have_lowered(session, planned):
                with contextlib.suppress(PgError):  # the statement's own error says more
                    await durability.wait_for_commits(places.used)
            if error.position is not None and (not isinstance(plan, Forward) or plan.sql is not None):
                error.position = await _position(session, plan, request, error)
            raise
        if not planned.neutral and places.used and setconfig.calls_set_config(request.text):
            await setconfig.note(session, request, next(iter(places.used.values())))
        if planned.leaves and places.used:
            await leaving.note(session, planned.leaves, places.used, request.text)
            if durability.may_have_lowered(session, planned):
                await durability.wait_for_commits(places.used)
        if not planned.neutral and places.used and isinstance(plan, Forward) and drawn.draws(request.text):
            await drawn.note(session, request.text, next(iter(places.used.values())))
    if session.pinned and _may_unpin(session, planned):
        await session.unpin_if_free()
    return tag


async def _position(session: Session, plan: Plan, request: Request, error: PgError) -> int | None:
    """Of an error in a text that we have made: where the client's has it."""
    if isinstance(plan, CopyOut) and plan.query_sql is not None:
        place = await error_places.asked(session, plan.query_sql.encode(), error)
        return None if place is None else place + request.text.decode().index(plan.query_sql)
    return await error_places.asked(session, request.text, error, request.parameter_types)


def has_encoding(text: bytes) -> bool:
    """COPY … (ENCODING …): the server writes and reads that, the client's encoding does not matter."""
    return any(option.defname.lower() == "encoding" for option in parse_one(text).node.options or ())


def _may_unpin(session: Session, planned: Planned) -> bool:
    """Whether the statement may have changed what the session has in its backend: other temporary tables, fewer locks."""
    if session.transaction is None:
        return planned.verb.split()[0] in _MAY_UNPIN
    return planned.pins is not None and planned.verb not in ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY")


def aborted() -> PgError:
    return PgError("25P02", "current transaction is aborted, commands ignored until end of transaction block")


# --- one runner for each kind of plan ----------------------------------------------------------------------------


async def _forward(session: Session, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, Forward)
    route = session.plans.route(planned)
    place, shard = route.resolve(request.literals, request.parameters or NO_PARAMETERS)
    if place is None and plan.any_group:
        place = session.any_place()
    if place is None:
        return await _everywhere(session, request, places, sink)
    text = plan.sql.encode() if plan.sql is not None else request.text
    if shard is not None and plan.sql is None:
        text = render(route, shard, text, list(request.parts or split(text)))
    message = await places.alone(place, request.message(text))
    backend = await places.backend(place)
    if planned.draws is not None:
        await drawing.begin_saving(session, backend, planned.draws)
    if planned.verb == "COPY":
        return await copying.forward(session.environment, backend, text.decode(), sink)
    backend.write_pieces(message)
    try:
        return await pump(backend, sink)
    except PgError as error:
        if error.position is not None and text is not request.text and plan.sql is None and shard is not None:
            parts = list(request.parts or split(request.text))
            error.position = moved_back(error.position, render_parts(route, shard, parts), parts)
        raise


async def _everywhere(session: Session, request: Request, places: Places, sink: Sink) -> bytes:
    """The values do not meet in one group after all: the same statement, planned without that hope."""
    return await _again(session, session.plans.everywhere, request, places, sink)


async def run_unmerged(session: Session, request: Request, places: Places, sink: Sink) -> bytes:
    """For results that the gateway cannot sort as PostgreSQL does."""
    return await _again(session, session.plans.unmerged, request, places, sink)


async def _again(session: Session, context: Context, request: Request, places: Places, sink: Sink) -> bytes:
    planned = session.plans.make(parse_one(request.text), context)
    assert not (isinstance(planned.plan, Forward) and planned.plan.place is None and planned.plan.prunes)
    if request.parameters is not None and not carries_parameters(planned, request.parameters):
        await inlined(session, request)
        planned = session.plans.make(parse_one(request.text), context)
    return await _run_plan(session, planned, request, places, sink)


async def _broadcast(session: Session, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, Broadcast)
    if plan.journalled and session.transaction is None:
        return await maintenance.run(session, planned, request, places, sink)
    if plan.transactional:
        await places.begin()
    elif session.transaction is not None:
        raise PgError("25001", f"{planned.verb} cannot run inside a transaction block")
    common = request.text if plan.sql is None else plan.sql.encode()
    texts = dict(plan.texts)
    tag = b""
    for place in (*plan.groups, *((WORKSPACE_PLACE,) if plan.workspace else ())):
        backend = await places.backend(place)
        own = texts[place].encode() if place in texts else common
        if place in plan.others:
            own = plan.others_sql.encode()
        backend.write_pieces(Request(text=own, snapshot=request.snapshot).message())
        answer = await pump(backend, sink)
        tag = tag or answer
    return tag


async def _insert_rows(session: Session, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    """A key that PostgreSQL evaluates is cast to its column's type, which must not allow what INSERT would refuse."""
    plan = planned.plan
    assert isinstance(plan, InsertRows)
    if request.parameters is None and any(isinstance(each.value, Asked) for each in plan.replaced):
        await session.analyze(session.make_statement(request.text, ()))
    return await inserting.run(session.environment, planned, request, places, sink)


def carries_parameters(planned: Planned, parameters: Parameters) -> bool:
    """Whether the plan's statements can take `$n` as the client sent them."""
    plan = planned.plan
    if isinstance(plan, InsertRows):
        computed = [value for _, value in plan.added] + [each.value for each in plan.replaced]
        return not any(isinstance(value, Asked) and "$" in value.sql for value in computed)
    return not parameters.values or isinstance(plan, Forward | Scatter)


async def inlined(session: Session, request: Request) -> None:
    """Writes the request's parameters into its text, as constants of their types."""
    assert request.bound is not None
    values = await parameter_literals(session, request.parameter_types, request.bound)
    request.text = substitute(request.text, values)
    request.parameters, request.parameter_types, request.bound = None, (), None
    request.literals = parse_one(request.text).parts[1::2]


async def _run_plan(session: Session, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    kind = type(planned.plan)
    own = _OWN.get(kind)
    if own is not None:
        return await own(session, planned, request, places, sink)
    return await _OF_EXECUTOR[kind](session.environment, planned, request, places, sink)


_OWN: dict[type, Callable[[Session, Planned, Request, Places, Sink], Awaitable[bytes]]] = {
    Forward: _forward,
    FillTemporary: temporary.fill,
    Broadcast: _broadcast,
    InsertRows: _insert_rows,
}
_OF_EXECUTOR: dict[type, Callable[[Environment, Planned, Request, Places, Sink], Awaitable[bytes]]] = {
    Scatter: scattering.run,
    Replicate: replicating.run_replicate,
    TwoPhase: gathering.run_two_phase,
    Gather: gathering.run_gather,
    WriteBack: writeback.run,
    WithWrites: withwrites.run,
    CopyIn: copying.run_in,
    CopyOut: copying_out.run_out,
}
