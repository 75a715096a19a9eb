"""`Gather` and `TwoPhase`: rows come to a private database of the workspace, where PostgreSQL itself finishes.

Rows travel as binary COPY, undecoded. Tables are read one after another, their groups likewise, each on the branch that the
session's transaction has in that group, so that a transaction sees its own writes; reading runs as the user, and row-level
security has spoken before a row leaves its group.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from ..catalog.model import Kind, Relation
from ..core.ids import quote_identifier, quote_qualified
from ..engines.postgres.backend import Backend
from ..pgwire import frontend
from ..planner.plan import Gather, Planned, Pull, TwoPhase
from .copy_stream import binary_copy, binary_rows, finish_copy_in, send_copy_data, start_copy_in, start_copy_out
from .environment import Environment, Reading
from .request import Places, Query, Request, Sink, Source, pump
from .room import Filling, Room
from .scattering import groups_for, scattered_sql, shards_groups


async def run_gather(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, Gather)
    async with gathered(environment, plan, request, places) as backend:
        backend.write_pieces(_final(request, None if plan.sql is None else plan.sql.encode()))
        return await pump(backend, sink)


def _final(request: Request, sql: bytes | None) -> list[bytes]:
    """The statement for the workspace: parameters are already part of its text."""
    inlined = Request(
        text=request.text,
        snapshot=request.snapshot,
        result_formats=request.result_formats,
        extended=request.extended,
    )
    return inlined.message(sql)


@contextlib.asynccontextmanager
async def gathered(environment: Environment, plan: Gather, request: Request, places: Places) -> AsyncIterator[Backend]:
    """The user's connection to a database that holds everything the plan pulls."""
    room = await environment.acquire_room()
    try:
        async with contextlib.AsyncExitStack() as sources:
            bound = await _at_one_moment(environment, plan, request, places, sources)
            for number, pull in enumerate(plan.pulls):
                await _pull(environment, room, pull, request, places, bound.get(number, {}))
        await room.ready()
        backend = await environment.room_backend(room)
        for name in plan.temporary:
            await _copy_temporary(environment, name, await places.backend(request.snapshot.home_group), backend)
        yield backend
    finally:
        await environment.release_room(room)


async def _copy_temporary(environment: Environment, name: str, source: Backend, backend: Backend) -> None:
    """A temporary table of the session's becomes one of the user's connection to the room, with the same rows."""
    columns = ", ".join(f"{quote_identifier(n)} {kind}" for n, kind in await environment.temporary_columns(name))
    table = quote_identifier(name)
    await backend.query(f"BEGIN READ WRITE; CREATE TEMPORARY TABLE {table} ({columns}) ON COMMIT PRESERVE ROWS; COMMIT")
    await start_copy_out(source, f"COPY (SELECT * FROM pg_temp.{table}) TO STDOUT (FORMAT binary)")
    await start_copy_in(backend, f"COPY pg_temp.{table} FROM STDIN (FORMAT binary)")
    async for chunk in binary_copy(source):
        await send_copy_data(backend, chunk)
    await finish_copy_in(backend)


async def _at_one_moment(
    environment: Environment,
    plan: Gather,
    request: Request,
    places: Places,
    sources: contextlib.AsyncExitStack,
) -> dict[int, dict[str, Source]]:
    """Queries that have their snapshots already, by the number of the pull and the group."""
    if not places.binds(_all_groups(plan, request)):
        await places.snapshot(_all_groups(plan, request))
        return {}
    await places.begin()
    bound: dict[int, dict[str, Source]] = {}
    for number, pull in enumerate(plan.pulls):
        relation = request.snapshot.relation_by_identity[pull.relation]
        for group in _groups(pull, relation, request):
            source = _source(environment, pull, group, _select(pull), places)
            backend, sql = await sources.enter_async_context(source)
            query = Query(place=group, sql=sql.encode(), name=b"hanse_pull_%d" % number, result_formats=(1,))
            bound.setdefault(number, {})[group] = (backend, query)
    await places.bind([each for found in bound.values() for each in found.values()])
    return bound


