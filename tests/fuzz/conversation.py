"""A connection to a server that says what it likes, and what the server makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os

from hanse.pgwire import backend, frontend
from hanse.pgwire.framing import Framer, Message
from hanse.pgwire.startup import ClientHandshake, Password
from support.schemas import Schema

ANSWER_S_MAX = 20.0
# Notices, notifications, parameters; and acknowledgements, descriptions and rows, because PostgreSQL reads a parameter's value
# when it is bound and a gateway may do so when it executes.
_NOT_COMPARED = frozenset(b"NAS123nTtDd")

_MALFORMED = (
    "08P01",
    "22021",
    "26000",
)  # a message may be wrong in several ways, and which is met first is not promised


class Conversation:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.framer = Framer()
        self.ended = False

    @classmethod
    async def opened(cls, place: Schema) -> Conversation:
        server = place.server
        conversation = cls(*await asyncio.open_connection(server.host, server.port))
        handshake = ClientHandshake(
            user=server.user,
            database=server.database,
            credentials=Password(server.password),
            random_bytes=os.urandom,
            parameters={"search_path": place.name},
        )
        conversation.writer.write(handshake.data_to_send())
        ready = None
        while ready is None:
            data = await asyncio.wait_for(conversation.reader.read(1 << 16), ANSWER_S_MAX)
            assert data, "the login was cut off"
            ready = handshake.receive(data)
            conversation.writer.write(handshake.data_to_send())
        conversation.framer.feed(handshake.trailing_data)
        return conversation

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, marker: bytes, *, patience_s: float = ANSWER_S_MAX) -> list[Message]:
        """All messages up to the ReadyForQuery after a row that holds `marker`, or to the connection's end."""
        found: list[Message] = []
        marked = False
        while True:
            while (message := self.framer.next()) is not None:
                found.append(message)
                marked = marked or (message.kind == ord("D") and marker in message.raw)
                if marked and message.kind == ord("Z"):
                    return found
            try:
                data = await asyncio.wait_for(self.reader.read(1 << 16), patience_s)
            except ConnectionError:
                data = b""
            if not data:
                self.ended = True
                return found
            self.framer.feed(data)

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def marker_query(marker: bytes) -> bytes:
    """A question that is answered in whatever state the session was left."""
    return frontend.sync() + frontend.query(b"ROLLBACK") + frontend.query(b"SELECT '" + marker + b"'")


def summary(messages: list[Message]) -> list[str]:
    """What two servers must agree in: kinds, tags, SQLSTATEs, transaction states."""
    found = []
    for message in messages:
        if message.kind in _NOT_COMPARED:
            continue
        text = chr(message.kind)
        if message.kind == ord("E"):
            error = backend.parse_error(message.raw)
            text += f" {error.severity} {'malformed' if error.sqlstate in _MALFORMED else error.sqlstate}"
        elif message.kind in b"CZ":
            text += f" {message.body!r}"
        found.append(text)
    return found
