"""`WithWrites`: a WITH clause that writes, over several groups, one statement after another.

    WITH gone AS (DELETE FROM t WHERE … RETURNING id, x) INSERT INTO u SELECT id, x FROM gone
    →  1.  DELETE FROM t WHERE … RETURNING id, x              its rows are kept
       2.  WITH gone (id, x) AS (VALUES ('1'::bigint, 'a'::text), …) INSERT INTO u SELECT id, x FROM gone

All of it is one transaction. The planner has seen to it that no statement reads what one before it has written.
"""

from __future__ import annotations

from ..core.errors import PgError
from ..core.ids import quote_identifier
from ..core.limits import INSERT_ROWS_PER_STATEMENT_MAX, WITH_ROWS_BYTES_MAX
from ..engines.postgres.backend import split_messages
from ..pgwire import backend as server_messages
from ..planner.plan import Planned, WithItem, WithWrites
from .buffer import ResultBuffer
from .constants import constant, row_texts
from .environment import Environment
from .request import Places, Request, Sink


async def run(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, WithWrites)
    await places.begin(request.snapshot.group_names)
    known: list[str] = []  # each item as the statements after it are told of it
    for item in plan.items:
        known.append(await _kept(environment, item, _text(item, known), request) if item.writes else _written(item))
    text = _text(plan.final, known)
    final = Request(
        text=text.encode(),
        snapshot=request.snapshot,
        result_formats=request.result_formats,
        extended=request.extended,
    )
    return await environment.run_once(final, sink)


def _text(item: WithItem, known: list[str]) -> str:
    if not item.needs:
        return item.sql
    return f"WITH {', '.join(known[number] for number in item.needs)} {item.sql}"


def _written(item: WithItem) -> str:
    return f"{item.name}{item.columns} AS {item.option}({item.sql})"


async def _kept(environment: Environment, item: WithItem, text: str, request: Request) -> str:
    """Runs a statement that writes; gives its rows as a WITH query."""
    buffer = ResultBuffer()
    try:
        await environment.run_once(Request(text=text.encode(), snapshot=request.snapshot), buffer)
        if not buffer.description:
            return ""  # without RETURNING nobody can speak of it
        fields = server_messages.parse_row_description(buffer.description)
        types = await environment.field_type_names(fields)  # with lengths: a column of the result may be one of them
        columns = item.columns or f" ({', '.join(quote_identifier(field.name) for field in fields)})"
        return f"{item.name}{columns} AS ({_rows(item, buffer, types)})"
    finally:
        buffer.close()


def _rows(item: WithItem, buffer: ResultBuffer, types: list[str]) -> str:
    if not len(buffer):
        return f"SELECT {', '.join(constant(None, name) for name in types)} WHERE false"
    rows: list[str] = []
    size = 0
    for first in range(0, len(buffer), INSERT_ROWS_PER_STATEMENT_MAX):
        for message in split_messages(buffer.read(first, INSERT_ROWS_PER_STATEMENT_MAX)):
            values = (constant(text, name) for text, name in zip(row_texts(message), types, strict=True))
            rows.append(f"({', '.join(values)})")
            size += len(rows[-1])
            if size > WITH_ROWS_BYTES_MAX:
                raise _too_large(item)
    return f"VALUES {', '.join(rows)}"


def _too_large(item: WithItem) -> PgError:
    return PgError(
        "54000",
        f"WITH query {item.name} returns more than {WITH_ROWS_BYTES_MAX >> 20} MB",
        detail="It writes in several groups, and its rows must be sent along with the statement that reads them.",
        hint="Return fewer columns, or run the statements one after another in a transaction.",
    )
