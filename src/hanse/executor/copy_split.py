"""COPY FROM STDIN into a sharded table: one stream in, one well-formed stream for each destination out.

    splitter = CopySplitter(options, relation, columns, destinations=…, added=…)
    batches = splitter.feed(payload of CopyData)      # [(destination, bytes), …]; often empty, pieces are collected
    if splitter.unrouted:                             # keys only PostgreSQL can read, such as '1.2.2024'
        batches = splitter.resolve(canonical texts)   # … gives the rows of this piece, these among them
    batches = splitter.finish()                       # `unrouted` may be set here, too

A destination is a number for each shard (by default the shard's index; groups, where COPY goes through the parent). The
destinations' COPY must have the same format options but no HEADER (the header line is consumed here), and the column
list of `columns` followed by the added columns.

**Order.** A shard's rows keep their order: a piece with unrouted rows is held back whole until `resolve`.

**Speed.** Pieces of COPY_BATCH_BYTES are cut at once (copy_rows), integer keys are read by numpy from where they stand,
hashed and looked up as arrays, and a stable sort by destination gives each destination's rows.

**Bounds.** Held: one piece, at most twice as long as the longest row; a row over MESSAGE_BYTES_MAX is an error.

**Errors** are PgErrors like PostgreSQL's own, with the line number of the client's stream (a group would count its own
rows only). What is wrong with a value, other than an unreadable key, is found by the group. A row that no shard takes
raises 23514 here: no group could tell which row of the client's it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from ..catalog.keys import (
    BYTES_TYPES,
    INT2,
    INT4,
    INT8,
    INT_RANGE,
    STRING_TYPES,
    Canonical,
    NotEvaluable,
    from_binary,
    from_text,
    stored,
)
from ..catalog.model import Relation
from ..catalog.routing import NO_SHARD, router_for
from ..core.errors import PgError, not_supported
from ..core.limits import COPY_BATCH_BYTES, MESSAGE_BYTES_MAX
from .copy_binary import HEADER, TRAILER, BinaryBlock, BinaryScanner, append_fields
from .copy_formats import CopyOptions, copy_context, encode_csv, encode_text, invalid_utf8
from .copy_rows import Offsets, RowBlock, RowScanner

Batch = tuple[int, bytes]
AddedRow = Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Added:
    """Columns whose values the gateway makes. `draw(n)` gives n rows of values in text form (binary COPY: binary)."""

    columns: tuple[str, ...]
    draw: Callable[[int], Sequence[AddedRow]]


@dataclass(frozen=True, slots=True)
class UnroutedRow:
    """A row whose key only PostgreSQL can read: the values of the key columns, unescaped, in key order."""

    row: int  # index in the held piece
    keys: tuple[bytes | None, ...]


@dataclass(slots=True)
class _Held:
    """A piece whose keys are being found."""

    rows: list[bytes]
    columns: list[Any]  # for each key column an integer array, or a list of canonical values
    lines: int  # line number before the first row


class CopySplitter:
    """See the module. `columns`: the stream's columns in order (COPY without a list: all that are not generated)."""

    def __init__(
        self,
        options: CopyOptions,
        relation: Relation,
        columns: Sequence[str],
        *,
        destinations: Sequence[int] | None = None,
        added: Added | None = None,
    ) -> None:
        self.unrouted: tuple[UnroutedRow, ...] = ()
        self.rows = 0  # rows sent on so far
        self._options = options
        self._relation = relation
        self._router = router_for(relation)
        self._added = added
        self._columns = tuple(columns)
        self._binary = options.format == "binary"
        everything = (*columns, *(added.columns if added else ()))
        self._positions = [everything.index(name) if name in everything else None for name in relation.key]
        self._force = [_forces(options, name) for name in relation.key]
        of_shard = range(len(relation.shards)) if destinations is None else destinations
        self._destination_of = np.array(of_shard, dtype=np.int64)
        self._scanner = self._make_scanner()
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._threshold = COPY_BATCH_BYTES
        self._may_end = True  # a row, in what is held and was not looked at
        self._started: set[int] = set()
        self._held = _Held([], [], 0)
        self._finishing = False

    @property
    def binary(self) -> bool:
        return self._binary

    @property
    def started(self) -> frozenset[int]:
        """Destinations of a binary stream that have got its header."""
        return frozenset(self._started)

    def _make_scanner(self) -> RowScanner | BinaryScanner:
        if not self._binary:
            return RowScanner(self._options, self._relation.name, self._columns)
        wanted = [p for p in self._positions if p is not None and p < len(self._columns)]
        return BinaryScanner(self._relation.name, self._columns, wanted)

    # -- the stream --

    def feed(self, chunk: bytes) -> list[Batch]:
        """Take the payload of a CopyData message; chunks need not end where rows end."""
        assert not self.unrouted, "resolve() first"
        if self._scanner.ended and not self._binary:
            return []  # PostgreSQL reads on and ignores what follows the end marker
        waits = self._waits(chunk)
        self._pieces.append(chunk)
        self._buffered += len(chunk)
        if waits:
            self._may_end = self._may_end or self._has_end(chunk)
            return []
        return self._process(final=False)

    @property
    def held(self) -> int:
        """Bytes of rows whose end has not come."""
        return self._buffered

    def _waits(self, chunk: bytes) -> bool:
        """With this chunk there is too little to be looked at, or still no end of a row."""
        if self._buffered + len(chunk) < self._threshold:
            return True
        return not self._may_end and not self._has_end(chunk)

    def _has_end(self, chunk: bytes) -> bool:
        return self._binary or b"\n" in chunk or b"\r" in chunk or b"." in chunk  # `\\.` ends the stream

    def rows_at_most(self, chunk: bytes) -> int:
        """So many rows, or fewer, will be drawn from `Added` when this chunk is fed; b"" for finish()."""
        if chunk and self._waits(chunk):
            return 0
        pieces = (*self._pieces, chunk)
        if self._binary:
            return sum(map(len, pieces)) // (2 + 4 * len(self._columns)) + 1
        return sum(piece.count(b"\n") + piece.count(b"\r") for piece in pieces) + 1

    def finish(self) -> list[Batch]:
        """After CopyDone. Binary: each destination that got rows now gets its trailer."""
        assert not self.unrouted, "resolve() first"
        batches = []
        if not self._finishing:
            self._finishing = True
            batches = [] if self._scanner.ended else self._process(final=False)
        return batches if self.unrouted else batches + self._end()

    def _end(self) -> list[Batch]:
        batches: list[Batch] = []
        if not self._scanner.ended:
            batches = self._process(final=True)
            if not self.unrouted:
                self._scanner.ended = True
        if self._binary:
            batches += [(destination, TRAILER) for destination in sorted(self._started)]
        return batches

    def _process(self, *, final: bool) -> list[Batch]:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []  # not twice, while there is more of it
        lines = self._scanner.lines
        block, rest = self._scanner.scan(data, final)
        self._keep(rest)
        if not block.rows:
            return []
        self._held = held = _Held(block.rows, [], lines)
        added = self._added.draw(len(held.rows)) if self._added else ()
        if isinstance(block, RowBlock):
            self._find_keys(held, block, added)
        else:
            self._read_binary_keys(held, block, added)
        return [] if self.unrouted else self._send(held)

    def _keep(self, rest: bytes) -> None:
        if len(rest) > MESSAGE_BYTES_MAX:
            raise PgError("54000", "a COPY row is too long", detail=f"The limit is {MESSAGE_BYTES_MAX} bytes.")
        self._pieces = [rest] if rest else []
        self._buffered = len(rest)
        self._may_end = False
        self._threshold = max(COPY_BATCH_BYTES, 2 * len(rest))  # a long row is scanned again only when it has doubled

    # -- keys --

    def _find_keys(self, held: _Held, block: RowBlock, added: Sequence[AddedRow]) -> None:
        """Fill held.columns; set `unrouted`."""
        readers = [
            _ColumnReader(type_oid, modifier, self._field_reader(k), utf8=self._options.utf8)
            for k, (type_oid, modifier) in enumerate(zip(self._router.types, self._router.modifiers, strict=True))
        ]
        for reader, position in zip(readers, self._positions, strict=True):
            if position is None:
                held.columns.append([None] * len(held.rows))
            elif position >= len(self._columns):
                values = [row[position - len(self._columns)] for row in added]
                held.columns.append([_added_value(reader, value) for value in values])
            else:
                held.columns.append(self._read_column(reader, block, position))
        doubtful = sorted(set().union(*(reader.doubtful for reader in readers)))
        if doubtful:
            self.unrouted = tuple(UnroutedRow(row, self._texts(held, block, added, row)) for row in doubtful)
        if self._added:
            held.rows[:] = self._with_added(held.rows, added)

    def _field_reader(self, key: int) -> Callable[[bytes], bytes | None]:
        scanner, default = self._scanner, self._options.default
        assert isinstance(scanner, RowScanner)
        force_null, force_not_null = self._force[key]

        def read(raw: bytes) -> bytes | None:
            if default is not None and raw == default:
                raise not_supported("the DEFAULT marker in a column of the partition key is not supported by COPY")
            return scanner.value(raw, force_null=force_null, force_not_null=force_not_null)

        return read

    def _read_column(self, reader: _ColumnReader, block: RowBlock, position: int) -> Any:
        spans = block.offsets(position)
        if spans is not None and reader.type_oid in _NUMPY_INTEGERS and not self._marks_look_like_integers():
            return reader.integers(block.data, *spans)
        return reader.texts(block.raw(position))

    def _marks_look_like_integers(self) -> bool:
        return any(
            mark is not None and mark.lstrip(b"-").isdigit() for mark in (self._options.null, self._options.default)
        )

    def _texts(self, held: _Held, block: RowBlock, added: Sequence[AddedRow], row: int) -> tuple[bytes | None, ...]:
        texts: list[bytes | None] = []
        for key, position in enumerate(self._positions):
            if position is None:
                texts.append(None)
            elif position >= len(self._columns):
                texts.append(added[row][position - len(self._columns)])
            else:
                texts.append(self._field_reader(key)(block.field(row, position)))
        for text in texts:
            if text is not None and self._options.utf8 and not _is_utf8(text):
                raise invalid_utf8(text, self._relation.name, self._line_of(held, row))
        return tuple(texts)

    def _with_added(self, rows: Sequence[bytes], added: Sequence[AddedRow]) -> list[bytes]:
        options = self._options
        encode = encode_csv if options.format == "csv" else encode_text
        delimiter = options.delimiter
        return [
            delimiter.join((row, *(encode(value, options) for value in values)))
            for row, values in zip(rows, added, strict=True)
        ]

    def _read_binary_keys(self, held: _Held, block: BinaryBlock, added: Sequence[AddedRow]) -> None:
        from_stream = iter(block.values)
        for key, position in enumerate(self._positions):
            if position is None:
                held.columns.append([None] * len(held.rows))
                continue
            if position < len(self._columns):
                values = next(from_stream)
            else:
                values = [row[position - len(self._columns)] for row in added]
            held.columns.append([self._binary_value(held, key, row, value) for row, value in enumerate(values)])
        if self._added:
            held.rows[:] = [append_fields(row, values) for row, values in zip(held.rows, added, strict=True)]

    def _binary_value(self, held: _Held, key: int, row: int, data: bytes | None) -> Canonical:
        if data is None:
            return None
        type_oid, modifier = self._router.types[key], self._router.modifiers[key]
        try:
            value = from_binary(type_oid, type_oid, data)
        except NotEvaluable:
            line = self._line_of(held, row)
            if type_oid in STRING_TYPES:
                raise invalid_utf8(data, self._relation.name, line) from None
            context = f"{copy_context(self._relation.name, line)}, column {self._relation.key[key]}"
            raise PgError("22P03", "incorrect binary data format", fields={"W": context}) from None
        return value if modifier is None else stored(value, type_oid, modifier)

    def resolve(self, keys: Sequence[Sequence[bytes | None]]) -> list[Batch]:
        """For each row of `unrouted`, its key as PostgreSQL prints it (ISO dates, with offset): the rows go out.

        Raises NotEvaluable for a text that is not of that form. After finish(), `unrouted` may be set once more.
        """
        held = self._held
        for unrouted, texts in zip(self.unrouted, keys, strict=True):
            for k, text in enumerate(texts):
                type_oid, modifier = self._router.types[k], self._router.modifiers[k]
                value: Canonical = None if text is None else from_text(type_oid, text)
                if isinstance(held.columns[k], np.ndarray):
                    held.columns[k] = held.columns[k].tolist()
                held.columns[k][unrouted.row] = value if modifier is None else stored(value, type_oid, modifier)
        self.unrouted = ()
        batches = self._send(held)
        return batches + self._end() if self._finishing else batches

    # -- destinations --

    def _send(self, held: _Held) -> list[Batch]:
        shards = self._router.shards_of_columns(held.columns)
        lost = np.flatnonzero(shards == NO_SHARD)
        if len(lost):
            raise self._no_partition(held, int(lost[0]))
        self.rows += len(held.rows)
        self._held = _Held([], [], 0)
        grouped = group_rows(held.rows, self._destination_of[shards])
        return [(destination, self._joined(destination, rows)) for destination, rows in grouped]

    def _joined(self, destination: int, rows: Sequence[bytes]) -> bytes:
        if isinstance(self._scanner, RowScanner):
            newline = self._scanner.newline
            return newline.join(rows) + newline
        data = b"".join(rows)
        if destination in self._started:
            return data
        self._started.add(destination)
        return HEADER + data

    def _no_partition(self, held: _Held, row: int) -> PgError:
        context = copy_context(self._relation.name, self._line_of(held, row), None if self._binary else held.rows[row])
        return PgError(
            "23514",
            f'no partition of relation "{self._relation.name}" found for row',
            fields={"W": context, "s": self._relation.schema, "t": self._relation.name},
        )

    def line_of(self, unrouted: UnroutedRow) -> int:
        """The line of the client's stream where the row is (its last line, if it has several)."""
        return self._line_of(self._held, unrouted.row)

    def _line_of(self, held: _Held, row: int) -> int:
        lines = held.lines + row + 1
        if self._options.format == "csv":
            lines += sum(earlier.count(b"\n") for earlier in held.rows[: row + 1] if self._options.quote in earlier)
        return lines


