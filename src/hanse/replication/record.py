"""The rule in a group's own data: row by row who led it under which rule.

Each leader's first commit is a record, and so is each change of the rule. Records travel with the WAL, so whoever has a
record has everything that was written before it; and the newest record of an instance is the term of its data.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .rule import Clause, Rule, changing_clause, commit_clause, holder_clause, overlap, record_clause


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRecord:
    """`previous` is set while the rule changes: then both rules count."""

    term: int
    serial: int  # within the term, from 0
    leader: str
    promotion_id: str  # no two promotions have the same
    rule: Rule
    previous: Rule | None = None

    @property
    def order(self) -> tuple[int, int]:
        return self.term, self.serial

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (self.rule,) if self.previous is None else (self.previous, self.rule)

    @property
    def members(self) -> frozenset[str]:
        return frozenset().union(*(rule.members for rule in self.rules))

    def recruited(self, names: Collection[str], with_data: Collection[str]) -> bool:
        """Whether a failover that knows of nothing newer may go on with these recruits, of whom these have data."""
        return all(rule.recruited(names, with_data) for rule in self.rules)

    def lease_clauses(self) -> tuple[Clause, ...]:
        """A lease needs renewals that meet each of them."""
        return tuple(holder_clause(rule, self.leader) for rule in self.rules)

    def clause(self) -> Clause:
        """What commits wait for while this is the newest record.

        With two rules: what a failover needs to find them under either, and what the new one promises. Nothing more of what
        the old one promised, or nobody could change a rule that waits for somebody who is lost.
        """
        if self.previous is None:
            return commit_clause(self.rule, self.leader)
        return overlap(record_clause(self.previous, self.leader), changing_clause(self.rule, self.leader))

    def establishing(self) -> Clause:
        """What this record itself waits for, so that every later failover finds it, or a newer one."""
        clauses = [record_clause(rule, self.leader) for rule in self.rules]
        return clauses[0] if len(clauses) == 1 else overlap(*clauses)
