"""What the watch for deadlocks over groups says of itself (`hanse.gateway.deadlocks`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hanse.core.errors import PgError
from hanse.gateway import deadlocks


class Watch(deadlocks.Watch):
    """Each look ends with the next of these; None: it could look. Then it ends."""

    def __init__(self, looks: Sequence[Exception | None]) -> None:
        super().__init__(cast(Any, SimpleNamespace(config=SimpleNamespace(name="n1"), worker=0)))
        self._looks = iter(looks)

    def _suspects(self) -> list[Any]:
        return ["somebody waits"]

    async def _look(self, suspects: Sequence[Any]) -> None:
        try:
            found = next(self._looks)
        except StopIteration:
            raise asyncio.CancelledError from None
        if found is not None:
            raise found


def test_a_group_that_stays_away_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    away, starts = PgError("08001", "nobody listens"), PgError("57P03", "it starts")
    with caplog.at_level("INFO", logger="hanse"), pytest.raises(asyncio.CancelledError):
        asyncio.run(Watch([away, away, away, starts, starts, TimeoutError(), None, starts, starts]).run())
    said = [record.getMessage().removeprefix("waits for locks could not be looked at: ") for record in caplog.records]
    assert said == ["08001: nobody listens", "57P03: it starts", "no answer", "57P03: it starts"]
