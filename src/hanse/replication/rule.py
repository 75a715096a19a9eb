"""A group's rule: its members, and how many followers have a commit before it is acknowledged; and what follows from it.

With n members, of which k followers are waited for, a commit is on k + 1 of them, and four numbers follow:

- *recruits with data* ≥ n - k: every set of k + 1 members has one of them in it, so that no acknowledged commit is missed. Also
  ≥ n - majority + 1, so that a majority is enough to find a rule by (`async`, k = 0, promises nothing else);
- *recruits* ≥ majority, with or without data: of two failovers for the same term one does not get them;
- *record copies* = n - recruits with data + 1: a rule that is on so many members is found by every later failover;
- *holders* = n - recruits + 1: a lease from so many members is noticed by every later failover.

=== ======= ================= ============= ======= ================= ============= ======= ================= =============
 n  async:  recruits (data)   copies, lease quorum: recruits (data)   copies, lease all: k  recruits (data)   copies, lease
    k                                       k
=== ======= ================= ============= ======= ================= ============= ======= ================= =============
 1   0       1 (1)             1, 1          0       1 (1)             1, 1          0       1 (1)             1, 1
 2   0       2 (1)             2, 1          1       2 (1)             2, 1          1       2 (1)             2, 1
 3   0       2 (2)             2, 2          1       2 (2)             2, 2          2       2 (2)             2, 2
 4   0       3 (2)             3, 2          2       3 (2)             3, 2          3       3 (2)             3, 2
 5   0       3 (3)             3, 3          2       3 (3)             3, 3          4       3 (3)             3, 3
 6   0       4 (3)             4, 3          3       4 (3)             4, 3          5       4 (3)             4, 3
 7   0       4 (4)             4, 4          3       4 (4)             4, 4          6       4 (4)             4, 4
=== ======= ================= ============= ======= ================= ============= ======= ================= =============

With fewer followers waited for than the policies say, more recruits are needed: n = 5, k = 1 takes 4, of whom 4 have data.
Two members never fail over by themselves: one of them alone cannot know whether the other still serves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from ..core.ids import quote_identifier
from ..core.limits import INSTANCES_PER_GROUP_MAX


class Policy(StrEnum):
    """What a group's commit waits for."""

    ASYNC = "async"  # nobody: a failover may lose the newest commits
    QUORUM = "quorum"  # so many followers that they are a majority together with the leader
    ALL = "all"  # every follower


@dataclass(frozen=True, slots=True)
class Rule:
    """The members by name, and k: the followers among them that a commit waits for."""

    members: frozenset[str]
    k: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= INSTANCES_PER_GROUP_MAX:
            raise ValueError(f"a group has 1 to {INSTANCES_PER_GROUP_MAX} instances, and not {self.n}")
        if not 0 <= self.k < self.n:
            raise ValueError(f"a commit cannot wait for {self.k} followers of {self.n - 1}")

    @property
    def n(self) -> int:
        return len(self.members)

    @property
    def majority(self) -> int:
        return self.n // 2 + 1

    @property
    def recruits(self) -> int:
        return max(self.majority, self.recruits_with_data)

    @property
    def recruits_with_data(self) -> int:
        enough_for_rules = self.n - self.majority + 1
        return enough_for_rules if self.k == 0 else max(self.n - self.k, enough_for_rules)

    @property
    def record_copies(self) -> int:
        return self.n - self.recruits_with_data + 1

    @property
    def holders(self) -> int:
        return self.n - self.recruits + 1

    def recruited(self, names: Collection[str], with_data: Collection[str]) -> bool:
        """Whether a failover may go on with these recruits, of whom these have data."""
        return (
            len(self.members.intersection(names)) >= self.recruits
            and len(self.members.intersection(with_data)) >= self.recruits_with_data
        )


def rule_of(policy: Policy, members: Iterable[str]) -> Rule:
    names = frozenset(members)
    n = len(names)
    return Rule(names, {Policy.ASYNC: 0, Policy.QUORUM: n // 2, Policy.ALL: n - 1}[policy])


@dataclass(frozen=True, slots=True)
class Clause:
    """`count` followers, any of `names`. As text, PostgreSQL's synchronous_standby_names (manual 20.6.2)."""

    names: frozenset[str]
    count: int

    def __post_init__(self) -> None:
        assert 0 <= self.count <= len(self.names), (self.count, self.names)

    @property
    def text(self) -> str:
        if self.count == 0:
            return ""
        names = ", ".join(quote_identifier(name) for name in sorted(self.names))
        return f"ANY {self.count} ({names})"

    def met_by(self, names: Collection[str]) -> bool:
        return len(self.names.intersection(names)) >= self.count


def _followers(rule: Rule, leader: str, copies: int) -> Clause:
    """So many of the rule's members. A leader that is about to leave the group is no member of the rule to come."""
    return Clause(rule.members - {leader}, copies - (leader in rule.members))


def commit_clause(rule: Rule, leader: str) -> Clause:
    """What an ordinary commit waits for under `leader`."""
    return _followers(rule, leader, rule.k + 1)


def holder_clause(rule: Rule, leader: str) -> Clause:
    """The followers whose word a lease takes."""
    return _followers(rule, leader, rule.holders)


def record_clause(rule: Rule, leader: str) -> Clause:
    """The followers that must have a record, or a commit, for every later failover that goes by `rule` to find it.

    More than an ordinary commit waits for where the policy is `async`; fewer where it waits for more than a majority.
    """
    return _followers(rule, leader, rule.record_copies)


def changing_clause(rule: Rule, leader: str) -> Clause:
    """What commits wait for while the group changes to `rule`: what it promises, and to be found under it."""
    return _followers(rule, leader, max(rule.k + 1, rule.record_copies))


def overlap(first: Clause, second: Clause) -> Clause:
    """A clause that meets both; of those the one that can do without most followers.

    PostgreSQL takes one list only. Of `count` names from a list L at least count - |L - names| are among the names.
    """
    lists = (first.names | second.names, first.names & second.names, first.names, second.names)
    found = [Clause(names, count) for names in lists if (count := _count(names, first, second)) <= len(names)]
    return max(found, key=lambda clause: (len(clause.names) - clause.count, -clause.count, sorted(clause.names)))


def _count(names: frozenset[str], *clauses: Clause) -> int:
    return max(each.count + len(names - each.names) if each.count else 0 for each in clauses)
