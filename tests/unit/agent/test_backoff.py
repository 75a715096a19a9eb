from __future__ import annotations

from hanse.agent.backoff import Backoff
from hanse.core.limits import HEALTHY_AFTER_S, RESTART_PAUSE_S_MAX, RESTARTS_IN_A_ROW_MAX


def test_pauses_double_up_to_a_maximum() -> None:
    backoff = Backoff()
    pauses = [backoff.ended(0.0) for _ in range(RESTARTS_IN_A_ROW_MAX + 3)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses == sorted(pauses)
    assert pauses[-1] == RESTART_PAUSE_S_MAX


def test_a_healthy_life_forgives() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.ended(0.0)
    backoff.started(100.0)
    assert backoff.ended(100.0 + HEALTHY_AFTER_S - 1) == 3.2  # too short a life
    backoff.started(200.0)
    assert backoff.ended(200.0 + HEALTHY_AFTER_S) == 0.1
    assert backoff.ended(1000.0) == 0.2  # a start that failed is no life
