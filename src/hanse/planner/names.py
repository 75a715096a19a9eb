"""Which column a name in a SELECT means: the items of its FROM list, and the queries around it.

PostgreSQL's rules (parse_relation.c, parse_clause.c) as far as they can be followed without asking: where a name
cannot be told (a function's result, a relation nobody knows) the answer is None, and whoever asks must take the safe
way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..catalog.model import Relation
from .tree import Node, ast, integer_constant, is_plain_column, key, strings

Column = tuple[int, str]  # (number of the FROM item, unique in the whole statement; name of its column)

TEXT_COLLATIONS = frozenset(("", "C", "POSIX", "default"))  # which compare bytes


@dataclass(frozen=True, slots=True)
class Output:
    """A column that a FROM item or a query gives. `bytewise`: compared as bytes where it is text."""

    name: str
    type_oid: int = 0  # 0: not known
    type_name: str = ""
    bytewise: bool = True


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a FROM list. `outputs` None: its columns are not known."""

    number: int
    alias: str
    outputs: tuple[Output, ...] | None
    relation: Relation | None = None

    def output(self, name: str) -> Output | None:
        return next((output for output in self.outputs or () if output.name == name), None)


@dataclass(frozen=True, slots=True)
class Scope:
    """The items that expressions of one SELECT see. `merged`: what JOIN … USING made of two columns."""

    items: tuple[Item, ...] = ()
    merged: dict[str, Column | None] = field(default_factory=dict)
    parent: Scope | None = None

    @property
    def opaque(self) -> bool:
        return any(item.outputs is None for item in self.items)

    def item(self, number: int) -> Item | None:
        return next((item for item in self.items if item.number == number), None)


def relation_outputs(relation: Relation) -> tuple[Output, ...]:
    return tuple(
        Output(
            column.name,
            column.type_oid,
            column.type_name,
            column.collation in TEXT_COLLATIONS and column.collation_deterministic,
        )
        for column in relation.columns
    )


def renamed(outputs: tuple[Output, ...] | None, names: Sequence[str]) -> tuple[Output, ...] | None:
    """`AS alias (names)`: the first columns get other names."""
    if outputs is None or not names:
        return outputs
    if len(names) > len(outputs):
        return None
    new = [Output(n, o.type_oid, o.type_name, o.bytewise) for n, o in zip(names, outputs, strict=False)]
    return (*new, *outputs[len(names) :])


def resolve(scope: Scope | None, reference: Node) -> Column | None:
    """The column that a ColumnRef means, in this query or one around it; None: not known."""
    if not is_plain_column(reference):
        return None
    names = strings(reference.fields)
    while scope is not None:
        found = _resolve_here(scope, names)
        if found is not None:
            return found
        if _may_be_here(scope, names):
            return None
        scope = scope.parent
    return None


def _resolve_here(scope: Scope, names: tuple[str, ...]) -> Column | None:
    if len(names) == 1:
        if names[0] in scope.merged:
            return scope.merged[names[0]]
        if scope.opaque:
            return None
        found = [item for item in scope.items if item.output(names[0])]
        return (found[0].number, names[0]) if len(found) == 1 else None
    matching = [item for item in scope.items if item.alias == names[-2]]
    if len(matching) == 1 and len(names) <= 3 and matching[0].output(names[-1]):
        return (matching[0].number, names[-1])
    return None


def _may_be_here(scope: Scope, names: tuple[str, ...]) -> bool:
    if len(names) == 1:
        return scope.opaque or names[0] in scope.merged or any(item.output(names[0]) for item in scope.items)
    return any(item.alias == names[-2] for item in scope.items)


def output_of(scope: Scope | None, column: Column | None) -> Output | None:
    while scope is not None and column is not None:
        item = scope.item(column[0])
        if item is not None:
            return item.output(column[1])
        scope = scope.parent
    return None


def is_star(target: Node) -> bool:
    return isinstance(target.val, ast.ColumnRef) and isinstance(target.val.fields[-1], ast.A_Star)


def star_items(target: Node, scope: Scope) -> tuple[Item, ...] | None:
    """The items whose columns a `*` stands for, in order; None where that is not plain to see."""
    names = strings(target.val.fields)
    if not names:
        return None if scope.merged else scope.items
    matching = tuple(item for item in scope.items if item.alias == names[-1])
    return matching if len(matching) == 1 and len(names) <= 2 else None


def expanded_star(target: Node, scope: Scope) -> tuple[tuple[Item, Output], ...] | None:
    items = star_items(target, scope)
    if items is None or any(item.outputs is None for item in items):
        return None
    return tuple((item, output) for item in items for output in item.outputs or ())


def same_key(scope: Scope, node: Node) -> object:
    """Equal for expressions that mean the same although one says `t.a` and the other `a`."""

    def normal(found: Node) -> object | None:
        if isinstance(found, ast.ColumnRef):
            column = resolve(scope, found)
            return None if column is None else ("column", *column)
        return None

    return key(node, normal)


def group_expression(item: Node, targets: Sequence[Node], scope: Scope) -> Node | None:
    """What a GROUP BY item means: a position, an input column, else an output column's name. None: not known."""
    position = integer_constant(item)
    if position is not None:
        return _target_at(position, targets)
    if is_plain_column(item) and len(item.fields) == 1:
        named = [target.val for target in targets if target.name == item.fields[0].sval]
        if named and resolve(Scope(scope.items, scope.merged), item) is None:
            return None if scope.opaque or len(named) > 1 else named[0]
    return item


def _target_at(position: int, targets: Sequence[Node]) -> Node | None:
    before = targets[:position]
    if not 1 <= position <= len(targets) or any(is_star(target) for target in before):
        return None
    return targets[position - 1].val
