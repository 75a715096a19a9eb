"""One answer from several backends: told when the last has come, whatever they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hanse.core.errors import PgError
from hanse.engines.postgres.asking import Answer, ask_all
from hanse.engines.postgres.backend import Backend
from hanse.pgwire import backend as server
from hanse.pgwire.diagnostics import error_response

DONE = server.command_complete("SELECT 1") + server.ready_for_query(b"T")
FAILED = error_response(PgError("22012", "division by zero")) + server.ready_for_query(b"E")


class Transport(asyncio.Transport):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        return

    def abort(self) -> None:
        return


def backend(place: str) -> Backend:
    made = Backend(place, "user", "database")
    made.attach(Transport(), b"")
    return made


async def asked(*says: Callable[[Backend], None]) -> list[str | None]:
    """The SQLSTATE of each, in the order in which they were asked; they answer in the other one."""
    backends = [backend(f"g{number}") for number in range(len(says))]
    task = asyncio.ensure_future(ask_all({each: [b"Q"] for each in backends}))
    for one, say in reversed([*zip(backends, says, strict=True)]):
        await asyncio.sleep(0)
        assert not task.done()
        say(one)
    return [answer.failure and answer.failure.sqlstate for answer in await task]


def test_all_are_waited_for() -> None:
    def done(one: Backend) -> None:
        one.data_received(DONE)

    def failed(one: Backend) -> None:
        one.data_received(FAILED)

    def lost(one: Backend) -> None:
        one.connection_lost(None)

    assert asyncio.run(asked(done, failed, lost, done)) == [None, "22012", "08006", None]


def test_one_that_is_gone_is_told_at_once() -> None:
    one = backend("g1")
    one.connection_lost(None)
    told: list[Answer] = []
    answer = Answer(one, [b"Q"], told.append)
    assert told == [answer] and answer.failure is not None and answer.failure.sqlstate == "08006"


FIRST = len(server.command_complete("SELECT 1"))


@pytest.mark.parametrize("cut", [1, 4, FIRST, FIRST + 1, FIRST + 4, 8])
def test_what_is_given_up_is_read_by_the_next(cut: int) -> None:
    """Unless it was given up in the middle of a message: then the connection is not to be used again."""

    async def kinds() -> list[int]:
        one = backend("g1")
        told: list[Answer] = []
        answer = Answer(one, [b"Q"], told.append)
        one.data_received(DONE[:cut])
        answer.give_up()
        assert one.closed is (cut == 8)
        one.data_received(DONE[cut:])
        found = []
        while one.answering and not one.closed:
            found.append((await asyncio.wait_for(one.next(), 5))[0])
        assert not told
        return found

    assert asyncio.run(kinds())[-1:] == ([] if cut == 8 else [ord("Z")])
