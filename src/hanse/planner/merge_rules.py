"""How the sorted and limited rows of several groups become one result: the statement for the groups, and the `Merge`.

    SELECT name FROM t ORDER BY age DESC LIMIT 10 OFFSET 5

    to each group   SELECT name, age AS hanse_sort_0 FROM t ORDER BY age DESC LIMIT 15
    in the gateway  merge by the last column, leave out 5 rows, give 10, drop the last column

No group can hold a row among the first 15 of all that is not among its own first 15, so nothing is lost.

A sort key is compared in the gateway only where that is what PostgreSQL does: `SORTABLE_TYPES`, texts in byte order.
What cannot be compared (enums, arrays, other collations), `USING`, and `WITH TIES` raise `Elsewhere`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pglast import enums

from ..catalog.model import Snapshot
from . import inference
from .colnames import column_name
from .grouping import all_bytewise
from .names import Output, Scope, expanded_star, is_star, resolve, same_key
from .plan import Merge, Param, SortKey
from .spread import Elsewhere
from .tree import (
    Node,
    ast,
    changed,
    column_ref,
    integer_constant,
    is_null_constant,
    is_plain_column,
    parse_expression,
    strings,
)

_NUMBERS = (*inference.NUMBERS, inference.OID, inference.BOOL)
_TEXTS = (inference.TEXT, inference.VARCHAR, inference.BPCHAR, inference.NAME, inference.UUID)
_TIMES = (inference.DATE, inference.TIME, inference.TIMESTAMP, inference.TIMESTAMPTZ)
SORTABLE_TYPES = frozenset((*_NUMBERS, *_TEXTS, *_TIMES))  # those of executor.sort_values; a test compares them

UNLIMITED: dict[str, object] = {
    "limitCount": None,
    "limitOffset": None,
    "limitOption": enums.LimitOption.LIMIT_OPTION_DEFAULT,
}
_INT8_MAX = (1 << 63) - 1


def merged(statement: Node, scope: Scope, snapshot: Snapshot, merge_allowed: bool = True) -> tuple[Node, Merge]:
    """The statement for each group, and how their rows are put together. Raises Elsewhere."""
    keys, added = _sort_keys(statement, scope, snapshot)
    if keys and not merge_allowed:
        raise Elsewhere("ORDER BY a type that the gateway cannot compare")
    limit, offset = limits(statement)
    changes: dict[str, object] = {}
    if added:
        changes["targetList"] = (*statement.targetList, *added)
    if offset != 0:
        changes |= _pushed(limit, offset)
    group_statement = changed(statement, **changes) if changes else statement
    return group_statement, Merge(keys=keys, limit=limit, offset=offset, drop_columns=len(added))


def merged_set_operation(
    statement: Node, outputs: tuple[Output, ...] | None, merge_allowed: bool = True
) -> tuple[Node, Merge]:
    """As `merged` for UNION and the like, which sort by their output columns only."""
    keys = []
    for item in statement.sortClause or ():
        if outputs is None or not merge_allowed:
            raise Elsewhere("ORDER BY of a set operation whose columns are not known")
        names = [output.name for output in outputs]
        position = integer_constant(item.node)
        name = strings(item.node.fields)[0] if is_plain_column(item.node) and len(item.node.fields) == 1 else None
        at = position - 1 if position is not None else names.index(name) if name in names else -1
        if not 0 <= at < len(outputs) or names.count(name or "") > 1:
            raise Elsewhere("ORDER BY of a set operation by a column that is not plain to see")
        if not outputs[at].bytewise:
            raise Elsewhere("ORDER BY in another collation than C")
        keys.append(_directed(item, at, outputs[at].type_oid))
    limit, offset = limits(statement)
    if offset != 0:
        statement = changed(statement, **_pushed(limit, offset))
    return statement, Merge(keys=tuple(keys), limit=limit, offset=offset)


# --- LIMIT and OFFSET --------------------------------------------------------------------------------------------


def limits(statement: Node) -> tuple[int | Param | None, int | Param]:
    """(limit, offset) where both are plain; Elsewhere for expressions, and for what PostgreSQL refuses."""
    if statement.limitOption.name == "LIMIT_OPTION_WITH_TIES":
        raise Elsewhere("FETCH FIRST … WITH TIES")
    offset = _bound(statement.limitOffset)
    return _bound(statement.limitCount), 0 if offset is None else offset


def _bound(node: Node) -> int | Param | None:
    if node is None or is_null_constant(node):
        return None
    if isinstance(node, ast.ParamRef):
        return Param(node.number - 1)
    value = integer_constant(node)
    if value is None or value < 0:
        raise Elsewhere("LIMIT or OFFSET with an expression")
    return value


def _pushed(limit: int | Param | None, offset: int | Param) -> dict[str, object]:
    """The LIMIT clause for a group: no OFFSET, and as many rows more as the gateway leaves out."""
    if limit is None:
        return dict(UNLIMITED)
    return {"limitCount": _pushed_limit(limit, offset), "limitOffset": None}


def _pushed_limit(limit: int | Param, offset: int | Param) -> Node:
    if isinstance(limit, int) and isinstance(offset, int):
        return parse_expression(str(min(limit + offset, _INT8_MAX)))
    return parse_expression(f"{_sql(limit)} + coalesce({_sql(offset)}, 0)")


def _sql(bound: int | Param) -> str:
    return f"CAST(${bound.index + 1} AS bigint)" if isinstance(bound, Param) else f"CAST({bound} AS bigint)"


# --- ORDER BY ----------------------------------------------------------------------------------------------------


def _sort_keys(statement: Node, scope: Scope, snapshot: Snapshot) -> tuple[tuple[SortKey, ...], tuple[Node, ...]]:
    keys: list[tuple[Node, int | None, Node]] = []
    added: list[Node] = []
    for item in statement.sortClause or ():
        expression, column = _sort_target(item.node, statement, scope)
        if column is None:
            if statement.distinctClause and statement.distinctClause[0] is None:
                raise Elsewhere("ORDER BY of DISTINCT rows by a column that is not plain to see")
            added.append(ast.ResTarget(name=f"hanse_sort_{len(added)}", val=expression))
        keys.append((item, column, expression))
    result = []
    next_added = -len(added)
    for item, column, expression in keys:
        if column is None:
            column, next_added = next_added, next_added + 1
        result.append(_sort_key(item, column, expression, scope, snapshot))
    return tuple(result), tuple(added)


def _sort_key(item: Node, column: int, expression: Node, scope: Scope, snapshot: Snapshot) -> SortKey:
    type_oid = inference.infer(expression, scope, snapshot.function_names.__contains__)
    if type_oid in (0, inference.TEXT, inference.VARCHAR, inference.BPCHAR) and not all_bytewise(
        expression, scope, snapshot
    ):
        raise Elsewhere("ORDER BY in another collation than C")
    return _directed(item, column, type_oid)


def _directed(item: Node, column: int, type_oid: int) -> SortKey:
    if type_oid and type_oid not in SORTABLE_TYPES:
        raise Elsewhere("ORDER BY a type that the gateway cannot compare")
    direction = item.sortby_dir.name
    if direction == "SORTBY_USING":
        raise Elsewhere("ORDER BY … USING")
    descending = direction == "SORTBY_DESC"
    nulls = item.sortby_nulls.name
    nulls_first = descending if nulls == "SORTBY_NULLS_DEFAULT" else nulls == "SORTBY_NULLS_FIRST"
    return SortKey(column=column, descending=descending, nulls_first=nulls_first, type_oid=type_oid)


def _sort_target(node: Node, statement: Node, scope: Scope) -> tuple[Node, int | None]:
    """(expression, its column in the rows or None if it must be added).

    PostgreSQL's findTargetlistEntrySQL92(): a number is a position, a bare name an output column, else an expression.
    """
    targets = statement.targetList or ()
    position = integer_constant(node)
    if position is not None:
        return _at_position(position, targets, scope)
    if isinstance(node, ast.A_Const):
        raise Elsewhere("ORDER BY a constant")
    if is_plain_column(node) and len(node.fields) == 1:
        found = _named(strings(node.fields)[0], targets, scope)
        if found is not None:
            return found
    wanted = same_key(scope, node)
    for index, target in enumerate(targets):
        if is_star(target):
            break
        if same_key(scope, target.val) == wanted:
            return target.val, index
    return node, _in_stars(node, targets, scope)


def _at_position(position: int, targets: Sequence[Node], scope: Scope) -> tuple[Node, int]:
    """A position beyond what can be counted is left to PostgreSQL: the column stands where it says."""
    at = 0
    for target in targets:
        width = 1
        if is_star(target):
            columns = expanded_star(target, scope)
            if columns is None:
                raise Elsewhere("ORDER BY a position among columns that are not known")
            width = len(columns)
            if at < position <= at + width:
                item, output = columns[position - at - 1]
                return column_ref(item.alias, output.name), position - 1
        if position == at + 1:
            return target.val, position - 1
        at += width
    raise Elsewhere("ORDER BY a position that is not in the select list")


def _named(name: str, targets: Sequence[Node], scope: Scope) -> tuple[Node, int | None] | None:
    """The output column of that name. None: there is none, the name is an input column's."""
    at: int | None = 0
    for target in targets:
        if is_star(target):
            columns = expanded_star(target, scope)
            if columns is None:
                at = None
                continue
            for index, (item, output) in enumerate(columns):
                if output.name == name:
                    return column_ref(item.alias, name), None if at is None else at + index
            at = None if at is None else at + len(columns)
            continue
        if column_name(target) == name:
            return target.val, at
        at = None if at is None else at + 1
    unclear = any(is_star(target) and expanded_star(target, scope) is None for target in targets)
    if unclear and name not in scope.merged and resolve(scope, column_ref(name)) is None:
        raise Elsewhere("ORDER BY a name among columns that are not known")
    return None


def _in_stars(node: Node, targets: Sequence[Node], scope: Scope) -> int | None:
    """Where a column stands that a leading `*` gives."""
    column = resolve(scope, node)
    at = 0
    for target in targets:
        if not is_star(target):
            at += 1
            continue
        columns = expanded_star(target, scope)
        if columns is None or column is None:
            return None
        for index, (item, output) in enumerate(columns):
            if (item.number, output.name) == column:
                return at + index
        at += len(columns)
    return None
