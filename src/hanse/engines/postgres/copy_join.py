"""Several streams of `COPY … TO STDOUT (FORMAT binary)` made into one, without looking at a row.

A binary stream is a header (11 bytes signature, 4 bytes flags, 4 bytes length of an extension, the extension),
tuples, and a trailer, the 16-bit word -1 (manual, COPY, "Binary Format"). Tuples pass as they are; of each source the
header is taken off and the trailer held back: the last two bytes of a source are always in `_held`. One header and
one trailer of our own go around everything. Chunks may be cut anywhere.

    source 1: H t t | t T       source 2: H | t T T̶       →   H t t t t T
"""

from __future__ import annotations

from ...core.errors import PgError

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + bytes(8)
TRAILER = b"\xff\xff"
_HAS_OIDS = 1 << 16


class CopyJoin:
    """begin_source, feed …, end_source; again for each source. HEADER goes in front, TRAILER behind, by the caller."""

    def __init__(self) -> None:
        self._header: bytes | None = None  # what has come of a source's header; None: it is complete
        self._held = b""

    def begin_source(self) -> None:
        self._header = b""
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """The tuples' bytes that are now known to be such. Raises PgError 22P04 for what is no binary COPY stream."""
        if self._header is not None:
            self._header += chunk
            chunk = self._strip_header(self._header)
        if len(chunk) < len(TRAILER):
            chunk = self._held + chunk
            known, self._held = chunk[: -len(TRAILER)], chunk[-len(TRAILER) :]
            return known
        known = self._held + chunk[: -len(TRAILER)]
        self._held = chunk[-len(TRAILER) :]
        return known

    def _strip_header(self, header: bytes) -> bytes:
        if len(header) < len(HEADER):
            return b""
        extension = int.from_bytes(header[len(HEADER) - 4 : len(HEADER)], "big")
        flags = int.from_bytes(header[len(SIGNATURE) : len(SIGNATURE) + 4], "big")
        if not header.startswith(SIGNATURE) or flags & _HAS_OIDS:
            raise PgError("22P04", "COPY file signature not recognized")
        end = len(HEADER) + extension
        if len(header) < end:
            return b""
        self._header = None
        return header[end:]

    def end_source(self) -> None:
        """Raises PgError 22P04 when the source was cut short."""
        if self._header is not None or self._held != TRAILER:
            raise PgError("22P04", "unexpected EOF in COPY data")
