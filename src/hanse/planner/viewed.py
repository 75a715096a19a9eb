"""Writes through a view: which table they reach, and by which names.

PostgreSQL writes through a view that is one table's rows and columns, nothing else (manual, CREATE VIEW, "Updatable
Views"). The view exists in every group, over that group's rows; so the statement itself goes to the groups unchanged, and
rights, row security and WITH CHECK OPTION are PostgreSQL's. Only the *routing* must know the table under the view. A view
of any other kind, or with INSTEAD OF triggers, is not looked through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pglast import ast, enums
from pglast.parser import ParseError, parse_sql

from ..catalog.model import Kind, Relation
from ..sql.functions import AGGREGATES
from ..sql.walk import names, walk
from .analysis import Analysis
from .restrict import Table

_DEPTH_MAX = 20


@dataclass(frozen=True, slots=True)
class Viewed:
    view: Relation
    table: Table
    columns: Mapping[str, str]  # a column of the view → the table's; computed columns are missing

    @property
    def relation(self) -> Relation:
        assert self.table.ref.relation is not None
        return self.table.ref.relation

    def same_names(self, columns: tuple[str, ...] | list[str]) -> bool:
        """Whether the view shows these columns of the table, under their own names."""
        return all(self.columns.get(name) == name for name in columns)


def viewed(analysis: Analysis, target: Table) -> Viewed | None:
    """What lies under a target that is a simple view; None for all other targets."""
    relation = target.ref.relation
    if relation is None or relation.kind is not Kind.VIEW or analysis.unseen:
        return None
    found = _look_through(analysis, relation, {column.name: column.name for column in relation.columns}, 0)
    if found is None:
        return None
    base, columns = found
    tables = [t for t in analysis.base if t.ref.target and t.ref.relation is not None and t.via_view]
    if len(tables) != 1 or tables[0].ref.identity != base.identity:
        return None
    return Viewed(relation, tables[0], columns)


def _look_through(
    analysis: Analysis, view: Relation, columns: dict[str, str], depth: int
) -> tuple[Relation, dict[str, str]] | None:
    query = _definition(view)
    if query is None or not _is_simple(query) or view.has_triggers or depth > _DEPTH_MAX:
        return None
    named: Any = query.fromClause[0]
    below = analysis.snapshot.find(named.schemaname, named.relname, analysis.context.search_path)
    if below is None or (named.alias is not None and named.alias.colnames):
        return None
    outputs = dict(zip((column.name for column in view.columns), query.targetList, strict=False))
    found = {name: _column(outputs[own]) for name, own in columns.items() if own in outputs}
    kept = {name: column for name, column in found.items() if column in below.column_by_name}
    if below.kind is Kind.VIEW:
        return _look_through(analysis, below, kept, depth + 1)
    return below, kept


def _definition(view: Relation) -> Any:
    try:
        return parse_sql(view.view_definition or "")[0].stmt
    except (ParseError, IndexError):
        return None


def _is_simple(query: Any) -> bool:
    if not isinstance(query, ast.SelectStmt) or query.op != enums.SetOperation.SETOP_NONE or query.valuesLists:
        return False
    if query.withClause or query.distinctClause or query.groupClause or query.havingClause or query.windowClause:
        return False
    if query.limitCount or query.limitOffset or query.lockingClause or len(query.fromClause or ()) != 1:
        return False
    calls = (found for found in walk(query.targetList) if isinstance(found, ast.FuncCall))
    if any(call.over is not None or call.agg_star or names(call.funcname)[-1] in AGGREGATES for call in calls):
        return False
    (only,) = query.fromClause or ()
    return isinstance(only, ast.RangeVar)


def _column(target: Any) -> str:
    """The table's column that an output column shows; '' for a computed one."""
    return names(target.val.fields)[-1] if isinstance(target.val, ast.ColumnRef) and names(target.val.fields) else ""
