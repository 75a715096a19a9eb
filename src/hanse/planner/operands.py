"""From an expression in a parse tree to a routing `Value`, for a partition key column of a known type.

The rule is PostgreSQL's own partition pruning: an expression counts only where its type is the key's, or one that the
key's operator family compares with it (`id = 4.0` compares as numeric and prunes nothing). What is left out costs a
better plan, never an answer.

Parameters whose type the client left open (0) take the type that their use gives them: `key = $1` makes $1 of the key's
type. That is certain only when every use of $1 in the statement says so, hence `Uses`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums

from ..catalog.keys import INTEGER_TYPES, NotEvaluable, from_text
from ..sql.parse import Parsed
from ..sql.walk import names, walk
from .plan import Arithmetic, Cast, Constant, Literal, Param, Value

TEXTS = frozenset((25, 1043))
_UNTYPED = frozenset((0, 705))
_TYPE_OIDS = {
    "bool": 16,
    "bytea": 17,
    "int8": 20,
    "bigint": 20,
    "int2": 21,
    "smallint": 21,
    "int4": 23,
    "int": 23,
    "integer": 23,
    "text": 25,
    "oid": 26,
    "bpchar": 1042,
    "varchar": 1043,
    "date": 1082,
    "timestamp": 1114,
    "timestamptz": 1184,
    "uuid": 2950,
}


def family(type_oid: int) -> int:
    """Types with one family number compare by value across types, and equal values route alike."""
    if type_oid in INTEGER_TYPES:
        return 20
    return 25 if type_oid in TEXTS else type_oid


def type_oid_of(type_name: Any) -> int | None:
    """The type of a cast, None for one that is not a possible key type or that has a modifier (`char(3)`)."""
    path = names(type_name.names)
    if type_name.arrayBounds or type_name.setof or type_name.typmods or (len(path) > 1 and path[0] != "pg_catalog"):
        return None
    return _TYPE_OIDS.get(path[-1])


@dataclass(slots=True)
class Uses:
    """How often each parameter occurs, and how often a use fixes its type's family.

    `frozen`: constants (A_Const) on whose value the plan depends.
    """

    frozen: list[Any] = field(default_factory=list)
    unplaced: bool = False  # a constant of the text became part of the plan: it serves this text only
    total: Counter[int] = field(default_factory=Counter)
    typed: defaultdict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def note(self, node: Any, type_oid: int) -> None:
        """`node` stands where a value of this type is expected."""
        if type(node) is ast.ParamRef:
            self.typed[_number(node)][family(type_oid)] += 1

    def certain(self, number: int, type_oid: int) -> bool:
        return self.typed[number][family(type_oid)] >= self.total[number]


@dataclass(frozen=True, slots=True)
class Operands:
    """Builds values for one statement."""

    parsed: Parsed
    parameter_types: tuple[int, ...]
    uses: Uses

    def value(self, node: Any, type_oid: int) -> Value | None:
        """The value of `node` beside (or assigned to) a key column of this type; None where it is not certain."""
        if isinstance(node, ast.A_Const):
            return self._constant(node, type_oid)
        if type(node) is ast.ParamRef:
            return self._parameter(_number(node), type_oid)
        if isinstance(node, ast.TypeCast):
            return self._cast(node, type_oid)
        if isinstance(node, ast.A_Expr) and type_oid in INTEGER_TYPES:
            return self._arithmetic(node)
        return None

    def _constant(self, node: Any, type_oid: int) -> Value | None:
        if node.isnull or not _may_be(node.val, type_oid):
            return None
        if isinstance(node.val, ast.Boolean):
            return Constant(int(bool(node.val.boolval)))
        written = self.parsed.literal_of(node)
        if written is None:
            self.uses.unplaced |= id(node) in self.parsed.constant_offsets
            return _known(node.val, type_oid)
        index, negative = written
        return Arithmetic("-", Constant(0), Literal(index)) if negative else Literal(index)

    def _parameter(self, number: int, type_oid: int) -> Value | None:
        declared = self.parameter_types[number - 1] if number <= len(self.parameter_types) else 0
        if declared in _UNTYPED:
            return Param(number - 1) if self.uses.certain(number, type_oid) else None
        return Param(number - 1) if family(declared) == family(type_oid) else None

    def _cast(self, node: Any, type_oid: int) -> Value | None:
        target = type_oid_of(node.typeName)
        if target is None or family(target) != family(type_oid):
            return None
        operand = self.value(node.arg, target)
        if operand is None or isinstance(operand, Constant | Param):
            return operand
        return Cast(target, operand)

    def _arithmetic(self, node: Any) -> Value | None:
        operator = names(node.name)
        if node.kind != enums.A_Expr_Kind.AEXPR_OP or operator not in (("+",), ("-",), ("*",)):
            return None
        if _is_string(node.lexpr) or _is_string(node.rexpr):
            return None
        right = self.value(node.rexpr, 20)
        left = Constant(0) if node.lexpr is None else self.value(node.lexpr, 20)
        if left is None or right is None or (node.lexpr is None and operator != ("-",)):
            return None
        return Arithmetic(operator[0], left, right)


def _is_string(node: Any) -> bool:
    return isinstance(node, ast.A_Const) and isinstance(node.val, ast.String)


def _may_be(value: Any, type_oid: int) -> bool:
    """Whether PostgreSQL reads this kind of constant as (or compares it within the family of) the type."""
    if isinstance(value, ast.String):
        return True  # of type unknown: becomes the other side's type
    if isinstance(value, ast.Boolean):
        return type_oid == 16
    if isinstance(value, ast.Integer):
        return type_oid in INTEGER_TYPES
    return isinstance(value, ast.Float) and type_oid in INTEGER_TYPES and _integer(value.fval or "") is not None


def _integer(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() else None


def _known(value: Any, type_oid: int) -> Value | None:
    """A constant whose place in the text is not known (it stands in a view, or the text is not plain)."""
    if isinstance(value, ast.Integer):
        return Constant(value.ival or 0)
    if isinstance(value, ast.Float):
        return Constant(_integer(value.fval or ""))
    try:
        return Constant(from_text(type_oid, (value.sval or "").encode()))
    except NotEvaluable:
        return None


def parameters(statement: Any) -> Uses:
    """The uses of parameters in a statement; casts and sums are noted here, comparisons by whoever reads them."""
    uses = Uses()
    for node in walk(statement):
        if type(node) is ast.ParamRef:
            uses.total[_number(node)] += 1
        elif isinstance(node, ast.TypeCast):
            target = type_oid_of(node.typeName)
            if target is not None:
                uses.note(node.arg, target)
        elif isinstance(node, ast.A_Expr) and names(node.name) in (("+",), ("-",), ("*",)):
            _note_sum(node, uses)
    return uses


def _number(node: Any) -> int:
    return int(node.number)


def _note_sum(node: Any, uses: Uses) -> None:
    for side, other in ((node.lexpr, node.rexpr), (node.rexpr, node.lexpr)):
        if isinstance(other, ast.A_Const) and isinstance(other.val, ast.Integer):
            uses.note(side, 23)
