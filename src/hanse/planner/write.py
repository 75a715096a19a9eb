"""UPDATE and DELETE.

Where the rows to be changed and all rows they are compared with lie in one group: `Forward`. Where each group can
change its own rows by itself, because every other table is a reference table or is co-located and joined on the whole
key: `Scatter`. A reference table: `Replicate`. Else `WriteBack`: a query finds the rows and computes their new
values, which then go to their groups by a unique key.

**A key that changes.** PostgreSQL moves such a row between partitions by DELETE and INSERT. Within one group that is
its own affair: `Forward` with the old *and* the new key as prunes, which must meet. Across groups the executor does
the same; it would fire ON DELETE CASCADE where ON UPDATE was meant, so it is refused for a table that foreign keys
refer to (findings-gateway 5).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pglast import ast
from pglast.parser import parse_sql

from ..catalog.model import Kind, Relation
from ..core.errors import not_supported
from ..sql.functions import differs_by_place
from ..sql.walk import names, walk
from .analysis import Analysis
from .forward import plan_forward
from .plan import Equal, Forward, Planned, Prune, Replicate
from .restrict import Table
from .targets import callable_apart, functions_alike, only_copies, refuse_target, rest_of, scattered
from .viewed import Viewed, viewed
from .writeback import identity_of, name_of, take_and_put, write_back

_BEFORE, _ON_UPDATE = 1 << 1, 1 << 4  # TRIGGER_TYPE_BEFORE, TRIGGER_TYPE_UPDATE in pg_trigger.h


def plan_change(analysis: Analysis) -> Planned:
    """The plan of a top-level UPDATE or DELETE. Raises PgError 0A000 for what cannot be done over several groups."""
    written = analysis.target()
    view = viewed(analysis, written)
    target = view.table if view is not None else written
    relation = target.ref.relation
    if relation is not None and relation.kind is Kind.SHARDED and _key_assignments(analysis, relation, view):
        return _move(analysis, target, relation, view)
    planned = plan_forward(analysis)
    if planned is not None:
        return planned
    refuse_target(analysis, target)
    if relation is None:
        raise not_supported("a temporary table cannot be changed by rows of other groups")
    _refuse_current_of(analysis)
    if relation.kind is Kind.REFERENCE and only_copies(analysis, target) and functions_alike(analysis):
        return _replicate(analysis, relation, view)
    if relation.kind is Kind.SHARDED and each_group_alone(analysis, target):
        return scatter(analysis, target, relation)
    return write_back(analysis, target, relation, view)


def _replicate(analysis: Analysis, relation: Relation, view: Viewed | None) -> Planned:
    unsteady = _unsteady(analysis)
    if unsteady and view is not None:
        raise not_supported("a volatile write through a view of a reference table is not supported")
    return analysis.planned(Replicate(relation=relation.identity, volatile=unsteady))


def each_group_alone(analysis: Analysis, target: Table) -> bool:
    """Whether every row that can matter to a row of the target lies in that row's group."""
    if analysis.unseen or not callable_apart(analysis):
        return False
    for table in rest_of(analysis, target):
        if table.ref.target or not (table in analysis.copied or analysis.meets_target(table, target)):
            return False
    return True


def scatter(analysis: Analysis, target: Table, relation: Relation) -> Planned:
    prune = analysis.prune(target)
    prunes = (prune,) if prune.condition is not None else ()
    safe = not prunes and not analysis.operands.uses.total and not _compares_key(analysis, target)
    return scattered(analysis, relation.groups, prunes, template_safe=safe)


def _compares_key(analysis: Analysis, target: Table) -> bool:
    """Another text of the template might have a literal that fixes the key, and deserves its own plan."""
    closure, terms = target.closure(), target.key_terms()
    return terms is None or any(closure.values(term) or closure.bounds(term) for term in terms)


def _unsteady(analysis: Analysis) -> bool:
    """Two groups might change other rows, or give them other values."""
    node = analysis.parsed.node
    limited = any(isinstance(found, ast.SelectStmt) and found.limitCount for found in walk(node))
    joined = isinstance(node, ast.UpdateStmt) and bool(node.fromClause)  # several matches: any one is taken
    return limited or joined or differs_by_place(node, analysis.snapshot)


