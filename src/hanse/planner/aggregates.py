"""Aggregates in two phases: each group aggregates its own rows, one statement in the workspace aggregates the results.

    SELECT city, avg(age) FROM people GROUP BY city HAVING count(*) > 5 ORDER BY 2 LIMIT 3

    each group      SELECT city AS g0, sum(age) AS p0, count(age) AS p1, count(*) AS p2 FROM people GROUP BY 1
    workspace       SELECT g0 AS city, sum(p0) / sum(p1) AS avg FROM hanse_partial
                    GROUP BY g0 HAVING coalesce(sum(p2), 0)::bigint > 5 ORDER BY 2 LIMIT 3

The final statement is the client's own with three things replaced: a grouping expression by its column g, an
aggregate by an expression over its partial columns p, and FROM by hanse_partial. So HAVING, ORDER BY, LIMIT, DISTINCT
and window functions over the grouped rows are PostgreSQL's, as are the names (each output column is named as
PostgreSQL would) and the types.

Why the digits are the same:

- avg() of integers and numerics divides the sum, as numeric, by the count (numeric_poly_avg, int8_avg in numeric.c):
  the same numeric_div() of the same two values as sum(p0) / sum(p1). The scale of a numeric sum is the largest scale
  among its inputs, whatever the grouping.
- sum(smallint) and sum(integer) are bigint, but sum(bigint) is numeric: cast back. real sums stay real, and avg(real)
  sums doubles: float sums depend on the order of rows in PostgreSQL, too.
- The count of a NOT NULL column's values, which avg() needs, is that of the rows.
- count over no groups at all is 0, every other aggregate of nothing is null.

*DISTINCT.* The arguments of `f(DISTINCT x)` become further grouping columns of the partial rows; the final statement
then runs f(DISTINCT g) for any f. Where x is the whole shard key, equal values lie in one group and count(DISTINCT x)
adds up by itself.

What is not done in two phases raises `Elsewhere`: aggregates whose result is no function of partial ones (array_agg,
stddev, percentiles …), grouping sets, columns that are only functionally dependent, subqueries outside aggregates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pglast.enums import JoinType

from ..catalog.model import Snapshot
from ..sql.functions import FunctionClass, classify
from . import inference
from .colnames import column_name
from .grouping import aggregate_calls, all_bytewise, is_aggregate, windows
from .merge_rules import UNLIMITED, limits
from .names import expanded_star, group_expression, is_star, output_of, resolve, same_key
from .spread import Base, Elsewhere
from .tree import (
    Node,
    ast,
    changed,
    column_ref,
    empty_select,
    function_name,
    is_plain_column,
    parse_expression,
    strings,
    transform,
    walk,
)

PARTIAL_TABLE = "hanse_partial"
_SAME = frozenset(("min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor"))
_SUMMABLE = frozenset((*inference.NUMBERS, inference.INTERVAL, inference.MONEY))
_AVERAGED = frozenset((*inference.NUMBERS, inference.INTERVAL))


@dataclass(frozen=True, slots=True)
class Phases:
    partial: Node
    columns: tuple[tuple[str, str], ...]  # (name, type), '' where only the groups know the type
    final: Node


@dataclass(slots=True)
class _Splitter:
    statement: Node
    base: Base
    snapshot: Snapshot
    groups: dict[object, Node] = field(default_factory=dict)  # key of a grouping expression → its column
    targets: list[Node] = field(default_factory=list)  # of the partial statement
    columns: list[tuple[str, str]] = field(default_factory=list)
    grouping: int = 0  # so many of `targets` are grouping columns
    known: dict[object, str] = field(default_factory=dict)  # key of a partial aggregate → its column
    spread_distinct: bool = False  # some DISTINCT aggregate needs its argument among the grouping columns


def split(statement: Node, base: Base, snapshot: Snapshot) -> Phases:
    """Both statements for a grouped SELECT or a SELECT DISTINCT over `base`. Raises Elsewhere."""
    _require_splittable(statement)
    splitter = _Splitter(statement, base, snapshot)
    if statement.groupClause or statement.havingClause is not None or aggregate_calls(statement, snapshot):
        return _grouped(splitter)
    if not statement.distinctClause:
        raise Elsewhere("a window that is not partitioned by the shard key")
    return _distinct(splitter)


def _require_splittable(statement: Node) -> None:
    limits(statement)
    if statement.lockingClause:
        raise Elsewhere("row locks with GROUP BY")
    if statement.groupDistinct:
        raise Elsewhere("GROUP BY DISTINCT")
    if any(isinstance(item, ast.GroupingSet) for item in statement.groupClause or ()):
        raise Elsewhere("grouping sets")
    for found in walk((statement.targetList or (), statement.sortClause or (), statement.groupClause or ())):
        if isinstance(found, ast.CollateClause) and strings(found.collname)[-1] not in ("C", "POSIX", "default"):
            raise Elsewhere("another collation than C")


# --- SELECT DISTINCT ---------------------------------------------------------------------------------------------


def _distinct(splitter: _Splitter) -> Phases:
    statement = splitter.statement
    if statement.distinctClause[0] is not None:
        raise Elsewhere("DISTINCT ON other columns than the shard key")
    if windows(statement):
        raise Elsewhere("DISTINCT over window functions")
    targets = _expanded(splitter)
    for target in targets:
        _group_by(splitter, target.val)
    partial = changed(statement, targetList=tuple(splitter.targets), sortClause=None, **UNLIMITED)
    return Phases(partial, tuple(splitter.columns), _final(splitter, targets))


def _expanded(splitter: _Splitter) -> list[Node]:
    """The target list without stars, every column with the name that it has in the result."""
    found = []
    for target in splitter.statement.targetList or ():
        if is_star(target):
            columns = expanded_star(target, splitter.base.scope)
            if columns is None or any(not item.alias for item, _ in columns):
                raise Elsewhere("a star whose columns are not known")
            found += [ast.ResTarget(name=o.name, val=column_ref(item.alias, o.name)) for item, o in columns]
            continue
        name = column_name(target)
        if name is None:
            raise Elsewhere("a column whose name is not known")
        found.append(changed(target, name=name))
    return found


# --- GROUP BY ----------------------------------------------------------------------------------------------------


def _grouped(splitter: _Splitter) -> Phases:
    statement = splitter.statement
    targets = _expanded(splitter)
    for item in statement.groupClause or ():
        expression = group_expression(item, statement.targetList or (), splitter.base.scope)
        if expression is None:
            raise Elsewhere("GROUP BY a name that may be a column or an alias")
        if any(is_aggregate(found, splitter.snapshot) for found in walk(expression)):
            raise Elsewhere("an aggregate in GROUP BY")  # an error, in PostgreSQL's words
        _group_by(splitter, expression)
    own_groups = splitter.grouping
    _add_distinct_arguments(splitter)
    final = _final(splitter, targets, own_groups)
    if not splitter.targets:
        _partial(splitter, parse_expression("count(*)"), "bigint")
    partial = changed(
        statement,
        targetList=tuple(splitter.targets),
        distinctClause=None,
        groupClause=tuple(parse_expression(str(i + 1)) for i in range(splitter.grouping)) or None,
        havingClause=None,
        windowClause=None,
        sortClause=None,
        **UNLIMITED,
    )
    return Phases(partial, tuple(splitter.columns), final)


def _group_by(splitter: _Splitter, expression: Node) -> Node:
    """The column of the partial rows that holds this expression, added if it is new."""
    mark = same_key(splitter.base.scope, expression)
    if mark in splitter.groups:
        return splitter.groups[mark]
    _require_storable(splitter, expression)
    name = f"g{splitter.grouping}"
    assert len(splitter.targets) == splitter.grouping, "grouping columns come first"
    splitter.targets.append(ast.ResTarget(name=name, val=expression))
    splitter.columns.append((name, _type_name(splitter, expression)))
    splitter.grouping += 1
    splitter.groups[mark] = column_ref(name)
    return splitter.groups[mark]


def _require_storable(splitter: _Splitter, expression: Node) -> None:
    """A table's column can hold it and compares it as the groups do."""
    if not all_bytewise(expression, splitter.base.scope, splitter.snapshot):
        raise Elsewhere("grouping by a text of another collation than C")
    for found in walk(expression):
        if isinstance(found, ast.RowExpr):
            raise Elsewhere("grouping by a row")
        if isinstance(found, ast.ColumnRef) and resolve(splitter.base.scope, found) is None:
            _require_no_row(found)


