"""`Replicate`: a write to a reference table, in every group, first in one, then in the others.

The first group in canonical order is the same for all gateways: two writers of one row meet there, and the second waits,
instead of each holding half. A statement whose rows would differ from group to group (volatile functions, sequences) runs
in the first group only; the rows it made are written to the other groups by primary key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pglast import ast
from pglast.parser import parse_sql
from pglast.stream import RawStream

from ..catalog.model import Relation
from ..core.errors import not_supported
from ..core.ids import quote_identifier, quote_literal, quote_qualified
from ..engines.postgres.backend import Backend, split_messages
from ..pgwire import backend as server_messages
from ..planner.plan import Planned, Replicate
from .environment import Environment
from .request import Discard, Places, Request, Rows, Sink, pump, run

ROWS_PER_STATEMENT = 500


async def run_replicate(
    environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink
) -> bytes:
    plan = planned.plan
    assert isinstance(plan, Replicate)
    await places.begin()
    groups = request.snapshot.group_names
    first = await places.backend(groups[0])
    others = [await places.backend(group) for group in groups[1:]]
    if plan.volatile:
        return await _ship(request, request.snapshot.relation_by_identity[plan.relation], first, others, sink)
    message = request.message()
    first.write_pieces(message)
    tag = await pump(first, sink)
    for backend in others:
        backend.write_pieces(message)
    for backend in others:
        await pump(backend, Discard())
    return tag


async def _ship(request: Request, relation: Relation, first: Backend, others: Sequence[Backend], sink: Sink) -> bytes:
    """Runs the statement once, then makes the other copies equal to what it left behind."""
    key = next((unique.columns for unique in relation.unique_keys if unique.primary), None)
    if key is None:
        raise not_supported(
            f'a write with volatile expressions to reference table "{relation.name}" needs a primary key',
            hint="Add a primary key, or compute the values first.",
        )
    node = parse_sql(request.text.decode())[0].stmt
    statement, extra = _returning(node, relation, key)
    rows = Rows()
    first.write_pieces(request.message(statement.encode()))
    tag = await pump(first, rows)
    await _answer(node, rows, extra, sink)
    changed = [_values(m, extra) for chunk in rows.chunks for m in split_messages(chunk)]
    for backend in others:
        for start in range(0, len(changed), ROWS_PER_STATEMENT):
            batch = changed[start : start + ROWS_PER_STATEMENT]
            await _replace(backend, relation, key, batch, gone=isinstance(node, ast.DeleteStmt))
    return tag


def _returning(node: Any, relation: Relation, key: Sequence[str]) -> tuple[str, int]:
    """The statement with every column of the table appended to its RETURNING list; how many were appended."""
    names = [column.name for column in relation.columns]
    table = node.relation.alias.aliasname if node.relation.alias else relation.name
    columns = ", ".join(f"{quote_identifier(table)}.{quote_identifier(name)}::text" for name in names)
    select: Any = parse_sql(f"SELECT {columns}")[0].stmt
    targets: tuple[Any, ...] = select.targetList or ()
    if isinstance(node, ast.UpdateStmt) and any(target.name in key for target in node.targetList or ()):
        raise not_supported("a volatile UPDATE of a reference table cannot change its primary key")
    node.returningClause = ast.ReturningClause(
        options=None, exprs=(*(node.returningClause.exprs if node.returningClause else ()), *targets)
    )
    return RawStream()(node), len(names)


async def _answer(node: Any, rows: Rows, extra: int, sink: Sink) -> None:
    """The client's own RETURNING columns, if there were any."""
    fields = server_messages.parse_row_description(rows.description)
    if len(fields) == extra:
        return
    sink.describe(server_messages.row_description(fields[:-extra]))
    for chunk in rows.chunks:
        for message in split_messages(chunk):
            await sink.rows(server_messages.data_row(server_messages.parse_data_row(message)[:-extra]))


def _values(message: bytes, extra: int) -> list[str | None]:
    values = server_messages.parse_data_row(message)[-extra:]
    return [None if value is None else value.decode() for value in values]


async def _replace(
    backend: Backend, relation: Relation, key: Sequence[str], rows: Sequence[Sequence[str | None]], *, gone: bool
) -> None:
    target = quote_qualified(*relation.identity)
    kept = [column for column in relation.columns if not column.generated]
    places = [index for index, column in enumerate(relation.columns) if not column.generated]
    names = [column.name for column in relation.columns]
    keys = ", ".join(quote_identifier(name) for name in key)
    wanted = ", ".join(
        "(" + ", ".join(_literal(row[names.index(name)], relation.column_by_name[name].type_name) for name in key) + ")"
        for row in rows
    )
    if gone:
        await run(backend, f"DELETE FROM {target} WHERE ({keys}) IN ({wanted})")
        return
    listed = ", ".join(quote_identifier(column.name) for column in kept)
    values = ", ".join(
        "(" + ", ".join(_literal(row[i], column.type_name) for i, column in zip(places, kept, strict=True)) + ")"
        for row in rows
    )
    updates = ", ".join(
        f"{quote_identifier(column.name)} = EXCLUDED.{quote_identifier(column.name)}"
        for column in kept
        if column.name not in key
    )
    action = f"DO UPDATE SET {updates}" if updates else "DO NOTHING"
    await run(
        backend,
        f"INSERT INTO {target} ({listed}) OVERRIDING SYSTEM VALUE VALUES {values} ON CONFLICT ({keys}) {action}",
    )


def _literal(text: str | None, type_name: str) -> str:
    return f"NULL::{type_name}" if text is None else f"{quote_literal(text).strip()}::{type_name}"
