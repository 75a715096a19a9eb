"""Sorted rows of several groups as one sorted result: a k-way merge with OFFSET and LIMIT.

`Merger` is a pure machine: chunks of DataRow messages go in (`feed`, `finish`), merged chunks come out (`take`). It
gives a row as soon as every group that is not finished has a row waiting, which is when no smaller one can come any
more.

    merger = Merger(sources=2, key=key_function(keys, fields), limit=10, offset=0, keep=3)
    merger.feed(0, chunk); merger.feed(1, chunk)
    rows = merger.take()          # bytes of whole DataRows, ready for the client
    merger.wants                  # the sources without a waiting row: read those, and no others
    merger.done                   # nothing more will come: what the groups still send is not needed

Look-ahead is bounded because only sources that are wanted are read: at most one chunk of each group is held.

Rows with equal keys come in the order of the groups. PostgreSQL promises no order among them either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from heapq import heappop, heappush, heapreplace
from typing import Any, Protocol

from ..core.errors import PgError
from ..planner.plan import Merge, Param, SortKey
from .rows import field_count, field_reader, first_fields, split_messages
from .sort_values import Decoder, Unsortable, decoder

__all__ = ["Merger", "Unsortable", "bounds", "key_function", "merged"]

RowKey = Callable[[bytes], tuple[Any, ...]]


class Column(Protocol):
    """What of a RowDescription's field is needed (`pgwire.backend.Field`)."""

    @property
    def type_oid(self) -> int: ...
    @property
    def format(self) -> int: ...


class _Descending:
    """A value that sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Descending) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]


def key_function(keys: Sequence[SortKey], fields: Sequence[Column], iso_dates: bool = True) -> RowKey:
    """A function from a DataRow to a tuple that sorts like the row. `fields`: the groups' RowDescription.

    Raises Unsortable for types that the gateway cannot compare.
    """
    columns = [key.column % len(fields) for key in keys]
    read = field_reader(columns)
    parts = [_part(key, fields[column], iso_dates) for key, column in zip(keys, columns, strict=True)]
    if len(parts) == 1:
        only = parts[0]
        return lambda row: (only(read(row)[0]),)
    return lambda row: tuple([part(value) for part, value in zip(parts, read(row), strict=True)])


def _part(key: SortKey, field: Column, iso_dates: bool) -> Callable[[bytes | None], tuple[int, Any]]:
    """One sort key: (place of nulls, value); nulls are equal to each other."""
    decode: Decoder = decoder(field.type_oid, field.format == 1, iso_dates)
    null = (-1, None) if key.nulls_first else (1, None)
    if key.descending:
        return lambda value: null if value is None else (0, _Descending(decode(value)))
    return lambda value: null if value is None else (0, decode(value))


def bounds(merge: Merge, values: Sequence[bytes | None] = (), formats: Sequence[int] = ()) -> tuple[int | None, int]:
    """LIMIT and OFFSET as numbers; `values`, `formats`: the bound parameters of type bigint.

    Raises 2201W or 2201X for negative ones, 22P02 for what is no number.
    """
    limit = _bound(merge.limit, values, formats)
    offset = _bound(merge.offset, values, formats) or 0
    if limit is not None and limit < 0:
        raise PgError("2201W", "LIMIT must not be negative")
    if offset < 0:
        raise PgError("2201X", "OFFSET must not be negative")
    return limit, offset


def _bound(bound: int | Param | None, values: Sequence[bytes | None], formats: Sequence[int]) -> int | None:
    if not isinstance(bound, Param):
        return bound
    value = values[bound.index]
    if value is None:
        return None
    binary = formats[bound.index if len(formats) > 1 else 0] == 1 if formats else False
    if binary:
        return int.from_bytes(value, "big", signed=True)
    try:
        return int(value)
    except ValueError:
        text = value.decode(errors="replace")
        raise PgError("22P02", f'invalid input syntax for type bigint: "{text}"') from None


class Merger:
    """Merges the sorted rows of `sources` groups; without a key, gives the groups' rows one after another."""

    def __init__(
        self, *, sources: int, key: RowKey | None, limit: int | None = None, offset: int = 0, keep: int | None = None
    ) -> None:
        self._key = key
        self._waiting: list[deque[bytes]] = [deque() for _ in range(sources)]
        self._open = set(range(sources))
        self._absent = set(range(sources))  # sources without a row in the heap
        self._heap: list[tuple[tuple[Any, ...], int, bytes]] = []
        self._skip = offset
        self._left = limit
        self._keep = keep
        self.rows_given = 0

    def feed(self, source: int, chunk: bytes) -> None:
        assert source in self._open, "rows after the end"
        self._waiting[source].extend(split_messages(chunk))

    def finish(self, source: int) -> None:
        self._open.discard(source)

    @property
    def done(self) -> bool:
        return self._left == 0 or (not self._open and not self._heap and not any(self._waiting))

    @property
    def wants(self) -> tuple[int, ...]:
        """Sources that must be fed or finished before another row can be given, in order."""
        if self.done:
            return ()
        empty = tuple(source for source in sorted(self._open) if not self._waiting[source])
        if self._key is None:
            return empty[:1]
        return tuple(source for source in empty if source in self._absent)

    def take(self) -> bytes:
        """All rows that can be given now."""
        found = self._one_after_another() if self._key is None else self._smallest_first()
        if self._keep is not None:
            keep = self._keep
            found = [row if field_count(row) == keep else first_fields(row, keep) for row in found]
        self.rows_given += len(found)
        return b"".join(found)

    def _one_after_another(self) -> list[bytes]:
        found: list[bytes] = []
        for source, waiting in enumerate(self._waiting):
            while waiting and self._left != 0:
                self._give(waiting.popleft(), found)
            if source in self._open:
                break
        return found

    def _smallest_first(self) -> list[bytes]:
        found: list[bytes] = []
        heap, waiting, key = self._heap, self._waiting, self._key
        assert key is not None
        self._enter()
        while heap and self._left != 0 and not (self._absent & self._open):
            _, source, row = heap[0]
            queue = waiting[source]
            if queue:
                following = queue.popleft()
                heapreplace(heap, (key(following), source, following))
            else:
                heappop(heap)
                self._absent.add(source)
            self._give(row, found)
        return found

    def _enter(self) -> None:
        assert self._key is not None
        for source in [each for each in self._absent if self._waiting[each]]:
            row = self._waiting[source].popleft()
            heappush(self._heap, (self._key(row), source, row))
            self._absent.discard(source)

    def _give(self, row: bytes, found: list[bytes]) -> None:
        if self._skip:
            self._skip -= 1
            return
        if self._left is not None:
            self._left -= 1
        found.append(row)


async def merged(merger: Merger, sources: Sequence[AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
    """Chunks of merged rows. Ends when `merger.done`; what sources still hold then is for the caller to drain."""
    while not merger.done:
        for source in merger.wants:
            chunk = await anext(sources[source], None)
            if chunk is None:
                merger.finish(source)
            else:
                merger.feed(source, chunk)
        rows = merger.take()
        if rows:
            yield rows
