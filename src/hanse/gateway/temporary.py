"""Temporary tables made or filled from rows of other groups.

A temporary table lives in the session's backend in the home group. A query over several groups cannot run there; so it is
run like any other, its rows wait (memory, then disk), and then go by binary COPY into the table: the one that CREATE TABLE …
AS makes, empty, with the query's columns, or one beside it from which INSERT takes them. All of it is one transaction.

What it does not do: a column's collation other than its type's own is lost, and a literal of the query that has no type is
text before INSERT sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import not_supported
from ..core.ids import quote_identifier
from ..engines.postgres.backend import Backend, split_messages
from ..executor.buffer import ResultBuffer
from ..executor.copy_binary import HEADER, TRAILER
from ..executor.copy_stream import finish_copy_in, send_copy_data, start_copy_in
from ..executor.request import Places, Request, Sink, pump, run
from ..pgwire import frontend
from ..planner.plan import FillTemporary, Planned
from .analysis import describe

if TYPE_CHECKING:
    from .session import Session

ROWS_AT_ONCE = 1_000
_STAGE = "hanse_rows"


async def fill(session: Session, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    """Runs a FillTemporary; gives the command tag."""
    plan = planned.plan
    assert isinstance(plan, FillTemporary)
    await places.begin()
    backend = await places.backend(request.snapshot.home_group)
    if plan.if_not_exists and plan.name in session.temporary:
        return await _say(backend, f"{plan.create_head} SELECT 1", sink)
    shape = await _shape(session, plan)
    if plan.insert_sql:
        return await _insert(session, plan, shape, backend, request, sink)
    tag = await _say(backend, f"{plan.create_head} SELECT {shape} WITH NO DATA", sink)
    if not plan.with_data:
        return tag
    return await _copy(session, plan, plan.name, backend, request)


async def columns_of(session: Session, name: str) -> tuple[tuple[str, str], ...]:
    """See `Environment.temporary_columns`."""
    if session.transaction is not None and session.transaction.change is not None:
        raise not_supported(
            f"temporary table {name} cannot be joined with tables of several groups after a schema change in the same"
            " transaction",
            hint="Commit the schema change first.",
        )
    backend = await session.environment.home_backend()
    try:
        found = await describe(backend, f"SELECT * FROM pg_temp.{quote_identifier(name)}".encode(), ())
    finally:
        session.end_statement_backend(backend)
    fields = found.fields or ()
    kinds = await session.environment.field_type_names(fields)
    return tuple((field.name, kind) for field, kind in zip(fields, kinds, strict=True))


async def _say(backend: Backend, sql: str, sink: Sink) -> bytes:
    backend.write(frontend.query(sql.encode()))
    return await pump(backend, sink)


async def _shape(session: Session, plan: FillTemporary) -> str:
    """A select list with the names and types of the query's columns; INSERT does not look at the names."""
    found = await session.analyze(session.make_statement(plan.query_sql.encode(), ()))
    fields = found.fields or ()
    kinds = await session.environment.field_type_names(fields)
    names = [f"c{number}" if plan.insert_sql else quote_identifier(field.name) for number, field in enumerate(fields)]
    return ", ".join(f"NULL::{kind} AS {name}" for name, kind in zip(names, kinds, strict=True))


async def _insert(
    session: Session, plan: FillTemporary, shape: str, backend: Backend, request: Request, sink: Sink
) -> bytes:
    await run(backend, f"CREATE TEMPORARY TABLE {_STAGE} AS SELECT {shape} WITH NO DATA")
    await _copy(session, plan, _STAGE, backend, request)
    insert = Request(
        text=plan.insert_sql.encode(),
        snapshot=request.snapshot,
        result_formats=request.result_formats,
        extended=request.extended,
    )
    backend.write_pieces(insert.message())
    tag = await pump(backend, sink)
    await run(backend, f"DROP TABLE pg_temp.{_STAGE}")
    return tag


async def _copy(session: Session, plan: FillTemporary, table: str, backend: Backend, request: Request) -> bytes:
    """The query's rows into the table; gives the query's tag. A binary DataRow is a row of binary COPY, with its header."""
    rows = ResultBuffer()
    try:
        query = Request(text=plan.query_sql.encode(), snapshot=request.snapshot, result_formats=(1,), extended=True)
        tag = await session.environment.run_once(query, rows)
        await start_copy_in(backend, f"COPY pg_temp.{quote_identifier(table)} FROM STDIN (FORMAT binary)")
        await send_copy_data(backend, HEADER)
        for first in range(0, len(rows), ROWS_AT_ONCE):
            messages = split_messages(rows.read(first, ROWS_AT_ONCE))
            await send_copy_data(backend, b"".join(message[5:] for message in messages))
        await send_copy_data(backend, TRAILER)
        await finish_copy_in(backend)
        return tag
    finally:
        rows.close()
