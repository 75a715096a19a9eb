"""Cancel requests between the workers of a node.

A client asks for a cancel on a new connection, and the workers share one port: the request may reach any of them. The
process id of a cancel key names its worker in the upper bits (`Gateway.register`). Each worker therefore also listens on a
port of the loopback address that takes nothing but CancelRequest packets, and tells it in `run/cancel-<worker>.port`; who
gets a request for another worker sends it there. The packet carries the key, so that the port needs no other protection.

A file that a killed worker has left names a port where nobody listens; its sessions are gone, and so is the reason to cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..config import NodeConfig
from ..core.limits import CONNECT_TIMEOUT_S
from ..pgwire import frontend

Cancel = Callable[[int, int], Awaitable[None]]  # (process id, secret)

_PACKET = struct.Struct("!IIII")  # length, code, process id, secret
_LOOPBACK = "127.0.0.1"


def _file(config: NodeConfig, worker: int) -> Path:
    return Path(config.data_dir) / "run" / f"cancel-{worker}.port"


async def listen(config: NodeConfig, worker: int, cancel: Cancel) -> asyncio.Server:
    """Takes other workers' requests from now on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                length, code, pid, secret = _PACKET.unpack(await reader.readexactly(_PACKET.size))
                if (length, code) == (_PACKET.size, frontend.CANCEL_CODE):
                    await cancel(pid, secret)
        writer.close()

    server = await asyncio.start_server(serve, _LOOPBACK, 0)
    told = _file(config, worker)
    partial = told.with_suffix(".partial")
    partial.write_text(str(server.sockets[0].getsockname()[1]))
    os.replace(partial, told)
    return server


async def pass_on(config: NodeConfig, worker: int, pid: int, secret: int) -> None:
    """Gives the request to another worker of this node, and returns when that has acted on it."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        port = int(_file(config, worker).read_text())
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(_LOOPBACK, port)
            try:
                writer.write(frontend.cancel_request(pid, secret))
                await reader.read(1)
            finally:
                writer.close()
