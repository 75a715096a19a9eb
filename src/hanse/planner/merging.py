"""MERGE.

========================================================= ========================================================
one group sees every row that can matter                  `Forward`
each group can merge by itself                            `Scatter`
a reference table, merged with copies only                `Replicate`
anything else                                             `WriteBack`: a query says what is to be done with which row
========================================================= ========================================================

The query of the last case, for `MERGE INTO t USING s ON c WHEN MATCHED AND m THEN UPDATE SET x = e WHEN NOT MATCHED THEN
INSERT (id, x) VALUES (f, g)`::

    SELECT hanse_action.n, t.id, CASE WHEN hanse_action.n = 1 THEN e END,
           CASE WHEN hanse_action.n = 2 THEN f END, CASE WHEN hanse_action.n = 2 THEN g END
    FROM s LEFT JOIN t ON c
         CROSS JOIN LATERAL (SELECT CASE WHEN t.id IS NOT NULL AND m THEN 1 WHEN t.id IS NULL THEN 2 ELSE 0 END)
         AS hanse_action(n)
    WHERE hanse_action.n > 0

It is PostgreSQL's own rule in SQL: the first WHEN clause whose condition holds decides, and only its expressions are
evaluated. A target row that comes twice is an error there (21000), and here. Rows are deleted first, then updated, then
inserted; PostgreSQL takes them as they come, which differs only where one row of the same MERGE takes another's key.
"""

from __future__ import annotations

from typing import Any

from pglast import ast, enums
from pglast.parser import parse_sql

from ..catalog.model import Kind, Relation
from ..core.errors import not_supported
from ..sql.functions import differs_by_place
from ..sql.render import NotRenderable, render
from ..sql.walk import names, walk
from .analysis import Analysis
from .assigned import assigned
from .facts import conjuncts
from .forward import plan_forward
from .insert import defaults
from .plan import MergeAction, Planned, Replicate, WriteBack
from .restrict import Table
from .targets import callable_apart, only_copies, refuse_target, refuse_watching, rest_of
from .write import scatter
from .writeback import Assignments, column_ref, name_of, needed_identity

_NOT_BY_SOURCE = enums.MergeMatchKind.MERGE_WHEN_NOT_MATCHED_BY_SOURCE
_MATCHED = enums.MergeMatchKind.MERGE_WHEN_MATCHED
_VERBS = {
    enums.CmdType.CMD_INSERT: "insert",
    enums.CmdType.CMD_UPDATE: "update",
    enums.CmdType.CMD_DELETE: "delete",
}


def plan_merge(analysis: Analysis) -> Planned:
    """The plan of a top-level MERGE."""
    target = analysis.target()
    relation = target.ref.relation
    by_source = any(clause.matchKind == _NOT_BY_SOURCE for clause in analysis.parsed.node.mergeWhenClauses)
    sharded = relation is not None and relation.kind is Kind.SHARDED
    assigned_key = relation is not None and _assigns_key(analysis, relation)
    if not (sharded and (by_source or assigned_key)):
        planned = plan_forward(analysis)
        if planned is not None and (relation is None or not sharded):
            return planned
        if planned is not None and relation is not None and _inserts_joined_key(analysis, target, relation):
            return planned
    refuse_target(analysis, target)
    if relation is None or by_source:
        raise not_supported("this MERGE is not supported over several groups")
    if relation.kind is Kind.REFERENCE and only_copies(analysis, target) and not _unsteady(analysis):
        return analysis.planned(Replicate(relation=relation.identity))
    if sharded and not assigned_key and _merges_by_group(analysis, target, relation):
        return scatter(analysis, target, relation)
    return _write_back(analysis, relation)


def _unsteady(analysis: Analysis) -> bool:
    """Two groups might do different things."""
    node = analysis.parsed.node
    limited = any(isinstance(found, ast.SelectStmt) and found.limitCount for found in walk(node))
    return limited or differs_by_place(node, analysis.snapshot)


