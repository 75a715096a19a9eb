"""UPDATE and DELETE whose rows another query must find: `WriteBack`.

    UPDATE t SET x = u.y FROM u WHERE u.a = t.b RETURNING t.id, u.z
    →  query   SELECT t.id, u.y, u.z FROM t, u WHERE u.a = t.b FOR UPDATE OF t
       tail    RETURNING t.id, hanse_rows.hanse_2 AS z

The query gives the unique key of each row, its new values, and what RETURNING needs of the other tables, which are not at
hand where the row is changed. The rows of an UPDATE are locked while the query reads them, so that no new value is
computed from an old row that somebody else changes meanwhile; a DELETE needs no such lock, and a role that may delete
need not be allowed to lock.

A row of a table without a unique key can still move to another group, if each group finds its rows by itself: they are
taken out (`DELETE … RETURNING` the new row) and put in where they belong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums
from pglast.parser import parse_sql

from ..catalog.model import Kind, Relation
from ..core.errors import not_supported
from ..sql.render import NotRenderable, render
from ..sql.walk import names, walk
from .analysis import Analysis
from .assigned import assigned, cast_to
from .colnames import column_name
from .effects import drawn_sequence
from .plan import FromSequence, Planned, Value, WriteBack
from .restrict import Table
from .spans import returning_start
from .targets import refuse_watching, rest_of
from .tree import transform
from .viewed import Viewed

_WRITABLE = (Kind.SHARDED, Kind.REFERENCE, Kind.SINGLE, Kind.PARTITION)


def name_of(node: Any) -> str:
    """By which the statement calls its target."""
    return str(node.relation.alias.aliasname if node.relation.alias is not None else node.relation.relname)


def identity_of(relation: Relation) -> tuple[str, ...] | None:
    """The columns of the primary key, else of a unique key without NULLs."""
    for unique in sorted(relation.unique_keys, key=lambda unique: not unique.primary):
        columns = relation.column_by_name
        if unique.primary or all(name in columns and columns[name].not_null for name in unique.columns):
            return unique.columns
    return None


def needed_identity(relation: Relation) -> tuple[str, ...]:
    """Raises 0A000 for a table without one, and for what has no rows of its own."""
    identity = identity_of(relation)
    if identity is None:
        raise not_supported(
            f'table "{relation.name}" has no primary key, which this statement over several groups needs',
            hint="Add a primary key, or restrict the statement to one value of the shard key.",
        )
    if relation.kind not in _WRITABLE:
        raise not_supported(f'cannot change rows of "{relation.name}"')
    return identity


def write_back(analysis: Analysis, target: Table, relation: Relation, view: Viewed | None) -> Planned:
    """The plan of an UPDATE or DELETE by keys."""
    node, identity = analysis.parsed.node, needed_identity(relation)
    refuse_watching(analysis, relation)
    assignments, drawn = _without_drawn(
        Assignments(analysis, relation).of(node.targetList if isinstance(node, ast.UpdateStmt) else ()),
        analysis,
        relation,
    )
    columns = tuple(name for name, _ in assignments)
    if view is not None and not view.same_names((*identity, *columns, *(name for name, _ in drawn))):
        raise not_supported(
            f'this write through view "{view.view.name}" is not supported over several groups',
            detail=f'The view does not show the primary key of "{relation.name}" under its own names.',
            hint="Write to the view's table.",
        )
    own = view.view.columns if view is not None else relation.columns
    returned = _Returned(analysis, target, tuple(c.name for c in own), len(identity) + len(columns))
    try:
        tail = returned.tail()
        query = _query(node, identity, [value for _, value in assignments] + returned.carried)
    except NotRenderable as error:
        raise not_supported("this statement cannot be run over several groups", detail=str(error)) from error
    if returned.carried and set(columns) & set(relation.key):
        raise not_supported(
            "RETURNING of other tables' columns is not supported for a change of the partition key over several groups"
        )
    return analysis.planned(
        WriteBack(
            verb="delete" if isinstance(node, ast.DeleteStmt) else "update",
            relation=relation.identity,
            query_sql=query,
            columns=columns,
            identity=identity,
            tail_sql=tail,
            added=drawn,
            alias=name_of(node) if node.relation.alias is not None else None,
            carried=len(returned.carried),
            through=view.view.identity if view is not None else None,
        )
    )


def _without_drawn(
    assignments: list[tuple[str, Any]], analysis: Analysis, relation: Relation
) -> tuple[list[tuple[str, Any]], tuple[tuple[str, Value], ...]]:
    """`SET x = nextval('s')`: a value for each row, drawn where the sequence is real."""
    kept: list[tuple[str, Any]] = []
    drawn: list[tuple[str, Value]] = []
    for name, value in assignments:
        sequence = drawn_sequence(value, analysis.snapshot, analysis.context.search_path)
        if sequence is None or name in relation.key or relation.kind not in (Kind.SHARDED, Kind.SINGLE):
            kept.append((name, value))
        else:
            drawn.append((name, FromSequence(sequence)))
    return kept, tuple(drawn)


def _query(node: Any, identity: tuple[str, ...], values: list[Any]) -> str:
    query: Any = parse_sql("SELECT 1")[0].stmt
    keys = [column_ref(name_of(node), name) for name in identity]
    query.targetList = tuple(ast.ResTarget(val=value) for value in (*keys, *values))
    query.fromClause = (node.relation, *(_others(node) or ()))
    query.whereClause = node.whereClause
    query.withClause = node.withClause
    if isinstance(node, ast.UpdateStmt):
        query.lockingClause = (
            ast.LockingClause(
                lockedRels=(ast.RangeVar(relname=name_of(node), inh=True, relpersistence="p"),),
                strength=enums.LockClauseStrength.LCS_FORUPDATE,
                waitPolicy=enums.LockWaitPolicy.LockWaitBlock,
            ),
        )
    return render(query)


def _others(node: Any) -> Any:
    return node.fromClause if isinstance(node, ast.UpdateStmt) else node.usingClause


def take_and_put(analysis: Analysis, target: Table, relation: Relation) -> Planned:
    """An UPDATE of the partition key where rows cannot be told apart: each group gives its rows away as they shall be."""
    node, name = analysis.parsed.node, name_of(analysis.parsed.node)
    columns = [column for column in relation.columns if not column.generated]
    new = dict(Assignments(analysis, relation).of(node.targetList))
    _Returned(analysis, target, tuple(c.name for c in relation.columns), 0).refuse_others()
    values = [new.get(column.name, column_ref(name, column.name)) for column in columns]
    delete = ast.DeleteStmt(
        relation=node.relation,
        usingClause=node.fromClause,
        whereClause=node.whereClause,
        withClause=node.withClause,
        returningClause=ast.ReturningClause(exprs=tuple(ast.ResTarget(val=value) for value in values)),
    )
    try:
        query = render(delete)
    except NotRenderable as error:
        raise not_supported("this statement cannot be run over several groups", detail=str(error)) from error
    return analysis.planned(
        WriteBack(
            verb="insert",
            relation=relation.identity,
            query_sql=query,
            columns=tuple(column.name for column in columns),
            tail_sql=_returning_text(analysis),
            override=True,
            alias=name if node.relation.alias is not None else None,
            tag="UPDATE",
        )
    )


def _returning_text(analysis: Analysis) -> str:
    if analysis.parsed.node.returningClause is None:
        return ""
    return analysis.parsed.sql[returning_start(analysis.parsed) :].strip()


# --- SET ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assignments:
    """Reads `SET column = …` lists: of UPDATE, and of MERGE's WHEN MATCHED THEN UPDATE."""

    analysis: Analysis
    relation: Relation

    def of(self, targets: Any) -> list[tuple[str, Any]]:
        """Each column with the expression of its new value, as a query shall compute it."""
        found: list[tuple[str, Any]] = []
        for target in targets or ():
            if target.indirection:
                raise not_supported("UPDATE of a part of a column is not supported over several groups")
            column = self.relation.column_by_name.get(target.name)
            found.append((target.name, assigned(self._value(target), column)))
        return found

    def _value(self, target: Any) -> Any:
        value = target.val
        if isinstance(value, ast.SetToDefault):
            column = self.relation.column_by_name.get(target.name)
            default = column.default if column is not None and column.default is not None else "NULL"
            selected: Any = parse_sql(f"SELECT {default}")[0].stmt
            return selected.targetList[0].val if column is None else cast_to(column, selected.targetList[0].val)
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
    one.targetList = (ast.ResTarget(val=column_ref(f"c{number}")),)
    one.fromClause = (ast.RangeSubselect(lateral=False, subquery=query, alias=alias),)
    return ast.SubLink(subLinkType=enums.SubLinkType.EXPR_SUBLINK, subLinkId=0, subselect=one)


