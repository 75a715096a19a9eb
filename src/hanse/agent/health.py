"""HTTP for load balancers, one endpoint per node, on the node's own address (loopback unless it is set otherwise).

    GET /health          200 while the agent runs
    GET /ready           200 while clients can be sent here: the node is ready, a gateway and the workspace are alive; else 503
    GET /leader/<group>  200 while the group's leader is here and serves, else 503; 404 where no instance of it is

Answers are small JSON, the connection is closed behind each. Nothing here is secret, and nothing can be changed. A request
has HTTP_REQUEST_BYTES_MAX and HTTP_REQUEST_S_MAX, and its body is not read. A node has HTTP_CONNECTIONS_MAX connections, of which
the oldest ends when one more comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import msgspec

from ..core.errors import UserMistake
from ..core.limits import HTTP_CONNECTIONS_MAX, HTTP_REQUEST_BYTES_MAX, HTTP_REQUEST_S_MAX

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.[01]\Z")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_LEADER = "/leader/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of the node when a request comes."""

    node: str
    state: str  # of its agent: starting, ready, stopping, failed
    gateways: int = 0  # that are alive
    workspace: bool = False
    leads: Mapping[str, bool] = field(default_factory=dict)  # by group that has an instance here

    @property
    def ready(self) -> bool:
        return self.state == "ready" and self.gateways > 0 and self.workspace


def respond(head: bytes, facts: Callable[[], Facts]) -> bytes:
    """The whole answer to a request's line and headers."""
    match = _REQUEST_LINE.match(head.partition(b"\r\n")[0])
    if match is None:
        return refusal(400)
    method, path = match[1], unquote(match[2].decode().partition("?")[0])
    if method not in (b"GET", b"HEAD"):
        return refusal(405)
    status, content = _answer(path, facts())
    return _render(status, content, with_body=method == b"GET")


def _answer(path: str, facts: Facts) -> tuple[int, dict[str, object]]:
    if path == "/health":
        return 200, {"node": facts.node, "state": facts.state}
    if path == "/ready":
        content = {"node": facts.node, "state": facts.state, "gateways": facts.gateways, "workspace": facts.workspace}
        return (200 if facts.ready else 503), {"ready": facts.ready, **content}
    group = path.removeprefix(_LEADER)
    if path.startswith(_LEADER) and group in facts.leads:
        leads = facts.leads[group]
        return (200 if leads else 503), {"node": facts.node, "group": group, "leader": leads}
    return 404, {"error": _REASONS[404]}


def refusal(status: int) -> bytes:
    return _render(status, {"error": _REASONS[status]}, with_body=True)


def _render(status: int, content: Mapping[str, object], *, with_body: bool) -> bytes:
    body = msgspec.json.encode(content) + b"\n"
    lines = (
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(("Allow: GET, HEAD",) if status == 405 else ()),
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body if with_body else b"")


class HealthServer:
    def __init__(self, facts: Callable[[], Facts]) -> None:
        self._facts = facts
        self._connections: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Without effect for port 0. Raises UserMistake where the port is taken."""
        if port == 0:
            return
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=HTTP_REQUEST_BYTES_MAX)
        except OSError as error:
            raise UserMistake(f"the HTTP port {port} on {host} cannot be used: {error.strerror}") from None

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= HTTP_CONNECTIONS_MAX:  # so that idle ones do not keep a balancer's checks out
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.transport.abort()
        self._connections[writer] = None
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(2 * HTTP_REQUEST_S_MAX):
                    writer.write(await self._reply(reader))
                    await writer.drain()
        finally:
            self._connections.pop(writer, None)
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(HTTP_REQUEST_S_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return refusal(408)
        except asyncio.LimitOverrunError:
            return refusal(431)
        except asyncio.IncompleteReadError:
            return refusal(400)
        return respond(head, self._facts)