def _require_no_row(reference: Node) -> None:
    """A name that is not resolved may be a whole row, which no column can hold."""
    raise Elsewhere(f"column {'.'.join(strings(reference.fields))}, whose table is not plain to see")


def _type_name(splitter: _Splitter, expression: Node) -> str:
    output = output_of(splitter.base.scope, resolve(splitter.base.scope, expression))
    return output.type_name if output is not None else ""


# --- the final statement -----------------------------------------------------------------------------------------


def _final(splitter: _Splitter, targets: list[Node], own_groups: int = 0) -> Node:
    statement = splitter.statement
    names = [target.name for target in targets]
    group_clause = tuple(column_ref(f"g{i}") for i in range(own_groups)) or None
    return empty_select(
        distinctClause=_final_distinct(splitter, names),
        targetList=tuple(changed(target, val=_rewritten(splitter, target.val)) for target in targets),
        fromClause=(_partial_table(),),
        groupClause=group_clause,
        havingClause=_rewritten(splitter, statement.havingClause),
        windowClause=_rewritten(splitter, statement.windowClause),
        sortClause=tuple(_final_sort(splitter, item, names) for item in statement.sortClause or ()) or None,
        limitCount=statement.limitCount,
        limitOffset=statement.limitOffset,
        limitOption=statement.limitOption,
    )


