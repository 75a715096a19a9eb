"""What one node knows, and the few changes of it that every part of the protocol makes.

The parts (`election`, `replication`, `snapshots`, `membership`, `reads`, `transfer`) are functions of a `State`; `core`
says which of them is called when. What a leader knows of the others lies in `Leading`, and ends with its term.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ...core.limits import (
    RAFT_APPEND_BYTES_MAX,
    RAFT_APPENDS_IN_FLIGHT_MAX,
    RAFT_CAUGHT_UP_ENTRIES_MAX,
    RAFT_READS_MAX,
    RAFT_SNAPSHOT_BYTES_MAX,
    RAFT_SNAPSHOT_CHUNK_BYTES,
    RAFT_TRAILING_BYTES,
    RAFT_TRAILING_ENTRIES,
    RAFT_UNCOMMITTED_BYTES_MAX,
)
from .configuration import Configuration
from .log import Log
from .messages import AnyMessage, Entry, HardState, Kind, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every member must have the same times. `clock_drift`: by how much, of itself, a clock may be fast or slow."""

    election_timeout_s: float = 1.0  # at least so long a follower waits for a leader, at most twice as long
    heartbeat_s: float = 0.15
    clock_drift: float = 0.02
    append_bytes_max: int = RAFT_APPEND_BYTES_MAX
    in_flight_max: int = RAFT_APPENDS_IN_FLIGHT_MAX
    uncommitted_bytes_max: int = RAFT_UNCOMMITTED_BYTES_MAX
    chunk_bytes: int = RAFT_SNAPSHOT_CHUNK_BYTES
    snapshot_bytes_max: int = RAFT_SNAPSHOT_BYTES_MAX
    trailing_entries: int = RAFT_TRAILING_ENTRIES
    trailing_bytes: int = RAFT_TRAILING_BYTES
    caught_up_entries_max: int = RAFT_CAUGHT_UP_ENTRIES_MAX
    reads_max: int = RAFT_READS_MAX

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s * 2 < self.election_timeout_s:
            raise ValueError("two heartbeats must come within an election timeout")
        if not 0 <= self.clock_drift < 0.5:
            raise ValueError("a clock drifts by less than half")

    @property
    def lease_s(self) -> float:
        """How long, by a leader's clock, followers that heard from it surely elect nobody: theirs may be fast, its own
        slow.
        """
        return self.election_timeout_s * (1 - self.clock_drift) / (1 + self.clock_drift)


class Role(enum.Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Flow(enum.Enum):
    """How a leader sends to one follower."""

    PROBE = "probe"  # where the logs agree is not known: one message at a time
    REPLICATE = "replicate"  # a stream, up to a window
    SNAPSHOT = "snapshot"  # the entries that it needs are gone


class NotLeader(Exception):
    """Only the leader can do this. `leader` may know better; nothing was done."""

    def __init__(self, leader: str | None) -> None:
        super().__init__(f"the leader is {leader}" if leader else "there is no leader")
        self.leader = leader


class Busy(Exception):
    """Not now: too much is under way, or leadership is being handed over. Nothing was done; asking again is right."""


class ChangeRefused(Exception):
    """A change of membership that is wrong, or not safe at this moment. Nothing was done."""


@dataclass(slots=True)
class Peer:
    next: int  # the entry to be sent next
    heard_at: float
    match: int = 0  # its log is ours up to here, durably; match < next
    flow: Flow = Flow.PROBE
    in_flight: deque[int] = field(default_factory=deque)  # the last entries of messages under way; at most the window
    waiting: bool = False  # PROBE, SNAPSHOT: for the answer to what was sent
    due: bool = True  # something is to be sent even if there is nothing new
    commit_sent: int = 0
    round: int = 0  # the newest round of heartbeats that it answered, and when that was sent
    round_sent_at: float = float("-inf")
    snapshot: Snapshot | None = None  # SNAPSHOT: the one under way, and what of it has arrived
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A read that waits for the answers to `round`; then it may see the state after `index`."""

    round: int
    index: int
    origin: str
    ticket: int


@dataclass(slots=True)
class Leading:
    first_index: int  # of this leader's own term
    peers: dict[str, Peer]
    heartbeat_at: float
    round: int = 0
    rounds: deque[tuple[int, float]] = field(default_factory=deque)  # (round, sent at), the newest at the end
    round_due: bool = True
    reads: deque[PendingRead] = field(default_factory=deque)
    early_reads: list[tuple[str, int]] = field(default_factory=list)  # before an entry of this term is committed
    transfer_to: str | None = None
    transfer_until: float = 0.0
    transfer_told: bool = False
    lease_usable: bool = True
    uncommitted_bytes: int = 0


@dataclass(slots=True)
class Receiving:
    """A snapshot that arrives in pieces."""

    index: int
    term: int
    checksum: int
    total: int
    data: bytearray = field(default_factory=bytearray)


class State:
    def __init__(
        self, node: str, settings: Settings, log: Log, hard: HardState, random: Callable[[], float], now: float
    ) -> None:
        self.node = node
        self.settings = settings
        self.log = log
        self.random = random
        self.now = now
        self.term = hard.term
        self.vote = hard.vote
        self.saved = hard  # what the storage has, or is being given
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        self.leading: Leading | None = None
        self.votes: dict[str, bool] = {}
        self.commit = self.applied = log.snapshot.index
        # What this node promised before it ended is not known any more: it promises the same anew.
        self.heard_at = now
        self.election_at = now
        self.resumes_after = 0  # it led in that term when it ended in order: see `election`,
        self.resumes_until = float("-inf")
        self.receiving: Receiving | None = None
        self.restored: Snapshot | None = None
        self.outbox: list[AnyMessage] = []
        # Answers to an earlier life of this node must not be taken for answers to this one.
        self.next_ticket = int(random() * (1 << 40)) << 20
        self.asked: set[int] = set()  # tickets of our own reads without an answer
        self.readable: list[tuple[int, int]] = []  # (index, ticket): may be answered once that much is applied
        self.lost_reads: list[int] = []
        self.wait_anew()

    @property
    def configuration(self) -> Configuration:
        return self.log.configuration

    def wait_anew(self) -> None:
        timeout = self.settings.election_timeout_s
        self.election_at = self.now + timeout * (1 + self.random())

    def send(self, message: AnyMessage) -> None:
        self.outbox.append(message)

    def hear_leader(self, leader: str) -> None:
        """A message of this term's leader arrived: others are not elected for an election timeout from now."""
        assert self.role is not Role.LEADER, f"two leaders in term {self.term}"
        if self.role is not Role.FOLLOWER or self.leader != leader:
            self.become_follower(self.term, leader)
        self.heard_at = self.now
        self.wait_anew()

    def become_follower(self, term: int, leader: str | None) -> None:
        if term > self.term:
            self.term, self.vote = term, None
        if self.leading is not None:
            self._give_up_reads(self.leading)
            self.wait_anew()
        if self.leader != leader:
            self.lost_reads += sorted(self.asked)
            self.asked.clear()
            self.receiving = None
        self.role, self.leader, self.leading = Role.FOLLOWER, leader, None
        self.votes = {}

    def append_own(self, kind: Kind, data: bytes) -> Entry:
        """A leader's new entry."""
        assert self.leading is not None
        entry = Entry(self.log.last_index + 1, self.term, kind, data)
        self.log.append((entry,))
        self.leading.uncommitted_bytes += len(data)
        return entry

    def _give_up_reads(self, leading: Leading) -> None:
        waiting = [(read.origin, read.ticket) for read in leading.reads] + leading.early_reads
        self.lost_reads += [ticket for origin, ticket in waiting if origin == self.node]
