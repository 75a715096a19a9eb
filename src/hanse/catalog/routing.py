"""Which shard a row belongs to: the partition bounds of one sharded table, made ready for looking up.

=========  =====================================================================================================
HASH       a table over the greatest modulus: slot r holds the shard whose (modulus, remainder) covers r. PostgreSQL
           demands that each modulus divides the next larger one, so the greatest is a multiple of all. (PostgreSQL
           keeps the same table, PartitionBoundInfo.indexes.)
RANGE      bounds as tuples of (rank, value): MINVALUE is (-1,), a value (0, value), MAXVALUE (1,). Python's order of
           tuples is then PostgreSQL's order of bounds, also that nothing counts after a MINVALUE or MAXVALUE. The
           shards are sorted; the last lower bound <= key is found by bisection, then key < upper must hold.
LIST       a dictionary; NULL is one of its values.
=========  =====================================================================================================

Rows that no bound covers belong to the DEFAULT partition if there is one, else nowhere (None, -1 in arrays: PostgreSQL
raises 23514). NULL in a RANGE key is such a row. Values are canonical (catalog.keys).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..core.limits import KEY_HASHES_CACHED_MAX
from .keys import BYTES_TYPES, CHAR, Canonical, from_text, modifier_of
from .model import Bound, Relation, Shard, Strategy
from .partition_hash import COMBINE, KeyColumnValues, hash_bytes, hash_of, int_slot, remainders, row_hash

NO_SHARD = -1  # in arrays and in the answers of planner.values: no shard can have the row

Edge: TypeAlias = tuple[Any, ...]  # (-1,), (0, value) or (1,): see above
ShardArray: TypeAlias = npt.NDArray[np.int64]


class ShardRouter(ABC):
    """The bounds of one sharded table. `shard_of_one(value)` is `shard_of((value,))` of a single-column key.

    `shard_of_int` is the hot path of a single integer-like HASH key, value not None; elsewhere it is `shard_of_one`.
    """

    shard_of_int: Callable[[int], int | None]
    shard_of_one: Callable[[Canonical], int | None]

    def __init__(self, relation: Relation) -> None:
        self.types = relation.key_types
        self.shards = relation.shards
        self.modifiers = tuple(
            modifier_of(type_oid, relation.column_by_name[name].type_name) if name in relation.column_by_name else None
            for name, type_oid in zip(relation.key, relation.key_types, strict=True)
        )
        self.everything = frozenset(range(len(self.shards)))
        self.group_names = tuple(dict.fromkeys(shard.group for shard in self.shards))
        self.group_numbers = np.array([self.group_names.index(shard.group) for shard in self.shards], dtype=np.int64)
        self.default = next((i for i, shard in enumerate(self.shards) if shard.bound.default), None)
        self.shard_of_one = lambda value: self.shard_of((value,))
        self.shard_of_int = self.shard_of_one

    def group_of(self, index: int) -> str:
        return self.shards[index].group

    @abstractmethod
    def shard_of(self, values: tuple[Canonical, ...]) -> int | None:
        """The index in `relation.shards` of the shard a row with this key belongs to; None: there is none."""

    @abstractmethod
    def shards_between(
        self, lower: Canonical, upper: Canonical, lower_inclusive: bool = True, upper_inclusive: bool = True
    ) -> frozenset[int]:
        """A superset of the shards with rows whose first key column lies in the interval (None: unbounded)."""

    def shards_of_columns(self, columns: Sequence[KeyColumnValues]) -> ShardArray:
        """`shard_of` of many rows, one column of values for each key column; NO_SHARD where there is none."""
        found = map(self.shard_of, zip(*(_as_list(column) for column in columns), strict=True))
        return np.array([NO_SHARD if index is None else index for index in found], dtype=np.int64)

    def _or_default(self, found: set[int]) -> frozenset[int]:
        return frozenset(found if self.default is None else found | {self.default})


def _as_list(column: KeyColumnValues) -> Sequence[Canonical]:
    return column.tolist() if isinstance(column, np.ndarray) else column


# --- HASH --------------------------------------------------------------------------------------------------------


class HashRouter(ShardRouter):
    def __init__(self, relation: Relation) -> None:
        super().__init__(relation)
        self.modulus = max((shard.bound.modulus or 1 for shard in self.shards), default=1)
        self._slots = _hash_slots(self.shards, self.modulus)
        self._slot_array = np.array([NO_SHARD if s is None else s for s in self._slots], dtype=np.int64)
        if len(self.types) != 1:
            return
        hash_value = _cached_hash_bytes if self.types[0] in BYTES_TYPES else hash_of(self.types[0])
        self.shard_of_one = _slot_of_one(self._slots, hash_value)
        self.shard_of_int = self.shard_of_one if self.types[0] in (*BYTES_TYPES, CHAR) else int_slot(self._slots)

    def shard_of(self, values: tuple[Canonical, ...]) -> int | None:
        return self._slots[row_hash(values, self.types) % self.modulus]

    def shards_between(
        self, lower: Canonical, upper: Canonical, lower_inclusive: bool = True, upper_inclusive: bool = True
    ) -> frozenset[int]:
        return self.everything  # a hash says nothing about order

    def shards_of_columns(self, columns: Sequence[KeyColumnValues]) -> ShardArray:
        return self._slot_array[remainders(columns, self.types, self.modulus)]


def _slot_of_one(slots: Sequence[int | None], hash_value: Callable[[Any], int]) -> Callable[[Canonical], int | None]:
    modulus = len(slots)

    def shard_of_one(value: Canonical) -> int | None:
        if value is None:
            return slots[0]  # NULLs are not hashed: the row's hash stays 0
        return slots[(hash_value(value) + COMBINE & 0xFFFFFFFFFFFFFFFF) % modulus]

    return shard_of_one


_hash_short_bytes = lru_cache(maxsize=KEY_HASHES_CACHED_MAX)(hash_bytes)


def _cached_hash_bytes(value: bytes) -> int:
    """14 µs for 30 bytes, 0.3 µs when seen before; long values are not kept, so that the cache has a bound in bytes."""
    return _hash_short_bytes(value) if len(value) <= 64 else hash_bytes(value)


def _hash_slots(shards: Sequence[Shard], modulus: int) -> list[int | None]:
    slots: list[int | None] = [None] * modulus
    for index, shard in enumerate(shards):
        assert shard.bound.modulus is not None and shard.bound.remainder is not None
        assert modulus % shard.bound.modulus == 0, "PostgreSQL refuses such moduli"
        for remainder in range(shard.bound.remainder, modulus, shard.bound.modulus):
            slots[remainder] = index
    return slots


# --- RANGE -------------------------------------------------------------------------------------------------------


def _edge(types: Sequence[int], texts: Sequence[str | None], rank: int) -> Edge:
    """A bound as a comparable tuple; None is MINVALUE (rank -1) or MAXVALUE (rank 1)."""
    return tuple(
        (rank,) if text is None else (0, from_text(type_oid, text.encode()))
        for type_oid, text in zip(types, texts, strict=True)
    )


class RangeRouter(ShardRouter):
    def __init__(self, relation: Relation) -> None:
        super().__init__(relation)
        spans = sorted((*_span(shard.bound, self.types), i) for i, shard in enumerate(self.shards) if _has_span(shard))
        self._lowers = [lower for lower, _, _ in spans]
        self._uppers = [upper for _, upper, _ in spans]
        self._indexes = [index for _, _, index in spans]

    def shard_of(self, values: tuple[Canonical, ...]) -> int | None:
        if None in values:
            return self.default
        key = tuple((0, value) for value in values)
        at = bisect_right(self._lowers, key) - 1
        return self._indexes[at] if at >= 0 and key < self._uppers[at] else self.default

    def shards_between(
        self, lower: Canonical, upper: Canonical, lower_inclusive: bool = True, upper_inclusive: bool = True
    ) -> frozenset[int]:
        found = set()
        for shard_lower, shard_upper, index in zip(self._lowers, self._uppers, self._indexes, strict=True):
            starts_after = upper is not None and not self._begins_below(shard_lower, upper, upper_inclusive)
            ends_before = lower is not None and not self._ends_above(shard_upper, lower)
            if not starts_after and not ends_before:
                found.add(index)
        return self._or_default(found)

    @staticmethod
    def _begins_below(shard_lower: Edge, upper: Canonical, inclusive: bool) -> bool:
        limit = (0, upper)
        return bool(shard_lower[0] < limit or (inclusive and shard_lower[0] == limit))

    @staticmethod
    def _ends_above(shard_upper: Edge, lower: Canonical) -> bool:
        limit = (0, lower)  # of one column, the upper bound itself is outside; of several, only with the rest
        return bool(shard_upper[0] > limit or (len(shard_upper) > 1 and shard_upper[0] == limit))

    def shards_of_columns(self, columns: Sequence[KeyColumnValues]) -> ShardArray:
        column = columns[0]
        if len(columns) > 1 or not isinstance(column, np.ndarray):
            return super().shards_of_columns(columns)
        return self._search(column.astype(np.int64, copy=False))

    def _search(self, values: npt.NDArray[np.int64]) -> ShardArray:
        """Single integer-like key: MINVALUE and MAXVALUE need no number, only the first may begin, the last end so."""
        missing = NO_SHARD if self.default is None else self.default
        if not self._lowers:
            return np.full(len(values), missing, dtype=np.int64)
        open_below, open_above = self._lowers[0][0] == (-1,), self._uppers[-1][0] == (1,)
        lowers = np.array([edge[0][1] for edge in self._lowers[open_below:]], dtype=np.int64)
        uppers = np.array([edge[0][1] for edge in self._uppers[: len(self._uppers) - open_above]], dtype=np.int64)
        at = np.searchsorted(lowers, values, side="right") - (not open_below)
        ended = np.searchsorted(uppers, values, side="right")  # so many shards end at or below the value
        indexes = np.array(self._indexes, dtype=np.int64)
        return np.where((at >= 0) & (ended <= at), indexes[at], missing)


def _has_span(shard: Shard) -> bool:
    return shard.bound.lower is not None


def _span(bound: Bound, types: Sequence[int]) -> tuple[Edge, Edge]:
    assert bound.lower is not None and bound.upper is not None
    return _edge(types, bound.lower, -1), _edge(types, bound.upper, 1)


# --- LIST --------------------------------------------------------------------------------------------------------


class ListRouter(ShardRouter):
    def __init__(self, relation: Relation) -> None:
        super().__init__(relation)
        self._index_of: dict[Canonical, int] = {}
        for index, shard in enumerate(self.shards):
            for text in shard.bound.values or ():
                self._index_of[_list_value(self.types[0], text)] = index
        default = self.default
        lookup = self._index_of.get
        self.shard_of_one = lambda value: lookup(value, default)
        self.shard_of_int = self.shard_of_one

    def shard_of(self, values: tuple[Canonical, ...]) -> int | None:
        return self._index_of.get(values[0], self.default)

    def shards_between(
        self, lower: Canonical, upper: Canonical, lower_inclusive: bool = True, upper_inclusive: bool = True
    ) -> frozenset[int]:
        def inside(value: Any) -> bool:
            above = lower is None or value > lower or (lower_inclusive and value == lower)
            return above and (upper is None or value < upper or (upper_inclusive and value == upper))

        if lower is None and upper is None:
            return self.everything  # says nothing, not even that the key is not NULL
        return self._or_default({i for value, i in self._index_of.items() if value is not None and inside(value)})

    def shards_of_columns(self, columns: Sequence[KeyColumnValues]) -> ShardArray:
        missing = NO_SHARD if self.default is None else self.default
        values = _as_list(columns[0])
        return np.array([self._index_of.get(value, missing) for value in values], dtype=np.int64)


def _list_value(type_oid: int, text: str | None) -> Canonical:
    return None if text is None else from_text(type_oid, text.encode())


# --- all three ---------------------------------------------------------------------------------------------------

_ROUTERS: dict[Strategy, type[ShardRouter]] = {
    Strategy.HASH: HashRouter,
    Strategy.RANGE: RangeRouter,
    Strategy.LIST: ListRouter,
}


def router_for(relation: Relation) -> ShardRouter:
    """The router of a sharded table, made once per relation value (a changed table is another value)."""
    router: ShardRouter | None = relation.__dict__.get("_router")
    if router is None:
        if relation.strategy is None:
            raise ValueError(f"{relation.name} is not sharded")
        router = _ROUTERS[relation.strategy](relation)
        relation.__dict__["_router"] = router
    return router