def _partial_table() -> Node:
    return ast.RangeVar(relname=PARTIAL_TABLE, inh=True, relpersistence="p")


def _final_distinct(splitter: _Splitter, names: list[str]) -> tuple[Node, ...] | None:
    clause = splitter.statement.distinctClause
    if not clause or clause[0] is None:
        return clause  # type: ignore[no-any-return]
    return tuple(_final_name(splitter, expression, names) for expression in clause)


def _final_sort(splitter: _Splitter, item: Node, names: list[str]) -> Node:
    return changed(item, node=_final_name(splitter, item.node, names))


def _final_name(splitter: _Splitter, node: Node, names: list[str]) -> Node:
    """In ORDER BY and DISTINCT ON a number or the bare name of an output column stays as it is."""
    if isinstance(node, ast.A_Const):
        return node
    if is_plain_column(node) and len(node.fields) == 1 and strings(node.fields)[0] in names:
        return node
    return _rewritten(splitter, node)


def _rewritten(splitter: _Splitter, part: Node) -> Node:
    """An expression over the client's tables as one over hanse_partial."""
    if part is None:
        return None

    def change(node: Node) -> Node | None:
        if isinstance(node, ast.A_Const | ast.String | ast.TypeName | ast.ParamRef):
            return node
        if isinstance(node, ast.ResTarget | ast.WindowDef | ast.SortBy):
            return None
        group = splitter.groups.get(same_key(splitter.base.scope, node))
        if group is not None:
            return group
        if is_aggregate(node, splitter.snapshot):
            return _aggregate(splitter, node)
        _require_movable(node)
        return node if isinstance(node, ast.SubLink) else None

    return transform(part, change)


def _require_movable(node: Node) -> None:
    if isinstance(node, ast.ColumnRef):
        raise Elsewhere("a column that is not among the grouping expressions")
    if isinstance(node, ast.GroupingFunc):
        raise Elsewhere("GROUPING()")
    if isinstance(node, ast.SubLink):
        touching = (ast.RangeVar, ast.ColumnRef)
        if node.testexpr is not None or any(isinstance(found, touching) for found in walk(node.subselect)):
            raise Elsewhere("a subquery beside aggregates")


# --- one aggregate -----------------------------------------------------------------------------------------------


def _aggregate(splitter: _Splitter, call: Node) -> Node:
    schema, name = function_name(call)
    if classify(schema, name, splitter.snapshot) is FunctionClass.USER:
        raise Elsewhere(f"aggregate {name}, which a user made")
    if call.agg_within_group or call.func_variadic:
        raise Elsewhere(f"aggregate {name} WITHIN GROUP")
    if call.agg_distinct:
        return _distinct_aggregate(splitter, call, name)
    if call.agg_order and name not in ("count", "sum", "avg", *_SAME):
        raise Elsewhere(f"aggregate {name} with ORDER BY")
    call = changed(call, agg_order=None)
    if name == "count":
        return _count(splitter, call)
    if len(call.args or ()) != 1:
        raise Elsewhere(f"aggregate {name}, which cannot be computed in parts")
    if name == "sum":
        return _sum(splitter, call)
    if name == "avg":
        return _average(splitter, call)
    if name in _SAME:
        if not all_bytewise(call.args, splitter.base.scope, splitter.snapshot):
            raise Elsewhere(f"{name} of a text of another collation than C")
        return parse_expression(f"{name}({_partial(splitter, call)})")
    raise Elsewhere(f"aggregate {name}, which cannot be computed in parts")


