"""EXPLAIN: our lines (route, groups, statements sent) above PostgreSQL's own plans of what is sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..engines.postgres.backend import Backend, split_messages
from ..executor.gathering import gathered
from ..executor.request import Discard, Places, Request, Rows, Sink, pump
from ..executor.scattering import groups_for, scattered_sql
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.backend import Field
from ..planner.explain import describe
from ..planner.leaving import of_text
from ..planner.plan import Ddl, Explain, Forward, Gather, Planned, Scatter, TwoPhase
from ..planner.plan import Session as SessionPlan
from ..sql.parse import parse_one
from . import error_places, leaving
from .places import StatementPlaces

if TYPE_CHECKING:
    from .session import Session

_TEXT = Field("QUERY PLAN", 0, 0, 25, -1, -1, 0)
_JSON = Field("QUERY PLAN", 0, 0, 114, -1, -1, 0)


async def run(session: Session, plan: Explain, request: Request, sink: Sink) -> bytes:
    with error_places.counted_in(request.text.decode(), plan.inner_sql):
        details = await _asked(session, plan)
    lines = describe(plan.inner, session.plans.snapshot)
    if plan.format == "text":
        await _as_text(sink, lines, details)
    else:
        await _as_document(sink, plan.format, lines, details)
    return b"EXPLAIN"


async def _asked(session: Session, plan: Explain) -> list[tuple[str, list[str]]]:
    inner = plan.inner
    async with StatementPlaces(session, inner) as places:
        try:
            details = await _details(session, plan, inner, places)
        except PgError as error:
            if error.position is not None:
                error.position = await error_places.asked(session, plan.inner_sql.encode(), error)
            raise
        if plan.analyze and not inner.neutral and places.used:
            await leaving.note(session, inner.leaves | of_text(plan.inner_sql), places.used, plan.inner_sql.encode())
    return details


async def _as_text(sink: Sink, lines: Sequence[str], details: Sequence[tuple[str, list[str]]]) -> None:
    sink.describe(server_messages.row_description([_TEXT]))
    shown = list(lines)
    for place, plan in details:
        shown += [f"  At {place}:", *(f"    {line}" for line in plan)]
    for line in shown:
        await sink.rows(server_messages.data_row([line.encode()]))


async def _as_document(sink: Sink, form: str, lines: Sequence[str], details: Sequence[tuple[str, list[str]]]) -> None:
    """JSON is one document; other formats are given as the places give them, one after another."""
    if form != "json":
        sink.describe(server_messages.row_description([_TEXT]))
        for _, plan in details:
            await sink.rows(server_messages.data_row(["\n".join(plan).encode()]))
        return
    sink.describe(server_messages.row_description([_JSON]))
    plans = [(place, json.loads("\n".join(plan) or "[]")) for place, plan in details]
    first = plans[0][1] if len(plans) == 1 and plans[0][1] else [{}]
    document = [{**first[0], "Hanse": list(lines), "Places": [{"Place": p, "Plan": d} for p, d in plans]}]
    await sink.rows(server_messages.data_row([json.dumps(document, indent=2).encode()]))


async def _details(session: Session, plan: Explain, inner: Planned, places: Places) -> list[tuple[str, list[str]]]:
    """PostgreSQL's own plan in each place that is asked."""
    text = parse_one(plan.inner_sql)
    request = Request(text=text.text, snapshot=session.plans.snapshot, literals=text.parts[1::2])
    prefix = f"EXPLAIN {plan.options_sql} ".encode()
    kind = inner.plan
    if isinstance(kind, Forward):
        place = await session.environment.resolve(inner, plan.inner_sql, places) or session.gateway.snapshot.home_group
        return [(place, await _lines(await places.backend(place), prefix + request.text))]
    if isinstance(kind, Scatter | TwoPhase):
        sql = kind.sql if isinstance(kind, Scatter) else kind.partial_sql
        groups = groups_for(kind.prunes, kind.groups, request)
        if inner.writes and len(groups) > 1:
            await places.begin()
        body = await scattered_sql(session.environment, sql, kind.clock) or request.text
        return [(group, await _lines(await places.backend(group), prefix + body)) for group in groups]
    if isinstance(kind, Gather) and plan.analyze:
        async with gathered(session.environment, kind, request, places) as backend:
            body = kind.sql.encode() if kind.sql is not None else request.text
            return [("workspace", await _lines(backend, prefix + body))]
    if plan.analyze and not isinstance(kind, Ddl):
        from .statements import execute

        tag = await execute(session, inner, request, Discard())
        return [("all places", [tag.decode()])]
    if not isinstance(kind, Ddl | SessionPlan):  # no server has seen the text, which may be wrong
        await session.analyze(session.make_statement(text.text, ()))
    return []


async def _lines(backend: Backend, sql: bytes) -> list[str]:
    rows = Rows()
    backend.write(frontend.query(sql))
    await pump(backend, rows)
    found = [server_messages.parse_data_row(m)[0] for chunk in rows.chunks for m in split_messages(chunk)]
    return [line for value in found if value is not None for line in value.decode().splitlines()]