def _assigns_key(analysis: Analysis, relation: Relation) -> bool:
    clauses = analysis.parsed.node.mergeWhenClauses
    updates = (clause for clause in clauses if clause.commandType == enums.CmdType.CMD_UPDATE)
    return any(target.name in relation.key for clause in updates for target in clause.targetList or ())


def _inserts(analysis: Analysis) -> list[Any]:
    """The WHEN NOT MATCHED THEN INSERT clauses."""
    clauses = analysis.parsed.node.mergeWhenClauses
    return [clause for clause in clauses if clause.commandType == enums.CmdType.CMD_INSERT]


def _inserts_joined_key(analysis: Analysis, target: Table, relation: Relation) -> bool:
    """Inserted rows get the key that ON equates with the target's, hence go where the target's rows are."""
    joined: dict[str, list[Any]] = {}
    for conjunct in conjuncts(analysis.parsed.node.joinCondition):
        if isinstance(conjunct, ast.A_Expr) and names(conjunct.name) == ("=",):
            for side, other in ((conjunct.lexpr, conjunct.rexpr), (conjunct.rexpr, conjunct.lexpr)):
                path = names(side.fields) if isinstance(side, ast.ColumnRef) else ()
                if len(path) == 2 and path[0] == target.source.name:
                    joined.setdefault(path[1], []).append(other)
    for clause in _inserts(analysis):
        values = inserted(clause, relation)
        if any(values.get(name) not in joined.get(name, ()) for name in relation.key):
            return False
    return True


def inserted(clause: Any, relation: Relation) -> dict[str, Any]:
    columns = [column.name for column in clause.targetList or ()] or [column.name for column in relation.columns]
    return dict(zip(columns, clause.values or (), strict=False))


def _merges_by_group(analysis: Analysis, target: Table, relation: Relation) -> bool:
    """Source rows must be in the group of the target rows they match, or else of the row they become."""
    if not _each_group_merges(analysis, target):
        return False
    inserts = _inserts(analysis)
    if not inserts:
        return True
    source = analysis.parsed.node.sourceRelation
    table = next((table for table in analysis.sharded if table.ref.node is source), None)
    if table is None or table.ref.relation is None:
        return False  # rows of a reference table would be inserted by every group
    return all(_inserts_key(clause, table, relation) for clause in inserts)


def _each_group_merges(analysis: Analysis, target: Table) -> bool:
    """As `each_group_alone`, but the source is preserved: what joins it to the target is known of the target only."""
    if not callable_apart(analysis):
        return False
    closure, keys = target.closure(), target.key_terms()
    for table in rest_of(analysis, target):
        theirs = table.key_terms()
        if table in analysis.copied and not table.ref.target:
            continue
        if keys is None or theirs is None or table.ref.target or not analysis.colocated(table, target):
            return False
        if not all(closure.same(one, other) for one, other in zip(theirs, keys, strict=True)):
            return False
    return not analysis.unseen


def _inserts_key(clause: Any, source: Table, relation: Relation) -> bool:
    values = inserted(clause, relation)
    assert source.ref.relation is not None
    for mine, theirs in zip(relation.key, source.ref.relation.key, strict=True):
        value = values.get(mine)
        if not isinstance(value, ast.ColumnRef) or names(value.fields) != (source.source.name, theirs):
            return False
    return True


# --- by a query --------------------------------------------------------------------------------------------------


def _write_back(analysis: Analysis, relation: Relation) -> Planned:
    node, identity = analysis.parsed.node, needed_identity(relation)
    refuse_watching(analysis, relation)
    if _assigns_key(analysis, relation):
        raise not_supported("a MERGE that changes the partition key is not supported over several groups")
    actions: list[MergeAction] = []
    values: list[Any] = []
    first = 1 + len(identity)
    for clause in node.mergeWhenClauses:
        if clause.commandType not in _VERBS:
            continue
        number = len(actions) + 1
        action, found = _action(analysis, relation, clause, first + len(values))
        actions.append(action)
        values += [_when(number, value) for value in found]
    try:
        query = _query(analysis, identity, values)
    except NotRenderable as error:
        raise not_supported("this MERGE cannot be run over several groups", detail=str(error)) from error
    return analysis.planned(
        WriteBack(
            verb="merge",
            relation=relation.identity,
            query_sql=query,
            columns=(),
            identity=identity,
            actions=tuple(actions),
            alias=name_of(node) if node.relation.alias is not None else None,
        )
    )


