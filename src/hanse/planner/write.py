"""UPDATE, DELETE and MERGE.

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

from dataclasses import dataclass, replace
from typing import Any

from pglast import ast, enums
from pglast.parser import parse_sql

from ..catalog.model import Kind, Relation
from ..core.errors import not_supported
from ..core.ids import quote_identifier
from ..sql.functions import differs_by_place
from ..sql.render import NotRenderable, render
from ..sql.walk import names, walk
from .analysis import Analysis
from .facts import conjuncts
from .forward import plan_forward
from .plan import Equal, Forward, Planned, Prune, Replicate, WriteBack
from .restrict import Table
from .spans import returning_start
from .targets import only_copies, refuse_target, rest_of, scattered


def plan_change(analysis: Analysis) -> Planned:
    """The plan of a top-level UPDATE or DELETE. Raises PgError 0A000 for what cannot be done over several groups."""
    target = analysis.target()
    relation = target.ref.relation
    if relation is not None and relation.kind is Kind.SHARDED and _key_assignments(analysis, relation):
        return _move(analysis, target, relation)
    planned = plan_forward(analysis)
    if planned is not None:
        return planned
    refuse_target(analysis, target)
    if relation is None:
        raise not_supported("a temporary table cannot be changed by rows of other groups")
    _refuse_current_of(analysis)
    if relation.kind is Kind.REFERENCE and only_copies(analysis, target):
        return analysis.planned(Replicate(relation=relation.identity, volatile=_unsteady(analysis)))
    if relation.kind is Kind.SHARDED and each_group_alone(analysis, target):
        return scatter(analysis, target, relation)
    return _write_back(analysis, target, relation)


def each_group_alone(analysis: Analysis, target: Table) -> bool:
    """Whether every row that can matter to a row of the target lies in that row's group."""
    if analysis.unseen:
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


def _key_assignments(analysis: Analysis, relation: Relation) -> dict[str, Any]:
    """Key column → the expression assigned to it; None as the expression where it is not one of its own."""
    found: dict[str, Any] = {}
    for target in getattr(analysis.parsed.node, "targetList", None) or ():
        if target.name in relation.key:
            found[target.name] = None if isinstance(target.val, ast.MultiAssignRef) else target.val
    return found


def _move(analysis: Analysis, target: Table, relation: Relation) -> Planned:
    assigned = _key_assignments(analysis, relation)
    planned = _move_within(analysis, target, relation, assigned)
    if planned is not None:
        return planned
    for other in analysis.snapshot.relations:
        for key in other.foreign_keys:
            if (key.referenced_schema, key.referenced_name) == relation.identity:
                raise not_supported(
                    f'cannot change the partition key of table "{relation.name}", which foreign keys refer to',
                    detail=f'Constraint "{key.name}" of table "{other.name}" refers to it.',
                    hint="Insert rows with the new key, let the referencing rows point to them, then delete the old.",
                )
    _refuse_current_of(analysis)
    refuse_target(analysis, target)
    return _write_back(analysis, target, relation)


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


