"""Failover: how a group gets its next leader. Observe, decide, act, as pure functions.

Authority lies with the instances and their pledges, not with who repairs. Any number of repairers may work at once, stop
anywhere and be started again. Each *attempt* has a term, higher than every one it has heard of, and a unique id::

    revoke      Recruit → all; an instance pledges itself to the term, a leader stops, a follower stops streaming,
                replays what it has, and reports: newest rule record in its data, end of its WAL (flushed)
    choose      of the recruits the one with the highest (term of its data, LSN), once there are enough
    propagate   Promote → that one: timeline = term, the others Heartbeat: they stream from it
    establish   the rule, as the leader's first commit, reaches its quorum; it serves when old leases have run out

Worked example, n1 leads n2 and n3 in term 4, a commit waits for one of them (k = 1). n1's machine dies. The repairer asks
for term 5; n2 reports (4, 0/5000), n3 (4, 0/4800). Two recruits are enough: whoever n1 told "committed" has it on n2 or
n3. n2 is promoted. n1 comes back, is told of term 5, and rejoins (`rejoin.py`).

**No acknowledged commit is lost.** Let x be acknowledged in term U, under a rule with k followers, so that k + 1 members
had x flushed, and let T > U be the first later term that has a leader. T's attempt had recruits that met every set of k + 1
members (`rule.py`), so one of them, r, had flushed x. It had done so *before* it reported, because a recruit of T takes
nothing from U's leader any more, and it has not lost x since (below). Within the term U of the data, WAL is one line: U had
one leader, because the recruits of two attempts for U meet, and it was promoted once. So the recruit with the highest LSN of
U's has x, and none can have data of a term between. By induction each later leader has x.
    The term of the data is that of the newest rule record, not the timeline's number. A leader V that was promoted but
wrote no record adds to its WAL what nobody can have been told of. It may then win by LSN over an instance with a longer
piece of U's WAL; but what that piece has more was not flushed by any recruit of V, so it was never acknowledged.

**What is read is not lost either.** A new leader shows everything in its WAL, acknowledged or not. It serves after its
record has reached so many that every later failover finds it, and all that it shows comes before that record. Where commits
wait for more than a majority (`all`) those are fewer: with its leader lost for good such a group serves reads, and its rule can
be changed.

**The rule itself is found.** An attempt goes by the newest record among its recruits. A record counts as established when so
many members have it that every set of recruits that satisfies the record before it has one of those. While a rule changes the
record has both rules, and an attempt that sees it needs enough recruits of each (`membership.py`): whoever still
sees only the old one needs a set that the old rule's commits, and the change, cannot have gone past.

**One leader at a time is able to commit.** With k > 0 a leader whose followers were recruited gets no quorum. With k = 0,
and for reads, it is the lease (`lease.py`).

**What counts as a recruit's data.** A clone is made beside the old data, which count until it has taken their place. A directory
that is being rewound has no data, until replay has come to where its source was then. What it had acknowledged is in the data
of that source, the leader of a term S: it counts where the data of another recruit that may lead are of term S or later, because
these have all that S began with, and it has acknowledged nothing since (until it is consistent it streams under a name that
nobody waits for). Data of one that is only being added say nothing of those that may lead. A directory that was lost pledges
itself, and counts for the majority.

**Of two members the leader may go on alone** (`membership.alone`), because no failover goes by without it as a recruit. That
recruit may have no data at the moment; so it reports the record that made it alone, which its pledge keeps, and an attempt that
goes by that record waits for its data.

What it does not do: notice that a leader is gone (the caller decides when to begin an attempt; a needless one costs a pause,
nothing else), wait for more recruits than it needs, or bring a group back that has lost too many instances: that takes a
person, who has to say that the rest is to be believed lost. `async` may lose the newest commits.

Sources: Ongaro's dissertation 3.6 for the argument by terms; "generalized consensus" of Vitess and Multigres for
revoking by rule and for the rule as the first write; tests/unit/replication simulates all of it and breaks it on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..core.limits import PROMOTION_S
from .pledge import Heartbeat, Message, Promote, Recruit
from .record import RuleRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a recruit tells, after it has stopped streaming and replayed. `record` is None without usable data.

    `alone`: of its pledge, with or without data.
    """

    name: str
    term: int
    attempt: str
    record: RuleRecord | None
    lsn: int  # the end of what it has flushed and replayed
    alone: RuleRecord | None = None
    superseded: int | None = None  # without usable data: it was being rewound to the leader of this term
    lease_left_s: float = 0.0
    lease_to: str | None = None  # None: nobody, or it does not know whom
    received_at: float = 0.0  # by the repairer's clock

    @property
    def position(self) -> tuple[int, int]:
        assert self.record is not None
        return self.record.term, self.lsn


@dataclass(frozen=True, slots=True)
class Refusal:
    """`term` is the one that the instance is pledged to."""

    name: str
    term: int


@dataclass(frozen=True, slots=True)
class Established:
    """The leader's word: its record has reached the quorum."""

    name: str
    term: int
    attempt: str


