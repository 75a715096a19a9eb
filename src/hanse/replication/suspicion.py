"""When a follower suspects its leader: a phi-accrual detector over heartbeats (Hayashibara and others, 2004), without I/O.

phi is how sure one can be that no heartbeat comes any more, as a power of ten: at 8, a heartbeat that is only late would be
so late once in 10⁸. It follows from the intervals at which heartbeats came, taken for normally distributed::

    intervals 0.40, 0.41, 0.39 …    mean 0.40, deviation at least 0.1      suspected after 0.40 + 5.6 · 0.1 = 0.96 s
    intervals 0.40, 0.90, 0.55 …    mean 0.62, deviation 0.25              suspected after 2.03 s

So on a machine that is busy a follower is more patient. The silence is never taken for an end before SUSPICION_S_MIN, because a
failover stops a leader that lives, and always after SUSPICION_S_MAX. Followers suspect one after another, SUSPICION_STAGGER_S
apart, so that one of them begins.

A follower that was itself stopped for a while cannot tell silence from that: it starts anew (`excuse`).
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

from ..core.limits import (
    LEASE_S,
    SUSPICION_DEVIATION_S_MIN,
    SUSPICION_HEARTBEATS,
    SUSPICION_PHI,
    SUSPICION_S_MAX,
    SUSPICION_S_MIN,
    SUSPICION_STAGGER_S,
)

DEVIATIONS = statistics.NormalDist().inv_cdf(1 - 10**-SUSPICION_PHI)
SUSPICION_S = LEASE_S  # while too few heartbeats have come
INTERVALS_MIN = 5


@dataclass(slots=True)
class Detector:
    """`since`: what silence is counted from, by the clock of all calls. `unknown_s` is borne while few intervals are known."""

    since: float
    least_s: float = SUSPICION_S_MIN
    unknown_s: float = SUSPICION_S
    _leader: str | None = None
    _intervals: deque[float] = field(default_factory=lambda: deque(maxlen=SUSPICION_HEARTBEATS))
    _patience_s: float | None = None  # by these intervals; it is asked for much more often than heartbeats come

    def heard(self, leader: str, now: float) -> None:
        """A heartbeat."""
        if leader != self._leader:
            self._leader = leader
            self._intervals.clear()
        elif now - self.since <= SUSPICION_S_MAX:
            self._intervals.append(now - self.since)
        self._patience_s = None
        self.since = now

    def excuse(self, now: float) -> None:
        """Something else that makes silence begin anew: a failover is under way, or nobody has listened."""
        self._leader = None
        self.since = max(self.since, now)

    @property
    def patience_s(self) -> float:
        """The silence at which phi comes to SUSPICION_PHI."""
        if self._patience_s is None:
            self._patience_s = self._computed_s()
        return self._patience_s

    def _computed_s(self) -> float:
        if len(self._intervals) < INTERVALS_MIN:
            return self.unknown_s
        mean = statistics.fmean(self._intervals)
        deviation = max(statistics.pstdev(self._intervals, mean), SUSPICION_DEVIATION_S_MIN)
        return min(max(mean + DEVIATIONS * deviation, self.least_s), SUSPICION_S_MAX)

    def hears(self, now: float) -> bool:
        """The silence is no reason to suspect anybody yet, by far."""
        return self._leader is not None and now - self.since <= self.patience_s / 2

    def suspects(self, now: float, place: int) -> bool:
        """`place`: among those who might suspect, from 0."""
        return now - self.since > self.patience_s + place * SUSPICION_STAGGER_S
