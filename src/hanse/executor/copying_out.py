"""COPY … TO STDOUT of rows that several groups have.

Where the rows are some of one statement in each group, the groups copy in the client's format and their messages go on as
they are, one group after another (`copy_concatenate`). Any other query's rows are pulled into the workspace, which copies
the query. A statement that writes (COPY (UPDATE … RETURNING …) TO) is run like any other, its rows are loaded into a
table of the workspace, and that is copied out.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..catalog.model import Kind, Snapshot
from ..core.ids import quote_identifier, quote_qualified
from ..engines.postgres.backend import Backend, split_messages
from ..pgwire import backend as server_messages
from ..planner.plan import CopyOut, Forward, Gather, Planned, Scatter
from ..sql.parse import parse_one
from .buffer import ResultBuffer
from .copy_binary import HEADER, TRAILER
from .copy_concatenate import Concatenation
from .copy_formats import CopyOptions
from .copy_stream import copy_out_pieces, start_copy_out
from .environment import Environment
from .gathering import gathered
from .request import Places, Query, Request, Sink
from .scattering import groups_for

ROWS_AT_ONCE = 1_000


async def run_out(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, CopyOut)
    if planned.writes:
        await places.begin()
    if plan.query_sql is None:
        query, groups = _of_relation(plan, request.snapshot)
        return await _of_groups(environment, groups, query, plan, places)
    return await _of_query(environment, plan, plan.query_sql, request, places)


def _of_relation(plan: CopyOut, snapshot: Snapshot) -> tuple[str, tuple[str, ...]]:
    assert plan.relation is not None
    relation = snapshot.relation_by_identity[plan.relation]
    names = plan.columns or tuple(column.name for column in relation.columns if not column.generated)
    query = f"SELECT {', '.join(quote_identifier(n) for n in names)} FROM {quote_qualified(*plan.relation)}"
    groups = relation.groups if relation.kind is Kind.SHARDED else ()
    return query, groups or (relation.group or snapshot.home_group,)


async def _of_query(environment: Environment, plan: CopyOut, query: str, request: Request, places: Places) -> bytes:
    inner = environment.plan_inner(query)
    if isinstance(inner.plan, Forward):
        place = await environment.resolve(inner, query, places)
        if place is not None:
            return await _of_groups(environment, (place,), query, plan, places)
        inner = environment.plan_everywhere(query)
    if isinstance(inner.plan, Scatter) and _concatenates(inner.plan):
        own = Request(text=query.encode(), snapshot=request.snapshot, literals=parse_one(query).parts[1::2])
        groups = groups_for(inner.plan.prunes, inner.plan.groups, own)
        return await _of_groups(environment, groups, inner.plan.sql or query, plan, places)
    if inner.writes:
        return await _of_rows(environment, plan, query, request)
    return await _gathered(environment, plan, query, request, places)


async def _gathered(environment: Environment, plan: CopyOut, query: str, request: Request, places: Places) -> bytes:
    gather = environment.plan_gather(query).plan
    assert isinstance(gather, Gather)
    async with gathered(environment, gather, request, places) as backend:
        return await _copied(environment, [backend], _copy_sql(gather.sql or query, plan), plan)


def _concatenates(plan: Scatter) -> bool:
    merge = plan.merge
    return not (merge.keys or merge.limit is not None or merge.offset or merge.drop_columns or plan.clock)


def _copy_sql(query: str, plan: CopyOut) -> str:
    return f"COPY ({query}) TO STDOUT {plan.options_sql}"


async def _of_rows(environment: Environment, plan: CopyOut, query: str, request: Request) -> bytes:
    """A binary DataRow message carries what a row of binary COPY is: the number of fields, then each with its length."""
    rows = ResultBuffer()
    room = await environment.acquire_room()
    try:
        inner = Request(text=query.encode(), snapshot=request.snapshot, result_formats=(1,), extended=True)
        await environment.run_once(inner, rows)
        fields = server_messages.parse_row_description(rows.description)
        kinds = await environment.field_type_names(fields)
        columns = tuple((f"c{number}", kind) for number, kind in enumerate(kinds))
        filling = await room.create_partial(columns)
        filling.begin_source()
        await filling.write(HEADER)
        for first in range(0, len(rows), ROWS_AT_ONCE):
            messages = split_messages(rows.read(first, ROWS_AT_ONCE))
            await filling.write(b"".join(message[5:] for message in messages))
        await filling.write(TRAILER)
        filling.end_source()
        await filling.finish()
        await room.ready()
        shown = ", ".join(
            f"{name} AS {quote_identifier(field.name)}" for (name, _), field in zip(columns, fields, strict=True)
        )
        sql = _copy_sql(f"SELECT {shown} FROM {filling.name}", plan)
        return await _copied(environment, [await environment.room_backend(room)], sql, plan)
    finally:
        rows.close()
        await environment.release_room(room)


async def _of_groups(environment: Environment, groups: Sequence[str], sql: str, plan: CopyOut, places: Places) -> bytes:
    """`sql` gives each group's part of the rows."""
    copy = _copy_sql(sql, plan)
    if places.binds(groups):
        started = await places.start_copies([Query(place=group, sql=sql.encode()) for group in groups], copy)
        return await _relay(environment, started, CopyOptions.of(plan.options))
    await places.snapshot(groups)
    backends = [await places.backend(group) for group in groups]
    return await _copied(environment, backends, copy, plan)


async def _copied(environment: Environment, backends: Sequence[Backend], sql: str, plan: CopyOut) -> bytes:
    started = [(backend, await start_copy_out(backend, sql)) for backend in backends]
    return await _relay(environment, started, CopyOptions.of(plan.options))


async def _relay(environment: Environment, started: Sequence[tuple[Backend, bytes]], options: CopyOptions) -> bytes:
    """All groups have begun; their messages go out one group after another."""
    environment.write_to_client(started[0][1])
    joined = Concatenation(options, len(started))
    counts: list[int] = []
    for backend, _ in started:
        joined.next_stream()
        async for messages in copy_out_pieces(backend, counts):
            environment.write_to_client(joined.feed(messages))
            await environment.drain_client()
    environment.write_to_client(joined.finish() + server_messages.copy_done())
    return b"COPY %d" % sum(counts)
