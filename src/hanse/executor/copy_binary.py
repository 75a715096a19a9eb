"""Rows of a COPY stream in binary format (manual, COPY, "Binary Format").

A stream is a header (signature, flags, extension), tuples (field count, then length and bytes of each field) and a
trailer (field count -1), which PostgreSQL does not insist on. Rows are passed on as they are; each destination gets a
header and a trailer of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct

from ..core.errors import PgError
from .copy_formats import bad_copy

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + bytes(8)  # no flags, no extension
TRAILER = b"\xff\xff"

_COUNT = Struct(">h")
_LENGTH = Struct(">i")
_HEADER_TAIL = Struct(">Ii")
_HAS_OIDS = 1 << 16
_FLAGS_KNOWN = 0xFFFF  # the low half may be ignored by readers


@dataclass(slots=True)
class BinaryBlock:
    """Whole rows with their field counts, and the values of the columns that were asked for."""

    rows: list[bytes] = field(default_factory=list)
    values: list[list[bytes | None]] = field(default_factory=list)  # one list for each wanted column


class BinaryScanner:
    """The state of one stream. `wanted`: indexes of the columns whose values are needed."""

    def __init__(self, table: str, columns: Sequence[str], wanted: Sequence[int]) -> None:
        self.table = table
        self.columns = tuple(columns)
        self.lines = 0
        self.ended = False
        self._wanted = tuple(wanted)
        self._header_read = False

    def scan(self, data: bytes, final: bool) -> tuple[BinaryBlock, bytes]:
        """The whole rows at the beginning of `data`, and the rest."""
        block = BinaryBlock(values=[[] for _ in self._wanted])
        at = 0 if self._header_read else self._read_header(data, final)
        while not self.ended and self._header_read:
            end = self._read_row(data, at, block)
            if end < 0:
                break
            at = end
        rest = data[at:]
        if self.ended and rest:
            raise self._bad("received copy data after EOF marker")
        if final and rest:
            raise self._bad("unexpected EOF in COPY data")
        return block, rest

    def _bad(self, message: str) -> PgError:
        return bad_copy(message, self.table, self.lines + 1)

    def _read_header(self, data: bytes, final: bool) -> int:
        """The header's length; 0 while it is incomplete."""
        start = len(SIGNATURE)
        if data[:start] != SIGNATURE[: len(data)] or (final and len(data) < start):
            raise bad_copy("COPY file signature not recognized", self.table, 0)
        if len(data) < start + 8:
            if final:
                raise bad_copy("invalid COPY file header (missing flags)", self.table, 0)
            return 0
        flags, extension = _HEADER_TAIL.unpack_from(data, start)
        if flags & _HAS_OIDS:
            raise bad_copy("invalid COPY file header (WITH OIDS)", self.table, 0)
        if flags & ~_FLAGS_KNOWN:
            raise bad_copy("unrecognized critical flags in COPY file header", self.table, 0)
        if extension < 0:
            raise bad_copy("invalid COPY file header (missing length)", self.table, 0)
        end = int(start + 8 + extension)
        if len(data) < end:
            if final:
                raise bad_copy("invalid COPY file header (wrong length)", self.table, 0)
            return 0
        self._header_read = True
        return end

    def _read_row(self, data: bytes, start: int, block: BinaryBlock) -> int:
        """The row's end, -1 while it is incomplete."""
        size = len(data)
        if start + 2 > size:
            return -1
        count = _COUNT.unpack_from(data, start)[0]
        if count == -1:
            self.ended = True
            return start + 2
        if count != len(self.columns):
            raise self._bad(f"row field count is {count}, expected {len(self.columns)}")
        at, length_at = start + 2, _LENGTH.unpack_from
        spans: list[tuple[int, int]] = []
        for _ in range(count):
            if at + 4 > size:
                return -1
            length: int = length_at(data, at)[0]
            at += 4
            spans.append((at, length))
            if length > 0:
                at += length
            elif length < -1:
                raise self._bad("invalid field size")
        if at > size:
            return -1
        for values, column in zip(block.values, self._wanted, strict=True):
            begin, length = spans[column]
            values.append(None if length < 0 else data[begin : begin + length])
        block.rows.append(data[start:at])
        self.lines += 1
        return at


def append_fields(row: bytes, values: Sequence[bytes | None]) -> bytes:
    """A binary row with further fields."""
    count = _COUNT.unpack_from(row)[0] + len(values)
    parts = [_COUNT.pack(count), row[2:]]
    for value in values:
        parts.append(_LENGTH.pack(-1 if value is None else len(value)))
        parts.append(value or b"")
    return b"".join(parts)
