"""A leading server that its agent tries (`hanse.agent.trial`), with a clock ten times as fast as the real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from hanse.agent.trial import cannot_write
from hanse.core.errors import PgError
from hanse.core.limits import PROBE_SILENCE_S_MIN, SUSPICION_S_MAX


def fast() -> float:
    return 10 * time.monotonic()


class Server:
    """Answers with these, one after another; None: it writes."""

    instance = SimpleNamespace(spec=SimpleNamespace(name="g1.1"))

    def __init__(self, answers: Iterator[PgError | None]) -> None:
        self._answers = answers
        self.ended = False

    async def probe(self) -> None:
        try:
            answer = next(self._answers, "none")
            if answer == "none":
                await asyncio.Event().wait()
            if isinstance(answer, PgError):
                raise answer
        finally:
            self.ended = True


def tried(*answers: PgError | None, leads: int = 1_000) -> tuple[str | None, Server]:
    """What comes of it, if it leads for so many questions."""
    left: Iterator[Any] = iter(range(leads))
    server = Server(iter(answers))
    found = asyncio.run(cannot_write(server, lambda: next(left, None) is not None, fast))  # type: ignore[arg-type]
    return found, server


def test_one_that_does_not_answer_is_borne_for_a_while() -> None:
    began = fast()
    found, server = tried()
    assert found is not None and found.startswith("it has not answered for")
    assert PROBE_SILENCE_S_MIN <= SUSPICION_S_MAX <= fast() - began, "nothing is known of it: as long as one may be"
    assert server.ended, "the question was left open"


def test_a_full_disk_is_said_twice() -> None:
    full = PgError("53100", "could not write")
    assert tried(full, None, full, leads=3)[0] is None
    assert tried(full, full)[0] == str(full)


def test_a_server_that_refuses_for_another_reason_is_there() -> None:
    busy = PgError("53300", "sorry, too many clients already")
    assert tried(busy, busy, busy, leads=3)[0] is None