def _count(splitter: _Splitter, call: Node) -> Node:
    return parse_expression(f"CAST(coalesce(sum({_partial(splitter, call, 'bigint')}), 0) AS bigint)")


def _sum(splitter: _Splitter, call: Node) -> Node:
    argument = _argument_type(splitter, call, _SUMMABLE)
    column = _partial(splitter, call)
    return parse_expression(
        f"CAST(sum({column}) AS bigint)" if argument in (inference.INT2, inference.INT4) else f"sum({column})"
    )


def _average(splitter: _Splitter, call: Node) -> Node:
    argument = _argument_type(splitter, call, _AVERAGED)
    value = call.args[0]
    if argument == inference.FLOAT4:
        value = ast.TypeCast(arg=value, typeName=parse_expression("CAST(NULL AS double precision)").typeName)
    total = _partial(splitter, changed(call, funcname=(ast.String(sval="sum"),), args=(value,)))
    counted = changed(call, funcname=(ast.String(sval="count"),))
    if _never_null(splitter, value) and same_key(splitter.base.scope, counted) not in splitter.known:
        counted = changed(counted, args=None, agg_star=True)
    return parse_expression(f"(sum({total}) / sum({_partial(splitter, counted, 'bigint')}))")


def _never_null(splitter: _Splitter, value: Node) -> bool:
    """A NOT NULL column of a table that no outer join extends by nulls: counted by count(*), which may be asked for as well.

    What the columns of the table are called is plain to see: no alias gives them other names.
    """
    column = resolve(splitter.base.scope, value)
    item = None if column is None else splitter.base.scope.item(column[0])
    if column is None or item is None or item.relation is None:
        return False
    for found in walk(splitter.statement.fromClause):
        if isinstance(found, ast.JoinExpr) and found.jointype != JoinType.JOIN_INNER:
            return False
        if isinstance(found, ast.Alias) and found.colnames:
            return False
    known = item.relation.column_by_name.get(column[1])
    return known is not None and known.not_null


def _argument_type(splitter: _Splitter, call: Node, allowed: frozenset[int]) -> int:
    found = inference.infer(call.args[0], splitter.base.scope, splitter.snapshot.function_names.__contains__)
    if found not in allowed:
        raise Elsewhere(f"{function_name(call)[1]}() of an expression whose type is not known")
    return found


def _partial(splitter: _Splitter, call: Node, type_name: str = "") -> str:
    """The column of the partial rows that holds this aggregate, added if it is new."""
    mark = same_key(splitter.base.scope, call)
    if mark not in splitter.known:
        name = f"p{len(splitter.known)}"
        splitter.targets.append(ast.ResTarget(name=name, val=call))
        splitter.columns.append((name, type_name))
        splitter.known[mark] = name
    return splitter.known[mark]


# --- aggregates of DISTINCT values -------------------------------------------------------------------------------


def _add_distinct_arguments(splitter: _Splitter) -> None:
    """Makes arguments of DISTINCT aggregates grouping columns, before any partial aggregate is added."""
    found = [call for call in aggregate_calls(splitter.statement, splitter.snapshot) if call.agg_distinct]
    splitter.spread_distinct = any(not _counts_key(splitter, call) for call in found)
    if not splitter.spread_distinct:
        return
    for call in found:
        for part in (*call.args, *((call.agg_filter,) if call.agg_filter is not None else ())):
            if not isinstance(part, ast.A_Const):
                _group_by(splitter, part)


def _counts_key(splitter: _Splitter, call: Node) -> bool:
    spread = splitter.base.spread
    if function_name(call)[1] != "count" or len(call.args or ()) != 1 or spread is None or len(spread.keys) != 1:
        return False
    return resolve(splitter.base.scope, call.args[0]) in spread.keys[0]


def _distinct_aggregate(splitter: _Splitter, call: Node, name: str) -> Node:
    if not splitter.spread_distinct:
        return _count(splitter, changed(call, agg_order=None))

    def column(node: Node) -> Node:
        if isinstance(node, ast.A_Const):
            return node
        found = splitter.groups.get(same_key(splitter.base.scope, node))
        if found is None:
            raise Elsewhere(f"{name}(DISTINCT … ORDER BY …) of another expression")  # an error, in PostgreSQL's words
        return found

    ordering = tuple(changed(item, node=column(item.node)) for item in call.agg_order or ()) or None
    condition = None if call.agg_filter is None else column(call.agg_filter)
    return changed(call, args=tuple(column(node) for node in call.args), agg_filter=condition, agg_order=ordering)
