"""One connection of a client to the control service: finding the leader, the handshake, requests under way, pings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from ..core.errors import PgError
from ..core.limits import (
    AUTH_MESSAGE_BYTES_MAX,
    CONTROL_HANDSHAKE_S_MAX,
    CONTROL_MESSAGE_BYTES_MAX,
    CONTROL_STRAGGLERS_S_MAX,
)
from ..core.links import open_connection
from ..core.node_tls import NodeTls
from . import protocol as p

GOODBYE_S_MAX = 1.0

Address = tuple[str, str, int]  # its node's name, which its certificate shows; host, port


class LinkLost(Exception):
    """The connection ended while an answer was awaited; whether the request was carried out is unknown."""


class NotLeading(Exception):
    """The node answers, and does not lead. `leader` is a node's name, where it knows one."""

    def __init__(self, term: int, leader: str | None) -> None:
        super().__init__(f"it is led by {leader}, in term {term}" if leader else "it has no leader")
        self.term = term
        self.leader = leader


class Link:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[p.Answer]] = {}
        self._pings: dict[int, float] = {}  # sent and not answered
        self._pings_sent = 0
        self._closed = False

    async def read(self, bytes_max: int = CONTROL_MESSAGE_BYTES_MAX) -> p.ServiceMessage:
        length = await p.read_length(self._reader, bytes_max)
        return p.decode_from_service(await self._reader.readexactly(length))

    def send(self, message: p.ClientMessage, bytes_max: int = CONTROL_MESSAGE_BYTES_MAX) -> None:
        if not self._closed:
            self._writer.write(p.encode(message, bytes_max))

    async def ask(self, request: p.Request) -> p.Answer:
        """Raises the service's PgError, or LinkLost."""
        if self._closed:
            raise LinkLost
        answer: asyncio.Future[p.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request.request] = answer
        try:
            self.send(request)
            return await answer
        finally:
            self._waiting.pop(request.request, None)

    def answered(self, answer: p.Answer) -> None:
        waiting = self._waiting.get(answer.request)
        if waiting is None or waiting.done():
            return  # whoever asked has given up
        if isinstance(answer, p.Failed):
            error = PgError(answer.sqlstate, answer.message, detail=answer.detail, hint=answer.hint)
            waiting.set_exception(error)
        else:
            waiting.set_result(answer)

    def ping(self, now: float) -> None:
        self._pings_sent += 1
        self._pings[self._pings_sent] = now
        self.send(p.Ping(number=self._pings_sent))

    def pinged_at(self, number: int) -> float:
        """When the ping that is now answered was sent."""
        sent = self._pings.pop(number, None)
        if sent is None:
            raise p.ProtocolViolation(f"ping {number} was never sent")
        return sent

    async def goodbye(self) -> None:
        self.send(p.Goodbye())
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S_MAX):
                await self._writer.drain()

    async def closed(self) -> None:
        """After `goodbye` and `close`: the other side has heard it."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S_MAX):
                await self._writer.wait_closed()

    def close(self) -> None:
        self._closed = True
        self._writer.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(LinkLost())


async def open_leaders_link(
    addresses: Sequence[Address], tls: NodeTls, name: str, known: int = -1
) -> tuple[Link, p.Welcome]:
    """A link to the leader, who is one at most: all nodes are asked at once. Raises what `open_link` does, of all that was
    found the most telling.
    """
    asked = {asyncio.create_task(open_link(address, tls, name, known)) for address in addresses}
    waiting, failures = set(asked), list[BaseException]()
    try:
        while waiting:
            # One node may be hung, and it may have been the leader: then the others elect another.
            patience_s = CONTROL_STRAGGLERS_S_MAX if failures else None
            done, waiting = await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                if (failure := task.exception()) is None:
                    asked.remove(task)
                    return task.result()
                failures.append(failure)
        raise min(failures, key=_vagueness)
    finally:
        for task in asked:
            task.cancel()
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, tuple):  # it was too late to cancel it
                outcome[0].close()


def _vagueness(failure: BaseException) -> int:
    kinds = (PgError, NotLeading, p.ProtocolViolation)
    return next((place for place, kind in enumerate(kinds) if isinstance(failure, kind)), len(kinds))


async def open_link(address: Address, tls: NodeTls, name: str, known: int = -1) -> tuple[Link, p.Welcome]:
    """`known` as in `protocol.Hello`. Raises NotLeading, PgError 28000 when the service refuses this node."""
    node, host, port = address
    reader, writer = await open_connection(
        host, port, ssl=tls.client, server_hostname=node, ssl_handshake_timeout=CONTROL_HANDSHAKE_S_MAX
    )
    link = Link(reader, writer)
    try:
        link.send(p.Hello(format=p.FORMAT, name=name, known=known), AUTH_MESSAGE_BYTES_MAX)
        welcome = await link.read()
        if isinstance(welcome, p.Refused):
            raise PgError(welcome.sqlstate, welcome.message)
        if isinstance(welcome, p.Elsewhere):
            raise NotLeading(welcome.term, welcome.leader)
        if not isinstance(welcome, p.Welcome):
            raise p.ProtocolViolation("the control service is of another version")
        return link, welcome
    except BaseException:
        writer.transport.abort()
        raise
