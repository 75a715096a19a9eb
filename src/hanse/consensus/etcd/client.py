"""Asks an etcd by HTTP/1.1, through the JSON gateway that each of its servers has on its client port.

A request goes to the server that has answered last, and after a failure to the next. Whether a request without an answer was
carried out, nobody knows; one that reached no server was not. The token of a user is renewed when etcd does not know it any more.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from ...core.limits import ETCD_PART_BYTES, ETCD_REQUEST_S_MAX
from ...core.links import open_connection
from .address import Servers
from .requests import Json

_ANSWER_BYTES_MAX = 64 * ETCD_PART_BYTES
# gRPC's codes of what was refused and so not done: INVALID_ARGUMENT, PERMISSION_DENIED, RESOURCE_EXHAUSTED,
# FAILED_PRECONDITION, UNAUTHENTICATED.
_REFUSALS = (3, 7, 8, 9, 16)
_UNAUTHENTICATED = 16
_FAILURES = (OSError, EOFError, TimeoutError, ValueError, msgspec.DecodeError)


class Unanswered(Exception):
    """`sent`: it may have been carried out, or may be yet."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class _TokenUnknown(Exception):
    pass


class Client:
    """Any number of requests at a time, each on a connection of its own; those that are idle are used again."""

    def __init__(self, servers: Servers) -> None:
        """Raises UserMistake."""
        self._servers = servers
        self._tls = servers.tls()
        self._turn = 0  # which server is asked
        self._token = ""
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._closed = False

    async def transaction(self, question: Json) -> Json:
        """Raises Unanswered."""
        return await self._ask("kv/txn", question)

    async def grant(self, seconds: float) -> tuple[int, float]:
        """A new lease, and for how long it is good: etcd may give more. Raises Unanswered."""
        answer = await self._ask("lease/grant", {"TTL": str(round(seconds))})
        return int(answer["ID"]), float(answer["TTL"])

    async def renew(self, lease: int) -> float:
        """For how long it is good from before the call; 0: it is over. Raises Unanswered."""
        answer = await self._ask("lease/keepalive", {"ID": str(lease)})
        return float(answer.get("result", {}).get("TTL", 0))

    async def revoke(self, lease: int) -> None:
        """Raises Unanswered, also where there is no such lease."""
        await self._ask("lease/revoke", {"ID": str(lease)})

    def close(self) -> None:
        """Whoever waits for an answer is told that there is none."""
        self._closed = True
        for connection in tuple(self._open):
            self._end(connection)

    # --- requests ----------------------------------------------------------------------------------------------------

    async def _ask(self, what: str, question: Json) -> Json:
        try:
            return await self._ask_as_user(what, question)
        except _TokenUnknown:
            self._token = ""
        try:
            return await self._ask_as_user(what, question)
        except _TokenUnknown as error:
            raise Unanswered(str(error), sent=False) from None

    async def _ask_as_user(self, what: str, question: Json) -> Json:
        if self._servers.user and not self._token:
            account = {"name": self._servers.user, "password": self._servers.password}
            answer = await self._ask_somebody("auth/authenticate", account)
            self._token = str(answer.get("token", ""))
        return await self._ask_somebody(what, question)

    async def _ask_somebody(self, what: str, question: Json) -> Json:
        """The next server is asked at once where nothing was sent."""
        left = len(self._servers.addresses)
        while True:
            left -= 1
            turn = self._turn
            try:
                return await self._ask_one(self._servers.addresses[turn % len(self._servers.addresses)], what, question)
            except Unanswered as error:
                if self._turn == turn:  # else another request has gone on to the next already
                    self._turn += 1
                if error.sent or self._closed or not left:
                    raise

    async def _ask_one(self, server: tuple[str, int], what: str, question: Json) -> Json:
        connection = None
        host, port = server
        try:
            async with asyncio.timeout(ETCD_REQUEST_S_MAX):
                connection = await self._connected(host, port)
                status, body = await connection.post(f"/v3/{what}", msgspec.json.encode(question), self._token)
            answer: Any = msgspec.json.decode(body)
            if not isinstance(answer, dict):
                raise ValueError("no answer of etcd's")
        except BaseException as error:
            if connection is not None:
                self._end(connection)
            if not isinstance(error, _FAILURES):
                raise
            raise Unanswered(f"{host}:{port}: {error or type(error).__name__}", sent=connection is not None) from error
        if status == 200 and "error" not in answer:
            self._idle.append(connection)
            return answer
        self._end(connection)
        raise _refusal(f"{host}:{port}", answer)

    async def _connected(self, host: str, port: int) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.server == (host, port) and connection.is_open:
                return connection
            self._end(connection)
        name = host if self._tls is not None else None
        reader, writer = await open_connection(host, port, ssl=self._tls, server_hostname=name)
        connection = _Connection(reader, writer, (host, port))
        self._open.add(connection)
        if self._closed:
            self._end(connection)
            raise OSError("closed")
        return connection

    def _end(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.end()


def _refusal(server: str, answer: Json) -> Exception:
    """Of an answer that is an error; those of streams are a level deeper."""
    inner = answer.get("error")
    told = inner if isinstance(inner, dict) else answer
    code = told.get("code", told.get("grpc_code", 0))
    reason = f"{server}: {told.get('message', '')}"
    if code == _UNAUTHENTICATED:
        return _TokenUnknown(reason)
    return Unanswered(reason, sent=code not in _REFUSALS)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: tuple[str, int]) -> None:
        self.server = server
        self._reader = reader
        self._writer = writer

    @property
    def is_open(self) -> bool:
        return not (self._reader.at_eof() or self._writer.is_closing())

    def end(self) -> None:
        self._writer.transport.abort()

    async def post(self, path: str, body: bytes, token: str) -> tuple[int, bytes]:
        """(status, body). Raises OSError, EOFError, ValueError."""
        head = [f"POST {path} HTTP/1.1", f"Host: {self.server[0]}:{self.server[1]}", f"Content-Length: {len(body)}"]
        head += ["Content-Type: application/json"] + ([f"Authorization: {token}"] if token else [])
        self._writer.write("\r\n".join((*head, "", "")).encode() + body)
        await self._writer.drain()
        status = int((await self._line()).partition(b" ")[2][:3])
        length, chunked = 0, False
        while line := await self._line():
            name, _, value = line.lower().partition(b":")
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = value.strip() == b"chunked"
        return status, await self._chunks() if chunked else await self._exactly(length)

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(await self._line(), 16):
            body += await self._exactly(size)
            await self._line()
            if len(body) > _ANSWER_BYTES_MAX:
                raise ValueError("an answer is too long")
        while await self._line():  # trailers
            pass
        return bytes(body)

    async def _exactly(self, length: int) -> bytes:
        if length > _ANSWER_BYTES_MAX:
            raise ValueError("an answer is too long")
        return await self._reader.readexactly(length)

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the connection has ended")
        return line.rstrip(b"\r\n")
