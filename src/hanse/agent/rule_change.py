"""A leader brings its group's rule to what is wanted: `replication/membership.py`, carried out on its server.

Cut off anywhere, the newest record in the data says how far it came, and the next call, of this leader or of another, goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from ..core.limits import JOIN_BEHIND_BYTES_MAX
from ..engines.postgres.promotion import establish, write_record
from ..engines.postgres.streaming import Member
from ..replication.membership import Keep, Use, alone, change, finish, may_go_alone
from ..replication.record import RuleRecord
from ..replication.rule import Policy, Rule, rule_of
from .group_records import record_of, row_of

log = logging.getLogger(__name__)


async def next_rule(leader: Member, rule: Rule, own: str, wanted: frozenset[str], policy: Policy) -> Rule:
    """The next step from `rule`: first who is to come, as soon as they stream and lack little, then who is to go.

    The leader itself does not go; another has to lead before.
    """
    coming, going = wanted - rule.members, rule.members - wanted - {own}
    if not coming:
        return rule_of(policy, rule.members - going)
    near = {
        each.name
        for each in await leader.followers()
        if each.state == "streaming" and each.lag_bytes <= JOIN_BEHIND_BYTES_MAX
    }
    return rule_of(policy, rule.members | (coming & near))


async def change_rule(
    leader: Member,
    target: Rule,
    go_by: Callable[[RuleRecord], None],
    keep: Callable[[RuleRecord], Awaitable[None]],
) -> None:
    """`go_by` is told of each record that the leader is to go by from then on: its lease has to meet it. `keep`: in its pledge."""
    data = await leader.data()
    assert data.row is not None
    record = record_of(data.row)
    go_by(record)
    if may_go_alone(record, target):
        steps = alone(record, target)
    elif record.previous is not None:
        await leader.require(record.clause().text)
        clause = record.establishing()
        await establish(leader, data.lsn, clause.names, clause.count)
        steps = finish(record)
    elif record.rule != target:
        steps = change(record, target)
    else:
        return
    for step in steps:
        if isinstance(step, Keep):
            await keep(step.record)
            continue
        if isinstance(step, Use):
            await leader.require(step.clause.text)
            continue
        if step.record.previous is not None:
            go_by(step.record)
        lsn = await write_record(leader, row_of(step.record))
        clause = step.found_by.establishing()
        await establish(leader, lsn, clause.names, clause.count)
        go_by(step.record)
        record = step.record
    rule = record.rule
    log.info("the group's rule: %s; a commit waits for %d followers", ", ".join(sorted(rule.members)), rule.k)


class Progress:
    """Of a copy, into the log: at each tenth."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tenths = 0

    def see(self, done_bytes: int, total_bytes: int) -> None:
        tenths = 10 * done_bytes // max(1, total_bytes)
        if tenths > self._tenths:
            self._tenths = tenths
            log.info("%s is copied: %d of %d MiB", self._name, done_bytes >> 20, total_bytes >> 20)