def column_ref(*path: str) -> Any:
    return ast.ColumnRef(fields=tuple(ast.String(sval=part) for part in path))


# --- RETURNING ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Returned:
    """The RETURNING clause, for a statement that has only the target and the rows of the query at hand."""

    analysis: Analysis
    target: Table
    own: tuple[str, ...]  # the target's columns, as `*` shows them
    first: int  # the number of the query's first column that is carried
    carried: list[Any] = field(default_factory=list)

    @property
    def _name(self) -> str:
        return name_of(self.analysis.parsed.node)

    @property
    def _exprs(self) -> Any:
        clause = self.analysis.parsed.node.returningClause
        return () if clause is None else clause.exprs

    def refuse_others(self) -> None:
        """For statements that can carry nothing."""
        if any(self._is_foreign(found) for found in walk(self._exprs) if isinstance(found, ast.ColumnRef)):
            raise not_supported(
                "RETURNING of other tables' columns is not supported in this UPDATE over several groups"
            )

    def tail(self) -> str:
        columns = [found for found in walk(self._exprs) if isinstance(found, ast.ColumnRef)]
        if not any(self._is_star(column) or self._is_foreign(column) for column in columns):
            return _returning_text(self.analysis)
        if any(isinstance(found, ast.SubLink) for found in walk(self._exprs)):
            raise not_supported("a subquery in RETURNING is not supported over several groups")
        select: Any = parse_sql("SELECT 1")[0].stmt
        select.targetList = tuple(item for target in self._exprs for item in self._item(target))
        return "RETURNING " + render(select).removeprefix("SELECT ")

    def _is_star(self, column: Any) -> bool:
        return isinstance(column.fields[-1], ast.A_Star)

    def _is_foreign(self, column: Any) -> bool:
        """A column of another table than the target. Without a table's name it is the target's, if that has such a one."""
        path = names(column.fields)
        if self._is_star(column):
            return path not in ((), (self._name,)) or (path == () and bool(_others(self.analysis.parsed.node)))
        if len(path) == 1:
            return path[0] not in self.own and path[0] not in _SYSTEM_COLUMNS and path[0] != self._name
        return path[-2] != self._name

    def _item(self, target: Any) -> list[Any]:
        if isinstance(target.val, ast.ColumnRef) and self._is_star(target.val):
            return self._expanded(names(target.val.fields))
        name = column_name(target)
        value = transform(target.val, self._replacement)
        return [ast.ResTarget(name=target.name if value is target.val else name, val=value)]

    def _expanded(self, path: tuple[str, ...]) -> list[Any]:
        found = []
        if not path or path[-1] == self._name:
            found += [ast.ResTarget(val=column_ref(self._name, name)) for name in self.own]
        if path and path[-1] == self._name:
            return found
        for item in _others(self.analysis.parsed.node) or ():
            for alias, column in self._columns_of(item):
                if not path or path[-1] == alias:
                    found.append(ast.ResTarget(name=column, val=self._carry(column_ref(alias, column))))
        if path and not found:
            raise not_supported(f"RETURNING {path[-1]}.* is not supported over several groups", hint=_NAME_THEM)
        return found

    def _columns_of(self, item: Any) -> list[tuple[str, str]]:
        """(alias, column) of everything that an item of FROM shows."""
        if isinstance(item, ast.JoinExpr) and not item.usingClause and not item.isNatural and item.alias is None:
            return [*self._columns_of(item.larg), *self._columns_of(item.rarg)]
        for table in rest_of(self.analysis, self.target):
            if table.ref.node is item and table.source.columns is not None and table.source.name is not None:
                return [(table.source.name, name) for name in table.source.columns]
        raise not_supported("RETURNING * is not supported for this statement over several groups", hint=_NAME_THEM)

    def _replacement(self, node: Any) -> Any:
        """For `transform`: what stands in the place of a node, None where it may stay."""
        return self._carry(node) if isinstance(node, ast.ColumnRef) and self._is_foreign(node) else None

    def _carry(self, node: Any) -> Any:
        if self._is_star(node):
            raise not_supported("whole rows in RETURNING are not supported over several groups", hint=_NAME_THEM)
        if node not in self.carried:
            self.carried.append(node)
        return column_ref("hanse_rows", f"hanse_{self.first + self.carried.index(node)}")


_NAME_THEM = "Name the columns."
_SYSTEM_COLUMNS = frozenset(("tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"))
