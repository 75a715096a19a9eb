"""A statement of its own that meets others is done again, as long as nothing of it has been sent."""

from __future__ import annotations

import pytest

from hanse.catalog.model import Snapshot
from hanse.core.errors import PgError, StalePlan
from hanse.core.limits import CONFLICT_RETRIES_MAX, RETURNING_HELD_BYTES_MAX
from hanse.executor.request import Request, Rows, Sink
from hanse.gateway import retrying


class Script:
    """Attempts that end as told; each says a row first."""

    def __init__(self, *ends: PgError | None, row: bytes = b"row") -> None:
        self.ends, self.row = list(ends), row
        self.tries: list[retrying.Try] = []

    async def __call__(self, request: Request, sink: Sink, this: retrying.Try) -> bytes:
        request.text = b"changed"
        self.tries.append(this)
        await sink.rows(self.row)
        end = self.ends[min(len(self.tries), len(self.ends)) - 1]
        if end is not None:
            raise end
        return b"UPDATE 1"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "CONFLICT_PAUSE_S", 0)


def request() -> Request:
    return Request(text=b"UPDATE", snapshot=Snapshot())


CONFLICT = PgError("40001", "could not serialize access")
DEADLOCK = PgError("40P01", "deadlock detected")


async def test_the_last_attempt_is_what_the_client_sees() -> None:
    script, rows, asked = Script(CONFLICT, DEADLOCK, None), Rows(), request()
    assert await retrying.run(asked, rows, script) == b"UPDATE 1"
    assert rows.chunks == [b"row"]
    assert [this.locks_first for this in script.tries] == [False, False, True]
    assert len({this.since for this in script.tries}) == 1
    assert asked.text == b"UPDATE"


async def test_it_ends() -> None:
    script = Script(CONFLICT)
    with pytest.raises(PgError, match="could not serialize"):
        await retrying.run(request(), Rows(), script)
    assert len(script.tries) == CONFLICT_RETRIES_MAX + 1


@pytest.mark.parametrize("error", [PgError("23505", "duplicate key"), StalePlan()])
async def test_other_errors_are_told_at_once(error: PgError) -> None:
    script = Script(error)
    with pytest.raises(PgError, match=str(error.message)):
        await retrying.run(request(), Rows(), script)
    assert len(script.tries) == 1


async def test_what_has_been_sent_cannot_be_taken_back() -> None:
    script, rows = Script(CONFLICT, None, row=b"x" * (RETURNING_HELD_BYTES_MAX + 1)), Rows()
    with pytest.raises(PgError, match="could not serialize"):
        await retrying.run(request(), rows, script)
    assert len(script.tries) == len(rows.chunks) == 1


async def test_who_may_not_lock_is_told_of_the_conflict() -> None:
    script = Script(CONFLICT, CONFLICT, PgError("42501", "permission denied for table t"))
    with pytest.raises(PgError, match="could not serialize"):
        await retrying.run(request(), Rows(), script)
