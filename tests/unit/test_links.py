"""Links between nodes that lose or delay what is sent (`core/links.py`)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hanse.core.links import Fault, Links


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that sends everything back, and what it has received."""
    received: list[bytes] = []
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            with suppress(ConnectionError):
                while data := await reader.read(100):
                    received.append(data)
                    writer.write(data)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], received
        await asyncio.wait([task for task in serving if task is not None])


async def arrives(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_whole_links_pass_everything_on() -> None:
    async def test() -> None:
        async with echo() as (port, _):
            reader, writer = await Links().open_connection("127.0.0.1", port)
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    run(test)


def test_what_is_sent_is_lost() -> None:
    async def test() -> None:
        async with echo() as (port, received):
            links = Links()
            lost, lost_writer = await links.open_connection("127.0.0.1", port)
            links.use({f"127.0.0.1:{port}": Fault(None, 0.0)})
            lost_writer.write(b"lost")
            links.use({})
            assert await lost.read() == b""  # it was broken off: half of what was sent would be nonsense
            reader, writer = await links.open_connection("127.0.0.1", port)
            writer.write(b"whole")
            assert await reader.readexactly(5) == b"whole"
            assert received == [b"whole"]
            writer.close()

    run(test)


def test_answers_are_lost() -> None:
    async def test() -> None:
        async with echo() as (port, received):
            links = Links()
            links.use({f"127.0.0.1:{port}": Fault(0.0, None)})
            reader, writer = await links.open_connection("127.0.0.1", port)
            writer.write(b"heard")
            await arrives(lambda: received == [b"heard"])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            writer.close()
            assert await reader.read() == b""

    run(test)


def test_what_is_late_comes_in_order() -> None:
    async def test() -> None:
        async with echo() as (port, _):
            links = Links()
            links.use({f"127.0.0.1:{port}": Fault(0.1, 0.2)})
            reader, writer = await links.open_connection("127.0.0.1", port)
            begun = time.monotonic()
            writer.write(b"slow ")
            links.use({f"127.0.0.1:{port}": Fault()})
            writer.write(b"quick")  # and yet not before the other
            assert await reader.readexactly(10) == b"slow quick"
            assert time.monotonic() - begun >= 0.1
            writer.close()

    run(test)


def test_the_file_says_what_is_wrong(tmp_path: Path) -> None:
    async def test() -> None:
        links, file = Links(), tmp_path / "links.json"
        watching = asyncio.create_task(links.watch(file))
        file.with_suffix(".new").write_text(json.dumps({"127.0.0.1:1": [200, None]}))
        file.with_suffix(".new").rename(file)
        await arrives(lambda: links.fault("127.0.0.1:1") == Fault(0.2, None))
        assert links.fault("127.0.0.1:2") == Fault()
        file.unlink()
        await arrives(lambda: links.fault("127.0.0.1:1") == Fault())
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    run(test)
