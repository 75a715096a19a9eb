"""A result kept for later: rows in memory up to a limit, then on disk, readable from any row on (cursors, portals)."""

from __future__ import annotations

import tempfile
from array import array

from ..core.limits import RESULT_MEMORY_BYTES_MAX
from ..engines.postgres.backend import split_messages


class ResultBuffer:
    """A `Sink` that remembers the description and every DataRow message, with random access by row number."""

    def __init__(self) -> None:
        self.description = b""
        self._file = tempfile.SpooledTemporaryFile(max_size=RESULT_MEMORY_BYTES_MAX)  # noqa: SIM115 - closed by close()
        self._ends = array("Q")
        self._size = 0

    def __len__(self) -> int:
        return len(self._ends)

    def describe(self, message: bytes) -> None:
        self.description = message

    async def rows(self, messages: bytes) -> None:
        for message in split_messages(messages):
            self._size += len(message)
            self._ends.append(self._size)
        self._file.seek(0, 2)
        self._file.write(messages)

    def notice(self, message: bytes) -> None:
        return

    def read(self, first: int, count: int) -> bytes:
        """The messages of rows first … first+count-1 (0-based); fewer at the end."""
        last = min(first + count, len(self._ends))
        if first >= last:
            return b""
        start = self._ends[first - 1] if first else 0
        self._file.seek(start)
        return self._file.read(self._ends[last - 1] - start)

    def close(self) -> None:
        self._file.close()
