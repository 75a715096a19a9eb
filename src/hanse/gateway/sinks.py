"""The client's connection as a `Sink`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..pgwire import backend as server_messages
from .encoding import Recoder

if TYPE_CHECKING:
    from .session import Session


class SimpleSink:
    """A result of the simple protocol: description, rows. Waits while the client does not read."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def describe(self, message: bytes) -> None:
        self.session.write(message)

    async def rows(self, messages: bytes) -> None:
        self.session.write(messages)
        await self.session.output.drain()

    def notice(self, message: bytes) -> None:
        self.session.write(message)
        self.session.flush()


class ExecuteSink(SimpleSink):
    """A result of Execute: the description was asked for separately, or not at all."""

    def describe(self, message: bytes) -> None:
        if isinstance(self.session.output, Recoder):
            self.session.output.expect(server_messages.parse_row_description(message))
