"""Who goes together, who waits and who is told what (gateway/shared_commits.py). What is inserted is not looked at here."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from hanse.core.errors import NotTogether, PgError
from hanse.core.limits import SHARED_COMMIT_BYTES_MAX, SHARED_COMMITS_UNDER_WAY
from hanse.executor.request import Copy
from hanse.gateway.shared_commits import SharedCommits, Trip
from hanse.gateway.transaction import Transaction

KEY = ("user", "database")


def rows(data: bytes, *groups: str) -> dict[str, Copy]:
    return {group: Copy(b"COPY t FROM STDIN", data) for group in groups or ("g1", "g2")}


def ended(*, ending: bool = False, committed: bool = False) -> Transaction:
    return SimpleNamespace(ending=ending, committed=committed)  # type: ignore[return-value]


class Line:
    """As many trips under way as there may be; everybody else waits."""

    def __init__(self) -> None:
        self.shared = SharedCommits()
        self.sessions: list[Any] = []
        self.under_way: list[Trip] = []

    async def fill(self) -> None:
        for _ in range(SHARED_COMMITS_UNDER_WAY):
            trip = await self.shared.join(self.session(), KEY, rows(b"under way;"))
            assert trip is not None and not trip.others
            self.under_way.append(trip)

    def session(self) -> Any:
        self.sessions.append(SimpleNamespace(interruption=None))
        return self.sessions[-1]

    async def waiting(self, copies: dict[str, Copy], key: tuple[str, ...] = KEY) -> asyncio.Task[Trip | None]:
        task = asyncio.create_task(self.shared.join(self.session(), key, copies))
        await asyncio.sleep(0)  # until it stands in line
        return task


@pytest.fixture
def line() -> Line:
    return Line()


def run(work: Any) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def test_the_first_in_line_takes_all_along(line: Line) -> None:
    async def work() -> None:
        await line.fill()
        tasks = [
            await line.waiting(rows(b"a;")),
            await line.waiting(rows(b"b;", "g2")),
            await line.waiting(rows(b"c;")),
        ]
        line.under_way[0].end(ended(committed=True), None)
        trip = await tasks[0]
        assert trip is not None
        assert {group: copy.data for group, copy in trip.copies.items()} == {"g1": b"a;c;", "g2": b"a;b;c;"}
        trip.end(ended(ending=True, committed=True), None)
        assert await tasks[1] is None and await tasks[2] is None

    run(work())


def test_others_kinds_do_not_wait(line: Line) -> None:
    async def work() -> None:
        await line.fill()
        other = await line.shared.join(line.session(), ("another user",), rows(b"x;"))
        assert other is not None and other.copies == rows(b"x;")

    run(work())


def test_a_trip_has_an_end(line: Line) -> None:
    async def work() -> None:
        await line.fill()
        long = b"x" * (SHARED_COMMIT_BYTES_MAX // 4)  # in both groups: two of them fit
        tasks = [await line.waiting(rows(long)) for _ in range(3)]
        line.under_way[0].end(ended(committed=True), None)
        first = await tasks[0]
        assert first is not None and len(first.others) == 1
        first.end(ended(committed=True), None)
        assert await tasks[1] is None
        third = await tasks[2]
        assert third is not None and not third.others

    run(work())


@pytest.mark.parametrize(
    ("transaction", "error", "told"),
    [
        (None, PgError("40001", "stale"), NotTogether),
        (ended(), PgError("08006", "lost before the commit"), NotTogether),
        (ended(), asyncio.CancelledError(), NotTogether),
        (ended(ending=True), PgError("23505", "duplicate"), NotTogether),
        (ended(ending=True), PgError("08007", "unknown"), "08007"),
        (ended(ending=True), PgError("57P01", "stopped"), "57P01"),
        (ended(ending=True), asyncio.CancelledError(), "08007"),
        (ended(ending=True, committed=True), asyncio.CancelledError(), None),
    ],
)
def test_what_the_others_are_told(
    line: Line, transaction: Transaction | None, error: BaseException, told: type[PgError] | str | None
) -> None:
    async def work() -> None:
        await line.fill()
        tasks = [await line.waiting(rows(b"a;")), await line.waiting(rows(b"b;"))]
        line.under_way[0].end(ended(committed=True), None)
        trip = await tasks[0]
        assert trip is not None
        trip.end(transaction, error)
        if told is None:
            assert await tasks[1] is None
            return
        with pytest.raises(PgError) as caught:
            await tasks[1]
        if isinstance(told, str):
            assert not isinstance(caught.value, NotTogether) and caught.value.sqlstate == told
        else:
            assert isinstance(caught.value, told)

    run(work())


def test_nobody_stands_in_line_for_long(line: Line) -> None:
    async def work() -> None:
        await line.fill()
        with pytest.raises(NotTogether):
            await (await line.waiting(rows(b"a;")))

    run(work())


def test_a_cancel_in_line(line: Line) -> None:
    async def work() -> None:
        await line.fill()
        task = await line.waiting(rows(b"a;"))
        line.sessions[-1].interruption.set_result(None)
        with pytest.raises(PgError) as caught:
            await task
        assert caught.value.sqlstate == "57014"
        line.under_way[0].end(ended(committed=True), None)
        trip = await line.shared.join(line.session(), KEY, rows(b"b;"))
        assert trip is not None and not trip.others

    run(work())


def test_who_is_gone_when_his_turn_comes_does_not_keep_it(line: Line) -> None:
    async def work() -> None:
        await line.fill()
        gone, next_one = await line.waiting(rows(b"a;")), await line.waiting(rows(b"b;"))
        line.under_way[0].end(ended(committed=True), None)
        gone.cancel()  # in the same moment
        with pytest.raises(asyncio.CancelledError):
            await gone
        with pytest.raises(NotTogether):
            await next_one
        assert await line.shared.join(line.session(), KEY, rows(b"c;")) is not None

    run(work())