def _refuse_current_of(analysis: Analysis) -> None:
    if any(isinstance(found, ast.CurrentOfExpr) for found in walk(analysis.parsed.node)):
        raise not_supported(
            "WHERE CURRENT OF is not supported for a table in several groups",
            hint="Use the primary key of the row that was fetched.",
        )


# --- a key that changes ------------------------------------------------------------------------------------------


def _key_assignments(analysis: Analysis, relation: Relation, view: Viewed | None = None) -> dict[str, Any]:
    """Key column → the expression assigned to it; None as the expression where it is not one of its own.

    `SET key = key`, which object mappers write, changes nothing and is left out.
    """
    node = analysis.parsed.node
    found: dict[str, Any] = {}
    for target in getattr(node, "targetList", None) or ():
        name = target.name if view is None else view.columns.get(target.name, "")
        if name in relation.key and not _is_itself(target, name_of(node)):
            found[name] = None if isinstance(target.val, ast.MultiAssignRef) else target.val
    return found


def _is_itself(target: Any, name: str) -> bool:
    """Without a table's name it can only be the target's column: another's of this name would be ambiguous."""
    if not isinstance(target.val, ast.ColumnRef) or target.indirection:
        return False
    path = names(target.val.fields)
    return len(path) == len(target.val.fields or ()) and path in ((target.name,), (name, target.name))


def _move(analysis: Analysis, target: Table, relation: Relation, view: Viewed | None) -> Planned:
    assigned = _key_assignments(analysis, relation, view)
    planned = _move_within(analysis, target, relation, assigned)
    if planned is not None:
        return planned
    _refuse_move(analysis, relation, view)
    _refuse_current_of(analysis)
    refuse_target(analysis, target)
    if identity_of(relation) is None and each_group_alone(analysis, target):
        return take_and_put(analysis, target, relation)
    return write_back(analysis, target, relation, view)


def _refuse_move(analysis: Analysis, relation: Relation, view: Viewed | None) -> None:
    """A row that moves to another group is deleted and inserted; where that could be told from an UPDATE it is refused."""
    for other in analysis.snapshot.relations:
        for key in other.foreign_keys:
            referenced = analysis.snapshot.relation_by_identity.get((key.referenced_schema, key.referenced_name))
            if referenced is not None and relation.identity in (referenced.identity, referenced.parent):
                raise not_supported(
                    f'cannot change the partition key of table "{relation.name}", which foreign keys refer to',
                    detail=f'Constraint "{key.name}" of table "{other.name}" refers to it.',
                    hint="Insert rows with the new key, let the referencing rows point to them, then delete the old.",
                )
    _refuse_triggers(relation)
    if relation.row_security or view is not None:
        reason = "which has row security" if view is None else "through a view"
        raise not_supported(
            f'cannot change the partition key of table "{relation.name}", {reason}, over several groups'
        )


def _refuse_triggers(relation: Relation) -> None:
    """They would see a DELETE and an INSERT only. PostgreSQL, which moves rows alike, tells them of an UPDATE first."""
    for code in relation.code:
        if code.kind != "trigger":
            continue
        trigger: Any = parse_sql(code.source)[0].stmt
        if trigger.timing & _BEFORE and trigger.events & _ON_UPDATE or not trigger.row:
            raise not_supported(
                f'cannot change the partition key of table "{relation.name}" over several groups, which has trigger '
                f'"{code.name}"',
                hint="Delete the rows and insert them with the new key.",
            )


def _move_within(analysis: Analysis, target: Table, relation: Relation, assigned: dict[str, Any]) -> Planned | None:
    """Old and new key known: both in one group, or the gateway plans again."""
    old = analysis.condition(target)
    planned = plan_forward(analysis)
    if planned is None or not isinstance(planned.plan, Forward) or not isinstance(old, Equal):
        return None
    values = []
    for name, type_oid, before in zip(relation.key, relation.key_types, old.values, strict=True):
        value = analysis.operands.value(assigned[name], type_oid) if name in assigned else before
        if value is None:
            return None
        values.append(value)
    new = Prune(relation.identity, Equal(tuple(values)))
    return replace(planned, plan=replace(planned.plan, prunes=(*planned.plan.prunes, new), renames=()))
