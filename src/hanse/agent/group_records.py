"""A rule record as a row of hanse.leadership, and back: where the decisions and PostgreSQL meet."""

from __future__ import annotations

from ..engines.postgres.promotion import Branch
from ..engines.postgres.streaming import Leadership
from ..replication.record import RuleRecord
from ..replication.rejoin import Reign
from ..replication.rule import Rule


def row_of(record: RuleRecord) -> Leadership:
    previous = record.previous
    return Leadership(
        term=record.term,
        serial=record.serial,
        leader=record.leader,
        promotion_id=record.promotion_id,
        members=tuple(sorted(record.rule.members)),
        k=record.rule.k,
        previous_members=None if previous is None else tuple(sorted(previous.members)),
        previous_k=None if previous is None else previous.k,
    )


def record_of(row: Leadership) -> RuleRecord:
    previous = None
    if row.previous_members is not None and row.previous_k is not None:
        previous = Rule(frozenset(row.previous_members), row.previous_k)
    return RuleRecord(
        term=row.term,
        serial=row.serial,
        leader=row.leader,
        promotion_id=row.promotion_id,
        rule=Rule(frozenset(row.members), row.k),
        previous=previous,
    )


def reigns(branches: tuple[Branch, ...], promotions: dict[int, str]) -> tuple[Reign, ...]:
    """A leader's history with the promotions that its data tell of."""
    return tuple(Reign(each.timeline, promotions.get(each.timeline), each.end_lsn) for each in branches)