_NUMPY_INTEGERS = frozenset((INT2, INT4, INT8))


def _forces(options: CopyOptions, name: str) -> tuple[bool, bool]:
    null, not_null = options.force_null, options.force_not_null
    return (null == ("*",) or name in null, not_null == ("*",) or name in not_null)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in text


def _added_value(reader: _ColumnReader, value: bytes | None) -> Canonical:
    return None if value is None else reader.canonical(value)


def group_rows(rows: Sequence[bytes], destinations: npt.NDArray[np.int64]) -> list[tuple[int, Sequence[bytes]]]:
    """The rows of each destination, in order; destinations ascending."""
    first = int(destinations[0])
    if bool((destinations == first).all()):
        return [(first, rows)]
    small = destinations.astype(np.int16) if 0 <= destinations.min() and destinations.max() < 1 << 15 else destinations
    order = np.argsort(small, kind="stable")  # a radix sort for 16 bits
    in_order = destinations[order]
    cuts = [0, *(np.flatnonzero(np.diff(in_order)) + 1).tolist(), len(order)]
    indexes = order.tolist()
    grouped: list[tuple[int, Sequence[bytes]]] = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        chosen = indexes[start:end]
        taken = itemgetter(*chosen)(rows) if len(chosen) > 1 else (rows[chosen[0]],)
        grouped.append((int(in_order[start]), taken))
    return grouped


