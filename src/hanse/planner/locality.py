"""Where the rows of a query come from when every group runs it over its own shards: the heart of pushing down.

A query is one of

- *everywhere*: it reads reference tables only, or nothing. Every group computes the same rows.
- *spread*: the groups' rows, put together, are exactly the rows that one PostgreSQL with all data would compute. Some
  output columns may be known to hold the shard key, so that rows with equal values there lie in the same group.
- neither: `Elsewhere` is raised, and the reason names why.

A sharded table is spread; its key columns hold the key. From there on:

    spread ⋈ everywhere          spread                    (also spread ⟕ everywhere; never everywhere ⟕ spread: each
    group
                                                           would add its own unmatched rows)
    spread ⋈ spread              spread, if the tables are co-located and the condition makes the whole keys equal
                                 (⟕ and FULL likewise, by the ON condition alone)
    GROUP BY, DISTINCT, PARTITION BY over spread   spread, if the whole key is among the expressions
    LIMIT in a subquery          neither
    UNION ALL of spread          spread; UNION, INTERSECT, EXCEPT: if the key stands in the same column of both
    a subquery in an expression  allowed if everywhere, or if its WHERE ties its key to the key of a query around it

*Equalities.* Conditions `a = b` that hold for every row of the result (WHERE, ON of inner joins) make classes of
columns (union-find), so that `a.k = b.x AND b.x = c.k` ties a and c. Equalities inside the nullable side of an outer
join are kept as well: there both sides are equal or both null, and a path of equalities from a key that is not null
never passes a null. Only columns of one type, or all of integers or texts, make an equality: rounding would break
transitivity.

*Everywhere must be the same everywhere.* A subquery over reference tables with LIMIT, volatile functions or
aggregates that depend on the order of rows could give other rows in each group: neither.

What it does not see, and leaves to the workspace: keys fixed by constants (`a.k = 5 AND b.k = 5`: forwarded before),
aliases of whole joins, recursive queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from pglast import parse_sql

from ..catalog.model import Kind, Relation, Snapshot
from ..sql.functions import FunctionClass
from ..sql.functions import calls as find_calls
from ..sql.scope import is_catalog_name, is_temporary
from . import calls, inference
from .clock import names_moment, reads_clock
from .colnames import column_name
from .grouping import (
    aggregate_calls,
    all_bytewise,
    distinct_is_local,
    group_is_local,
    is_grouped,
    windows,
    windows_are_local,
)
from .names import (
    Column,
    Item,
    Output,
    Scope,
    expanded_star,
    is_star,
    output_of,
    relation_outputs,
    renamed,
    resolve,
)
from .plan import Context
from .spread import Around, Base, Elsewhere, Equalities, Region, Shape, Spread
from .tree import Node, ast, conjuncts, function_name, is_operator, strings, sublinks

_ORDER_FREE = frozenset("count sum avg min max bool_and bool_or every bit_and bit_or bit_xor".split())
_SAME_ON_ALL = frozenset(("current_schema", "current_schemas", "format_type", "pg_encoding_to_char"))
_INTEGERS = frozenset(inference.INTEGERS)
_TEXTS = frozenset((inference.TEXT, inference.VARCHAR))


Ctes = Mapping[str, Shape]


class Analyzer:
    """Analyses one statement. Raises Elsewhere, or PgError 0A000 for what no plan can do."""

    def __init__(self, snapshot: Snapshot, context: Context) -> None:
        self.snapshot = snapshot
        self.context = context
        self._numbers = count()
        self.relations: dict[tuple[str, str], Relation] = {}

    # --- queries -------------------------------------------------------------------------------------------------

    def query(self, statement: Node, around: Around | None = None, ctes: Ctes | None = None) -> Shape:
        """A whole query, whose rows are needed exactly as they are."""
        visible = self.with_ctes(statement, ctes or {})
        if statement.op.name != "SETOP_NONE":
            return self._set_operation(statement, around, visible)
        if statement.valuesLists:
            self._sublinks(statement.valuesLists, Scope(parent=around.scope if around else None), None, around, visible)
            if calls.volatile_here(statement.valuesLists, self.snapshot):
                raise Elsewhere("a volatile function in VALUES")
            width = len(statement.valuesLists[0])
            return Shape(tuple(Output(f"column{i + 1}") for i in range(width)))
        base = self.base(statement, around, visible)
        if base.tied:
            return Shape(self._outputs(statement, base.scope))
        self._require_closed(statement, base)
        return self._shape(statement, base)

    def with_ctes(self, statement: Node, ctes: Ctes) -> dict[str, Shape]:
        visible = dict(ctes)
        clause = statement.withClause
        if clause is None:
            return visible
        if clause.recursive:
            raise Elsewhere("WITH RECURSIVE")
        for cte in clause.ctes:
            if not isinstance(cte.ctequery, ast.SelectStmt):
                raise Elsewhere("a data-modifying WITH query")
            shape = self.query(cte.ctequery, None, visible)
            outputs = renamed(shape.outputs, strings(cte.aliascolnames))
            visible[cte.ctename] = Shape(outputs, shape.spread, shape.keys)
        return visible

    def _set_operation(self, statement: Node, around: Around | None, ctes: Ctes) -> Shape:
        if statement.limitCount is not None or statement.limitOffset is not None:
            raise Elsewhere("LIMIT in a subquery")
        left, right = (self.query(arm, around, ctes) for arm in (statement.larg, statement.rarg))
        if left.spread is None and right.spread is None:
            return Shape(left.outputs)
        if left.spread is None or right.spread is None:
            raise Elsewhere("a set operation of sharded and reference tables")
        together = self._aligned(left, right)
        is_union_all = statement.op.name == "SETOP_UNION" and statement.all
        if not is_union_all and not (together and all(together)):
            raise Elsewhere("a set operation whose columns do not hold the shard key")
        groups = tuple(sorted({*left.spread.groups, *right.spread.groups}))
        spread = Spread(left.spread.colocation, groups, ())
        return Shape(_merged_outputs(left.outputs, right.outputs), spread, together)

    @staticmethod
    def _aligned(left: Shape, right: Shape) -> tuple[frozenset[int], ...]:
        assert left.spread is not None and right.spread is not None
        if left.spread.colocation != right.spread.colocation or len(left.keys) != len(right.keys):
            return ()
        return tuple(a & b for a, b in zip(left.keys, right.keys, strict=True))

    def base(self, statement: Node, around: Around | None, ctes: Ctes) -> Base:
        """FROM and WHERE, and every subquery in any expression of the SELECT."""
        equal = Equalities()
        outer = around.scope if around else None
        region = Region()
        for entry in statement.fromClause or ():
            region = self._comma(region, self._from(entry, equal, region, around, ctes))
        scope = Scope(region.items, region.merged, outer)
        self._add_equalities(statement.whereClause, scope, equal)
        spread = self._settled(region.spreads, equal)
        tied = spread is not None and around is not None and any(equal.tie(spread, each) for each in around.spreads)
        self._semijoins(statement, scope, spread, around, ctes)
        return Base(scope, spread, tied)

    def _settled(self, spreads: Sequence[Spread], equal: Equalities) -> Spread | None:
        """All of them as one, or Elsewhere."""
        if not spreads:
            return None
        first = spreads[0]
        keys = [equal.closed(columns) for columns in first.keys]
        for other in spreads[1:]:
            if other.colocation != first.colocation:
                raise Elsewhere("a join of tables that are not co-located")
            if not equal.tie(first, other):
                raise Elsewhere("a join of sharded tables on other columns than the shard key")
        return Spread(first.colocation, first.groups, tuple(keys))

    # --- FROM ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _comma(left: Region, right: Region) -> Region:
        return Region(left.items + right.items, left.spreads + right.spreads, _clashing(left, right))

    def _from(self, entry: Node, equal: Equalities, left: Region, around: Around | None, ctes: Ctes) -> Region:
        if isinstance(entry, ast.RangeVar):
            return self._table(entry, ctes)
        if isinstance(entry, ast.JoinExpr):
            return self._join(entry, equal, left, around, ctes)
        if isinstance(entry, ast.RangeSubselect):
            return self._subselect(entry, left, around, ctes)
        if isinstance(entry, ast.RangeTableSample):
            region = self._table(entry.relation, ctes)
            if not region.spreads:
                raise Elsewhere("TABLESAMPLE of a reference table")
            return region
        if isinstance(entry, ast.RangeFunction):
            return self._function(entry, left, around, ctes)
        raise Elsewhere(f"{type(entry).__name__} in FROM")

    def _table(self, entry: Node, ctes: Ctes) -> Region:
        alias = entry.alias.aliasname if entry.alias else entry.relname
        names = strings(entry.alias.colnames) if entry.alias else ()
        if entry.schemaname is None and entry.relname in ctes:
            return self._derived(ctes[entry.relname], alias, names)
        if is_temporary(entry.schemaname, entry.relname, self.context):
            raise Elsewhere(f"temporary table {entry.relname}")
        relation = self.snapshot.find(entry.schemaname, entry.relname, self.context.search_path)
        if relation is None or is_catalog_name(relation.schema, relation.name, self.context):
            raise Elsewhere(f"relation {entry.relname}, which the groups do not have alike")
        self.relations[relation.identity] = relation
        if relation.kind is Kind.VIEW:
            return self._view(relation, alias, names)
        item = Item(next(self._numbers), alias, renamed(relation_outputs(relation), names), relation)
        if relation.kind in (Kind.REFERENCE, Kind.MATERIALIZED_VIEW):
            return Region((item,))
        if relation.kind is not Kind.SHARDED or relation.colocation is None:
            raise Elsewhere(f"{relation.kind} table {relation.name}")
        if not entry.inh:
            raise Elsewhere("ONLY, which leaves out a sharded table's rows")
        positions = {column.name: index for index, column in enumerate(relation.columns)}
        if item.outputs is None:
            raise Elsewhere("more column aliases than columns")
        keys = tuple(frozenset([(item.number, item.outputs[positions[name]].name)]) for name in relation.key)
        return Region((item,), (Spread(relation.colocation, relation.groups, keys),))

    def _view(self, relation: Relation, alias: str, names: tuple[str, ...]) -> Region:
        definition = view_query(relation)
        inside = Analyzer(self.snapshot, Context(search_path=VIEW_SEARCH_PATH, user=self.context.user))
        calls.check(definition, self.snapshot)
        if reads_clock(definition) or names_moment(definition):
            raise Elsewhere(f"view {relation.name}, which reads the time")
        inside.require_callable(definition)
        shape = inside.query(definition)
        self.relations |= inside.relations
        known = relation_outputs(relation)
        outputs = known if shape.outputs is None or len(known) == len(shape.outputs) else shape.outputs
        return self._derived(Shape(outputs or shape.outputs, shape.spread, shape.keys), alias, names)

    def _derived(self, shape: Shape, alias: str, names: tuple[str, ...]) -> Region:
        """A subquery, CTE or view as an item; its key columns are known where its columns' names are."""
        outputs = renamed(shape.outputs, names)
        item = Item(next(self._numbers), alias, outputs)
        if shape.spread is None:
            return Region((item,))
        keys: list[frozenset[Column]] = []
        for positions in shape.keys or (frozenset(),):
            named = [outputs[position].name for position in positions] if outputs is not None else []
            all_names = [output.name for output in outputs or ()]
            keys.append(frozenset((item.number, name) for name in named if all_names.count(name) == 1))
        return Region((item,), (Spread(shape.spread.colocation, shape.spread.groups, tuple(keys)),))

    def _subselect(self, entry: Node, left: Region, around: Around | None, ctes: Ctes) -> Region:
        outer = around
        if entry.lateral:
            scope = Scope(left.items, left.merged, around.scope if around else None)
            outer = Around(scope, left.spreads + (around.spreads if around else ()))
        alias = entry.alias.aliasname if entry.alias else ""
        shape = self.query(entry.subquery, outer, ctes)
        return self._derived(shape, alias, strings(entry.alias.colnames) if entry.alias else ())

    def _function(self, entry: Node, left: Region, around: Around | None, ctes: Ctes) -> Region:
        scope = Scope(left.items, left.merged, around.scope if around else None)
        self._sublinks(entry.functions, scope, None, around, ctes)
        if calls.volatile_here(entry.functions, self.snapshot):
            raise Elsewhere("a volatile function in FROM")
        alias = entry.alias.aliasname if entry.alias else ""
        return Region((Item(next(self._numbers), alias, None),))

    def _join(self, join: Node, equal: Equalities, before: Region, around: Around | None, ctes: Ctes) -> Region:
        if join.alias is not None:
            raise Elsewhere("an alias of a join")
        left = self._from(join.larg, equal, before, around, ctes)
        right = self._from(join.rarg, equal, self._comma(before, left), around, ctes)
        kind = join.jointype.name
        both = self._comma(left, right)
        shared = self._using(join, left, right, kind)
        both.merged = {**both.merged, **{name: column for name, (column, _, _) in shared.items()}}
        scope = Scope(both.items, both.merged, around.scope if around else None)
        here = equal if kind == "JOIN_INNER" else equal.copy()
        for _, one, other in shared.values():
            if one is not None and other is not None:
                self._equal(one, other, scope, here)
        self._add_equalities(join.quals, scope, here)
        self._sublinks(join.quals, scope, None, around, ctes)
        if kind == "JOIN_INNER":
            return both
        both.spreads = self._outer(kind, left, right, here)
        return both

    def _outer(self, kind: str, left: Region, right: Region, equal: Equalities) -> tuple[Spread, ...]:
        if kind == "JOIN_RIGHT":
            left, right = right, left
        if kind == "JOIN_FULL":
            return self._full(left, right, equal)
        inner = self._settled(right.spreads, equal)
        if inner is None:
            return left.spreads
        if not left.spreads:
            raise Elsewhere("an outer join that keeps every row of a reference table")
        if not any(equal.tie(each, inner) for each in left.spreads):
            raise Elsewhere("an outer join of sharded tables on other columns than the shard key")
        return left.spreads

    def _full(self, left: Region, right: Region, equal: Equalities) -> tuple[Spread, ...]:
        one, other = self._settled(left.spreads, equal), self._settled(right.spreads, equal)
        if one is None and other is None:
            return ()
        if one is None or other is None:
            raise Elsewhere("a full join of a sharded and a reference table")
        if not equal.tie(one, other):
            raise Elsewhere("a full join of sharded tables on other columns than the shard key")
        return (Spread(one.colocation, one.groups, tuple(frozenset() for _ in one.keys)),)

    def _using(
        self, join: Node, left: Region, right: Region, kind: str
    ) -> dict[str, tuple[Column | None, Column | None, Column | None]]:
        """Merged columns: name → (what the name now means, the left column, the right column)."""
        names = strings(join.usingClause)
        if join.isNatural:
            if any(item.outputs is None for item in left.items + right.items):
                raise Elsewhere("NATURAL JOIN of columns that are not known")
            both = [{output.name for item in side.items for output in item.outputs or ()} for side in (left, right)]
            names = tuple(sorted(both[0] & both[1]))
        found = {}
        for name in names:
            one, other = (_column_named(side, name) for side in (left, right))
            meant = {"JOIN_INNER": one, "JOIN_LEFT": one, "JOIN_RIGHT": other}.get(kind)
            found[name] = (meant, one, other)
        return found

    # --- conditions ----------------------------------------------------------------------------------------------

    def _add_equalities(self, condition: Node, scope: Scope, equal: Equalities) -> None:
        for conjunct in conjuncts(condition):
            if is_operator(conjunct, "="):
                for one, other in _equated(conjunct.lexpr, conjunct.rexpr):
                    left, right = resolve(scope, one), resolve(scope, other)
                    if left is not None and right is not None:
                        self._equal(left, right, scope, equal)

    @staticmethod
    def _equal(one: Column, other: Column, scope: Scope, equal: Equalities) -> None:
        left, right = output_of(scope, one), output_of(scope, other)
        if left is None or right is None or not left.type_oid:
            return
        kinds = {left.type_oid, right.type_oid}
        if len(kinds) == 1 or kinds <= _INTEGERS or kinds <= _TEXTS:
            equal.add(one, other)

    def _semijoins(
        self, statement: Node, scope: Scope, spread: Spread | None, around: Around | None, ctes: Ctes
    ) -> None:
        """Checks every subquery in an expression; `key IN (SELECT key …)` as a conjunct of WHERE is local by itself."""
        for conjunct in conjuncts(statement.whereClause):
            if spread is not None and _is_in_query(conjunct) and self._in_is_local(conjunct, scope, spread, ctes):
                continue
            self._sublinks(conjunct, scope, spread, around, ctes)
        for part in (
            statement.targetList,
            statement.havingClause,
            statement.groupClause,
            statement.sortClause,
            statement.windowClause,
            statement.distinctClause,
        ):
            self._sublinks(part, scope, spread, around, ctes)

    def _in_is_local(self, link: Node, scope: Scope, spread: Spread, ctes: Ctes) -> bool:
        """IN is true only through a row with an equal key, which lies here. (NOT IN and NULL would see other groups.)"""
        try:
            shape = self.query(link.subselect, Around(scope, (spread,)), ctes)
        except Elsewhere:
            return False
        if shape.spread is None:
            return True
        tests = link.testexpr.args if isinstance(link.testexpr, ast.RowExpr) else (link.testexpr,)
        columns = [resolve(scope, test) for test in tests]
        if shape.spread.colocation != spread.colocation or len(shape.keys) != len(spread.keys):
            return False
        return all(
            any(position < len(columns) and columns[position] in mine for position in theirs)
            for mine, theirs in zip(spread.keys, shape.keys, strict=True)
        )

    def _sublinks(self, part: Node, scope: Scope, spread: Spread | None, around: Around | None, ctes: Ctes) -> None:
        spreads = ((spread,) if spread else ()) + (around.spreads if around else ())
        for link in sublinks(part):
            shape = self.query(link.subselect, Around(scope, spreads), ctes)
            if shape.spread is not None:
                raise Elsewhere("a subquery over a sharded table")

    # --- closing a query -----------------------------------------------------------------------------------------

    def _require_closed(self, statement: Node, base: Base) -> None:
        if statement.lockingClause:
            raise Elsewhere("row locks in a subquery")
        limited = statement.limitCount is not None or statement.limitOffset is not None
        if limited:
            raise Elsewhere("LIMIT in a subquery")
        if base.spread is None:
            self._require_same_everywhere(statement, base)
            return
        if is_grouped(statement, self.snapshot) and not group_is_local(statement, base):
            raise Elsewhere("a subquery that groups by other columns than the shard key")
        if not windows_are_local(statement, base):
            raise Elsewhere("a window in a subquery that is not partitioned by the shard key")
        if statement.distinctClause and not distinct_is_local(statement, base):
            raise Elsewhere("DISTINCT in a subquery without the shard key")

    def _require_same_everywhere(self, statement: Node, base: Base) -> None:
        if not statement.fromClause and not calls.volatile_here(statement, self.snapshot):
            return
        if statement.distinctClause and statement.distinctClause[0] is not None:
            raise Elsewhere("DISTINCT ON over reference tables")
        if any(True for _ in windows(statement)):
            raise Elsewhere("a window over reference tables")
        if calls.volatile_here(statement, self.snapshot):
            raise Elsewhere("a volatile function over reference tables")
        for call in aggregate_calls(statement, self.snapshot):
            if function_name(call)[1] not in _ORDER_FREE:
                raise Elsewhere("an aggregate over reference tables that depends on the order of rows")

    def require_callable(self, node: Node) -> None:
        """The user's functions in it read nothing but reference tables."""
        body = calls.bodies(node, self.snapshot)
        for relation, _ in body.reads:
            if relation.kind not in (Kind.REFERENCE, Kind.MATERIALIZED_VIEW):
                raise Elsewhere(f"a function that may read {relation.name}")
        if body.clock:
            raise Elsewhere("a function that reads the time")
        server_side = (FunctionClass.CATALOG, FunctionClass.SERVER)
        for call in find_calls(node, self.snapshot):
            if call.kind in server_side and call.name not in _SAME_ON_ALL:
                raise Elsewhere(f"function {call.name}, which speaks of one server")

    def _outputs(self, statement: Node, scope: Scope) -> tuple[Output, ...] | None:
        found: list[Output] = []
        for target in statement.targetList or ():
            if is_star(target):
                columns = expanded_star(target, scope)
                if columns is None:
                    return None
                found += [output for _, output in columns]
            else:
                found.append(self._output(target, scope))
        return tuple(found)

    def _output(self, target: Node, scope: Scope) -> Output:
        name = column_name(target) or ""
        known = output_of(scope, resolve(scope, target.val))
        if known is not None:
            return Output(name, known.type_oid, known.type_name, known.bytewise)
        bytewise = all_bytewise(target.val, scope, self.snapshot)
        return Output(name, inference.infer(target.val, scope, self.snapshot.function_names.__contains__), "", bytewise)

    def _shape(self, statement: Node, base: Base) -> Shape:
        outputs = self._outputs(statement, base.scope)
        if base.spread is None:
            return Shape(outputs)
        columns: list[Column | None] = []
        for target in statement.targetList or ():
            if is_star(target):
                columns += [(item.number, o.name) for item, o in expanded_star(target, base.scope) or ()]
            else:
                columns.append(resolve(base.scope, target.val))
        keys = tuple(
            frozenset(index for index, column in enumerate(columns) if column in holders)
            for holders in base.spread.keys
        )
        return Shape(outputs, base.spread, keys if outputs is not None else tuple(frozenset() for _ in keys))


