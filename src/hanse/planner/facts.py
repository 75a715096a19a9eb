"""What the conditions of a query say about columns: facts, and what follows from them.

A *term* is a column of one item of a FROM list. Kinds of facts, each read from a condition that must be true (a
conjunct of WHERE, of an inner join's ON …): two terms are equal; a term equals one of some expressions; a term is
bounded by one. All comparisons are strict: none is true of NULL, which is what makes them usable across outer joins
(`restrict`).

`Closure` answers from a set of facts which terms are equal, and what a term is equal to. Equality is passed on only
between columns whose types belong to one family (`operands.family`) with deterministic collations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums

from ..catalog.model import Relation
from ..sql.inlists import VALUES_MIN
from ..sql.walk import names
from .operands import Uses, family

_ALTERNATIVES_MAX = 100


@dataclass(eq=False, slots=True)
class Source:
    """An item of a FROM list. `columns` None: its columns are not known here (function, set operation …)."""

    name: str | None
    relation: Relation | None = None
    node: Any = None  # the RangeVar of a table
    columns: dict[str, Term] | None = None


@dataclass(frozen=True, slots=True)
class Term:
    source: Source
    column: str
    type_oid: int
    deterministic: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Same:
    left: Term
    right: Term


@dataclass(frozen=True, eq=False, slots=True)
class OneOf:
    """The term equals one of the expressions (of type ast.Node)."""

    term: Term
    values: tuple[Any, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Bounded:
    """`term operator value` with one of < <= > >=."""

    term: Term
    operator: str
    value: Any


Fact = Same | OneOf | Bounded
Facts = tuple[Fact, ...]


@dataclass(slots=True)
class Scope:
    """The names that expressions of one query level see; `parent` is the query around it."""

    parent: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    merged: dict[str, Term | None] = field(default_factory=dict)  # columns of JOIN USING

    def term(self, node: Any) -> Term | None:
        """The term that a ColumnRef means, None where that is not certain."""
        path = names(node.fields)
        if len(path) != len(node.fields) or len(path) > 3:
            return None
        return self._column(path[0]) if len(path) == 1 else self._qualified(path[-2], path[-1])

    def _column(self, column: str) -> Term | None:
        if column in self.merged:
            return self.merged[column]
        found = [source.columns[column] for source in self.sources if source.columns and column in source.columns]
        if found:
            return found[0] if len(found) == 1 else None
        if self.parent is None or any(source.columns is None for source in self.sources):
            return None
        return self.parent._column(column)

    def _qualified(self, table: str, column: str) -> Term | None:
        for source in self.sources:
            if source.name == table:
                return source.columns.get(column) if source.columns else None
        return self.parent._qualified(table, column) if self.parent else None


def conjuncts(condition: Any) -> Iterator[Any]:
    if isinstance(condition, ast.BoolExpr) and condition.boolop == enums.BoolExprType.AND_EXPR:
        for argument in condition.args or ():
            yield from conjuncts(argument)
    elif condition is not None:
        yield condition


def facts_of(condition: Any, scope: Scope, uses: Uses) -> Facts:
    """The facts that hold wherever `condition` is true."""
    found: list[Fact] = []
    for conjunct in conjuncts(condition):
        found.extend(_facts(conjunct, scope, uses))
    return tuple(found)


def _facts(node: Any, scope: Scope, uses: Uses) -> Iterator[Fact]:
    if type(node) is ast.BoolExpr and node.boolop == enums.BoolExprType.OR_EXPR:
        yield from _either(node, scope, uses)
    if type(node) is ast.A_Expr:
        yield from _comparison(node, scope, uses)


def _comparison(node: Any, scope: Scope, uses: Uses) -> Iterator[Fact]:
    kind, operator = node.kind, _operator(node)
    kinds = enums.A_Expr_Kind
    if kind == kinds.AEXPR_OP and operator == "=":
        yield from _equal(node.lexpr, node.rexpr, scope, uses)
    elif kind == kinds.AEXPR_OP and operator in _MIRRORED:
        yield from _bounded(node.lexpr, operator, node.rexpr, scope, uses)
    elif kind == kinds.AEXPR_BETWEEN:
        lower, upper = node.rexpr
        yield from _bounded(node.lexpr, ">=", lower, scope, uses)
        yield from _bounded(node.lexpr, "<=", upper, scope, uses)
    elif kind == kinds.AEXPR_IN and operator == "=":
        yield from _one_of(node.lexpr, tuple(node.rexpr), scope, uses)
    elif kind == kinds.AEXPR_OP_ANY and operator == "=":
        yield from _one_of(node.lexpr, _elements(node.rexpr, uses), scope, uses)


_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _operator(node: Any) -> str:
    path = names(node.name)
    return path[-1] if len(path) == 1 or path[0] == "pg_catalog" else ""


def _equal(left: Any, right: Any, scope: Scope, uses: Uses) -> Iterator[Fact]:
    if isinstance(left, ast.RowExpr) and isinstance(right, ast.RowExpr):
        if len(left.args or ()) == len(right.args or ()):
            for one, other in zip(left.args or (), right.args or (), strict=True):
                yield from _equal(one, other, scope, uses)
        return
    one, other = _term(left, scope), _term(right, scope)
    if one and other:
        if comparable(one, other):
            yield Same(one, other)
    elif one and not isinstance(right, ast.ColumnRef):
        uses.note(right, one.type_oid)
        yield OneOf(one, (right,))
    elif other and not isinstance(left, ast.ColumnRef):
        uses.note(left, other.type_oid)
        yield OneOf(other, (left,))


def _bounded(left: Any, operator: str, right: Any, scope: Scope, uses: Uses) -> Iterator[Fact]:
    one, other = _term(left, scope), _term(right, scope)
    if one and not isinstance(right, ast.ColumnRef):
        uses.note(right, one.type_oid)
        yield Bounded(one, operator, right)
    elif other and not isinstance(left, ast.ColumnRef):
        uses.note(left, other.type_oid)
        yield Bounded(other, _MIRRORED[operator], left)


def _one_of(left: Any, values: tuple[Any, ...], scope: Scope, uses: Uses) -> Iterator[Fact]:
    term = _term(left, scope)
    if term is None or not values or len(values) > _ALTERNATIVES_MAX:
        return
    for value in values:
        uses.note(value, term.type_oid)
    if not _mixed(values, term):
        yield OneOf(term, values)


_INTEGERS = re.compile(r"\{\s*-?\d+\s*(?:,\s*-?\d+\s*)*\}\Z").match


def _elements(array: Any, uses: Uses) -> tuple[Any, ...]:
    """The elements of ARRAY[…], and of a constant '{1,2}', on whose value the plan then depends."""
    if isinstance(array, ast.TypeCast):
        array = array.arg
    if isinstance(array, ast.A_ArrayExpr):
        return tuple(array.elements or ())
    value = array.val if isinstance(array, ast.A_Const) else None
    text = value.sval if isinstance(value, ast.String) else None
    if text is None or text.count(",") >= VALUES_MIN or not _INTEGERS(text):
        return ()  # so many lie in every group
    uses.frozen.append(array)
    return tuple(ast.A_Const(val=ast.Float(fval=element.strip())) for element in text[1:-1].split(","))


def _mixed(values: tuple[Any, ...], term: Term) -> bool:
    """Constants of several types in one list get a common type, which may be another than the key's: `(1, 2.5)`."""
    kinds = {type(value.val) for value in values if isinstance(value, ast.A_Const)}
    return len(kinds) > 1 and ast.String in kinds and family(term.type_oid) != 20


