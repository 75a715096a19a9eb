"""A table of a slot being filled: binary COPY from one or several sources, chunk by chunk, at the speed of the server.

asyncpg pulls data from an asynchronous iterator; our callers push. Between them is one buffer: `write` fills it, and
when it is full waits until the server has taken it, so that back-pressure reaches whoever sends the rows. A lost
connection is raised by the next `write`; the server's opinion of the data (22P03, 53100 …) by `finish`: until then it
takes and ignores what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from ...core.errors import PgError
from .copy_join import HEADER, TRAILER, CopyJoin
from .system_connection import Connection, translated

BUFFER_BYTES = 1 << 17


class Loader:
    """`begin_source`, `write` …, `end_source` for each source in turn, then `finish`. `name` is how SQL names the
    table.
    """

    def __init__(
        self,
        connection: Connection,
        schema: str,
        table: str,
        columns: tuple[str, ...],
        name: str,
        account: Callable[[int], None],
        finally_sql: str | None = None,
    ) -> None:
        self.name = name
        self.rows = 0
        self.bytes = 0
        self._account = account  # raises when the query's limit is reached
        self._connection = connection
        self._finally_sql = finally_sql
        self._join = CopyJoin()
        self._in_source = False
        self._buffer: list[bytes] = [HEADER]
        self._buffered = len(HEADER)
        self._ready: bytes | None = None  # what the server takes next
        self._room = asyncio.Event()  # _ready is empty, or the COPY has ended
        self._room.set()
        self._filled = asyncio.Event()
        self._last = False
        self._open = (connection, schema, table, columns)
        self._copy: asyncio.Task[int] | None = None  # begun with the first data, see `_begin`
        self._aborted = False

    def _begin(self) -> asyncio.Task[int]:
        """The COPY itself, begun only when there is something to send.

        A server that waits for COPY data answers no barrier, and DROP DATABASE in the same instance waits for all barriers: a
        COPY that waits for a slow group would keep every other query's database waiting.
        """
        copy = asyncio.create_task(self._run(*self._open))
        copy.add_done_callback(self._ended)
        return copy

    def _ended(self, copy: asyncio.Task[int]) -> None:
        self._room.set()
        if not copy.cancelled():
            copy.exception()  # the next write raises it; if there is none, nobody misses it

    async def _run(self, connection: Connection, schema: str, table: str, columns: tuple[str, ...]) -> int:
        with translated("rows were loaded"):
            tag: str = await connection.copy_to_table(
                table, source=self._chunks(connection), columns=list(columns), schema_name=schema, format="binary"
            )
        return int(tag.rpartition(" ")[2])

    async def _chunks(self, connection: Connection) -> AsyncIterator[bytes]:
        while True:
            await self._filled.wait()
            self._filled.clear()
            chunk, self._ready = self._ready, None
            last = self._last
            self._room.set()
            assert chunk is not None
            if connection.is_closed():  # asyncpg would go on writing to it
                raise ConnectionResetError("the server closed the connection")
            yield chunk
            if last:
                return

    def begin_source(self) -> None:
        assert not self._in_source, "sources come one after another"
        self._in_source = True
        self._join.begin_source()

    async def write(self, chunk: bytes) -> None:
        """Bytes of the current source. Raises the server's PgError, 53400 at the query's limit, 22P04 for other
        data.
        """
        assert self._in_source, "begin_source() comes first"
        self.bytes += len(chunk)
        self._account(len(chunk))
        piece = self._join.feed(chunk)
        self._buffer.append(piece)
        self._buffered += len(piece)
        if self._buffered >= BUFFER_BYTES:
            await self._flush()

    def end_source(self) -> None:
        """Raises PgError 22P04 when the source was cut short."""
        self._join.end_source()
        self._in_source = False

    async def finish(self) -> int:
        """Ends the COPY; gives the number of rows. Raises the server's PgError."""
        assert not self._in_source, "a source is still open"
        self._buffer.append(TRAILER)
        await self._flush(last=True)
        assert self._copy is not None
        self.rows = await self._copy
        if self._finally_sql is not None:
            with translated("rows were loaded"):
                await self._connection.execute(self._finally_sql)
        return self.rows

    async def _flush(self, *, last: bool = False) -> None:
        if self._copy is None:
            self._copy = self._begin()
        await self._room.wait()
        if self._copy.done():
            self._copy.result()
            raise PgError("XX000", "COPY ended before its data")
        self._ready = b"".join(self._buffer)
        self._buffer = []
        self._buffered = 0
        self._last = last
        self._room.clear()
        self._filled.set()

    @property
    def done(self) -> bool:
        return self._aborted or (self._copy is not None and self._copy.done())

    async def abort(self) -> None:
        """Ends the COPY without its rows, unless it has ended. The server answers before this returns."""
        self._aborted = True
        if self._copy is not None:
            self._copy.cancel()
            await asyncio.gather(self._copy, return_exceptions=True)
