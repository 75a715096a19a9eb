"""Several COPY TO streams as one: what must be left out of all but the first.

PostgreSQL sends one row per CopyData message (manual 55.2.6), and clients count on it; so messages are passed on whole. A
header line (HEADER) is a message of its own, and only the first stream's is kept. A binary stream begins with a header in
front of its first row, in the same message, and ends with a message that is the trailer: one header goes in front of the
first row of all, one trailer after the last.
"""

from __future__ import annotations

from ..engines.postgres.backend import split_messages
from ..pgwire import backend as server_messages
from .copy_binary import HEADER, SIGNATURE, TRAILER
from .copy_formats import CopyOptions

_FIXED = len(HEADER)


class Concatenation:
    """`next_stream`, then `feed` its CopyData messages, for each stream; then `finish`. Gives messages for the client."""

    def __init__(self, options: CopyOptions, streams: int) -> None:
        self._binary = options.format == "binary" and streams > 1
        self._header_line = bool(options.header) and options.format != "binary"
        self._streams_begun = 0
        self._at_start = True  # nothing of the current stream has come yet
        self._pending = HEADER  # of the whole, until it has gone out

    def next_stream(self) -> None:
        self._streams_begun += 1
        self._at_start = True

    def feed(self, messages: bytes) -> bytes:
        """Whole messages of the current stream; what of them goes on."""
        if self._binary:
            return b"".join(map(self._binary_message, split_messages(messages)))
        if self._at_start and self._header_line and self._streams_begun > 1:
            messages = b"".join(split_messages(messages)[1:])
        self._at_start = False
        return messages

    def _binary_message(self, message: bytes) -> bytes:
        data = message[5:]
        if self._at_start:
            self._at_start = False
            assert data.startswith(SIGNATURE)
            data = data[_FIXED + int.from_bytes(data[_FIXED - 4 : _FIXED], "big") :]
            message = server_messages.copy_data(data)
        if data == TRAILER or not data:
            return b""
        if self._pending:
            message, self._pending = server_messages.copy_data(self._pending + data), b""
        return message

    def finish(self) -> bytes:
        """What ends the whole."""
        return server_messages.copy_data(self._pending + TRAILER) if self._binary else b""
