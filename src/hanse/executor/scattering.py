"""`Scatter`: the groups that can have rows get the statement; their answers are concatenated or merged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from ..catalog.model import Snapshot
from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from ..pgwire import backend as server_messages
from ..pgwire.diagnostics import parse_error
from ..planner.clock import with_time
from ..planner.plan import Merge, Planned, Prune, Scatter
from ..planner.values import NO_PARAMETERS, shards_for
from .environment import Environment
from .merge import Merger, Unsortable, bounds, key_function, merged
from .request import DESCRIPTION, ERROR, ROWS, Places, Request, Sink
from .scatter import answered, concatenate, open_all


async def run(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, Scatter)
    groups = groups_for(plan.prunes, plan.groups, request)
    sql = await scattered_sql(environment, plan.sql, plan.clock)
    message = request.message(sql)
    if places.binds(groups):
        queries = [request.query(group, sql) for group in groups]
        if planned.writes and planned.verb != "SELECT":
            return await answered(await places.start(queries), sink)
        await places.begin()
        await places.bind([(await places.backend(query.place), query) for query in queries])
        message = [queries[0].rows()]
    elif planned.writes and len(groups) > 1:
        await places.begin(groups)
    elif planned.writes:
        message = await places.alone(groups[0], message)
    else:
        await places.snapshot(groups)
    merge = plan.merge
    if not merge.keys and merge.limit is None and not merge.offset:
        return await concatenate(groups, message, places, sink)
    backends = await open_all(places, groups)
    for backend in backends:
        backend.write_pieces(message)
    sources = [_Source(backend) for backend in backends]
    try:
        count = await _merge(merge, request, sources, sink)
    except Unsortable:  # nothing has left for the client yet: only PostgreSQL can compare such values
        for source in sources:
            await source.finish()
        return await environment.run_unmerged(request, places, sink)
    return b"SELECT %d" % count


async def _merge(merge: Merge, request: Request, sources: Sequence[_Source], sink: Sink) -> int:
    for source in sources:
        await source.start()
    fields = server_messages.parse_row_description(sources[0].description)
    shown = fields[: len(fields) - merge.drop_columns]
    key = key_function(merge.keys, fields, sources[0].iso_dates) if merge.keys else None
    sink.describe(server_messages.row_description(shown) if merge.drop_columns else sources[0].description)
    values = request.parameters or NO_PARAMETERS
    limit, offset = bounds(merge, values.values, values.formats)
    merger = Merger(
        sources=len(sources),
        key=key,
        limit=limit,
        offset=offset,
        keep=len(shown) if merge.drop_columns else None,
    )
    async for rows in merged(merger, [source.rows() for source in sources]):
        await sink.rows(rows)
    for source in sources:
        await source.finish()
    return merger.rows_given


class _Source:
    """One group's answer, row by row; errors are raised when its ReadyForQuery has come."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.description = b""
        self.iso_dates = backend.parameters.get("DateStyle", "").startswith("ISO")
        self._first: bytes | None = None
        self._failure: PgError | None = None

    async def start(self) -> None:
        """To the first rows or the end: the description is known then. Raises the error that stands in its place."""
        self._first = await anext(self.rows(), None)

    async def rows(self) -> AsyncIterator[bytes]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        while self.backend.answering:
            kind, raw = await self.backend.next()
            if kind == ROWS:
                yield raw
            elif kind == DESCRIPTION:
                self.description = raw
            elif kind == ERROR:
                self._failure = self._failure or parse_error(raw)
        if self._failure is not None:
            raise self._failure

    async def finish(self) -> None:
        """Reads what nobody needed any more."""
        async for _ in self.rows():
            continue


def groups_for(prunes: Sequence[Prune], groups: tuple[str, ...], request: Request) -> tuple[str, ...]:
    """The groups that can have rows; where none can, one that answers with no rows (and the right columns)."""
    if not prunes:
        return groups
    possible = set(groups)
    for prune in prunes:
        found = shards_groups(prune, request.snapshot, request)
        if found is not None:
            possible &= found
    chosen = tuple(group for group in groups if group in possible)
    return chosen or groups[:1]


def shards_groups(prune: Prune, snapshot: Snapshot, request: Request) -> set[str] | None:
    """The groups of the shards that a condition leaves; None: not known here, so all."""
    relation = snapshot.relation_by_identity[prune.relation]
    shards = shards_for(prune, relation, request.literals, request.parameters or NO_PARAMETERS)
    return None if shards is None else {relation.shards[shard].group for shard in shards}


async def scattered_sql(environment: Environment, sql: str | None, clock: bool) -> bytes | None:
    """The text for the groups. now() is asked once: every group must see the same transaction time."""
    if sql is None:
        return None
    if clock:
        moments = ("pg_catalog.now()", "pg_catalog.statement_timestamp()")
        texts = ", ".join(f"pg_catalog.to_char({m} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')" for m in moments)
        transaction, statement = (
            datetime.fromisoformat(f"{text}+00:00") for text in (await environment.evaluate(f"SELECT {texts}"))[0]
        )
        sql = with_time(sql, transaction, statement)
    return sql.encode()
