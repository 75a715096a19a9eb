"""Messages to several backends at once, and one answer: without a task for each, and told the moment the last has come.

A task that waits for a backend is woken by the event loop in its next round, when it has seen to all sockets that are ready
now; who waits for several is woken another round later. Under load a round lasts as long as a statement, so what has to be
quick, such as a barrier that others wait for, is told from within the call that brings the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ...core.errors import PgError
from ...pgwire.diagnostics import parse_error
from .backend import Backend, lost_connection


class Answer:
    """A relay (`Backend.relay_to`) to one answer, up to ReadyForQuery; its rows are nobody's."""

    __slots__ = ("_told", "backend", "failure")

    def __init__(self, backend: Backend, message: list[bytes], told: Callable[[Answer], None]) -> None:
        """`message`: in pieces. `told` is called once, and before this returns where the connection is gone."""
        self.backend = backend
        self.failure: PgError | None = None
        self._told: Callable[[Answer], None] | None = told
        if backend.closed:
            self.lost(backend)
            return
        backend.relay_to(self)
        backend.write_pieces(message)

    def give_up(self) -> None:
        """Nobody wants to be told any more; what still comes is for `Backend.next`."""
        if self._told is not None:
            self._told = None
            self.backend.relay_no_more()

    def chunk(self, data: bytes) -> None:
        return

    def error(self, message: bytes) -> None:
        self.failure = self.failure or parse_error(message)

    def ready(self, backend: Backend, status: int) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(self)

    def lost(self, backend: Backend) -> None:
        self.failure = lost_connection(backend.place)
        self.ready(backend, 0)


async def ask_all(messages: Mapping[Backend, list[bytes]]) -> list[Answer]:
    """Sends each its message, and gives the answers, in that order, when all have come."""
    missing = len(messages)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def told(_: Answer) -> None:
        nonlocal missing
        missing -= 1
        if not missing and not done.done():
            done.set_result(None)

    answers = [Answer(backend, message, told) for backend, message in messages.items()]
    try:
        if missing:
            await done
    except BaseException:
        for answer in answers:
            answer.give_up()
        raise
    return answers