Answer = Report | Refusal | Established


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One failover. `record` is the choice, made once; an attempt that cannot go on is given up for a higher term."""

    id: str  # nobody else's, ever
    term: int
    prefer: str | None = None  # the leader, if it has as much as any other (a planned switchover)
    prefer_until: float = 0.0  # by the repairer's clock: its report is waited for
    record: RuleRecord | None = None
    wait_s: float = 0.0  # before the leader serves, since the choice
    chosen_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """The newest answers to an attempt by instance, and every instance that might be a member."""

    now: float
    answers: Mapping[str, Answer]
    contacts: frozenset[str]

    def reports(self, attempt: Attempt) -> dict[str, Report]:
        """Of the recruits."""
        return {
            name: answer
            for name, answer in sorted(self.answers.items())
            if isinstance(answer, Report) and (answer.term, answer.attempt) == (attempt.term, attempt.id)
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """The attempt as it is now, and what to send. Messages may be sent again and again."""

    attempt: Attempt
    send: tuple[tuple[str, Message], ...] = ()
    done: bool = False  # a leader is established
    lost_to: int | None = None  # somebody is pledged to this higher term: give up, try above it if need be


def decide(attempt: Attempt, seen: Observation) -> Decision:
    """The next step of an attempt."""
    higher = [answer.term for answer in seen.answers.values() if isinstance(answer, Refusal)]
    if any(isinstance(each, Established) and each.attempt == attempt.id for each in seen.answers.values()):
        return Decision(attempt, done=True)
    if attempt.record is None:
        if higher:  # also an equal one: it has pledged itself to another attempt
            return Decision(attempt, lost_to=max(higher))
        attempt = choose(attempt, seen)
    if attempt.record is None:
        recruit = Recruit(attempt.term, attempt.id)
        missing = seen.contacts - seen.reports(attempt).keys()
        return Decision(attempt, tuple((name, recruit) for name in sorted(missing)))
    if higher and max(higher) > attempt.term:
        return Decision(attempt, lost_to=max(higher))
    return Decision(attempt, _propagate(attempt, attempt.record, seen))


def choose(attempt: Attempt, seen: Observation) -> Attempt:
    """With enough recruits: the leader and the record that it is to begin with."""
    reports = seen.reports(attempt)
    with_data = {name: report for name, report in reports.items() if report.record is not None}
    newest = newest_record(reports)
    if newest is None:
        return attempt
    eligible = {name: report for name, report in with_data.items() if name in newest.members}
    term = max((report.position[0] for report in eligible.values()), default=0)
    if not newest.recruited(reports, accounted(reports, term)):
        return attempt
    if attempt.prefer is not None and attempt.prefer not in with_data and seen.now < attempt.prefer_until:
        return attempt
    wait_s = lease_wait_s(reports, seen.now)
    if wait_s > PROMOTION_S:  # the former leader may report meanwhile, and then nobody needs to wait
        return attempt
    leader = best(eligible, prefer=attempt.prefer)
    record = replace(newest, term=attempt.term, serial=0, leader=leader, promotion_id=attempt.id)
    return replace(attempt, record=record, wait_s=wait_s, chosen_at=seen.now)


def accounted(reports: Mapping[str, Report], term: int) -> set[str]:
    """The recruits that have data, or have lost none that the data of `term` do not hold."""
    return {
        name
        for name, report in reports.items()
        if report.record is not None or (report.superseded is not None and report.superseded <= term)
    }


def newest_record(reports: Mapping[str, Report]) -> RuleRecord | None:
    found = (record for report in reports.values() for record in (report.record, report.alone))
    records = [record for record in found if record is not None]
    return max(records, key=lambda record: record.order, default=None)


def best(reports: Mapping[str, Report], *, prefer: str | None) -> str:
    """By (term of the data, LSN). Among equals the preferred one, else the first by name."""
    highest = max(report.position for report in reports.values())
    equals = sorted(name for name, report in reports.items() if report.position == highest)
    return prefer if prefer in equals else equals[0]


def lease_wait_s(reports: Mapping[str, Report], now: float) -> float:
    """For how long an earlier leader may still believe in its lease. One that is a recruit itself has stopped."""
    waits = [
        report.lease_left_s - (now - report.received_at)
        for report in reports.values()
        if report.lease_to is None or report.lease_to not in reports
    ]
    return max((0.0, *waits))


def _propagate(attempt: Attempt, record: RuleRecord, seen: Observation) -> tuple[tuple[str, Message], ...]:
    left_s = max(0.0, attempt.wait_s - (seen.now - attempt.chosen_at))
    promote = Promote(attempt.term, attempt.id, record, left_s)
    follow = Heartbeat(attempt.term, attempt.id, record.leader)
    others = sorted(seen.contacts - {record.leader})
    return ((record.leader, promote), *((name, follow) for name in others))


def switchover_ready(report_lsn: int, follower_lsn: int | None, *, behind_bytes_max: int) -> bool:
    """Whether a planned switchover to a follower may begin: it streams, and is so close that the pause is short.

    The sequence: gateways hold statements; the leader's server is stopped in order, which sends its followers everything
    up to the end; an attempt that prefers the follower. If that one did not get everything another leads, and nothing is
    lost.
    """
    return follower_lsn is not None and report_lsn - follower_lsn <= behind_bytes_max