# --- write back --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Query:
    """Builds the query that computes the rows of an UPDATE or DELETE."""

    analysis: Analysis
    relation: Relation
    name: str  # by which the statement calls the target

    def text(self, identity: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The query, and the columns that it gives new values for."""
        node = self.analysis.parsed.node
        columns, values = self._assignments(node)
        query: Any = parse_sql("SELECT 1")[0].stmt
        keys = tuple(_column(self.name, name) for name in identity)
        query.targetList = tuple(ast.ResTarget(val=value) for value in (*keys, *values))
        query.distinctClause = keys  # a row that matches several others is changed once, by any one of them
        others = node.fromClause if isinstance(node, ast.UpdateStmt) else node.usingClause
        query.fromClause = (node.relation, *(others or ()))
        query.whereClause = node.whereClause
        query.withClause = node.withClause
        if not others:
            query.distinctClause = None
        return render(query), columns

    def _assignments(self, node: Any) -> tuple[tuple[str, ...], list[Any]]:
        columns: list[str] = []
        values: list[Any] = []
        for target in getattr(node, "targetList", None) or ():
            if target.indirection:
                raise not_supported("UPDATE of a part of a column is not supported over several groups")
            columns.append(target.name)
            values.append(self._typed(target.name, self._value(target)))
        return tuple(columns), values

    def _typed(self, name: str, value: Any) -> Any:
        """The value in the column's type, as the assignment would make it; a length is left to the assignment."""
        column = self.relation.column_by_name.get(name)
        if column is None:
            return value
        selected: Any = parse_sql(f"SELECT CAST(NULL AS {column.type_name})")[0].stmt
        cast = selected.targetList[0].val
        cast.arg, cast.typeName.typmods = value, None
        return cast

    def _value(self, target: Any) -> Any:
        value = target.val
        if isinstance(value, ast.SetToDefault):
            column = self.relation.column_by_name.get(target.name)
            default = column.default if column is not None and column.default is not None else "NULL"
            selected: Any = parse_sql(f"SELECT {default}")[0].stmt
            return selected.targetList[0].val
        if isinstance(value, ast.MultiAssignRef):
            return self._of_row(value)
        return value

    def _of_row(self, reference: Any) -> Any:
        source = reference.source
        if isinstance(source, ast.RowExpr):
            elements: Any = source.args
            return elements[reference.colno - 1]
        if not isinstance(source, ast.SubLink):
            raise not_supported("this form of UPDATE … SET (…) = … is not supported over several groups")
        if self.analysis.volatile(source):
            raise not_supported("UPDATE … SET (…) = (a volatile subquery) is not supported over several groups")
        return _column_of(source.subselect, reference.colno, reference.ncolumns)


def _column_of(query: Any, number: int, count: int) -> Any:
    """`(SELECT c2 FROM (query) AS hanse_set(c1, c2))`: NULL where the query finds nothing, as in SET (…) = (…)."""
    columns = tuple(ast.String(sval=f"c{index + 1}") for index in range(count))
    alias = ast.Alias(aliasname="hanse_set", colnames=columns)
    one: Any = parse_sql("SELECT 1")[0].stmt
    one.targetList = (ast.ResTarget(val=_column(f"c{number}")),)
    one.fromClause = (ast.RangeSubselect(lateral=False, subquery=query, alias=alias),)
    return ast.SubLink(subLinkType=enums.SubLinkType.EXPR_SUBLINK, subLinkId=0, subselect=one)


def _column(*path: str) -> Any:
    return ast.ColumnRef(fields=tuple(ast.String(sval=part) for part in path))


def _write_back(analysis: Analysis, target: Table, relation: Relation) -> Planned:
    node = analysis.parsed.node
    identity = _identity(relation)
    if identity is None:
        raise not_supported(
            f'table "{relation.name}" has no primary key, which this statement over several groups needs',
            hint="Add a primary key, or restrict the statement to one value of the shard key.",
        )
    if relation.kind not in (Kind.SHARDED, Kind.REFERENCE, Kind.SINGLE, Kind.PARTITION):
        raise not_supported(f'cannot change rows of "{relation.name}"')
    _check_returning(analysis, target, relation)
    name = node.relation.alias.aliasname if node.relation.alias is not None else node.relation.relname
    try:
        query, columns = _Query(analysis, relation, name).text(identity)
    except NotRenderable as error:
        raise not_supported("this statement cannot be run over several groups", detail=str(error)) from error
    tail = analysis.parsed.sql[returning_start(analysis.parsed) :].strip() if node.returningClause else ""
    return analysis.planned(
        WriteBack(
            verb="delete" if isinstance(node, ast.DeleteStmt) else "update",
            relation=relation.identity,
            query_sql=query,
            columns=columns,
            identity=identity,
            tail_sql=tail,
            alias=name if node.relation.alias is not None else None,
        )
    )


def _identity(relation: Relation) -> tuple[str, ...] | None:
    """The columns of the primary key, else of a unique key without NULLs."""
    for unique in sorted(relation.unique_keys, key=lambda unique: not unique.primary):
        columns = relation.column_by_name
        if unique.primary or all(name in columns and columns[name].not_null for name in unique.columns):
            return unique.columns
    return None


def _check_returning(analysis: Analysis, target: Table, relation: Relation) -> None:
    """RETURNING is evaluated where the row is changed; other tables of the statement are not there."""
    clause = analysis.parsed.node.returningClause
    if clause is None or not rest_of(analysis, target):
        return
    own = target.source.name
    for found in walk(clause):
        if isinstance(found, ast.ColumnRef):
            path = names(found.fields)
            star = len(path) < len(found.fields or ())
            foreign = path[0] != own if len(path) + star > 1 else star or path[0] not in relation.column_by_name
            if foreign:
                raise not_supported(
                    "RETURNING of other tables' columns is not supported over several groups",
                    hint=f"Return columns of {quote_identifier(relation.name)} only.",
                )
        elif isinstance(found, ast.SubLink):
            raise not_supported("a subquery in RETURNING is not supported over several groups")


# --- MERGE -------------------------------------------------------------------------------------------------------


def plan_merge(analysis: Analysis) -> Planned:
    """The plan of a top-level MERGE: in one group, or in each group by itself."""
    target = analysis.target()
    relation = target.ref.relation
    by_source = any(clause.matchKind == _NOT_BY_SOURCE for clause in analysis.parsed.node.mergeWhenClauses)
    sharded = relation is not None and relation.kind is Kind.SHARDED
    assigned = relation is not None and _merge_assigns(analysis, relation)
    if not (sharded and (by_source or assigned)):
        planned = plan_forward(analysis)
        if planned is not None and (relation is None or not sharded):
            return planned
        if planned is not None and relation is not None and _inserts_joined_key(analysis, target, relation):
            return planned
    refuse_target(analysis, target)
    if relation is not None and relation.kind is Kind.REFERENCE and only_copies(analysis, target):
        return analysis.planned(Replicate(relation=relation.identity, volatile=True))
    if relation is not None and sharded and not assigned and _merges_by_group(analysis, target, relation):
        return scatter(analysis, target, relation)
    raise not_supported(
        "this MERGE is not supported over several groups",
        hint="Join source and target on the whole shard key of co-located tables, or use INSERT … ON CONFLICT.",
    )


_NOT_BY_SOURCE = enums.MergeMatchKind.MERGE_WHEN_NOT_MATCHED_BY_SOURCE


def _merge_assigns(analysis: Analysis, relation: Relation) -> bool:
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
        values = _inserted(clause, relation)
        if any(values.get(name) not in joined.get(name, ()) for name in relation.key):
            return False
    return True


def _inserted(clause: Any, relation: Relation) -> dict[str, Any]:
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
    values = _inserted(clause, relation)
    assert source.ref.relation is not None
    for mine, theirs in zip(relation.key, source.ref.relation.key, strict=True):
        value = values.get(mine)
        if not isinstance(value, ast.ColumnRef) or names(value.fields) != (source.source.name, theirs):
            return False
    return True
