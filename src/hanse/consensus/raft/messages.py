"""The values of the protocol: entries, snapshots, what nodes tell each other, and what the core asks of its driver."""

from __future__ import annotations

import enum
import zlib
from dataclasses import dataclass

import msgspec

from .configuration import Configuration


class Kind(enum.IntEnum):
    COMMAND = 0  # of the state machine
    CONFIGURATION = 1  # data: an encoded Configuration
    EMPTY = 2  # a new leader's first (section 6.4: it learns what is committed)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    index: int
    term: int
    kind: Kind
    data: bytes


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state machine after the entry `index` of term `term`, in its own encoding."""

    index: int
    term: int
    configuration: Configuration
    data: bytes

    @property
    def checksum(self) -> int:
        return zlib.crc32(self.data)


class HardState(msgspec.Struct, frozen=True):
    term: int
    vote: str | None


# --- between nodes ---------------------------------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    sender: str
    receiver: str
    term: int


class VoteRequest(Message, frozen=True, kw_only=True):
    """`term` is the one that the sender would lead. `pre`: only a question (section 9.6). `forced`: the leader wants it
    (section 3.10), so that nobody need wait for its lease.
    """

    last_index: int
    last_term: int
    pre: bool = False
    forced: bool = False


class VoteResponse(Message, frozen=True, kw_only=True):
    """`term` is that of the request where it is granted, else the sender's own."""

    granted: bool
    pre: bool = False


class Append(Message, frozen=True, kw_only=True):
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int


class AppendResponse(Message, frozen=True, kw_only=True):
    """Accepted: the sender's log is the leader's up to `match`, durably. Rejected: `rejected` is the request's
    `prev_index`, and the logs may agree at `hint_index`, at the latest in the term `hint_term`.
    """

    match: int = 0
    rejected: int | None = None
    hint_index: int = 0
    hint_term: int = 0


class Heartbeat(Message, frozen=True, kw_only=True):
    """`round` counts a leader's rounds of heartbeats in its term; `commit` never exceeds what the receiver has."""

    commit: int
    round: int


class HeartbeatResponse(Message, frozen=True, kw_only=True):
    round: int


class InstallSnapshot(Message, frozen=True, kw_only=True):
    """A piece of a snapshot, from byte `offset` of `total` on."""

    index: int
    index_term: int
    configuration: Configuration
    checksum: int
    total: int
    offset: int
    data: bytes


class SnapshotResponse(Message, frozen=True, kw_only=True):
    """How many bytes of the snapshot of `index` the sender holds. The whole is answered by an AppendResponse."""

    index: int
    received: int


class TimeoutNow(Message, frozen=True, kw_only=True):
    pass


class ReadRequest(Message, frozen=True, kw_only=True):
    ticket: int


class ReadResponse(Message, frozen=True, kw_only=True):
    """`index` is None where the leader cannot say; whoever asked may ask again."""

    ticket: int
    index: int | None


AnyMessage = (
    VoteRequest
    | VoteResponse
    | Append
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | InstallSnapshot
    | SnapshotResponse
    | TimeoutNow
    | ReadRequest
    | ReadResponse
)


# --- to the driver ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist:
    """One atomic, synchronous write. In this order: `snapshot` takes the place of all entries up to `base_index`
    (`reset`: of all entries), then `entries` take the place of all from their first on, then `hard_state`.
    """

    snapshot: Snapshot | None = None
    base_index: int = 0  # with a snapshot: the entry before the first that is kept, and its term
    base_term: int = 0
    reset: bool = False
    entries: tuple[Entry, ...] = ()
    hard_state: HardState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadState:
    """The state machine, as it is after these effects, may answer the read `ticket`. `lost`: ask again."""

    ticket: int
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What is to be done, in the order of the fields."""

    send_first: tuple[AnyMessage, ...] = ()  # depends on no write of these effects
    persist: Persist | None = None  # durable before anything below; then `Raft.persisted`
    send: tuple[AnyMessage, ...] = ()
    restore: Snapshot | None = None  # the state machine becomes this, before `apply`
    apply: tuple[Entry, ...] = ()  # committed, in log order, none left out
    reads: tuple[ReadState, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.send_first or self.persist or self.send or self.restore is not None or self.apply or self.reads
        )
