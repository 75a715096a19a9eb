"""The planner: one statement in, one plan out.

`plan` is a table from the kind of statement to the module that plans it. Everything it needs comes as arguments
(statement, session's context, catalog snapshot), nothing is kept: the same arguments give the same plan.
"""

from __future__ import annotations

from collections.abc import Callable

from pglast import ast

from ..catalog.model import Snapshot
from ..sql.parse import Parsed
from .analysis import Analysis, analyse
from .copy import plan_copy
from .forward import plan_forward
from .insert import plan_insert
from .merging import plan_merge
from .plan import Context, Forward, Planned, Session, SessionVerb
from .select import plan_select
from .utility import UTILITIES, Utility, converts, plan_ddl
from .withwrites import plan_with_writes, writes_within
from .write import plan_change

_CHANGES: dict[type, Callable[[Analysis], Planned]] = {
    ast.InsertStmt: plan_insert,
    ast.UpdateStmt: plan_change,
    ast.DeleteStmt: plan_change,
    ast.MergeStmt: plan_merge,
}


def plan(parsed: Parsed, context: Context, snapshot: Snapshot) -> Planned:
    """The plan of one statement. Raises PgError: 0A000 for what cannot be done over several groups, with a hint."""
    node = parsed.node
    if node is None:  # only a server can say what is wrong with it
        return Planned(plan=Forward(place=snapshot.home_group), verb="", returns_rows=False, neutral=False)
    utility = Utility(parsed, context, snapshot, plan)
    kind = type(node)
    if kind is ast.SelectStmt:
        if node.intoClause is not None or converts(node):
            return plan_ddl(utility)
        return _query(analyse(parsed, context, snapshot))
    if kind in _CHANGES:
        analysis = analyse(parsed, context, snapshot)
        return plan_with_writes(analysis) if writes_within(node) else _CHANGES[kind](analysis)
    if kind is ast.CopyStmt:
        return plan_copy(utility)
    known = UTILITIES.get(kind)
    return known(utility) if known is not None else plan_ddl(utility)


def empty() -> Planned:
    """The plan of a text without a statement: EmptyQueryResponse."""
    return Planned(plan=Session(verb=SessionVerb.EMPTY), verb="", returns_rows=False)


def _query(analysis: Analysis) -> Planned:
    if writes_within(analysis.parsed.node):
        return plan_with_writes(analysis)
    planned = plan_forward(analysis)
    if planned is not None:
        return planned
    return plan_select(analysis.parsed, analysis.context, analysis.snapshot, analysis)
