"""Walking, comparing, changing and printing parse trees.

Trees come from `pglast` and are treated as immutable: a change copies the path from the root to what changes.

A printed tree is only used when parsing it again gives the same tree (`render`), so that a mistake of the printer
costs a better plan and never an answer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from pglast import ast as _ast
from pglast import parse_sql
from pglast.error import Error as PglastError
from pglast.stream import RawStream

from ..sql.inlists import restored

Node = Any  # pglast's nodes share no useful static type; every function here says which node it takes
ast: Any = _ast  # untyped as well: in a parsed tree every field is what the grammar made it, never None by chance


class Unprintable(Exception):
    """The printer's text does not mean the same tree."""


_SLOTS: dict[type, tuple[str, ...]] = {}
_CHILDREN: dict[type, tuple[str, ...]] = {}


def _slots(kind: type) -> tuple[str, ...]:
    """Fields that carry meaning: not positions in the text, nor whether a call was written `trim(x)` or `btrim(x)`."""
    known = _SLOTS.get(kind)
    if known is None:
        slots: Any = getattr(kind, "__slots__", {})
        known = tuple(name for name, info in slots.items() if info.c_type != "ParseLoc" and name != "funcformat")
        _SLOTS[kind] = known
    return known


def _children(kind: type) -> tuple[str, ...]:
    known = _CHILDREN.get(kind)
    if known is None:
        slots: Any = getattr(kind, "__slots__", {})
        known = tuple(name for name, info in slots.items() if info.c_type.endswith("*") and info.c_type != "char*")
        _CHILDREN[kind] = known
    return known


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below, in the order of the tree's fields."""
    if isinstance(node, tuple | list):
        for element in node:
            if isinstance(element, ast.Node):
                yield element
            elif isinstance(element, tuple | list):
                yield from children(element)
        return
    for name in _children(type(node)):
        value = getattr(node, name)
        if isinstance(value, ast.Node):
            yield value
        elif value:
            yield from children(value)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, subqueries included. Without recursion, as `sql.walk.walk`."""
    if node is None:
        return
    waiting = [node]
    while waiting:
        found = waiting.pop()
        if isinstance(found, ast.Node):
            yield found
        waiting.extend(reversed(tuple(children(found))))


def walk_level(node: Node) -> Iterator[Node]:
    """As `walk`, but not into subqueries: a SubLink is given, its query is not entered (its left side is)."""
    if node is None:
        return
    waiting = [node]
    while waiting:
        found = waiting.pop()
        if isinstance(found, ast.Node):
            yield found
        if isinstance(found, ast.SubLink):
            waiting += [found.testexpr] if found.testexpr is not None else []
        elif not isinstance(found, ast.SelectStmt):
            waiting.extend(reversed(tuple(children(found))))


def sublinks(node: Node) -> Iterator[Node]:
    """The subqueries of an expression that are not inside another subquery."""
    return (found for found in walk_level(node) if isinstance(found, ast.SubLink))


def key(node: Node, normal: Callable[[Node], object | None] | None = None) -> object:
    """A hashable value, equal for trees that differ in positions only. `normal` may stand in for some nodes."""
    if isinstance(node, ast.Node):
        if normal is not None:
            replaced = normal(node)
            if replaced is not None:
                return replaced
        kind = type(node)
        return (kind.__name__, *(key(getattr(node, name), normal) for name in _slots(kind)))
    if isinstance(node, tuple | list):
        return tuple(key(element, normal) for element in node)
    return None if node is None or node is False else node


def transform(node: Node, change: Callable[[Node], Node | None]) -> Node:
    """A tree in which every node that `change` maps to another one is replaced; what it returns is not entered."""
    if isinstance(node, tuple | list):
        changed = tuple(transform(element, change) for element in node)
        return node if all(a is b for a, b in zip(changed, node, strict=True)) else changed
    if not isinstance(node, ast.Node):
        return node
    replaced = change(node)
    if replaced is not None:
        return replaced
    result = node
    for name in _children(type(node)):
        value = getattr(node, name)
        if value is None:
            continue
        new = transform(value, change)
        if new is not value:
            if result is node:
                result = copy.copy(node)
            setattr(result, name, new)
    return result


def changed(node: Node, /, **fields: Any) -> Node:
    """A shallow copy with other values in some fields."""
    result = copy.copy(node)
    for name, value in fields.items():
        setattr(result, name, value)
    return result


def render(statement: Node) -> str:
    """The text of a statement. Raises `Unprintable` when the text, parsed again, is another statement."""
    try:
        text = str(RawStream()(statement))
        again = parse_sql(text)
    except (PglastError, NotImplementedError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise Unprintable(str(error)) from error
    if len(again) != 1 or key(again[0].stmt, _extract) != key(statement, _extract):
        raise Unprintable(text)
    try:
        return restored(text)
    except KeyError:
        raise Unprintable(text) from None


def _extract(node: Node) -> object | None:
    """The printer writes EXTRACT(year …) as EXTRACT(YEAR …), which PostgreSQL reads alike."""
    if not isinstance(node, ast.FuncCall) or strings(node.funcname)[-1:] != ("extract",) or len(node.args or ()) != 2:
        return None
    unit = node.args[0]
    if not (isinstance(unit, ast.A_Const) and isinstance(unit.val, ast.String)):
        return None
    return ("extract", unit.val.sval.lower(), key(node.args[1], _extract))


def render_expression(expression: Node) -> str:
    text = render(ast.SelectStmt(**_EMPTY_SELECT, targetList=(ast.ResTarget(val=expression),)))
    return text.removeprefix("SELECT ")


def parse_expression(text: str) -> Node:
    """The tree of an expression written by ourselves."""
    statement: Any = parse_sql("SELECT " + text)[0].stmt
    return statement.targetList[0].val


def empty_select(**fields: Any) -> Node:
    """A SELECT with nothing but these fields."""
    return changed(_template(), **fields)


@cache
def _template() -> Node:
    statement: Any = parse_sql("SELECT")[0].stmt
    return statement


_EMPTY_SELECT: dict[str, Any] = {
    name: getattr(_template(), name) for name in ("groupDistinct", "limitOption", "op", "all")
}


def conjuncts(condition: Node) -> Iterator[Node]:
    """`a AND (b AND c)` → a, b, c. Nothing for no condition."""
    if condition is None:
        return
    if isinstance(condition, ast.BoolExpr) and condition.boolop.name == "AND_EXPR":
        for argument in condition.args:
            yield from conjuncts(argument)
        return
    yield condition


def strings(names: Any) -> tuple[str, ...]:
    """The texts of a list of String nodes; other nodes (a star) give nothing."""
    return tuple(name.sval for name in names or () if isinstance(name, ast.String))


def function_name(call: Node) -> tuple[str | None, str]:
    """(schema, name) of a FuncCall."""
    names = strings(call.funcname)
    return (names[-2] if len(names) > 1 else None, names[-1])


def integer_constant(node: Node) -> int | None:
    if isinstance(node, ast.A_Const) and not node.isnull and isinstance(node.val, ast.Integer):
        return int(node.val.ival)
    return None


def is_null_constant(node: Node) -> bool:
    return isinstance(node, ast.A_Const) and bool(node.isnull)


def is_plain_column(node: Node) -> bool:
    return isinstance(node, ast.ColumnRef) and all(isinstance(field, ast.String) for field in node.fields)


def column_ref(*names: str) -> Node:
    return ast.ColumnRef(fields=tuple(ast.String(sval=name) for name in names))


def is_operator(node: Node, operator: str) -> bool:
    return isinstance(node, ast.A_Expr) and node.kind.name == "AEXPR_OP" and strings(node.name) == (operator,)