def _either(node: Any, scope: Scope, uses: Uses) -> Iterator[Fact]:
    """`k = 1 OR k = 2 OR k IN (3, 4)`."""
    values: list[Any] = []
    term: Term | None = None
    for argument in node.args:
        inner = facts_of(argument, scope, uses)
        alternative = next((fact for fact in inner if isinstance(fact, OneOf) and term in (None, fact.term)), None)
        if alternative is None:
            return
        term = alternative.term
        values.extend(alternative.values)
    if term is not None and len(values) <= _ALTERNATIVES_MAX:
        yield OneOf(term, tuple(values))


def _term(node: Any, scope: Scope) -> Term | None:
    return scope.term(node) if isinstance(node, ast.ColumnRef) else None


def comparable(one: Term, other: Term) -> bool:
    if not (one.deterministic and other.deterministic):
        return False
    return family(one.type_oid) == family(other.type_oid)


class Closure:
    """What follows from facts: classes of equal terms."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._facts = tuple(dict.fromkeys(facts))
        self._parent: dict[Term, Term] = {}
        for fact in self._facts:
            if isinstance(fact, Same):
                self._parent[self._root(fact.left)] = self._root(fact.right)

    def _root(self, term: Term) -> Term:
        while term in self._parent and self._parent[term] is not term:
            term = self._parent[term]
        return term

    def same(self, one: Term, other: Term) -> bool:
        return self._root(one) == self._root(other)

    def values(self, term: Term) -> list[tuple[Any, ...]]:
        """For each condition on the term, the expressions it may equal; single ones first."""
        root = self._root(term)
        found = [fact.values for fact in self._facts if isinstance(fact, OneOf) and self._root(fact.term) == root]
        return sorted(found, key=len)

    def bounds(self, term: Term) -> list[tuple[str, Any]]:
        root = self._root(term)
        return [
            (fact.operator, fact.value)
            for fact in self._facts
            if isinstance(fact, Bounded) and self._root(fact.term) == root
        ]
