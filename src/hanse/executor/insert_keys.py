"""The keys of a long VALUES list, all at once.

Bulk INSERTs have one integer key per row, written as a literal or as a sum of two (`12300::bigint + 7`). Such a list is
recognised once per plan; then a hundred rows are read, hashed and routed as arrays. Whatever does not fit in at any row gives
None, and the rows are evaluated one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from ..catalog.keys import INT2, INT4, INT8
from ..catalog.model import Relation
from ..planner.plan import Arithmetic, Cast, InsertRows, Literal, Param, Value
from ..planner.values import Parameters

ROWS_MIN = 8
_DIGITS_MAX = 17  # the sum of two such numbers is an int8
_SMALL_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Columns:
    """For each row, the values whose sum is its key: the number of a literal, or ~n for a parameter in text form."""

    first: tuple[int, ...]
    second: tuple[int, ...]  # empty: the key is one literal
    bound: bool  # parameters are among them
    wide: bool  # a cast to bigint makes the sum one; otherwise it must fit an int4
    pick: Callable[
        [Sequence[bytes]], tuple[bytes, ...]
    ]  # the literals, the first ones and then the second, if none is bound

    def tokens(self, literals: Sequence[bytes], parameters: Parameters) -> Sequence[bytes]:
        if not self.bound:
            return self.pick(literals)
        values = parameters.values
        return [(literals[place] if place >= 0 else values[~place]) or b"" for place in self.first + self.second]


Keys = np.ndarray[tuple[int], np.dtype[np.int64]]


def keys_of_rows(
    plan: InsertRows, relation: Relation, literals: Sequence[bytes], parameters: Parameters
) -> Keys | None:
    """The key of each row; None: not this kind of list."""
    if len(plan.rows) < ROWS_MIN or plan.added or plan.replaced:
        return None
    if "columns" not in plan.compiled:
        plan.compiled["columns"] = _recognise(plan, relation)
    columns = plan.compiled["columns"]
    if not isinstance(columns, _Columns):
        return None
    if columns.bound and (any(parameters.formats) or not parameters.values):
        return None
    numbers = _numbers(columns.tokens(literals, parameters))
    if numbers is None:
        return None
    keys = numbers if not columns.second else numbers[: len(plan.rows)] + numbers[len(plan.rows) :]
    wide = columns.wide or (columns.bound and _all_wide(parameters, columns))
    narrow = (bool(columns.second) and not wide) or relation.key_types[0] != INT8
    if narrow and int(keys.max()) > (_SMALL_MAX if relation.key_types[0] != INT2 else 2**15 - 1):
        return None
    return keys


def _numbers(tokens: Sequence[bytes]) -> Keys | None:
    if not all(tokens) or not b"".join(tokens).isdigit() or max(map(len, tokens)) > _DIGITS_MAX:
        return None
    return np.fromstring(b" ".join(tokens), dtype=np.int64, sep=" ")


def _all_wide(parameters: Parameters, columns: _Columns) -> bool:
    return all(parameters.type_of(~place) == INT8 for place in columns.first + columns.second if place < 0)


def _recognise(plan: InsertRows, relation: Relation) -> _Columns | None:
    if relation.key_types not in ((INT2,), (INT4,), (INT8,)):
        return None
    first: list[int] = []
    second: list[int] = []
    wide = True
    for equal in plan.keys:
        value = equal.values[0]
        if isinstance(value, Arithmetic):
            left, right = _literal(value.left), _literal(value.right)
            if value.operator != "+" or left is None or right is None:
                return None
            first.append(left[0])
            second.append(right[0])
            wide = wide and (left[1] or right[1])
        else:
            only = _literal(value)
            if only is None:
                return None
            first.append(only[0])
    if second and len(second) != len(first):
        return None
    places = (*first, *second)
    return _Columns(tuple(first), tuple(second), min(places) < 0, wide, itemgetter(*places))


def _literal(value: Value) -> tuple[int, bool] | None:
    """(where the number is, whether it is made a bigint). A bare parameter's type is not known here."""
    if isinstance(value, Literal):
        return value.index, False
    if isinstance(value, Param):
        return ~value.index, False
    if isinstance(value, Cast) and value.type_oid == INT8:
        if isinstance(value.operand, Literal):
            return value.operand.index, True
        if isinstance(value.operand, Param):
            return ~value.operand.index, True
    return None
