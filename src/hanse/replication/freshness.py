"""How old is what a follower shows? Evidence that a gateway collects, without I/O.

A *position* is (term of the newest rule in the data, LSN), in the order of `failover.py`: whoever has reached a position has
everything that was acknowledged, or seen at a leader, before a leader was there. So one comparison answers three questions:

    staleness       the leader was at (4, 7000) when it was asked at 10.0; the follower has replayed (4, 7100): what it shows
                    is at most as old as 10.0, by the gateway's clock
    own writes      after them the leader was at (4, 7200): not enough
    schema changes  a gateway plans on a version of the catalog, and what changed with it must be there

The last needs care: a gateway learns of a version before its groups have committed it. Their branches were prepared by then, so
their transaction ids lie below the first `next_xid` that the leader tells afterwards; once its `oldest_xid` has come to
that, they have ended, and the leader's position of that moment is the one to be reached.

A follower that was restarted may show less than before: what is known of it counts for a connection that was made before the
question, and is still there (`Known.at`).

Not seen: what a follower shows and the leader has not acknowledged yet. It is lost if leader and follower both are.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ..core.limits import LEADER_SAMPLES_MAX


@dataclass(frozen=True, slots=True, order=True)
class Position:
    term: int
    lsn: int


NOWHERE = Position(0, 0)
SAMPLES_APART_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A leader's answer. All that it showed at `asked_at` is at or before `position`, and flushed."""

    asked_at: float
    position: Position
    oldest_xid: int  # every transaction below it has ended
    next_xid: int


@dataclass(frozen=True, slots=True)
class Known:
    """Of a follower, by its newest answer."""

    position: Position
    at: float  # when it was asked
    fresh_since: float = -math.inf  # what it shows is at least as new as the leader was then


@dataclass(slots=True)
class Freshness:
    """Of one group, in one gateway."""

    followers: dict[str, Known] = field(default_factory=dict)
    _samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=LEADER_SAMPLES_MAX))
    _version: int = -1  # of the catalog
    _changes_below: int | None = None  # transaction ids of what changed with it
    _schema: Position | None = None

    @property
    def newest(self) -> Sample | None:
        return self._samples[-1] if self._samples else None

    def note_leader(self, sample: Sample, version: int) -> None:
        """`version`: of the catalog that the gateway had when it asked."""
        if self._samples and sample.position < self._samples[-1].position:
            return  # of a former leader, or late
        if len(self._samples) > 1 and sample.asked_at - self._samples[-2].asked_at < SAMPLES_APART_S:
            self._samples.pop()  # those that are kept reach back far enough for a follower that is behind
        self._samples.append(sample)
        if version != self._version:
            self._version, self._changes_below, self._schema = version, sample.next_xid, None
        assert self._changes_below is not None
        if self._schema is None and sample.oldest_xid >= self._changes_below:
            self._schema = sample.position

    def note_follower(self, name: str, position: Position, at: float) -> Known:
        before = self.followers.get(name)
        since = -math.inf if before is None or position < before.position else before.fresh_since
        reached = [sample.asked_at for sample in self._samples if sample.position <= position]
        known = self.followers[name] = Known(position, at, max(since, *reached) if reached else since)
        return known

    def schema(self, version: int) -> Position | None:
        """What a follower must have reached for statements that were planned on `version`; None: not known yet."""
        return self._schema if version == self._version else None
