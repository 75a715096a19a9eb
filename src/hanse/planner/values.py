"""From a plan's values to shards, once per execution: what `key = $1` means for these literals and parameters.

A plan that serves a whole template says *where* its key's value is (`Literal(3)`, `Param(0)`), not what it is. Here the
value is read, canonical for the key's type (catalog.keys), and looked up (catalog.routing). Two questions differ:

- a **condition** `key = NULL` is true for no row: no shard. So is a value that no partition covers;
- an **assignment** of NULL (INSERT, COPY) is a value like others, with a shard of its own.

`NotEvaluable` is never wrong: the caller plans again without a fixed place, or asks PostgreSQL for the value.

**Types of integer expressions.** `2000000000 + 2000000000` is int4 + int4 and overflows (22003) although the sum fits
an int8 key. So every operand carries its type: a literal is int4 if it fits, else int8; a parameter has its declared
type; a result has the wider type of both operands. A `Constant` (drawn from a sequence, or asked for) counts as int8.
What does not fit is NotEvaluable, and PostgreSQL reports it.

`compile_equal` chooses a closure when the plan is made, because this runs for every statement: the four usual forms of
a single key (integer literal, quoted literal, integer parameter, text parameter) take about a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..catalog.keys import (
    BPCHAR,
    INT2,
    INT4,
    INT8,
    INT_RANGE,
    INTEGER_TYPES,
    TEXT,
    UNKNOWN,
    VARCHAR,
    Canonical,
    NotEvaluable,
    convert,
    from_literal,
    from_parameter,
    from_text,
    integer_literal,
    stored,
    unquote,
)
from ..catalog.model import Relation
from ..catalog.routing import NO_SHARD, ShardRouter, router_for
from .plan import AnyOf, Arithmetic, Between, Cast, Constant, Equal, Literal, Param, Prune, Value

__all__ = [
    "NO_SHARD",
    "NO_PARAMETERS",
    "NotEvaluable",
    "Parameters",
    "compile_equal",
    "compile_insert",
    "evaluate",
    "key_of",
    "shards_for",
]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one Bind. `formats` as on the wire: none (all text), one for all, or one each.

    `types`: declared or described type oids; missing or 0: not known, PostgreSQL takes the key's type.
    """

    values: Sequence[bytes | None] = ()
    formats: Sequence[int] = ()
    types: Sequence[int] = ()

    def format_of(self, index: int) -> int:
        if len(self.formats) > 1:
            return self.formats[index]
        return self.formats[0] if self.formats else 0

    def type_of(self, index: int) -> int:
        return self.types[index] if index < len(self.types) else 0


NO_PARAMETERS = Parameters()

Lookup: TypeAlias = Callable[[Sequence[bytes], Parameters], int]

# --- one value ---------------------------------------------------------------------------------------------------


def evaluate(value: Value, type_oid: int, literals: Sequence[bytes], parameters: Parameters) -> Canonical:
    """`value` compared with or assigned to a key column of type `type_oid`. Raises NotEvaluable."""
    if isinstance(value, Literal):
        return from_literal(literals[value.index], type_oid)
    if isinstance(value, Param):
        if value.index >= len(parameters.values):
            raise NotEvaluable("nothing is bound: PostgreSQL will say that there is no such parameter")
        data = parameters.values[value.index]
        if data is None:
            return None
        return from_parameter(parameters.type_of(value.index), type_oid, parameters.format_of(value.index), data)
    if isinstance(value, Constant):
        return _constant(value.value, type_oid)
    if isinstance(value, Cast) and value.type_oid not in INTEGER_TYPES:
        return _cast(value, type_oid, literals, parameters)
    if isinstance(value, Cast | Arithmetic):
        result, result_type = _integer(value, literals, parameters)
        return None if result is None else convert(result, result_type, type_oid)
    raise NotEvaluable(value)  # Asked and FromSequence: the caller replaces them by constants first


def _constant(value: Canonical, type_oid: int) -> Canonical:
    limits = INT_RANGE.get(type_oid)
    if limits is not None and isinstance(value, int) and not limits[0] <= value <= limits[1]:
        raise NotEvaluable(value)
    return value


def _cast(cast: Cast, type_oid: int, literals: Sequence[bytes], parameters: Parameters) -> Canonical:
    """`'…'::type` and `$1::type`: read by that type, then compared with the key."""
    operand = cast.operand
    if cast.type_oid == BPCHAR:
        raise NotEvaluable("character without a length is character(1)")
    if isinstance(operand, Param):
        if parameters.type_of(operand.index) not in (0, UNKNOWN, cast.type_oid):
            raise NotEvaluable("a conversion between types")
        found = evaluate(operand, cast.type_oid, literals, parameters)
    elif isinstance(operand, Literal):
        token = literals[operand.index]
        if token[:1] != b"'" and token.lower() != b"null":
            raise NotEvaluable("a conversion between types")
        found = from_literal(token, cast.type_oid)
    else:
        raise NotEvaluable(cast)
    return None if found is None else convert(found, cast.type_oid, type_oid)


