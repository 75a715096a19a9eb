"""Several COPY TO streams as one: what must be left out of all but the first.

Text and CSV streams are joined as they are, save for the header line. A binary stream begins with a header, of which
the first is kept, and ends with a trailer, which is held back until all streams have ended. Each stream has a filter
of its own: streams may be read at the same time and joined at row boundaries (PostgreSQL sends a row per CopyData).

    filters = [StreamFilter(options, first=i == 0) for i in range(n)]
    … out.write(filters[i].feed(payload)) …          # first stream first, until its header is out
    out.write(closing(options))
"""

from __future__ import annotations

from .copy_binary import HEADER, SIGNATURE, TRAILER
from .copy_formats import CopyOptions
from .copy_rows import row_pattern

_HEADER_FIXED = len(HEADER)


class StreamFilter:
    """One group's stream. `feed` takes payloads of CopyData, cut anywhere, and gives what goes to the client."""

    def __init__(self, options: CopyOptions, *, first: bool) -> None:
        self._binary = options.format == "binary"
        self._options = options
        self._in_header = not first and (self._binary or bool(options.header))
        self._held = b""

    def feed(self, payload: bytes) -> bytes:
        if self._in_header:
            payload = self._without_header(self._held + payload)
        if not self._binary or self._in_header:
            return payload
        data = self._held + payload  # the last two bytes may be the trailer
        self._held = data[-2:]
        return data[:-2]

    def _without_header(self, data: bytes) -> bytes:
        """What follows the header, b"" while it is incomplete."""
        end = self._binary_header_end(data) if self._binary else self._header_line_end(data)
        if end > len(data) or end < 0:
            self._held = data
            return b""
        self._in_header, self._held = False, b""
        return data[end:]

    def _binary_header_end(self, data: bytes) -> int:
        if len(data) < _HEADER_FIXED:
            return -1
        assert data.startswith(SIGNATURE)
        return _HEADER_FIXED + int.from_bytes(data[_HEADER_FIXED - 4 : _HEADER_FIXED], "big")

    def _header_line_end(self, data: bytes) -> int:
        """PostgreSQL sends LF; a column's name may hold quoted newlines."""
        found = row_pattern(self._options).match(data)
        return -1 if found is None else found.end()

    def finish(self) -> None:
        """After CopyDone: the stream must have ended as its format does."""
        if self._binary and self._held != TRAILER:
            raise ValueError("a binary COPY stream ended without its trailer")


def closing(options: CopyOptions) -> bytes:
    """What ends the joined stream."""
    return TRAILER if options.format == "binary" else b""


def opening(options: CopyOptions) -> bytes:
    """What begins a joined stream without any rows from groups (no group was asked)."""
    return HEADER if options.format == "binary" else b""
