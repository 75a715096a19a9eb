"""The values that `locality` computes with: how the rows of a query lie in the groups, and which columns are equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .names import Column, Item, Output, Scope


class Elsewhere(Exception):
    """The query cannot be computed group by group; the text says why."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Rows that lie in several groups. keys[i]: the columns that hold the i-th column of the shard key, perhaps none."""

    colocation: object
    groups: tuple[str, ...]
    keys: tuple[frozenset[Column], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A query's result. `spread` None: everywhere. keys[i]: positions in `outputs` that hold the i-th key column."""

    outputs: tuple[Output, ...] | None
    spread: Spread | None = None
    keys: tuple[frozenset[int], ...] = ()


@dataclass(frozen=True, slots=True)
class Around:
    """What a subquery sees of the query around it."""

    scope: Scope
    spreads: tuple[Spread, ...]


@dataclass(frozen=True, slots=True)
class Base:
    """FROM and WHERE of a SELECT. `tied`: its rows lie where the row of the query around it lies."""

    scope: Scope
    spread: Spread | None
    tied: bool = False


@dataclass(slots=True)
class Region:
    """A part of a FROM list; `spreads` have yet to be tied together."""

    items: tuple[Item, ...] = ()
    spreads: tuple[Spread, ...] = ()
    merged: dict[str, Column | None] = field(default_factory=dict)


class Equalities:
    """Classes of equal columns (union-find)."""

    def __init__(self, parents: Mapping[Column, Column] | None = None) -> None:
        self._parent: dict[Column, Column] = dict(parents or {})

    def copy(self) -> Equalities:
        return Equalities(self._parent)

    def find(self, column: Column) -> Column:
        while self._parent.get(column, column) != column:
            column = self._parent[column]
        return column

    def add(self, one: Column, other: Column) -> None:
        self._parent.setdefault(one, one)
        self._parent.setdefault(other, other)
        self._parent[self.find(one)] = self.find(other)

    def tie(self, one: Spread, other: Spread) -> bool:
        """Whether equal positions of both keys are equal in every row."""
        if one.colocation != other.colocation or len(one.keys) != len(other.keys):
            return False
        return all(
            {self.find(a) for a in mine} & {self.find(b) for b in theirs}
            for mine, theirs in zip(one.keys, other.keys, strict=True)
        )

    def closed(self, columns: Iterable[Column]) -> frozenset[Column]:
        roots = {self.find(column) for column in columns}
        return frozenset(columns) | {column for column in self._parent if self.find(column) in roots}
