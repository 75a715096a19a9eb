"""The client's connection as a `Sink`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session


class SimpleSink:
    """A result of the simple protocol: description, rows. Waits while the client does not read."""

    def __init__(self, session: Session) -> None:
        self.output = session.output

    def describe(self, message: bytes) -> None:
        self.output.write(message)

    async def rows(self, messages: bytes) -> None:
        self.output.write(messages)
        await self.output.drain()

    def notice(self, message: bytes) -> None:
        self.output.write(message)


class ExecuteSink(SimpleSink):
    """A result of Execute: the description was asked for separately, or not at all."""

    def describe(self, message: bytes) -> None:
        return