_DOUBT = object()


class _ColumnReader:
    """Canonical values of one key column of a piece; `doubtful` collects the rows that only PostgreSQL can read."""

    def __init__(
        self, type_oid: int, modifier: int | None, read_field: Callable[[bytes], bytes | None], *, utf8: bool
    ) -> None:
        self.type_oid = type_oid
        self.doubtful: set[int] = set()
        self._modifier = modifier
        self._read_field = read_field
        self._utf8 = utf8

    def canonical(self, text: bytes) -> Canonical:
        """Raises NotEvaluable."""
        if not self._utf8 and not text.isascii():
            raise NotEvaluable("in another encoding")
        value = from_text(self.type_oid, text)
        return value if self._modifier is None else stored(value, self.type_oid, self._modifier)

    def _read(self, raw: bytes) -> Any:
        text = self._read_field(raw)
        try:
            return None if text is None else self.canonical(text)
        except NotEvaluable:
            return _DOUBT

    def texts(self, raws: Sequence[bytes]) -> list[Any]:
        """Each distinct text is read once: dates and tenants repeat."""
        value_of = {raw: self._read(raw) for raw in set(raws)}
        values = [value_of[raw] for raw in raws]
        if _DOUBT in value_of.values():
            self._put_aside(values)
        return values

    def _put_aside(self, values: list[Any]) -> None:
        filler: Canonical = b"" if self.type_oid in BYTES_TYPES else 0
        for row, value in enumerate(values):
            if value is _DOUBT:
                self.doubtful.add(row)
                values[row] = filler

    def integers(self, data: bytes, starts: Offsets, ends: Offsets) -> Any:
        """Plain decimal integers from where they stand; all other fields (NULL, blanks, …) one by one."""
        values, plain = parse_integers(np.frombuffer(data, dtype=np.uint8), starts, ends)
        lowest, highest = INT_RANGE[self.type_oid]
        plain &= (values >= lowest) & (values <= highest)
        others = np.flatnonzero(~plain).tolist()
        if not others:
            return values
        listed: list[Any] = values.tolist()
        for row in others:
            value = self._read(data[int(starts[row]) : int(ends[row])])
            listed[row] = 0 if value is _DOUBT else value
            if value is _DOUBT:
                self.doubtful.add(row)
        return listed


def parse_integers(
    buffer: npt.NDArray[np.uint8], starts: Offsets, ends: Offsets
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The decimal integers at starts:ends, and where there is one (1 to 18 digits, with or without a minus sign).

    Digit by digit from the right, all rows at once.
    """
    negative = buffer[starts] == ord("-")
    digits = ends - starts - negative
    plain = (digits >= 1) & (digits <= 18)
    values = np.zeros(len(starts), dtype=np.int64)
    shortest, longest = int(digits.min(where=plain, initial=18)), int(digits.max(where=plain, initial=0))
    power = 1
    for place in range(longest):
        digit = buffer[np.maximum(ends - 1 - place, 0)] - np.uint8(48)  # below '0' wraps around
        present = digit <= 9
        if place < shortest:
            plain &= present
            values += digit * np.int64(power)
        else:
            wanted = digits > place
            plain &= present | ~wanted
            values += np.where(wanted, digit, 0) * np.int64(power)
        power *= 10
    return np.where(negative, -values, values), plain
