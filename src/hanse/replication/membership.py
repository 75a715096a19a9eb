"""A change of the rule under a leader that serves: members added and removed, another policy.

PostgreSQL has no transactional switch of synchronous_standby_names, so the order of the steps is what makes it safe::

    1 use the overlap of both rules' clauses; wait until every walsender does     commits: old and new
    2 write a record with both rules, which waits for the overlap                 failovers: old and new
    3 write the record with the new rule alone, which waits for the overlap       failovers: new
    4 use the new rule's clause                                                   commits: new

Enlarge before shrinking: at each moment what commits wait for meets every rule that a failover might go by. If the
leader is lost before step 2 is done, a failover may see the old record (nothing has changed) or the one with both; a
leader that begins with both finishes the change before it serves (`finish`).

Why each walsender: each of them reads the setting by itself, at its own time, and lets waiting commits go by what it has
read. A new member streams before step 1, or the overlap might wait for its base backup.

Where the old rule cannot be satisfied any more (`all`, with a follower that is lost for good) these steps wait for ever.
Then the change is made by a failover (`Attempt.wanted`): nothing commits while it is under way, so the old rule need only
be revoked, by its recruits, and not be met.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from .record import RuleRecord
from .rule import Clause, Rule, commit_clause, establishing_clause, overlap


@dataclass(frozen=True, slots=True)
class Use:
    """Set synchronous_standby_names. Answered when every walsender goes by it."""

    clause: Clause


@dataclass(frozen=True, slots=True)
class Write:
    """Commit a record. Answered when so many followers as the clause in use says have flushed it."""

    record: RuleRecord


Step = Use | Write


def change(current: RuleRecord, rule: Rule) -> Generator[Step, None, None]:
    """From the leader's established record to a new rule, of which the leader is a member. One change at a time."""
    assert current.previous is None and current.leader in rule.members
    leader = current.leader
    yield Use(overlap(establishing_clause(current.rule, leader), establishing_clause(rule, leader)))
    both = replace(current, serial=current.serial + 1, rule=rule, previous=current.rule)
    yield Write(both)
    yield from finish(both)


def finish(both: RuleRecord) -> Generator[Step, None, None]:
    """The rest, from the moment at which the record with both rules is established."""
    assert both.previous is not None
    yield Write(replace(both, serial=both.serial + 1, previous=None))
    yield Use(commit_clause(both.rule, both.leader))
