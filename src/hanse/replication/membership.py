"""A change of the rule under a leader that serves: members added and removed, another policy.

PostgreSQL has no transactional switch of synchronous_standby_names, so the order of the steps is what makes it safe::

    1 use the overlap of both rules' clauses; wait until every walsender does     commits: old and new
    2 write a record with both rules, which waits to be found under either        failovers: old and new
    3 write the record with the new rule alone, which waits for the same          failovers: new
    4 use the new rule's clause                                                   commits: new

Enlarge before shrinking: at each moment what commits wait for meets every rule that a failover might go by. The overlap takes of
the old rule what its failovers need, `record_clause`, and not what it promised beyond that. For `all` that is less: no
failover by it needs more than a majority, so a majority decides the change, whoever else is lost for good. If the
leader is lost before step 2 is done, a failover may see the old record (nothing has changed) or the one with both; a
leader that begins with both finishes the change before it serves (`finish`).

Why each walsender: each of them reads the setting by itself, at its own time, and lets waiting commits go by what it has
read. A new member streams before step 1, or the overlap might wait for its base backup.

Worked example: m1 leads m2 and m3 under `all`, m3's machine burns, and every commit waits. A failover by this rule needs two
recruits with data of the three. The group is to be m1 and m2: from step 1 commits wait for m2, those that waited for m3 too;
whatever two of the three a failover finds, m1 or m2 is one of them, and has them. m2 has the records, and m3, if it comes
back, is no member.

Of two members no failover goes by without either, so the leader can become the only one without the other, which may be lost for
good (`alone`). That one still has the old rule, and would be chosen with the leader as a recruit whose server has just ended, and
which therefore reports no data. So the leader first adds the new record to its pledge, and tells it with every report from then
on: whoever hears of it waits for the leader's data.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from .record import RuleRecord
from .rule import Clause, Rule, commit_clause


@dataclass(frozen=True, slots=True)
class Use:
    """Set synchronous_standby_names. Answered when every walsender goes by it."""

    clause: Clause


@dataclass(frozen=True, slots=True)
class Write:
    """Commit a record. Answered when so many followers as `RuleRecord.establishing` of `found_by` says have flushed it."""

    record: RuleRecord
    found_by: RuleRecord  # with the rules that a failover may go by until then


@dataclass(frozen=True, slots=True)
class Keep:
    """Add a record to the leader's pledge. Answered when that is durable."""

    record: RuleRecord


Step = Use | Write | Keep
NOBODY = Clause(frozenset(), 0)


def change(current: RuleRecord, rule: Rule) -> Generator[Step, None, None]:
    """From the leader's established record to a new rule, of which the leader is a member. One change at a time."""
    assert current.previous is None and current.leader in rule.members
    both = replace(current, serial=current.serial + 1, rule=rule, previous=current.rule)
    yield Use(both.clause())
    yield Write(both, both)
    yield from finish(both)


def may_go_alone(current: RuleRecord, rule: Rule) -> bool:
    """Whether the leader can change to `rule` without asking anybody: it stays alone, and no failover goes by without it.

    While a change is under way the others may know of the rule before it only.
    """
    known = current.rules[0]
    needed = current.leader in known.members and known.recruits == known.n
    return rule.members == {current.leader} != known.members and needed


def alone(current: RuleRecord, rule: Rule) -> Generator[Step, None, None]:
    """Where `may_go_alone`; also from a change that cannot be finished."""
    record = replace(current, serial=current.serial + 1, rule=rule, previous=None)
    yield Keep(record)
    yield Use(NOBODY)
    yield Write(record, record)


def finish(both: RuleRecord) -> Generator[Step, None, None]:
    """The rest, from the moment at which the record with both rules is established."""
    assert both.previous is not None
    yield Write(replace(both, serial=both.serial + 1, previous=None), both)
    yield Use(commit_clause(both.rule, both.leader))