def _integer(value: Value, literals: Sequence[bytes], parameters: Parameters) -> tuple[int | None, int]:
    """An integer expression and its type. NULL has the type INT4 unless a cast says otherwise."""
    if isinstance(value, Literal):
        return integer_literal(literals[value.index])
    if isinstance(value, Constant) and isinstance(value.value, int):
        return value.value, INT8
    if isinstance(value, Param):
        declared = parameters.type_of(value.index)
        if declared not in INTEGER_TYPES:
            raise NotEvaluable("a parameter whose type is not known to be an integer's")
        return _as_int(evaluate(value, declared, literals, parameters)), declared
    if isinstance(value, Cast) and value.type_oid in INTEGER_TYPES:
        return _integer_cast(value, literals, parameters), value.type_oid
    if isinstance(value, Arithmetic):
        return _arithmetic(value, literals, parameters)
    raise NotEvaluable(value)


def _as_int(value: Canonical) -> int | None:
    if isinstance(value, bytes):
        raise NotEvaluable(value)
    return value


def _integer_cast(cast: Cast, literals: Sequence[bytes], parameters: Parameters) -> int | None:
    operand = cast.operand
    if isinstance(operand, Literal) and literals[operand.index][:1] == b"'":
        return _as_int(from_text(cast.type_oid, unquote(literals[operand.index])))
    if isinstance(operand, Literal) and literals[operand.index].lower() == b"null":
        return None
    if isinstance(operand, Param) and parameters.type_of(operand.index) in (0, UNKNOWN):
        return _as_int(evaluate(operand, cast.type_oid, literals, parameters))
    value, _ = _integer(operand, literals, parameters)
    return value if value is None else _fitting(value, cast.type_oid)


def _fitting(value: int, type_oid: int) -> int:
    lowest, highest = INT_RANGE[type_oid]
    if not lowest <= value <= highest:
        raise NotEvaluable("integer out of range")
    return value


_WIDTH = {INT2: 2, INT4: 4, INT8: 8}


def _arithmetic(value: Arithmetic, literals: Sequence[bytes], parameters: Parameters) -> tuple[int | None, int]:
    left, left_type = _integer(value.left, literals, parameters)
    right, right_type = _integer(value.right, literals, parameters)
    result_type = max(left_type, right_type, key=_WIDTH.__getitem__)
    if left is None or right is None:
        return None, result_type
    if value.operator == "+":
        return _fitting(left + right, result_type), result_type
    if value.operator == "-":
        return _fitting(left - right, result_type), result_type
    if value.operator == "*":
        return _fitting(left * right, result_type), result_type
    raise NotEvaluable(value.operator)


def key_of(
    equal: Equal, relation: Relation, literals: Sequence[bytes], parameters: Parameters
) -> tuple[Canonical, ...]:
    """The whole key, as it would be stored in the relation's columns. Raises NotEvaluable.

    Type modifiers apply to what is stored, not to what is compared; but no row has a key that cannot be stored, so that
    for a condition any shard is as right as another.
    """
    router = router_for(relation)
    key = []
    for value, type_oid, modifier in zip(equal.values, router.types, router.modifiers, strict=True):
        found = evaluate(value, type_oid, literals, parameters)
        key.append(found if modifier is None else stored(found, type_oid, modifier))
    return tuple(key)


# --- one shard ---------------------------------------------------------------------------------------------------


def compile_equal(equal: Equal, relation: Relation) -> Lookup:
    """A function of (literals, parameters): the one shard with rows whose key equals, or NO_SHARD (`key = NULL`, too).

    The function raises NotEvaluable.
    """
    fast = _fast_lookup(equal, relation)
    return fast if fast is not None else _general_lookup(equal, relation, null_is_a_value=False)


def compile_insert(equal: Equal, relation: Relation) -> Lookup:
    """As `compile_equal`, for a key that is stored: NULL is a value. NO_SHARD: PostgreSQL raises 23514 (or 23502)."""
    general = _general_lookup(equal, relation, null_is_a_value=True)
    fast = _fast_lookup(equal, relation, null=general)
    return fast if fast is not None else general


def _general_lookup(equal: Equal, relation: Relation, *, null_is_a_value: bool) -> Lookup:
    router = router_for(relation)

    def look_up(literals: Sequence[bytes], parameters: Parameters) -> int:
        key = key_of(equal, relation, literals, parameters)
        if not null_is_a_value and None in key:
            return NO_SHARD
        index = router.shard_of(key)
        return NO_SHARD if index is None else index

    return look_up


