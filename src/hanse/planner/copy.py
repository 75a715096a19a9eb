"""COPY.

In and out of a single (or temporary) table it is forwarded to the table's group. Into a sharded or reference table:
`CopyIn`. Out of a sharded table, or of a query: `CopyOut`; that PostgreSQL would refuse COPY of a partitioned table
is no reason for a client to mind. System catalogs: the schema-complete database. Files and programs are the servers',
of which there are many: PostgreSQL's privileges answer for a single table, else it is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pglast import ast

from ..catalog.model import Kind, Relation
from ..config import WORKSPACE_PLACE
from ..core.errors import PgError, not_supported
from ..core.ids import quote_identifier, quote_literal
from ..sql.parse import parse_one
from ..sql.scope import TableRef, table_refs
from ..sql.walk import names, walk
from .attached import default_sequences, draws_beside, refuse_at_use
from .inner import inner_start, parenthesised_query
from .plan import CopyIn, CopyOut, Forward, Planned
from .utility import Utility

_PLACED = (Kind.SINGLE, Kind.PARTITION)


def plan_copy(utility: Utility) -> Planned:
    """The plan of a COPY. Raises PgError 0A000 for files of servers that have not all rows."""
    node = utility.node
    if node.relation is None:
        return _query_out(utility)
    ref = next(ref for ref in table_refs(node, utility.snapshot, utility.context) if ref.node is node.relation)
    place = _place(utility, ref)
    relation = ref.relation
    if relation is not None:
        refuse_at_use(relation, utility.snapshot, utility.context.search_path, writes=bool(node.is_from))
    if place is not None:
        planned = utility.planned(Forward(place=place), writes=bool(node.is_from))
        return replace(planned, draws=_drawn(utility, relation)) if node.is_from else planned
    assert relation is not None
    if node.filename is not None or node.is_program:
        raise not_supported(
            f'COPY of table "{relation.name}" cannot use a file or program of one server',
            hint="Use COPY … STDIN or STDOUT; psql's \\copy reads and writes the client's files.",
        )
    return _in(utility, relation) if node.is_from else _out(utility, relation)


def _drawn(utility: Utility, relation: Relation | None) -> tuple[tuple[str, str], ...] | None:
    if relation is None:
        return None
    beside = draws_beside(relation, utility.snapshot, utility.context.search_path)
    found = [*default_sequences(relation, utility.snapshot), *(beside or ())]
    return tuple(each.identity for each in found) if found or beside is not None else None


def _place(utility: Utility, ref: TableRef[Relation]) -> str | None:
    if ref.is_catalog:
        return WORKSPACE_PLACE
    if ref.relation is None or ref.relation.kind in (Kind.VIEW, Kind.SEQUENCE):
        return utility.snapshot.home_group  # temporary, or PostgreSQL says what is wrong
    if ref.relation.kind in _PLACED:
        return ref.relation.group or utility.snapshot.home_group
    if ref.relation.kind is Kind.MATERIALIZED_VIEW:
        return utility.snapshot.home_group
    return None


def _in(utility: Utility, relation: Relation) -> Planned:
    node = utility.node
    columns, options = _columns(node, relation), _options(node)
    if relation.kind is Kind.REFERENCE:
        columns = columns or tuple(column.name for column in relation.columns if not column.generated)
    # FREEZE only spares later work, and PostgreSQL refuses it for a partitioned table: pgbench -i asks for it.
    sql = options_sql(node, without=("header", "freeze") if relation.kind is Kind.SHARDED else ("header",))
    if node.whereClause is not None:
        sql = f"{sql} WHERE {_condition(utility, relation)}".lstrip()
    plan = CopyIn(relation=relation.identity, columns=columns, options=options, options_sql=sql)
    return utility.planned(plan, writes=True)


def _condition(utility: Utility, relation: Relation) -> str:
    """The text of COPY … WHERE: each group asks it of the rows that it gets. Copies must not differ in their answers."""
    node, parsed = utility.node, utility.parsed
    if relation.kind is Kind.REFERENCE and any(
        isinstance(found, ast.FuncCall | ast.SQLValueFunction) for found in walk(node.whereClause)
    ):
        raise not_supported(
            f'COPY … WHERE with function calls into reference table "{relation.name}" is not supported',
            hint="Copy into a temporary table, then INSERT … SELECT.",
        )
    return parsed.sql[inner_start(parsed, "WHERE") :]


def _out(utility: Utility, relation: Relation) -> Planned:
    node = utility.node
    if relation.kind is Kind.REFERENCE:
        return utility.planned(Forward(place=utility.snapshot.home_group))
    plan = CopyOut(
        relation=relation.identity,
        columns=_columns(node, relation),
        query_sql=None,
        options=_options(node),
        options_sql=options_sql(node),
    )
    return utility.planned(plan)


def _query_out(utility: Utility) -> Planned:
    node, parsed = utility.node, utility.parsed
    inner_sql = parenthesised_query(parsed)
    inner = utility.plan_inner(parse_one(inner_sql), utility.context, utility.snapshot)
    if isinstance(inner.plan, Forward) and inner.plan.place is not None and not inner.plan.prunes:
        plan = Forward(place=inner.plan.place)
        return utility.planned(plan, writes=inner.writes, neutral=inner.neutral, leaves=inner.leaves)
    if node.filename is not None or node.is_program:
        raise not_supported("COPY (query) cannot use a file or program of one server", hint="Use COPY … TO STDOUT.")
    copy = CopyOut(
        relation=None,
        columns=(),
        query_sql=inner_sql,
        options=_options(node),
        options_sql=options_sql(node),
    )
    return utility.planned(copy, writes=inner.writes, neutral=inner.neutral, leaves=inner.leaves)


def _columns(node: Any, relation: Relation) -> tuple[str, ...]:
    columns = names(node.attlist)
    for name in columns:
        if name not in relation.column_by_name:
            raise PgError("42703", f'column "{name}" of relation "{relation.name}" does not exist')
    return columns


def _options(node: Any) -> tuple[tuple[str, str], ...]:
    """(name, value) with lower-case names; lists are joined as identifiers, a word alone is 'true'."""
    return tuple((option.defname.lower(), _text(option.arg)) for option in node.options or ())


def _text(value: Any) -> str:
    if value is None:
        return "true"
    if isinstance(value, tuple):
        return ", ".join(quote_identifier(name) for name in names(value))
    if isinstance(value, ast.A_Star):
        return "*"
    if isinstance(value, ast.Boolean):
        return "true" if value.boolval else "false"
    if isinstance(value, ast.Integer):
        return str(value.ival or 0)
    return str(getattr(value, "sval", None) or getattr(value, "fval", None) or "")


def options_sql(node: Any, *, without: tuple[str, ...] = ()) -> str:
    """The options in today's form, `WITH (FORMAT csv, HEADER true)`, whichever form they came in; '' without any.

    `without` HEADER, where the gateway takes the header line away before rows are dealt out.
    """
    kept = [option for option in node.options or () if option.defname.lower() not in without]
    written = [f"{option.defname.upper()}{_value_sql(option.arg)}" for option in kept]
    return f"WITH ({', '.join(written)})" if written else ""


def _value_sql(value: Any) -> str:
    if value is None:
        return ""
    text = _text(value)
    if isinstance(value, tuple):
        return f" ({text})"
    return f" {quote_literal(text).strip()}" if isinstance(value, ast.String) else f" {text}"
