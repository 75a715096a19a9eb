"""`hanse.core.clock.to_tick`: loops with one period wake at one time."""

from __future__ import annotations

import pytest

from hanse.core import clock


@pytest.mark.parametrize("now", [0.0, 0.01, 7.24, 1234567.89])
def test_loops_of_one_period_meet(now: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "clock", lambda: now)
    first = now + clock.to_tick(0.25)
    assert now < first <= now + 0.25 and first / 0.25 == pytest.approx(round(first / 0.25))
    monkeypatch.setattr(clock, "clock", lambda: (now + first) / 2)
    assert (now + first) / 2 + clock.to_tick(0.25) == pytest.approx(first)
