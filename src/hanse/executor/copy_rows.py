"""Rows and fields of a COPY stream in text or CSV format, found thousands at a time.

A `RowScanner` takes pieces of a stream that begin at a row and gives `RowBlock`s: the rows' bytes and, for a column,
its raw fields. There are two ways, and they agree (tests/property/test_copy_split_twin.py):

**Fast**, in numpy: the separators' positions are all delimiters and newlines; if every n-th of them, and no other, is a
newline, then the piece has whole rows of n fields each. In CSV with quotes, separators at which the number of quotes so
far is odd do not count: a quote always toggles, also a doubled one, as in CopyReadLineText(). In text format,
backslashes do not matter as long as none stands directly before a separator, or before a dot (`\\.` ends the stream).

**Exact**, by regular expressions, one row after the other: for everything else, and to say what is wrong in which row.

The newline style (LF, CRLF or CR) is that of the first row's end; another one later is an error, as in PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .copy_formats import CopyOptions, bad_copy, unescape_text, unquote_csv

MATCHED_AT_ONCE = 1 << 20
_TEXT_BODY = re.compile(rb"(?:[^\\\r\n]++|\\[^.])*+", re.DOTALL)

Offsets: TypeAlias = npt.NDArray[np.int64]


@dataclass(slots=True)
class RowBlock:
    """Whole rows, without their newlines. `first_line`: the line number of the first row, for messages.

    From the fast way: `buffer` and `ends` (rows by columns: where each field ends, that is where its separator is).
    From the exact way: `fields`.
    """

    rows: list[bytes]
    data: bytes = b""
    ends: Offsets | None = None
    fields: list[list[bytes]] = field(default_factory=list)
    last_end_trim: int = 0  # CRLF: the last field of a row ends one byte before its newline's position

    def offsets(self, column: int) -> tuple[Offsets, Offsets] | None:
        """Where the column's fields start and end in `data`; None: found the exact way, see `raw`."""
        if self.ends is None:
            return None
        ends = self.ends[:, column]
        if column > 0:
            starts = self.ends[:, column - 1] + 1
        else:
            starts = np.empty(len(ends), dtype=np.int64)
            starts[0] = 0
            starts[1:] = self.ends[:-1, -1] + 1
        trim = self.last_end_trim if column == self.ends.shape[1] - 1 else 0
        return starts, ends - trim

    def field(self, row: int, column: int) -> bytes:
        """One raw field."""
        found = self.offsets(column)
        if found is None:
            return self.fields[row][column]
        return self.data[int(found[0][row]) : int(found[1][row])]

    def raw(self, column: int) -> list[bytes]:
        found = self.offsets(column)
        if found is None:
            return [fields[column] for fields in self.fields]
        data = self.data
        return [data[start:end] for start, end in zip(found[0].tolist(), found[1].tolist(), strict=True)]


def _class(*characters: bytes) -> bytes:
    return b"".join(re.escape(character) for character in characters)


def row_pattern(options: CopyOptions) -> re.Pattern[bytes]:
    """One row and its end: a newline, in text format also the end marker."""
    if options.format == "csv":
        body = rb"(?:[^" + _class(options.quote, b"\r", b"\n") + rb"]++|" + _quoted(options) + rb")*+"
        return re.compile(rb"(" + body + rb")(\r\n|\n|\r)")
    return re.compile(rb"((?:[^\\\r\n]++|\\[^.])*+)(\r\n|\n|\r|\\\.)", re.DOTALL)


def _end_of_text_row(data: bytes) -> int:
    """Where the first row's end is to be looked for: as one match it would keep the interpreter while a long row is read."""
    at = 0
    while True:
        stop = at + MATCHED_AT_ONCE
        found = _TEXT_BODY.match(data, at, stop)
        assert found is not None, "the pattern matches the empty text"
        if found.end() < stop - 1 or found.end() >= len(data):  # one before: a backslash whose character is behind it
            return found.end()
        at = found.end()


def _quoted(options: CopyOptions) -> bytes:
    quote, escape = re.escape(options.quote), re.escape(options.escape)
    if quote == escape:
        return quote + rb"[^" + quote + rb"]*+" + quote
    return quote + rb"(?:[^" + _class(options.quote, options.escape) + rb"]++|" + escape + rb"[\s\S])*+" + quote


def _field_pattern(options: CopyOptions) -> re.Pattern[bytes]:
    if options.format == "csv":
        return re.compile(rb"(?:[^" + _class(options.quote, options.delimiter) + rb"]++|" + _quoted(options) + rb")*+")
    return re.compile(rb"(?:[^" + _class(b"\\", options.delimiter) + rb"]++|\\[\s\S])*+\\?")


