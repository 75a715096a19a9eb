"""What an instance has pledged: to which term, to which failover in it, to which leader. And how it answers.

An instance belongs to the highest term it has heard of, and never goes back: it streams from that term's leader only,
renews that leader's lease only, and gives itself to one failover per term. Its agent keeps the pledge in a file; what
`judge` returns is to be on disk *before* anything of it is done or answered.

=========== ========================================= ==========================================================
message     from                                      asks the instance
=========== ========================================= ==========================================================
`Recruit`   a failover                                to stop leading and streaming, and to tell what it has
`Promote`   the same failover, to one of its recruits to lead
`Heartbeat` the leader; the failover for its leader   to follow, and to renew the leader's lease
=========== ========================================= ==========================================================

Messages may be lost, come late, twice, or in another order. A leader is promoted once per term: one that has been
told to, and crashed, does not know how far it came, and a second promotion would make other data under the same timeline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from .record import RuleRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Pledge:
    """`record` is the rule that the leader begins with, as far as it was told.

    `alone`: the record by which the instance became the only member, which nobody else need have (`membership.alone`).
    """

    group: str
    term: int
    attempt: str  # the failover, which is unique; its id becomes the promotion's
    leader: str | None = None  # None: not chosen yet, or not heard of
    record: RuleRecord | None = None
    alone: RuleRecord | None = None


@dataclass(frozen=True, slots=True)
class Recruit:
    term: int
    attempt: str


@dataclass(frozen=True, slots=True)
class Promote:
    """`wait_s`: from now on, before anybody is served; leases of earlier leaders may last so long."""

    term: int
    attempt: str
    record: RuleRecord
    wait_s: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`sent_at` is the sender's clock, and comes back with the answer. None: this is no request for a lease."""

    term: int
    attempt: str
    leader: str
    sent_at: float | None = None


Message = Recruit | Promote | Heartbeat


class Act(Enum):
    REFUSE = "refuse"  # it belongs to a higher term, which is told, or to another failover
    REPORT = "report"  # stop leading and streaming if it does, then report
    LEAD = "lead"
    FOLLOW = "follow"  # stop leading or another stream if need be; then stream from the leader, and renew
    NOTHING = "nothing"  # it was told before


@dataclass(frozen=True, slots=True)
class Verdict:
    pledge: Pledge  # to be durable first, where it has changed
    act: Act


def judge(own: str, pledge: Pledge, message: Message) -> Verdict:
    """What the instance `own` does about a message, by its pledge."""
    if message.term < pledge.term:
        return Verdict(pledge, Act.REFUSE)
    if isinstance(message, Recruit):
        return _recruit(pledge, message)
    if isinstance(message, Promote):
        return _promote(own, pledge, message)
    return _follow(own, pledge, message)


def _recruit(pledge: Pledge, message: Recruit) -> Verdict:
    if message.term > pledge.term:
        fresh = replace(pledge, term=message.term, attempt=message.attempt, leader=None, record=None)
        return Verdict(fresh, Act.REPORT)
    if message.attempt != pledge.attempt:
        return Verdict(pledge, Act.REFUSE)
    return Verdict(pledge, Act.REPORT if pledge.leader is None else Act.NOTHING)


def _promote(own: str, pledge: Pledge, message: Promote) -> Verdict:
    assert message.record.leader == own and message.record.term == message.term
    if (pledge.term, pledge.attempt) != (message.term, message.attempt):
        return Verdict(pledge, Act.REFUSE)
    if pledge.leader is not None:
        return Verdict(pledge, Act.NOTHING)
    return Verdict(replace(pledge, leader=own, record=message.record), Act.LEAD)


def _follow(own: str, pledge: Pledge, message: Heartbeat) -> Verdict:
    if (
        message.leader == own
    ):  # of itself it hears only by promotion; it may have lost the pledge that it was chosen with
        return Verdict(pledge, Act.NOTHING)
    if message.term == pledge.term and pledge.leader is not None:
        assert pledge.leader == message.leader, "a term has one leader"
        return Verdict(pledge, Act.FOLLOW)
    # Of two failovers in one term only one can have chosen: if this is the other's recruit, that one has failed.
    return Verdict(
        replace(pledge, term=message.term, attempt=message.attempt, leader=message.leader, record=None), Act.FOLLOW
    )
