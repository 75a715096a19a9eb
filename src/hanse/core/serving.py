"""A server for other nodes: each connection is a task, which ends when the server does."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class NodeServer:
    """`serve` has a connection until it returns. An OSError, EOFError or TimeoutError of its is the other side's end."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext, *, handshake_s_max: float, connections_max: int) -> None:
        self._serve = serve
        self._tls = tls
        self._handshake_s_max = handshake_s_max
        self._connections_max = connections_max  # one more is closed at once
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, host: str, port: int) -> None:
        """Listens; port 0 is any. Raises OSError."""
        self._server = await asyncio.start_server(
            self._accept, host, port, ssl=self._tls, ssl_handshake_timeout=self._handshake_s_max
        )

    @property
    def port(self) -> int:
        """The port in use."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._tasks)

    def close(self) -> None:
        """Takes no connections any more."""
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """No connection is served any more when it returns."""
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) <= self._connections_max:
                with contextlib.suppress(OSError, EOFError, TimeoutError):
                    await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # stop(): raised further it would be logged as an error by asyncio's server
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
