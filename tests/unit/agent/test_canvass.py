"""Who hears of no leader asks first whether the others would be its recruits (`agent/canvass.py`)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from hanse.agent.canvass import canvass
from hanse.replication.asking import Leads, Reply, WhoLeads
from hanse.replication.pledge import Message
from hanse.replication.record import RuleRecord
from hanse.replication.rule import Policy, rule_of
from hanse.replication.suspicion import Detector

HEARS, WILLING, AWAY, HANGS = "hears", "willing", "away", "hangs"


@dataclass
class Peers:
    answers: dict[str, str]
    asked: list[str] = field(default_factory=list)

    @property
    def names(self) -> frozenset[str]:
        return frozenset({"a", *self.answers})

    async def ask(self, name: str, message: Message | WhoLeads, timeout_s: float) -> Reply | Leads:
        self.asked.append(name)
        answer = self.answers[name]
        if answer == AWAY:
            raise OSError
        if answer == HANGS:
            await asyncio.sleep(60)
        return Leads(name, 1, False, hears=answer == HEARS)


def record(policy: Policy, *members: str) -> RuleRecord:
    return RuleRecord(term=1, serial=0, leader="b", promotion_id="x", rule=rule_of(policy, list(members)))


@pytest.mark.parametrize(
    ("policy", "answers", "goes_on"),
    [
        (Policy.QUORUM, {"b": AWAY, "c": WILLING}, True),
        (Policy.QUORUM, {"b": HANGS, "c": WILLING}, True),  # and nobody waits for b
        (Policy.QUORUM, {"b": HEARS, "c": WILLING}, True),  # a leader that only one of them hears has no quorum
        (Policy.QUORUM, {"b": HEARS, "c": HEARS}, False),
        (Policy.QUORUM, {"b": AWAY, "c": HEARS}, False),
        (Policy.QUORUM, {"b": AWAY, "c": AWAY}, False),
        (Policy.ALL, {"b": AWAY, "c": WILLING}, True),
        (Policy.ASYNC, {"b": AWAY, "c": AWAY}, False),
    ],
)
def test_enough_must_be_willing(policy: Policy, answers: dict[str, str], goes_on: bool) -> None:
    peers = Peers(answers)
    assert asyncio.run(canvass("a", peers, record(policy, "a", "b", "c"))) is goes_on
    assert set(peers.asked) <= {"b", "c"}


def test_who_is_no_member_does_not_count() -> None:
    assert asyncio.run(canvass("a", Peers({"b": AWAY, "d": WILLING}), record(Policy.QUORUM, "a", "b", "c"))) is False


def test_one_that_has_lost_its_record_tries() -> None:
    assert asyncio.run(canvass("a", Peers({"b": AWAY}), None)) is True


def test_a_leader_is_heard_of_for_a_while() -> None:
    detector = Detector(0.0)
    assert not detector.hears(0.0)
    for number in range(10):
        detector.heard("b", number * 0.4)
    assert detector.hears(3.6 + detector.patience_s / 2) and not detector.hears(3.7 + detector.patience_s / 2)
    detector.excuse(3.7)
    assert not detector.hears(3.7)
