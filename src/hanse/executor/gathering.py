"""`Gather` and `TwoPhase`: rows come to a private database of the workspace, where PostgreSQL itself finishes.

Rows travel as binary COPY, undecoded. Tables are read one after another, their groups likewise, each on the branch that the
session's transaction has in that group, so that a transaction sees its own writes; reading runs as the user, and row-level
security has spoken before a row leaves its group.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from ..catalog.model import Kind, Relation
from ..core.ids import quote_identifier, quote_qualified
from ..engines.postgres.backend import Backend
from ..pgwire import frontend
from ..planner.plan import Gather, Planned, Pull, TwoPhase
from .copy_stream import copy_out_pieces, finish_copy_in, payload, send_copy_data, start_copy_in, start_copy_out
from .environment import Environment, Reading
from .request import Places, Request, Sink, pump
from .room import Filling, Room
from .scattering import groups_for, scattered_sql, shards_groups


async def run_gather(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, Gather)
    async with gathered(environment, plan, request, places) as backend:
        backend.write(_final(request, None if plan.sql is None else plan.sql.encode()))
        return await pump(backend, sink)


def _final(request: Request, sql: bytes | None) -> bytes:
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
        await places.snapshot(_all_groups(plan, request))
        for pull in plan.pulls:
            await _pull(environment, room, pull, request, places)
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
    async for piece in copy_out_pieces(source):
        await send_copy_data(backend, payload(piece))
    await finish_copy_in(backend)


async def _pull(environment: Environment, room: Room, pull: Pull, request: Request, places: Places) -> None:
    relation = request.snapshot.relation_by_identity[pull.relation]
    select = _select(pull)
    filling = await room.load(relation, pull.columns)
    for group in _groups(pull, relation, request):
        async with _source(environment, pull, group, select, places) as (backend, sql):
            await _copy(backend, sql, filling)
    await filling.finish()


def _source(environment: Environment, pull: Pull, group: str, select: str, places: Places) -> Reading:
    if pull.as_owner is not None:
        return environment.owners_rows(places, group, pull.as_owner, select)
    return _own(places, group, select)


@contextlib.asynccontextmanager
async def _own(places: Places, group: str, select: str) -> AsyncIterator[tuple[Backend, str]]:
    yield await places.backend(group), select


async def _copy(backend: Backend, select: str, filling: Filling) -> None:
    await start_copy_out(backend, f"COPY ({select}) TO STDOUT (FORMAT binary)")
    filling.begin_source()
    async for piece in copy_out_pieces(backend):
        await filling.write(payload(piece))
    filling.end_source()


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
        await places.snapshot(groups)
        name = await _load_partial(room, columns, groups, partial, places)
        backend = await environment.room_backend(room)
        text = final.replace(b"hanse_partial", name.encode(), 1)
        backend.write(_final(request, text))
        return await pump(backend, sink)
    finally:
        await environment.release_room(room)


async def _load_partial(
    room: Room, columns: tuple[tuple[str, str], ...], groups: tuple[str, ...], sql: bytes, places: Places
) -> str:
    """All groups work at the same time; their rows come one group after another."""
    filling = await room.create_partial(columns)
    backends = [await places.backend(group) for group in groups]
    message = frontend.query(b"COPY (" + sql + b") TO STDOUT (FORMAT binary)")
    for backend in backends:
        backend.write(message)
    for backend in backends:
        filling.begin_source()
        async for piece in copy_out_pieces(backend):
            await filling.write(payload(piece))
        filling.end_source()
    await filling.finish()
    await room.ready()
    return filling.name