async def _pull(
    environment: Environment, room: Room, pull: Pull, request: Request, places: Places, bound: Mapping[str, Source]
) -> None:
    relation = request.snapshot.relation_by_identity[pull.relation]
    filling = await room.load(relation, pull.columns)
    for group in _groups(pull, relation, request):
        if group in bound:
            backend, query = bound[group]
            backend.write(query.rows())
            await _fill(filling, binary_rows(backend))
        else:
            async with _source(environment, pull, group, _select(pull), places) as (backend, sql):
                await start_copy_out(backend, f"COPY ({sql}) TO STDOUT (FORMAT binary)")
                await _fill(filling, binary_copy(backend))
    await filling.finish()


async def _fill(filling: Filling, chunks: AsyncIterator[bytes]) -> None:
    filling.begin_source()
    async for chunk in chunks:
        await filling.write(chunk)
    filling.end_source()


def _source(environment: Environment, pull: Pull, group: str, select: str, places: Places) -> Reading:
    if pull.as_owner is not None:
        return environment.owners_rows(places, group, pull.as_owner, select)
    return _own(places, group, select)


@contextlib.asynccontextmanager
async def _own(places: Places, group: str, select: str) -> AsyncIterator[tuple[Backend, str]]:
    yield await places.backend(group), select


def _select(pull: Pull) -> str:
    columns = ", ".join(quote_identifier(name) for name in pull.columns)
    where = f" WHERE {pull.where}" if pull.where else ""
    lock = f" {pull.lock}" if pull.lock else ""
    return f"SELECT {columns} FROM {quote_qualified(*pull.relation)}{where}{lock}"


def _all_groups(plan: Gather, request: Request) -> tuple[str, ...]:
    relations = request.snapshot.relation_by_identity
    found = {group for pull in plan.pulls for group in _groups(pull, relations[pull.relation], request)}
    return tuple(group for group in request.snapshot.group_names if group in found)


def _groups(pull: Pull, relation: Relation, request: Request) -> tuple[str, ...]:
    if relation.kind is Kind.SHARDED:
        chosen = set(relation.groups)
        if pull.prune is not None:
            found = shards_groups(pull.prune, request.snapshot, request)
            if found is not None:
                chosen &= found
        return tuple(group for group in request.snapshot.group_names if group in chosen)
    return (relation.group or request.snapshot.home_group,)


# --- partial rows ------------------------------------------------------------------------------------------------


async def run_two_phase(
    environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink
) -> bytes:
    plan = planned.plan
    assert isinstance(plan, TwoPhase)
    groups = groups_for(plan.prunes, plan.groups, request)
    partial = await scattered_sql(environment, plan.partial_sql, plan.clock)
    final = await scattered_sql(environment, plan.final_sql, plan.clock)
    assert partial is not None and final is not None
    columns = await environment.partial_columns(plan, partial)
    room = await environment.acquire_room()
    try:
        name = await _load_partial(room, columns, groups, partial, places)
        backend = await environment.room_backend(room)
        text = final.replace(b"hanse_partial", name.encode(), 1)
        backend.write_pieces(_final(request, text))
        return await pump(backend, sink)
    finally:
        await environment.release_room(room)


async def _load_partial(
    room: Room, columns: tuple[tuple[str, str], ...], groups: tuple[str, ...], sql: bytes, places: Places
) -> str:
    """All groups work at the same time; their rows come one group after another."""
    message, chunks = frontend.query(b"COPY (" + sql + b") TO STDOUT (FORMAT binary)"), binary_copy
    if places.binds(groups):
        await places.begin()
        queries = [Query(place=group, sql=sql, result_formats=(1,)) for group in groups]
        await places.bind([(await places.backend(query.place), query) for query in queries])
        message, chunks = queries[0].rows(), binary_rows
    else:
        await places.snapshot(groups)
    filling = await room.create_partial(columns)
    backends = [await places.backend(group) for group in groups]
    for backend in backends:
        backend.write(message)
    for backend in backends:
        await _fill(filling, chunks(backend))
    await filling.finish()
    await room.ready()
    return filling.name
