"""Who has not logged in may wait, but not for long at another's cost."""

from __future__ import annotations

import pytest

from hanse.gateway import doorway
from hanse.gateway.doorway import Doorway


class Comer:
    def __init__(self, *, idles: bool = True) -> None:
        self.idles = idles
        self.out = False

    def show_out(self) -> None:
        self.out = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(doorway.time, "monotonic", lambda: now[0])
    return now


def test_newcomers_are_refused_while_nobody_has_waited_long(clock: list[float]) -> None:
    door = Doorway(2)
    assert [door.enter(Comer()) for _ in range(3)] == [True, True, False]
    assert len(door) == 2


def test_who_waited_longest_goes_first(clock: list[float]) -> None:
    door, comers = Doorway(2), [Comer(idles=False), Comer(), Comer()]
    assert door.enter(comers[0]) and door.enter(comers[1])
    clock[0] = 10.0
    assert door.enter(comers[2])
    assert [comer.out for comer in comers] == [False, True, False]  # the first waits for us, not we for him
    assert not door.enter(Comer())


def test_who_has_left_makes_room(clock: list[float]) -> None:
    door, comer = Doorway(1), Comer()
    assert door.enter(comer)
    door.leave(comer)
    door.leave(comer)
    assert door.enter(Comer())
