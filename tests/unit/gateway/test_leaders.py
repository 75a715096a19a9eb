"""Whom a gateway asks who leads a group (`hanse.gateway.leaders`)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from hanse.catalog.model import Group, Instance
from hanse.gateway import leaders as module
from hanse.gateway.leaders import Leaders
from hanse.replication.asking import Address, Leads

NAMES = ("g1.1", "g1.2", "g1.3")
GROUP = Group(
    name="g1",
    term=1,
    instances=tuple(
        Instance(name=name, node=f"n{number}", host="h", port=1, role="follower" if number > 1 else "leader")
        for number, name in enumerate(NAMES, 1)
    ),
)


class Members:
    """The group's members, and the gateway that asks them. `leader`: who serves; None: nobody does."""

    snapshot = SimpleNamespace(groups=(GROUP,), group_by_name={"g1": GROUP})
    prober = SimpleNamespace(is_busy=False)

    def __init__(self) -> None:
        self.asker = self
        self.leader: str | None = "g1.1"
        self.term = 1
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self.left: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    def leave(self, group: str) -> None:
        self.left.append(group)

    async def ask(self, address: Address, message: object, *, timeout_s: float) -> Leads:
        name = NAMES[int(address[0][1:]) - 1]
        self.asked.append(name)
        if name in self.silent:
            raise TimeoutError
        return Leads(name, self.term, name == self.leader, 2.0)


@contextmanager
def round_s(seconds: float) -> Iterator[None]:
    before, module.LEADERS_PERIOD_S = module.LEADERS_PERIOD_S, seconds
    try:
        yield
    finally:
        module.LEADERS_PERIOD_S = before


async def _turns(task: asyncio.Task[None], members: Members, count: int) -> list[str]:
    """Who is asked from now on, until so many questions have been asked."""
    members.asked.clear()
    async with asyncio.timeout(30):
        while len(members.asked) < count:
            assert not task.done()
            await asyncio.sleep(0.001)
    return members.asked[:count]


async def _play() -> None:
    members = Members()
    leaders = Leaders(members)  # type: ignore[arg-type]
    with round_s(0.005):
        task = asyncio.create_task(leaders.run())
        try:
            assert sorted(await _turns(task, members, 3)) == sorted(NAMES), "nobody has said anything yet"
            await _turns(task, members, 3)
            assert set(await _turns(task, members, 5)) == {"g1.1"}, "nobody else can serve while it does"
            members.leader = None
            await _turns(task, members, 6)
            assert set(await _turns(task, members, 9)) == set(NAMES)
            members.leader, members.term = "g1.3", 2
            await _turns(task, members, 6)
            assert set(await _turns(task, members, 5)) == {"g1.3"}
            assert leaders.of(GROUP).name == "g1.3" and members.left == ["g1"]
            members.silent = {"g1.3"}
            await _turns(task, members, 6)
            assert set(await _turns(task, members, 9)) == set(NAMES)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_only_the_leader_is_asked_while_it_serves() -> None:
    asyncio.run(_play())


async def _one_that_stops_serving() -> None:
    members = Members()
    leaders = Leaders(members)  # type: ignore[arg-type]
    found: list[list[str]] = []
    with round_s(60.0):
        for leader, count in (("g1.1", 3), (None, 4)):
            members.leader = leader
            task = asyncio.create_task(leaders.run())
            try:
                found.append(await _turns(task, members, count))
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    assert found[1][0] == "g1.1" and sorted(found[1][1:]) == sorted(NAMES), "within one turn"


async def _one_that_is_to_serve() -> None:
    members = Members()
    members.leader = None
    leaders = Leaders(members)  # type: ignore[arg-type]
    with round_s(60.0):
        task = asyncio.create_task(leaders.run())
        try:
            await _turns(task, members, 3)
            assert set(await _turns(task, members, 6)) == set(NAMES)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_one_that_does_not_serve_yet_is_asked_again_before_the_next_round() -> None:
    asyncio.run(_one_that_is_to_serve())


def test_all_are_asked_as_soon_as_the_leader_does_not_serve() -> None:
    asyncio.run(_one_that_stops_serving())