def _fast_lookup(equal: Equal, relation: Relation, null: Lookup | None = None) -> Lookup | None:
    """A specialised closure for a single key, or None. What it does not recognise at once goes the general way."""
    router = router_for(relation)
    if len(equal.values) != 1 or router.modifiers[0] is not None:
        return None
    general = null if null is not None else _general_lookup(equal, relation, null_is_a_value=False)
    value, type_oid = equal.values[0], router.types[0]
    if type_oid in INTEGER_TYPES:
        if isinstance(value, Literal):
            return _int_literal(value.index, type_oid, router, general)
        return _int_param(value.index, type_oid, router, general) if isinstance(value, Param) else None
    if type_oid in (TEXT, VARCHAR, BPCHAR):
        if isinstance(value, Literal):
            return _text_literal(value.index, type_oid, router, general)
        return _text_param(value.index, type_oid, router, general) if isinstance(value, Param) else None
    return None


_SAFE_DIGITS = {INT2: 4, INT4: 9, INT8: 18}  # so many digits always fit


def _int_literal(index: int, type_oid: int, router: ShardRouter, general: Lookup) -> Lookup:
    digits_max, shard_of = _SAFE_DIGITS[type_oid], router.shard_of_int

    def look_up(literals: Sequence[bytes], parameters: Parameters) -> int:
        token = literals[index]
        if len(token) <= digits_max and token.isdigit():
            shard = shard_of(int(token))
            return NO_SHARD if shard is None else shard
        return general(literals, parameters)

    return look_up


_INTEGER_WIDTH_BY_TYPE = {INT2: 2, INT4: 4, INT8: 8}


def _int_param(index: int, type_oid: int, router: ShardRouter, general: Lookup) -> Lookup:
    digits_max, shard_of = _SAFE_DIGITS[type_oid], router.shard_of_int
    trusted = (0, type_oid)  # declared types for which the key's own reader is right
    width = _INTEGER_WIDTH_BY_TYPE[type_oid]

    def look_up(literals: Sequence[bytes], parameters: Parameters) -> int:
        data = parameters.values[index]
        if data is None or parameters.type_of(index) not in trusted:
            return general(literals, parameters)
        if parameters.format_of(index):
            if len(data) != width:
                return general(literals, parameters)
            shard = shard_of(int.from_bytes(data, "big", signed=True))
        elif len(data) <= digits_max and data.isdigit():
            shard = shard_of(int(data))
        else:
            return general(literals, parameters)
        return NO_SHARD if shard is None else shard

    return look_up


def _text_literal(index: int, type_oid: int, router: ShardRouter, general: Lookup) -> Lookup:
    shard_of, blanks = router.shard_of_one, type_oid == BPCHAR

    def look_up(literals: Sequence[bytes], parameters: Parameters) -> int:
        token = literals[index]
        if not token.isascii() or token.count(b"'") != 2 or token[:1] != b"'" or token[-1:] != b"'":
            return general(literals, parameters)
        shard = shard_of(token[1:-1].rstrip(b" ") if blanks else token[1:-1])
        return NO_SHARD if shard is None else shard

    return look_up


def _text_param(index: int, type_oid: int, router: ShardRouter, general: Lookup) -> Lookup:
    shard_of, blanks = router.shard_of_one, type_oid == BPCHAR
    trusted = (0, type_oid) if blanks else (0, TEXT, VARCHAR)

    def look_up(literals: Sequence[bytes], parameters: Parameters) -> int:
        data = parameters.values[index]
        if data is None or not data.isascii() or b"\0" in data or parameters.type_of(index) not in trusted:
            return general(literals, parameters)
        shard = shard_of(data.rstrip(b" ") if blanks else data)
        return NO_SHARD if shard is None else shard

    return look_up


# --- several shards ----------------------------------------------------------------------------------------------


def shards_for(
    prune: Prune, relation: Relation, literals: Sequence[bytes], parameters: Parameters
) -> frozenset[int] | None:
    """The shards that may have rows for the condition (indexes in `relation.shards`); None: not evaluable."""
    router = router_for(relation)
    condition = prune.condition
    try:
        if condition is None:
            return router.everything
        if isinstance(condition, Between):
            return _between(condition, router, literals, parameters)
        alternatives = condition.alternatives if isinstance(condition, AnyOf) else (condition,)
        keys = [key_of(equal, relation, literals, parameters) for equal in alternatives]
    except NotEvaluable:
        return None
    found = (router.shard_of(key) for key in keys if None not in key)
    return frozenset(index for index in found if index is not None)


def _between(
    between: Between, router: ShardRouter, literals: Sequence[bytes], parameters: Parameters
) -> frozenset[int]:
    type_oid = router.types[0]
    ends: list[Canonical] = []
    for end in (between.lower, between.upper):
        value = None if end is None else evaluate(end, type_oid, literals, parameters)
        if end is not None and value is None:
            return frozenset()  # `key < NULL` is true for no row
        ends.append(value)
    return router.shards_between(ends[0], ends[1], between.lower_inclusive, between.upper_inclusive)
