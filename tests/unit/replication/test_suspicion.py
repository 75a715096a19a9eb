"""The detector by which followers suspect their leader."""

from __future__ import annotations

import random

import pytest

from hanse.core.limits import HEARTBEAT_S, LEASE_S, SUSPICION_S_MAX, SUSPICION_S_MIN, SUSPICION_STAGGER_S
from hanse.replication.suspicion import INTERVALS_MIN, Detector


def after(intervals: list[float], *, leader: str = "a") -> tuple[Detector, float]:
    """A detector that has heard a heartbeat after each of these intervals, and its time then."""
    detector, now = Detector(0.0), 0.0
    detector.heard(leader, now)
    for interval in intervals:
        now += interval
        detector.heard(leader, now)
    return detector, now


def test_regular_heartbeats_are_missed_soon_but_not_too_soon() -> None:
    detector, now = after([HEARTBEAT_S] * 60)
    assert detector.patience_s == SUSPICION_S_MIN < LEASE_S
    assert not detector.suspects(now + SUSPICION_S_MIN - 0.01, 0)
    assert detector.suspects(now + SUSPICION_S_MIN + 0.01, 0)


def test_who_hears_irregularly_is_more_patient_and_not_for_ever() -> None:
    draw = random.Random(1)
    calm = after([HEARTBEAT_S] * 60)[0].patience_s
    busy = after([HEARTBEAT_S + draw.choice((0.0, 0.6)) for _ in range(60)])[0].patience_s
    wild = after([draw.choice((0.1, 3.0)) for _ in range(60)])[0].patience_s
    assert calm < busy < wild == SUSPICION_S_MAX


def test_it_becomes_impatient_again_when_heartbeats_do() -> None:
    detector, now = after([0.1, 3.0] * 30)
    for _ in range(60):
        now += HEARTBEAT_S
        detector.heard("a", now)
    assert detector.patience_s == SUSPICION_S_MIN


@pytest.mark.parametrize("count", range(INTERVALS_MIN))
def test_with_few_heartbeats_it_goes_by_the_lease(count: int) -> None:
    detector, now = after([HEARTBEAT_S] * count)
    assert not detector.suspects(now + LEASE_S - 0.01, 0) and detector.suspects(now + LEASE_S + 0.01, 0)


def test_an_outage_teaches_nothing() -> None:
    detector, now = after([HEARTBEAT_S] * 60)
    detector.heard("a", now + 60.0)
    assert detector.patience_s == SUSPICION_S_MIN


def test_another_leader_is_another_rhythm() -> None:
    detector, now = after([0.1, 3.0] * 30)
    detector.heard("b", now + 0.1)
    assert detector.patience_s == LEASE_S
    assert detector.suspects(now + 0.2 + LEASE_S, 0)


def test_silence_begins_anew_after_an_excuse() -> None:
    detector, now = after([HEARTBEAT_S] * 60)
    detector.excuse(now + 10.0)
    assert not detector.suspects(now + 10.0 + SUSPICION_S_MIN - 0.01, 0)
    assert detector.suspects(now + 10.0 + LEASE_S + 0.01, 0)
    detector.excuse(now)  # an older one changes nothing
    assert detector.since == now + 10.0


def test_followers_suspect_one_after_another() -> None:
    detector, now = after([HEARTBEAT_S] * 60)
    for place in range(3):
        limit = now + SUSPICION_S_MIN + place * SUSPICION_STAGGER_S
        assert not detector.suspects(limit - 0.01, place) and detector.suspects(limit + 0.01, place)
    assert SUSPICION_S_MIN + SUSPICION_STAGGER_S <= LEASE_S  # two followers have both begun when the lease is over