VIEW_SEARCH_PATH = ("public",)  # pg_get_viewdef() leaves the schema away where this path finds the relation


def view_query(relation: Relation) -> Node:
    statement: Node = parse_sql(relation.view_definition or "SELECT")[0].stmt
    return statement


def _clashing(left: Region, right: Region) -> dict[str, Column | None]:
    """Merged names of both sides; a name merged in both means neither."""
    both: dict[str, Column | None] = {**left.merged, **right.merged}
    for name in left.merged.keys() & right.merged.keys():
        both[name] = None
    return both


def _column_named(side: Region, name: str) -> Column | None:
    if name in side.merged:
        return side.merged[name]
    if any(item.outputs is None for item in side.items):
        return None
    found = [item.number for item in side.items if item.output(name)]
    return (found[0], name) if len(found) == 1 else None


def _equated(left: Node, right: Node) -> Sequence[tuple[Node, Node]]:
    """`(a, b) = (c, d)` → (a, c), (b, d)."""
    if isinstance(left, ast.RowExpr) and isinstance(right, ast.RowExpr):
        return list(zip(left.args, right.args, strict=False))
    return [(left, right)]


def _is_in_query(node: Node) -> bool:
    return (
        isinstance(node, ast.SubLink)
        and node.subLinkType.name == "ANY_SUBLINK"
        and strings(node.operName) in ((), ("=",))
    )


def _merged_outputs(left: tuple[Output, ...] | None, right: tuple[Output, ...] | None) -> tuple[Output, ...] | None:
    if left is None or right is None or len(left) != len(right):
        return left if right is None else None
    return tuple(
        Output(a.name, a.type_oid if a.type_oid == b.type_oid else 0, "", a.bytewise and b.bytewise)
        for a, b in zip(left, right, strict=True)
    )
