"""Rules, clauses, pledges, leases and the way back: each by itself, exhaustively where that is possible."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from hanse.replication.failover import (
    Attempt,
    Established,
    Observation,
    Refusal,
    Report,
    choose,
    decide,
    switchover_ready,
)
from hanse.replication.lease import PROMISED_S, SERVED_S, Grants, Lease
from hanse.replication.membership import Use, Write, change, may_go_alone
from hanse.replication.pledge import Act, Heartbeat, Pledge, Promote, Recruit, judge
from hanse.replication.record import RuleRecord
from hanse.replication.rejoin import LeaderHistory, LocalData, Reign, Rejoin, rejoin
from hanse.replication.rule import Clause, Policy, Rule, holder_clause, overlap, rule_of

NAMES = tuple("abcdefg")


def every_rule() -> list[Rule]:
    return [Rule(frozenset(NAMES[:n]), k) for n in range(1, 8) for k in range(n)]


@pytest.mark.parametrize("rule", every_rule(), ids=lambda rule: f"n{rule.n}k{rule.k}")
def test_recruits_meet_everything_that_counts(rule: Rule) -> None:
    n = rule.n
    assert 2 * rule.recruits > n  # two sets of recruits meet
    assert rule.recruits_with_data + rule.record_copies > n
    assert rule.recruits + rule.holders > n
    if rule.k > 0:
        assert rule.recruits_with_data + rule.k + 1 > n
    assert rule.record_copies <= max(rule.k + 1, rule.majority), "a majority suffices to establish a rule"


def test_the_table_of_policies() -> None:
    """The one in `rule.py`."""
    seen = {
        policy: [
            (rule.k, rule.recruits, rule.recruits_with_data, rule.record_copies, rule.holders)
            for rule in (rule_of(policy, NAMES[:n]) for n in range(1, 8))
        ]
        for policy in Policy
    }
    same = [(1, 1, 1, 1), (2, 1, 2, 1), (2, 2, 2, 2), (3, 2, 3, 2), (3, 3, 3, 3), (4, 3, 4, 3), (4, 4, 4, 4)]
    assert seen[Policy.ASYNC] == [(0, *each) for each in same]
    assert seen[Policy.QUORUM] == [(k, *each) for k, each in zip((0, 1, 1, 2, 2, 3, 3), same, strict=True)]
    assert seen[Policy.ALL] == [(k, *each) for k, each in zip(range(7), same, strict=True)]


def test_a_rule_is_checked_at_birth() -> None:
    with pytest.raises(ValueError, match="1 to 7 instances"):
        rule_of(Policy.QUORUM, [])
    with pytest.raises(ValueError, match="1 to 7 instances"):
        rule_of(Policy.QUORUM, "abcdefgh")
    with pytest.raises(ValueError, match="cannot wait for 3 followers of 2"):
        Rule(frozenset("abc"), 3)


def test_a_clause_is_written_as_postgresql_reads_it() -> None:
    assert Clause(frozenset({"g1.3", "g1.2"}), 1).text == 'ANY 1 ("g1.2", "g1.3")'
    assert Clause(frozenset({"g1.2"}), 0).text == ""


def test_an_overlap_meets_both_clauses() -> None:
    """Every pair of clauses over three names of five: whatever set meets the overlap meets both."""
    sets = [frozenset(each) for size in range(4) for each in itertools.combinations("abcd", size)]
    clauses = [Clause(names, count) for names in sets for count in range(len(names) + 1)]
    worlds = [frozenset(each) for size in range(5) for each in itertools.combinations("abcd", size)]
    for one, other in itertools.product(clauses, clauses):
        both = overlap(one, other)
        for world in worlds:
            if both.met_by(world):
                assert one.met_by(world) and other.met_by(world), (one, other, both)


def test_a_change_enlarges_before_it_shrinks() -> None:
    """At every moment what commits wait for meets the rule that a failover would find, whatever the change."""
    rules = [Rule(frozenset(names), k) for names in ("ab", "abc", "abd", "abcd", "acd") for k in range(len(names))]
    for old, new in itertools.permutations(rules, 2):
        current = RuleRecord(term=3, serial=0, leader="a", promotion_id="x", rule=old)
        found, in_use = {old}, current.clause()
        for step in change(current, new):
            if isinstance(step, Use):
                in_use = step.clause
            else:
                found = set(step.record.rules) | found  # until it is established, either may be found
            for rule in found:
                needed = min(rule.k, rule.record_copies - 1)  # by failovers; a rule may have promised more
                assert set_meets(in_use, Clause(rule.members - {"a"}, needed)), (old, new, step)
            if new in found:
                assert set_meets(in_use, Clause(new.members - {"a"}, new.k)), (old, new, step)
            if isinstance(step, Write):
                found = set(step.record.rules)
        assert found == {new} and in_use.count == new.k


def set_meets(strict: Clause, loose: Clause) -> bool:
    return all(loose.met_by(each) for each in itertools.combinations(sorted(strict.names), strict.count))


# --- pledges


PLEDGE = Pledge(group="g1", term=4, attempt="r1.7", leader="b")
RECORD = RuleRecord(term=5, serial=0, leader="a", promotion_id="r2.1", rule=rule_of(Policy.QUORUM, "abc"))


def test_an_instance_goes_to_the_higher_term_and_never_back() -> None:
    assert judge("a", PLEDGE, Recruit(3, "r9.1")).act is Act.REFUSE
    assert judge("a", PLEDGE, Recruit(4, "r9.1")).act is Act.REFUSE  # one failover per term
    assert judge("a", PLEDGE, Heartbeat(3, "r1.6", "c")).act is Act.REFUSE
    verdict = judge("a", PLEDGE, Recruit(5, "r2.1"))
    assert verdict.act is Act.REPORT and (verdict.pledge.term, verdict.pledge.leader) == (5, None)
    assert judge("a", verdict.pledge, Recruit(5, "r2.1")) == verdict, "asked twice, it answers twice"
    assert judge("a", verdict.pledge, Heartbeat(4, "r1.7", "b")).act is Act.REFUSE


def test_an_instance_is_promoted_once() -> None:
    pledged = judge("a", PLEDGE, Recruit(5, "r2.1")).pledge
    assert judge("a", pledged, Promote(5, "r2.1", replace(RECORD, promotion_id="r3.1"), 0.0)).act is Act.LEAD
    assert judge("a", pledged, Promote(5, "r3.1", RECORD, 0.0)).act is Act.REFUSE  # of another failover
    led = judge("a", pledged, Promote(5, "r2.1", RECORD, 0.0))
    assert led.act is Act.LEAD and led.pledge.leader == "a"
    assert judge("a", led.pledge, Promote(5, "r2.1", RECORD, 0.0)).act is Act.NOTHING
    assert judge("a", led.pledge, Recruit(5, "r2.1")).act is Act.NOTHING


def test_a_recruit_follows_whoever_was_chosen() -> None:
    pledged = judge("c", PLEDGE, Recruit(5, "r3.1")).pledge
    verdict = judge("c", pledged, Heartbeat(5, "r2.1", "a"))  # the other attempt of this term got the majority
    assert verdict.act is Act.FOLLOW
    assert (verdict.pledge.attempt, verdict.pledge.leader) == ("r2.1", "a")
    assert judge("c", verdict.pledge, Heartbeat(5, "r2.1", "a")) == verdict
    assert judge("a", PLEDGE, Heartbeat(5, "r2.1", "a")).act is Act.NOTHING  # a leader by hearsay leads nobody


# --- failover


def report(name: str, term: int, lsn: int, **more: object) -> Report:
    record = RuleRecord(term=term, serial=0, leader="a", promotion_id="x", rule=rule_of(Policy.QUORUM, "abc"))
    return Report(name=name, term=6, attempt="r1.1", lsn=lsn, **({"record": record} | more))  # type: ignore[arg-type]


def seen(*answers: Report | Refusal | Established, now: float = 0.0) -> Observation:
    return Observation(now, {answer.name: answer for answer in answers}, frozenset("abc"))


ATTEMPT = Attempt(id="r1.1", term=6)


def test_one_recruit_of_three_is_too_few() -> None:
    decision = decide(ATTEMPT, seen(report("b", 4, 10)))
    assert decision.attempt.record is None
    assert decision.send == (("a", Recruit(6, "r1.1")), ("c", Recruit(6, "r1.1")))


def test_the_later_term_wins_over_the_longer_log() -> None:
    record = decide(ATTEMPT, seen(report("b", 4, 90), report("c", 5, 10))).attempt.record
    assert record is not None and (record.leader, record.term, record.promotion_id) == ("c", 6, "r1.1")


def test_the_choice_is_made_once() -> None:
    first = decide(ATTEMPT, seen(report("b", 4, 10), report("c", 4, 20)))
    later = decide(first.attempt, seen(report("a", 4, 90), report("b", 4, 10), report("c", 4, 20)))
    assert later.attempt == first.attempt
    assert [(name, type(message)) for name, message in later.send] == [
        ("c", Promote),
        ("a", Heartbeat),
        ("b", Heartbeat),
    ]


def test_a_planned_switchover_prefers_among_equals_only() -> None:
    wish = replace(ATTEMPT, prefer="c")
    equal = choose(wish, seen(report("b", 4, 20), report("c", 4, 20))).record
    behind = choose(wish, seen(report("b", 4, 21), report("c", 4, 20))).record
    assert equal is not None and equal.leader == "c"
    assert behind is not None and behind.leader == "b"
    assert switchover_ready(100, 90, behind_bytes_max=16)
    assert not switchover_ready(100, 80, behind_bytes_max=16)
    assert not switchover_ready(100, None, behind_bytes_max=16)


def test_a_directory_that_was_being_rewound_counts_where_its_source_is_known() -> None:
    rewound = report("b", 4, 0, record=None, superseded=5)
    assert choose(ATTEMPT, seen(rewound, report("c", 4, 20))).record is None
    record = choose(ATTEMPT, seen(rewound, report("c", 5, 20))).record
    assert record is not None and record.leader == "c"
    joiner = report("d", 5, 20)  # has the source's data, and may not lead
    assert choose(ATTEMPT, seen(rewound, report("c", 4, 20), joiner)).record is None


def test_old_leases_are_waited_for_unless_their_leader_has_stopped() -> None:
    b = report("b", 4, 20, lease_left_s=1.5, lease_to="a", received_at=10.0)
    c = report("c", 4, 10, lease_left_s=0.5, lease_to="a", received_at=10.0)
    assert choose(ATTEMPT, seen(b, c, now=10.25)).record is None, "the former leader may report meanwhile"
    assert choose(ATTEMPT, seen(b, c, now=11.25)).wait_s == pytest.approx(0.25), "a promotion takes that long anyhow"
    assert choose(ATTEMPT, seen(b, c, report("a", 4, 30), now=10.25)).wait_s == 0.0
    unknown = replace(c, lease_to=None)
    assert choose(ATTEMPT, seen(b, unknown, report("a", 4, 30), now=10.25)).wait_s == pytest.approx(0.25)


def test_an_attempt_gives_way_and_ends() -> None:
    assert decide(ATTEMPT, seen(Refusal("a", 9), report("b", 4, 1), report("c", 4, 1))).lost_to == 9
    assert decide(ATTEMPT, seen(Refusal("a", 6))).lost_to == 6
    chosen = decide(ATTEMPT, seen(report("b", 4, 1), report("c", 4, 1))).attempt
    assert decide(chosen, seen(Refusal("a", 6))).lost_to is None
    assert decide(chosen, seen(Refusal("a", 7))).lost_to == 7
    assert decide(chosen, seen(Established("b", 6, "r1.1"))).done


def test_a_change_under_way_needs_recruits_of_both_rules() -> None:
    both = RuleRecord(
        term=4,
        serial=1,
        leader="a",
        promotion_id="x",
        rule=Rule(frozenset("abc"), 1),
        previous=Rule(frozenset("ade"), 1),
    )
    assert not both.recruited("bc", "bc")
    assert both.recruited("bcd" + "e", "bcde")
    assert both.establishing() == Clause(frozenset("bcde"), 3), "one of b, c and one of d, e"


# --- leases


def test_a_lease_counts_from_the_question_and_takes_enough_followers() -> None:
    lease, clauses = Lease(), (holder_clause(rule_of(Policy.QUORUM, "abcde"), "a"),)
    lease.renewed("b", 10.0)
    assert not lease.covers(10.1, clauses)
    lease.renewed("c", 11.0)
    lease.renewed("c", 9.0)  # an answer that was late
    assert lease.until(clauses) == 10.0 + SERVED_S
    assert lease.covers(10.1, clauses) and not lease.covers(10.0 + SERVED_S, clauses)
    assert Lease().until((holder_clause(rule_of(Policy.ALL, "ab"), "a"),)) == math.inf


def test_a_promise_outlives_its_leader_and_a_restart() -> None:
    grants = Grants.after_start(100.0)
    assert grants.left_s(101.0) == pytest.approx(PROMISED_S - 1.0) and grants.to(101.0) is None
    grants.grant("a", 101.0)
    assert grants.to(101.5) is None, "before its start it may have promised to somebody else"
    grants.grant("a", 102.0)
    assert grants.to(102.5) == "a"
    grants.grant("b", 103.0)
    assert grants.to(103.5) is None and grants.left_s(103.5) == pytest.approx(PROMISED_S - 0.5)
    assert grants.to(104.5) == "b"
    assert grants.left_s(120.0) == 0.0


# --- rejoin


HISTORY = LeaderHistory(system_identifier=1, reigns=(Reign(1, "founding", 100), Reign(3, "p3", 250), Reign(5, "p5")))
LOCAL = LocalData(system_identifier=1, marked=False, timeline=3, promotion_id="p3", lsn=200)


@pytest.mark.parametrize(
    ("local", "way"),
    [
        (LOCAL, Rejoin.STREAM),
        (replace(LOCAL, lsn=250), Rejoin.STREAM),
        (replace(LOCAL, lsn=251), Rejoin.REWIND),  # a follower that was ahead of the fork
        (replace(LOCAL, timeline=4, promotion_id="p4"), Rejoin.REWIND),  # a leader that nobody followed
        (replace(LOCAL, timeline=4, promotion_id=None), Rejoin.REWIND),
        (replace(LOCAL, promotion_id="other"), Rejoin.CLONE),  # two promotions share a number
        (replace(LOCAL, promotion_id=None), Rejoin.CLONE),
        (replace(LOCAL, promotion_id=None, lsn=100), Rejoin.STREAM),
        (replace(LOCAL, timeline=5, promotion_id="p5", lsn=900), Rejoin.STREAM),
        (replace(LOCAL, marked=True), Rejoin.CLONE),
        (replace(LOCAL, system_identifier=2), Rejoin.CLONE),
        (None, Rejoin.CLONE),
    ],
)
def test_the_way_back(local: LocalData | None, way: Rejoin) -> None:
    assert rejoin(local, HISTORY) is way


@pytest.mark.parametrize(
    ("members", "before", "wanted", "may"),
    [
        ("ab", None, "a", True),
        ("ab", None, "b", False),
        ("abc", None, "a", False),
        ("ab", "abc", "a", False),  # b and c may know of the rule before only, and go by it without a
        ("a", "ab", "a", True),  # a change that waits for b
        ("abc", "ab", "a", True),
        ("a", None, "a", False),
    ],
)
def test_a_leader_goes_on_alone_where_no_failover_goes_without_it(
    members: str, before: str | None, wanted: str, may: bool
) -> None:
    def rule(names: str) -> Rule:
        return rule_of(Policy.QUORUM, names)

    previous = None if before is None else rule(before)
    record = RuleRecord(term=1, serial=0, leader="a", promotion_id="x", rule=rule(members), previous=previous)
    assert may_go_alone(record, rule(wanted)) is may


def test_what_made_an_instance_alone_outlives_its_pledges() -> None:
    record = RuleRecord(term=1, serial=1, leader="a", promotion_id="x", rule=Rule(frozenset("a"), 0))
    pledge = Pledge(group="g1", term=1, attempt="x", leader="a", alone=record)
    recruited = judge("a", pledge, Recruit(2, "y")).pledge
    assert (recruited.term, recruited.leader, recruited.alone) == (2, None, record)
    assert judge("a", recruited, Heartbeat(3, "z", "b")).pledge.alone == record
