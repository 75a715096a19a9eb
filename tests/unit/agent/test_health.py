"""The HTTP endpoint of a node: its answers, and its bounds against requests of any kind."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

import pytest

from hanse.agent import health
from hanse.agent.health import Facts, HealthServer, respond
from hanse.core.errors import UserMistake
from hanse.core.limits import HTTP_CONNECTIONS_MAX, HTTP_REQUEST_BYTES_MAX
from support.processes import free_ports

READY = Facts(node="n1", state="ready", gateways=2, workspace=True, leads={"g1": True, "g2": False})


def ask(path: str, facts: Facts = READY, method: str = "GET") -> tuple[int, dict[str, object]]:
    answer = respond(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), lambda: facts)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head or method == "HEAD"
    return int(head.split()[1]), json.loads(body) if body else {}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/ready", 200),
        ("/ready?from=balancer", 200),
        ("/leader/g1", 200),
        ("/leader/g2", 503),
        ("/leader/g3", 404),
        ("/leader/", 404),
        ("/leader/g%31", 200),
        ("/", 404),
        ("/ready/", 404),
        ("//ready", 404),
    ],
)
def test_paths(path: str, status: int) -> None:
    assert ask(path)[0] == status
    assert ask(path, method="HEAD") == (status, {})
    assert ask(path, method="POST")[0] == 405


@pytest.mark.parametrize(
    "facts",
    [
        Facts(node="n1", state="starting", gateways=1, workspace=True),
        Facts(node="n1", state="stopping", gateways=1, workspace=True),
        Facts(node="n1", state="ready", gateways=0, workspace=True),
        Facts(node="n1", state="ready", gateways=1, workspace=False),
    ],
)
def test_a_node_that_is_healthy_and_not_ready(facts: Facts) -> None:
    assert ask("/health", facts) == (200, {"node": "n1", "state": facts.state})
    status, content = ask("/ready", facts)
    assert (status, content["ready"]) == (503, False)


@pytest.mark.parametrize(
    "head",
    [b"", b"GET", b"GET /", b"GET /ready HTTP/2", b"get /ready HTTP/1.1", b"GET  /ready HTTP/1.1", b"\x16\x03\x01"]
    + [b"GET /ready HTTP/1.1 x", b"GET ready HTTP/1.1", b"GET /\xc3\xa9 HTTP/1.1", b"GET /a\nb HTTP/1.1"],
)
def test_what_is_no_request(head: bytes) -> None:
    assert respond(head + b"\r\n\r\n", lambda: READY).startswith(b"HTTP/1.1 400 ")


def served(work: Callable[[int], Awaitable[None]]) -> None:
    async def run() -> None:
        server, port = HealthServer(lambda: READY), free_ports(1)
        await server.start("127.0.0.1", port)
        try:
            await asyncio.wait_for(work(port), 30)
        finally:
            await server.stop()

    asyncio.run(run())


async def _say(port: int, data: bytes) -> bytes:
    """The answer; nothing where the connection was closed at once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_over_tcp() -> None:
    async def work(port: int) -> None:
        assert (await _say(port, b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        long = b"GET /ready HTTP/1.1\r\nCookie: " + b"x" * HTTP_REQUEST_BYTES_MAX
        assert (await _say(port, long)).startswith(b"HTTP/1.1 431 ")

    served(work)


def test_a_request_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "HTTP_REQUEST_S_MAX", 0.05)

    async def work(port: int) -> None:
        assert (await _say(port, b"GET /ready HTTP/1.1\r\n")).startswith(b"HTTP/1.1 408 ")

    served(work)


def test_idle_connections_keep_nobody_out() -> None:
    async def work(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * HTTP_CONNECTIONS_MAX)]
        assert (await _say(port, b"GET /health HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        ended = 0
        for reader, writer in idle:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    with contextlib.suppress(ConnectionResetError):
                        assert await reader.read() == b""
                    ended += 1
            writer.close()
        assert ended >= HTTP_CONNECTIONS_MAX  # the oldest

    served(work)


def test_a_port_that_is_taken_is_told() -> None:
    async def work(port: int) -> None:
        with pytest.raises(UserMistake, match=str(port)):
            await HealthServer(lambda: READY).start("127.0.0.1", port)

    served(work)
