"""How an instance comes back to its group: by streaming on, by pg_rewind, or as a new copy.

PostgreSQL tells histories apart by timeline numbers alone. Timelines are terms here, and a term has one leader; but two
promotions *can* give one number (a pledge that was lost with its disk, a server that a person promoted), and pg_rewind then
says "no rewind required" and leaves rows that the leader never had. So the promotion ids in the data are compared as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rejoin(Enum):
    STREAM = "stream"
    REWIND = "rewind"  # pg_rewind, under a mark (the leader's term) that is on disk until replay is consistent
    CLONE = "clone"  # pg_basebackup into a new directory, which then takes the old one's place


@dataclass(frozen=True, slots=True)
class Reign:
    """One timeline of a history: who made it, and where it ended. `promotion_id` None: no record tells of it."""

    timeline: int
    promotion_id: str | None
    end_lsn: int | None = None  # None: it has not ended


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalData:
    """What an instance finds in its own directory, the server being stopped, after crash recovery."""

    system_identifier: int
    marked: bool  # a rewind was begun, and has not ended
    timeline: int
    promotion_id: str | None  # of that timeline
    lsn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderHistory:
    system_identifier: int
    reigns: tuple[Reign, ...]  # oldest first; the last one is the leader's own

    def of(self, timeline: int) -> Reign | None:
        return next((reign for reign in self.reigns if reign.timeline == timeline), None)

    def begin_of(self, timeline: int) -> int:
        """Where a timeline branched off; 0 for the first."""
        earlier = [reign.end_lsn for reign in self.reigns if reign.timeline < timeline and reign.end_lsn is not None]
        return max(earlier, default=0)


def rejoin(local: LocalData | None, leader: LeaderHistory) -> Rejoin:
    """None: there is no data directory, or it cannot be read."""
    if local is None or local.marked or local.system_identifier != leader.system_identifier:
        return Rejoin.CLONE
    reign = leader.of(local.timeline)
    if reign is None:  # the local timeline is a side branch
        return Rejoin.REWIND
    if local.promotion_id != reign.promotion_id:
        # Nothing was written on it yet: what there is, is what was before it branched off.
        return Rejoin.STREAM if local.lsn <= leader.begin_of(local.timeline) else Rejoin.CLONE
    if reign.end_lsn is None or local.lsn <= reign.end_lsn:
        return Rejoin.STREAM
    return Rejoin.REWIND
