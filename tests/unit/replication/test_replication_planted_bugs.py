"""The simulation's judgement notices when a part of the protocol is missing.

A bug that is found rarely has a first seed near one that finds it; it is looked for from there on. When the world's events
change, other seeds find it: raise SEEDS_MAX for once, and note the new seed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import replace

import pytest

from hanse.replication import failover, membership
from hanse.replication.failover import Report
from hanse.replication.record import RuleRecord
from hanse.replication.rule import Clause, Policy, Rule, changing_clause, commit_clause
from support.replication_world import Faults, World

SEEDS_MAX = 400
NO_FAULTS = Faults()


def found(
    first: int,
    words: str,
    faults: Faults = NO_FAULTS,
    run: Callable[[World], None] = World.run,
    shape: tuple[int, int] | None = None,
    policy: Policy = Policy.QUORUM,
) -> None:
    for seed in range(first, first + SEEDS_MAX):
        world = World(seed, faults, shape=shape, policy=policy)
        try:
            run(world)
        except AssertionError as error:
            if words in str(error):
                return
    raise AssertionError("the simulation does not notice")


LOST, SHOWN, TWO = "acknowledged commits", "that were shown", "serves while term"


@pytest.mark.parametrize(
    ("fault", "first", "words"),
    [
        ("serves_unestablished", 710, SHOWN),
        ("ignores_lease", 0, TWO),
    ],
)
def test_what_instances_do_is_needed(fault: str, first: int, words: str) -> None:
    found(first, words, Faults(**{fault: True}))


def test_a_stream_ends_before_the_report() -> None:
    found(0, "commit", Faults(reports_before_fence=True), run=World.lag, shape=(3, 0))


def test_enough_recruits_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_few(rule: Rule, names: Collection[str], with_data: Collection[str]) -> bool:
        pledged, data = rule.members.intersection(names), rule.members.intersection(with_data)
        return len(pledged) >= max(1, rule.recruits - 1) and len(data) >= max(1, rule.recruits_with_data - 1)

    monkeypatch.setattr(Rule, "recruited", too_few)
    found(0, LOST)


def test_the_term_goes_before_the_lsn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Report, "position", property(lambda report: (0, report.lsn)))
    found(0, "commits", run=World.rival)


def test_old_leases_have_to_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(reports: Mapping[str, Report], now: float) -> float:
        return 0.0

    monkeypatch.setattr(failover, "lease_wait_s", at_once)
    found(0, TWO, run=World.rival)


def test_who_goes_on_alone_has_to_pledge_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsaid(current: RuleRecord, rule: Rule) -> Generator[membership.Step, None, None]:
        yield membership.Use(membership.NOBODY)
        record = replace(current, serial=current.serial + 1, rule=rule)
        yield membership.Write(record, record)

    monkeypatch.setattr(membership, "alone", unsaid)
    found(0, LOST, run=World.loss, shape=(2, 0))


def test_a_change_needs_both_rules_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(current: RuleRecord, rule: Rule) -> Generator[membership.Step, None, None]:
        yield membership.Use(commit_clause(rule, current.leader))
        record = replace(current, serial=current.serial + 1, rule=rule)
        yield membership.Write(record, record)

    monkeypatch.setattr(membership, "change", at_once)
    found(0, "commit", run=World.growth, shape=(3, 2))


def test_a_change_needs_what_failovers_by_the_old_rule_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `all` it needs no more, and no less."""

    def forgetful(record: RuleRecord) -> Clause:
        return changing_clause(record.rule, record.leader)

    monkeypatch.setattr(RuleRecord, "clause", forgetful)
    monkeypatch.setattr(RuleRecord, "establishing", forgetful)
    found(0, "commit", run=World.retreat, shape=(5, 0), policy=Policy.ALL)
