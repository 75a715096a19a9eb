"""Leases: how a leader knows that no other leader serves.

The leader asks its followers to renew, at the moment `sent_at` of its own clock. One that is pledged to it answers, and
has promised with that to report to a later failover for how long it must wait (`Grants.left_s`). So many renewals are
needed that every failover's recruits have one of those among them (`rule.holder_clause`). Hence, with LEASE_S = 2 s::

    leader    sent_at = 10.0 ────────────────────── serves until 11.96
    follower        granted at 10.1, by its own clock ── promised until 12.14
    failover              recruits the follower at 11.0: "1.14 s left" → the next leader serves after 12.14

Clocks are monotonic ones; only their rates are compared, and may be wrong by CLOCK_DRIFT_MAX.

When its lease has run out, a leader's agent stops the server. It may come too late for that, because it does not run
itself; so a gateway uses a result only if the lease covers the moment at which the result arrived. Where no follower
is needed (one instance; two, which never fail over) a lease lasts for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..core.limits import CLOCK_DRIFT_MAX, LEASE_S
from .rule import Clause

SERVED_S = LEASE_S * (1 - CLOCK_DRIFT_MAX)  # after sent_at, on the leader's clock
PROMISED_S = LEASE_S * (1 + CLOCK_DRIFT_MAX)  # after the grant, on the follower's


@dataclass(slots=True)
class Lease:
    """The leader's side: for each follower when the last request that it renewed was sent."""

    renewals: dict[str, float] = field(default_factory=dict)

    def renewed(self, follower: str, sent_at: float) -> None:
        self.renewals[follower] = max(sent_at, self.renewals.get(follower, -math.inf))

    def until(self, clauses: tuple[Clause, ...]) -> float:
        """When it runs out, with renewals that meet every clause."""
        return min(self._until(clause) for clause in clauses)

    def _until(self, clause: Clause) -> float:
        if clause.count == 0:
            return math.inf
        sent = sorted((self.renewals.get(name, -math.inf) for name in clause.names), reverse=True)
        return sent[clause.count - 1] + SERVED_S

    def covers(self, moment: float, clauses: tuple[Clause, ...]) -> bool:
        return moment < self.until(clauses)


@dataclass(slots=True)
class Grants:
    """A follower's side. Promises are not on disk: who has just started counts as having promised at that moment."""

    others_until: float  # promises to earlier leaders, or to nobody knows whom
    leader: str | None = None
    until: float = -math.inf  # the promise to `leader`

    @classmethod
    def after_start(cls, now: float) -> Grants:
        return cls(now + PROMISED_S)

    def grant(self, leader: str, now: float) -> None:
        if leader != self.leader:
            self.others_until = max(self.others_until, self.until)
            self.leader = leader
        self.until = now + PROMISED_S

    def left_s(self, now: float) -> float:
        """For how long, by its own clock, somebody may still believe in its promise."""
        return max(0.0, self.until - now, self.others_until - now)

    def to(self, now: float) -> str | None:
        """The only one who may; None: there may be several, or none."""
        return self.leader if now >= self.others_until else None