class RowScanner:
    """The state of one stream: newline style, line number, header and end marker."""

    def __init__(self, options: CopyOptions, table: str, columns: Sequence[str]) -> None:
        self.options = options
        self.table = table
        self.columns = tuple(columns)
        self.newline = b""  # not known yet
        self.lines = 0  # lines that were read
        self.ended = False  # the end marker was seen; whatever follows is ignored
        self._csv = options.format == "csv"
        self._header = options.header
        self._row = row_pattern(options)
        self._field = _field_pattern(options)
        self._delimiter = options.delimiter[0]

    # -- the stream --

    def scan(self, data: bytes, final: bool) -> tuple[RowBlock, bytes]:
        """The whole rows at the beginning of `data` and the rest, which is the beginning of the next piece."""
        if not self.newline or self._header:
            data = self._begin(data, final)
        if not self.newline and not final:
            return RowBlock([]), data
        block = self._fast(data) if data and not final else None
        if block is None:
            return self._exact(data, final)
        return block, data[len(block.data) :]

    def _begin(self, data: bytes, final: bool) -> bytes:
        """Learn the newline style; take the header line away."""
        whole = self._csv or bool(self._header)
        found = self._row.match(data, 0 if whole else _end_of_text_row(data))
        if found is not None and found[2] == b"\r" and found.end() == len(data) and not final:
            return data  # LF may follow
        if found is not None and found[2] != b"\\.":
            self.newline = found[2]
        if self._header and (found is not None or final):
            self._check_header(data if found is None else found[1])
            data = b"" if found is None else data[found.end(1 if found[2] == b"\\." else 0) :]
        return data

    def _check_header(self, row: bytes) -> None:
        match = self._header == "match"
        self.lines, self._header = 1, ""
        if not match:
            return
        raw = self.split(row)
        if len(raw) != len(self.columns):
            counts = f"got {len(raw)}, expected {len(self.columns)}"
            raise self._bad(f"wrong number of fields in header line: {counts}", 1, row)
        for position, (name, expected) in enumerate(zip(raw, self.columns, strict=True), start=1):
            value = self.value(name)
            if value is None:
                got = f'null value ("{self.options.null.decode()}")'
            elif value.decode(errors="replace") != expected:
                got = f'"{value.decode(errors="replace")}"'
            else:
                continue
            raise self._bad(
                f'column name mismatch in header line field {position}: got {got}, expected "{expected}"', 1, row
            )

    def _bad(self, message: str, line: int, row: bytes | None = None, hint: str | None = None) -> Exception:
        return bad_copy(message, self.table, line, row, hint)

    # -- fields --

    def value(self, raw: bytes, *, force_null: bool = False, force_not_null: bool = False) -> bytes | None:
        """A raw field's value; None is NULL."""
        if not self._csv:
            return None if raw == self.options.null else unescape_text(raw)
        value, quoted = unquote_csv(raw, self.options)
        if value == self.options.null and (force_null if quoted else not force_not_null):
            return None
        return value

    def split(self, row: bytes) -> list[bytes]:
        """The raw fields of a row. Raises 22P04 for an unterminated quoted field."""
        delimiter = self.options.delimiter
        if (self.options.quote if self._csv else b"\\") not in row:
            return row.split(delimiter)
        fields, at = [], 0
        while True:
            found = self._field.match(row, at)
            assert found is not None, "the pattern matches the empty text"
            fields.append(found[0])
            at = found.end() + 1
            if found.end() == len(row):
                return fields
            if row[found.end()] != self._delimiter:
                raise self._bad("unterminated CSV quoted field", self._line_after(row), row)

    # -- the fast way --

    def _fast(self, data: bytes) -> RowBlock | None:
        """None: the piece needs the exact way."""
        newline = self.newline[-1]
        buffer = np.frombuffer(data, dtype=np.uint8)
        separators = buffer == self._delimiter
        separators |= buffer == newline
        outside: npt.NDArray[np.bool_] | None = None
        if self._csv and self.options.quote in data:
            if self.options.quote != self.options.escape:
                return None
            outside = (np.cumsum(buffer == self.options.quote[0], dtype=np.uint8) & np.uint8(1)) == 0
            separators &= outside
        positions = np.flatnonzero(separators)
        newlines = np.flatnonzero(buffer[positions] == newline)
        if not len(newlines):
            return RowBlock([])
        positions = positions[: newlines[-1] + 1]
        ends = positions[newlines]
        piece = data[: int(ends[-1]) + 1]
        if not self._is_regular(positions, newlines) or not self._is_plain(piece, outside, ends):
            return None
        self.lines += self._line_count(piece, int(ends[0])) if self._csv else len(ends)
        trim = len(self.newline) - 1
        rows = self._rows(piece, ends - trim, outside is not None)
        return RowBlock(rows, data=piece, ends=positions.reshape(len(ends), -1), last_end_trim=trim)

    def _is_regular(self, positions: Offsets, newlines: Offsets) -> bool:
        """Has each row the right number of fields?"""
        count = len(self.columns)
        return len(positions) == count * len(newlines) and bool(
            np.array_equal(newlines, np.arange(count - 1, count * len(newlines), count))
        )

    def _is_plain(self, piece: bytes, outside: npt.NDArray[np.bool_] | None, ends: Offsets) -> bool:
        """Do newlines and backslashes mean what the fast way takes them for?"""
        if b"\\" in piece:
            if b"\\." in piece:
                return False
            if not self._csv and any(b"\\" + after in piece for after in (b"\r", b"\n", self.options.delimiter)):
                return False
        other = b"\n" if self.newline == b"\r" else b"\r"
        wanted = len(ends) if self.newline == b"\r\n" else 0
        if outside is None:
            return piece.count(other) == wanted and (not wanted or piece.count(b"\r\n") == wanted)
        buffer = np.frombuffer(piece, dtype=np.uint8)
        found = (buffer == other[0]) & outside[: len(piece)]
        return np.count_nonzero(found) == wanted and (not wanted or bool(found[ends - 1].all()))

    def _rows(self, piece: bytes, ends: Offsets, quoted: bool) -> list[bytes]:
        if not quoted:
            rows = piece.split(self.newline)
            rows.pop()
            return rows
        starts = [0, *(ends[:-1] + len(self.newline)).tolist()]
        return [piece[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]

    def _line_count(self, piece: bytes, first_end: int) -> int:
        """CSV: newlines inside quotes count as lines. In the very first row only carriage returns are counted there."""
        counted = piece.count(self.newline[:1])
        if self.lines == 0 and self.newline == b"\n":
            first = piece[:first_end]
            counted += first.count(b"\r") - first.count(b"\n")
        return counted

    # -- the exact way --

    def _exact(self, data: bytes, final: bool) -> tuple[RowBlock, bytes]:
        block = RowBlock([])
        at = 0
        while not self.ended:
            if self._csv and data.startswith(b"\\.", at):
                after = self._end_marker(data, at + 2, final)
                if after is None:
                    break
            found = self._row.match(data, at) if not self.ended else None
            if found is None:
                break
            if found[2] == b"\\.":
                if self._end_marker(data, found.end(), final) is None:
                    break
                if found[1]:
                    self._add(block, found[1])
                break
            if found[2] == b"\r" and found.end() == len(data) and not final:
                break  # LF may follow
            self._check_newline(found[2])
            self._add(block, found[1])
            at = found.end()
        if final and not self.ended and at < len(data):
            self._add_last(block, data[at:])
            at = len(data)
        return block, b"" if self.ended else data[at:]

    def _add(self, block: RowBlock, row: bytes) -> None:
        fields = self.split(row)
        line = self._line_after(row)
        if len(fields) < len(self.columns):
            raise self._bad(f'missing data for column "{self.columns[len(fields)]}"', line, row)
        if len(fields) > len(self.columns):
            raise self._bad("extra data after last expected column", line, row)
        self.lines = line
        block.rows.append(row)
        block.fields.append(fields)

    def _line_after(self, row: bytes) -> int:
        """The line number when this row has been read; see `_line_count`."""
        if not self._csv or self.options.quote not in row:
            return self.lines + 1
        return self.lines + 1 + row.count(b"\n" if self.newline == b"\n" and self.lines else b"\r")

    def _add_last(self, block: RowBlock, row: bytes) -> None:
        """The stream's last row has no newline. A backslash at its very end means nothing; more would be escaped."""
        if not self._csv and (len(row) - len(row.rstrip(b"\\"))) % 2:
            row = row[:-1]
        self.newline = self.newline or b"\n"
        self._add(block, row)

    def _check_newline(self, found: bytes) -> None:
        self.newline = self.newline or found
        if found == self.newline:
            return
        kind = "unquoted" if self._csv else "literal"
        carriage_return = b"\r" in found and self.newline != b"\r"
        name, escape = ("carriage return", "\\r") if carriage_return else ("newline", "\\n")
        use = f"Use quoted CSV field to represent {name}." if self._csv else f'Use "{escape}" to represent {name}.'
        raise self._bad(f"{kind} {name} found in data", self.lines + 1, hint=use)

    def _end_marker(self, data: bytes, at: int, final: bool) -> bool | None:
        """After a `\\.`: does the stream end here? None: more data is needed. CSV: otherwise it is data."""
        wanted = max(len(self.newline), 1)
        following = data[at : at + wanted]
        if len(following) < wanted and not final:
            return None
        message = self._marker_fault(following)
        if message is None:
            self.ended = True
        elif message and (not self._csv or message.startswith("end-of-copy marker does")):
            raise self._bad(message, self.lines + 1)
        return self.ended

    def _marker_fault(self, following: bytes) -> str | None:
        """None: `following` is the right newline."""
        corrupt, mismatch = "end-of-copy marker corrupt", "end-of-copy marker does not match previous newline style"
        if self.newline == b"\r\n":
            if following[:1] == b"\n":
                return corrupt if self._csv else mismatch
            if following[:1] != b"\r" or following[1:] not in (b"\r", b"\n"):
                return corrupt
            return None if following == b"\r\n" else mismatch
        if following not in (b"\r", b"\n"):
            return corrupt
        return None if self.newline in (b"", following) else mismatch