def _action(analysis: Analysis, relation: Relation, clause: Any, first: int) -> tuple[MergeAction, list[Any]]:
    """What a WHEN clause does, and the expressions of its values."""
    verb = _VERBS[clause.commandType]
    if verb != "insert":
        found = Assignments(analysis, relation).of(clause.targetList)
        return MergeAction(verb=verb, first=first, columns=tuple(name for name, _ in found)), [v for _, v in found]
    given = {
        name: value for name, value in inserted(clause, relation).items() if not isinstance(value, ast.SetToDefault)
    }
    added = defaults(relation, analysis.snapshot, set(given))
    always = {column.name for column in relation.columns if column.identity == "a"}
    system = clause.override == enums.OverridingKind.OVERRIDING_SYSTEM_VALUE
    action = MergeAction(
        verb=verb,
        first=first,
        columns=tuple(given),
        added=added,
        override=system or bool(always & {name for name, _ in added}),
    )
    return action, [assigned(value, relation.column_by_name.get(name)) for name, value in given.items()]


def _query(analysis: Analysis, identity: tuple[str, ...], values: list[Any]) -> str:
    node = analysis.parsed.node
    target = name_of(node)
    query: Any = parse_sql("SELECT 1 FROM a LEFT JOIN b ON true CROSS JOIN LATERAL (SELECT 1) AS hanse_action(n)")[
        0
    ].stmt
    outer = query.fromClause[0]
    outer.larg.larg, outer.larg.rarg, outer.larg.quals = node.sourceRelation, node.relation, node.joinCondition
    outer.rarg.subquery.targetList = (ast.ResTarget(val=_choice(node, column_ref(target, identity[0]))),)
    keys = (column_ref(target, name) for name in identity)
    number = column_ref("hanse_action", "n")
    query.targetList = tuple(ast.ResTarget(val=value) for value in (number, *keys, *values))
    some: Any = parse_sql("SELECT hanse_action.n > 0")[0].stmt
    query.whereClause = some.targetList[0].val
    query.withClause = node.withClause
    return render(query)


def _choice(node: Any, key: Any) -> Any:
    """The number of the action: of the first WHEN clause that applies; 0 for DO NOTHING and for none."""
    select: Any = parse_sql("SELECT CASE WHEN true THEN 1 ELSE 0 END")[0].stmt
    case = select.targetList[0].val
    whens = []
    number = 0
    for clause in node.mergeWhenClauses:
        acts = clause.commandType in _VERBS
        number += acts
        matched = clause.matchKind == _MATCHED
        kind = enums.NullTestType.IS_NOT_NULL if matched else enums.NullTestType.IS_NULL
        condition: Any = ast.NullTest(arg=key, nulltesttype=kind, argisrow=False)
        if clause.condition is not None:
            condition = ast.BoolExpr(boolop=enums.BoolExprType.AND_EXPR, args=(condition, clause.condition))
        whens.append(ast.CaseWhen(expr=condition, result=_integer(number if acts else 0)))
    case.args = tuple(whens)
    return case


def _when(number: int, value: Any) -> Any:
    select: Any = parse_sql(f"SELECT CASE WHEN hanse_action.n = {number} THEN 1 END")[0].stmt
    case = select.targetList[0].val
    case.args[0].result = value
    return case


def _integer(number: int) -> Any:
    return ast.A_Const(isnull=False, val=ast.Integer(ival=number))
