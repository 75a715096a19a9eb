"""The COPYs of one statement into several groups, running side by side on the transaction's branches.

A branch that is in COPY mode can answer no question, but the home group is asked in the middle of a COPY: it draws the
rows' ids and reads keys that only PostgreSQL can read, inside the same transaction, because the sequence, or the session's
date style, may be new in it. `free_home` therefore ends the home group's COPY; the next row for it begins another. Many
COPYs in one transaction insert what one would.

All COPYs end together: each server is told that the data is complete before any answer is waited for, and when one has
failed, the others are told to fail. So no server is ever left waiting for data, deaf to a cancel request.

What shows: statement triggers fire once per COPY, and a server counts the lines of its own stream only.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from ..pgwire import frontend
from .copy_binary import HEADER, TRAILER
from .copy_stream import end_copy, send_copy_data, start_copy_in


class CopyStreams:
    """`framed`: binary rows come in pieces; what header and trailer each COPY needs is seen to here."""

    def __init__(self, backends: Sequence[Backend], sql: str, *, framed: bool, home: int | None) -> None:
        self._backends = tuple(backends)
        self._sql = sql
        self._framed = framed
        self._home = home
        self._open = [False] * len(backends)
        self._headed = [False] * len(backends)  # this COPY has got its header
        self._counts = [0] * len(backends)

    async def start(self) -> bytes:
        """Begins all COPYs; gives a CopyInResponse. Raises the first error."""
        try:
            return [await self._begin(index) for index in range(len(self._backends))][0]
        except BaseException:
            await self.abort()
            raise

    async def _begin(self, index: int) -> bytes:
        answer = await start_copy_in(self._backends[index], self._sql)
        self._open[index], self._headed[index] = True, False
        return answer

    async def send(self, destination: int | None, data: bytes) -> None:
        """Rows to one group (None: to all). Raises the group's error if it has said one."""
        for index in range(len(self._backends)) if destination is None else (destination,):
            backend = self._backends[index]
            if not self._open[index]:
                await self._begin(index)
            if self._framed and not self._headed[index]:
                self._headed[index] = True
                if not data.startswith(HEADER):
                    await send_copy_data(backend, HEADER)
            await send_copy_data(backend, data)
            if backend.failed:
                self._open[index] = False
                await end_copy(backend)

    async def free_home(self) -> None:
        """Ends the home group's COPY for now, so that the group can be asked something."""
        index = self._home
        if index is not None and self._open[index]:
            if self._framed:
                await send_copy_data(self._backends[index], TRAILER if self._headed[index] else HEADER + TRAILER)
            self._backends[index].write(frontend.copy_done())
            await self._end(index)

    async def finish(self) -> list[int]:
        """Ends all COPYs; gives each group's number of rows. Raises the first group's error when all have answered."""
        waiting = [index for index, is_open in enumerate(self._open) if is_open]
        for index in waiting:
            if self._framed and not self._headed[index]:
                await send_copy_data(self._backends[index], HEADER + TRAILER)
            self._backends[index].write(frontend.copy_done())
        failure: PgError | None = None
        for index in waiting:
            try:
                await self._end(index)
            except PgError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return self._counts

    async def _end(self, index: int) -> None:
        self._open[index] = False
        self._counts[index] += await end_copy(self._backends[index])

    async def abort(self) -> None:
        """Makes every COPY that still runs fail. Raises nothing of theirs."""
        waiting = [index for index, is_open in enumerate(self._open) if is_open and not self._backends[index].closed]
        for index in waiting:
            self._backends[index].write(frontend.copy_fail(b"another part of the COPY failed"))
        for index in waiting:
            try:
                await self._end(index)
            except PgError:
                continue
