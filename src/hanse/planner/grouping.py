"""What a SELECT does with its rows: aggregates, windows, DISTINCT, and whether that happens inside the groups.

It does when the whole shard key is among the grouping expressions: then rows that belong together lie together.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..catalog.model import Snapshot
from ..sql.functions import AGGREGATES, FunctionClass, classify
from .colnames import column_name
from .names import Column, Scope, group_expression, is_star, output_of, relation_outputs, resolve, star_items
from .spread import Base, Elsewhere, Spread
from .tree import Node, ast, function_name, strings, sublinks, walk, walk_level


def is_aggregate(call: Node, snapshot: Snapshot) -> bool:
    """Whether a FuncCall is an aggregate (and no window function)."""
    if not isinstance(call, ast.FuncCall) or call.over is not None:
        return False
    if call.agg_star or call.agg_distinct or call.agg_filter is not None or call.agg_within_group or call.agg_order:
        return True
    schema, name = function_name(call)
    if classify(schema, name, snapshot) is FunctionClass.USER:
        return any(f.kind == "a" for f in snapshot.function_names.get(name, ()))
    return name in AGGREGATES


def aggregate_calls(statement: Node, snapshot: Snapshot) -> list[Node]:
    parts = (statement.targetList, statement.havingClause, statement.sortClause, statement.distinctClause)
    extra = statement.windowClause
    return [found for part in (*parts, extra) for found in walk_level(part) if is_aggregate(found, snapshot)]


def is_grouped(statement: Node, snapshot: Snapshot) -> bool:
    if statement.groupClause or statement.havingClause is not None or aggregate_calls(statement, snapshot):
        return True
    # An aggregate inside a subquery may belong to this query; whether it does is not worked out.
    for part in (statement.targetList, statement.sortClause):
        for link in sublinks(part):
            if any(is_aggregate(found, snapshot) for found in walk(link.subselect)):
                _require_own_aggregates(link.subselect, snapshot)
    return False


def _require_own_aggregates(query: Node, snapshot: Snapshot) -> None:
    for found in walk(query):
        if is_aggregate(found, snapshot) and found.args:
            named = [node for node in walk(found.args) if isinstance(node, ast.ColumnRef)]
            tables = {
                (table.alias.aliasname if table.alias else table.relname)
                for table in walk(query)
                if isinstance(table, ast.RangeVar)
            }
            if named and not any(len(node.fields) > 1 and strings(node.fields)[0] in tables for node in named):
                raise Elsewhere("an aggregate in a subquery that may belong to the query around it")


def _holds_key(columns: Iterable[Column | None], spread: Spread) -> bool:
    present = {column for column in columns if column is not None}
    return bool(spread.keys) and all(present & holders for holders in spread.keys)


def group_is_local(statement: Node, base: Base) -> bool:
    assert base.spread is not None
    columns: list[Column | None] = []
    for item in statement.groupClause or ():
        expression = group_expression(item, statement.targetList or (), base.scope)
        columns.append(None if expression is None else resolve(base.scope, expression))
        if isinstance(item, ast.GroupingSet):
            return False
    return _holds_key(columns, base.spread)


def distinct_is_local(statement: Node, base: Base) -> bool:
    assert base.spread is not None
    if statement.distinctClause[0] is not None:
        return _holds_key(_distinct_on(statement, base.scope), base.spread)
    columns: list[Column | None] = []
    for target in statement.targetList or ():
        if is_star(target):
            columns += _star_columns(target, base)
        else:
            columns.append(resolve(base.scope, target.val))
    return _holds_key(columns, base.spread)


def _star_columns(target: Node, base: Base) -> list[Column | None]:
    items = star_items(target, base.scope) or ()
    return [(item.number, output.name) for item in items for output in item.outputs or ()]


def _distinct_on(statement: Node, scope: Scope) -> list[Column | None]:
    """The columns of DISTINCT ON (…). A bare name is first of all an output column's."""
    found: list[Column | None] = []
    targets = statement.targetList or ()
    for expression in statement.distinctClause:
        name = (
            strings(expression.fields)[-1]
            if isinstance(expression, ast.ColumnRef) and len(expression.fields) == 1
            else None
        )
        named = [
            target for target in targets if name is not None and not is_star(target) and column_name(target) == name
        ]
        meant = named[0].val if named else group_expression(expression, targets, scope)
        found.append(None if meant is None else resolve(scope, meant))
    return found


def windows(statement: Node) -> list[Node]:
    parts = (statement.targetList, statement.sortClause, statement.distinctClause)
    calls_over = [f for part in parts for f in walk_level(part) if isinstance(f, ast.FuncCall) and f.over is not None]
    return [call.over for call in calls_over]


def windows_are_local(statement: Node, base: Base) -> bool:
    """Every window function's PARTITION BY holds the key; true without windows."""
    assert base.spread is not None
    defined = {window.name: window for window in statement.windowClause or ()}
    for used in windows(statement):
        window = used
        while window is not None and not window.partitionClause:
            window = defined.get(window.refname or (window.name if window is used else None))
        if window is None:
            return False
        columns = [resolve(base.scope, expression) for expression in window.partitionClause]
        if not _holds_key(columns, base.spread):
            return False
    return True


def all_bytewise(node: Node, scope: Scope, snapshot: Snapshot) -> bool:
    """Whether texts computed by this expression compare as bytes: no other collation can come in."""
    for found in walk(node):
        if isinstance(found, ast.CollateClause) and strings(found.collname)[-1] not in ("C", "POSIX", "default"):
            return False
        if isinstance(found, ast.ColumnRef):
            output = output_of(scope, resolve(scope, found))
            if not (output.bytewise if output is not None else _all_default(snapshot)):
                return False
    return True


def _all_default(snapshot: Snapshot) -> bool:
    return all(output.bytewise for relation in snapshot.relations for output in relation_outputs(relation))
