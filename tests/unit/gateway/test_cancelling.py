"""A cancel request that reaches the wrong worker of a node is passed on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hanse.gateway import cancelling


@pytest.fixture
def config(tmp_path: Path) -> Any:
    (tmp_path / "run").mkdir()
    return SimpleNamespace(data_dir=str(tmp_path))


async def test_a_request_reaches_the_worker_it_is_for(config: Any) -> None:
    heard: list[tuple[int, int, int]] = []

    def hear(worker: int) -> cancelling.Cancel:
        async def cancel(pid: int, secret: int) -> None:
            heard.append((worker, pid, secret))

        return cancel

    servers = [await cancelling.listen(config, worker, hear(worker)) for worker in range(2)]
    await cancelling.pass_on(config, 1, (2 << 22) + 7, 0xFFFFFFFE)
    assert heard == [(1, (2 << 22) + 7, 0xFFFFFFFE)]
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_other_bytes_are_not_acted_on(config: Any) -> None:
    heard: list[int] = []

    async def cancel(pid: int, secret: int) -> None:
        heard.append(pid)

    server = await cancelling.listen(config, 0, cancel)
    port = server.sockets[0].getsockname()[1]
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(16)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert heard == []
    server.close()
    await server.wait_closed()


async def test_a_worker_that_is_gone_is_no_error(config: Any) -> None:
    await cancelling.pass_on(config, 3, 1, 1)
    (Path(config.data_dir) / "run" / "cancel-3.port").write_text("1")
    await cancelling.pass_on(config, 3, 1, 1)
