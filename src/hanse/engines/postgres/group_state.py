"""What a group's leader tells of it: its rule, and how far each follower is. One question, whose answer is JSON."""

from __future__ import annotations

import msgspec

from .streaming import slot_of

QUESTION = """SELECT pg_catalog.json_build_object(
    'term', l.term, 'leader', l.leader, 'members', l.members, 'k', l.k, 'changes', l.previous_members IS NOT NULL,
    'streams', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
        'name', r.application_name, 'state', r.state,
        'lag_bytes', coalesce(greatest(0, pg_catalog.pg_current_wal_lsn() - r.replay_lsn), 0),
        'lag_s', coalesce(extract(epoch FROM r.replay_lag), 0))), '[]')
        FROM pg_catalog.pg_stat_replication r),
    'slots', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
        'name', s.slot_name, 'lost', s.wal_status IN ('lost', 'unreserved') AND NOT s.active,
        'lag_bytes', coalesce(greatest(0, pg_catalog.pg_current_wal_lsn() - s.restart_lsn), 0))), '[]')
        FROM pg_catalog.pg_replication_slots s WHERE s.slot_type = 'physical'))::text
FROM (SELECT * FROM hanse.leadership ORDER BY term DESC, serial DESC LIMIT 1) l"""


class Stream(msgspec.Struct, frozen=True):
    name: str
    state: str
    lag_bytes: float  # not replayed there yet
    lag_s: float


class SlotState(msgspec.Struct, frozen=True):
    name: str
    lost: bool
    lag_bytes: float


class FollowerState(msgspec.Struct, frozen=True, kw_only=True):
    """`state`: PostgreSQL's (`streaming`, `catchup`, `startup`, `backup`), `away`, or `lost`: it needs a new copy.

    None: not known. `lag_s` is how long the newest WAL that it has replayed took to get there; nobody knows it of one that is away.
    """

    state: str
    lag_bytes: int | None = None
    lag_s: float | None = None


class GroupState(msgspec.Struct, frozen=True, kw_only=True):
    term: int
    leader: str
    members: tuple[str, ...]
    k: int
    changes: bool = False  # from one rule to another
    streams: tuple[Stream, ...] = ()
    slots: tuple[SlotState, ...] = ()

    def follower(self, name: str) -> FollowerState:
        for stream in self.streams:
            if stream.name == name:
                return FollowerState(state=stream.state, lag_bytes=int(stream.lag_bytes), lag_s=round(stream.lag_s, 6))
        for slot in self.slots:
            if slot.name == slot_of(name):
                return FollowerState(state="lost" if slot.lost else "away", lag_bytes=int(slot.lag_bytes))
        return FollowerState(state="away")

    def member(self, name: str) -> FollowerState:
        """The leader itself lacks nothing."""
        return FollowerState(state="leads", lag_bytes=0, lag_s=0.0) if name == self.leader else self.follower(name)


def decode(answer: str) -> GroupState:
    return msgspec.json.decode(answer, type=GroupState)
