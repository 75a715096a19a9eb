"""Raft, without I/O: agreement on one log of commands while a majority of the voters is up and can talk.

After Diego Ongaro, *Consensus: Bridging Theory and Practice* (2014); sections are the dissertation's.

    raft.step(message, now) ─┐                      ┌─ send_first                     to the network
    raft.tick(now)           ├─► raft.take(now) ──► ┼─ persist ── raft.persisted() ── one synchronous write
    raft.propose(data, now)  │       Effects        ├─ send                           to the network, after the write
    raft.read(now) …        ─┘                      └─ restore, apply, reads          to the state machine

**The driver's part.** It carries out one `Effects` after another, and each in the order of its fields; while the write is
under way it may call anything but `take`, so that what comes meanwhile is one batch. After the write it calls `persisted`.
`now` is a clock that never goes back, in seconds, read *after* the message arrived or the request was made. A message may be
lost, doubled, late or overtaken; it may not be altered (the driver's TLS sees to that). What was persisted is there after
a crash, all of a write or nothing of it.

**Why it is safe.** A vote and an accepted entry are durable before anybody hears of them, because answers are in `send`. So
a node votes once in a term, and two majorities share a node: one leader per term. A leader's own entries may leave before
they are durable here (10.2.1), for a leader that forgets them is not leader of that term any more: its term and its vote
were durable before. `match` and `commit` count only what is. An entry is committed when a majority has it and it is of the
leader's term (3.6.2); a candidate needs a vote from that majority, and nobody votes for a log that ends before his own; so
each later leader has the entry (3.6.3), and what was applied anywhere is applied everywhere. Changes of membership keep every
two majorities meeting: `membership`. Reads see all that was committed before they came: `reads`.

**Who may disturb.** Nobody is elected while a majority hears a leader (pre-vote 9.6, `election`); a leader that does not hear a
majority for an election timeout steps down, so that its clients go elsewhere, and so that it can be replaced.

Worked example, three nodes, terms as subscripts::

    n1 leads term 2: log 1₁ 2₂, proposes x: entry 3₂ goes to n2, n3 while n1 writes it
    n2 writes it and answers match=3; n1's write is done: a majority has 3₂, commit=3, n1 applies x and answers
    n1 is cut off, and 3₂ never reached n3. n3 hears nobody and asks n2 in advance (pre-vote): its log ends at 2₂, so n2
    says no. n2 asks next, is elected in term 3, and appends 4₃; n3 rejects that with the hint 2₂, and is sent 3₂ 4₃

**What it does not do.** It knows no clients: a command that is proposed again is in the log twice, and the state machine
must tell (the catalog's commands carry an id). A proposal whose leader was lost may or may not come to be applied. It does not
bear nodes that lie, nor a disk that forgets what it said was written. It does not choose members, and does not tell a node that
was removed: whoever removed it ends it.
"""

from __future__ import annotations

from collections.abc import Callable

from . import election, membership, reads, replication, snapshots, transfer
from .configuration import Configuration
from .log import Log
from .messages import (
    AnyMessage,
    Append,
    AppendResponse,
    Effects,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Kind,
    Persist,
    ReadRequest,
    ReadResponse,
    ReadState,
    Snapshot,
    SnapshotResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from .saved import Saved
from .state import Busy, NotLeader, Role, Settings, State

RESUMING_TIMEOUTS = 5  # of elections: for the others to start as well
_OF_A_LEADER = (Append, Heartbeat, InstallSnapshot)
_LEADERS_OWN = (Append, Heartbeat, InstallSnapshot, TimeoutNow)  # depend on no write of the sender's


class Raft:
    """One node. `random` gives floats in [0, 1); `saved` is what the storage has."""

    def __init__(self, node: str, saved: Saved, settings: Settings, random: Callable[[], float], now: float) -> None:
        log = Log(saved.snapshot, saved.base_index, saved.base_term, saved.entries)
        self.state = State(node, settings, log, saved.hard_state, random, now)
        alone = log.configuration.voters == (node,) and not log.configuration.joint
        if alone and saved.hard_state.vote == node:  # it has promised nothing to another leader
            self.state.election_at = now
        if saved.led and saved.led == saved.hard_state.term:
            self.state.resumes_after = saved.led
            self.state.resumes_until = now + RESUMING_TIMEOUTS * settings.election_timeout_s
            self.state.election_at = now
        self._writing = False

    # --- what is known -----------------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        return self.state.role

    @property
    def leader(self) -> str | None:
        return self.state.leader

    @property
    def term(self) -> int:
        return self.state.term

    @property
    def configuration(self) -> Configuration:
        return self.state.configuration

    @property
    def wake_at(self) -> float:
        """When `tick` has something to do at the latest."""
        state = self.state
        if state.leading is None:
            return state.election_at
        return min(state.leading.heartbeat_at, state.now + state.settings.heartbeat_s)

    def caught_up(self, node: str) -> bool:
        return membership.caught_up(self.state, node)

    # --- what happens ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        state = self._at(now)
        leading = state.leading
        if leading is None:
            if now >= state.election_at:
                election.time_out(state)
            return
        transfer.give_up(state, leading)
        heard = {node: peer.heard_at for node, peer in leading.peers.items()}
        heard[state.node] = now
        if state.configuration.agreed(heard, float("-inf")) <= now - state.settings.election_timeout_s:
            state.become_follower(state.term, None)
        elif now >= leading.heartbeat_at:
            leading.round_due = True

    def step(self, message: AnyMessage, now: float) -> None:
        """A message arrived. Raises ValueError for one that no member sends."""
        state = self._at(now)
        assert message.receiver == state.node
        if isinstance(message, VoteRequest):
            election.on_vote_request(state, message)
            return
        if message.term > state.term:
            if not (isinstance(message, VoteResponse) and message.pre and message.granted):
                state.become_follower(message.term, None)
        elif message.term < state.term:
            if isinstance(message, _OF_A_LEADER):  # it learns that its time is over
                answer = HeartbeatResponse(sender=state.node, receiver=message.sender, term=state.term, round=0)
                state.send(answer)
            return
        self._dispatch(state, message)

    def propose(self, data: bytes, now: float) -> tuple[int, int]:
        """(index, term) of the new entry; it is committed if an entry of that index and term is applied.

        Raises NotLeader, or Busy.
        """
        state = self._at(now)
        leading = state.leading
        if leading is None:
            raise NotLeader(state.leader)
        if leading.transfer_to is not None or leading.uncommitted_bytes >= state.settings.uncommitted_bytes_max:
            raise Busy
        entry = state.append_own(Kind.COMMAND, data)
        return entry.index, entry.term

    def read(self, now: float, *, lease: bool = False) -> int:
        """See `reads.read`."""
        return reads.read(self._at(now), lease=lease)

    def change(self, target: Configuration, now: float) -> int:
        """See `membership.change`."""
        return membership.change(self._at(now), target)

    def transfer(self, target: str, now: float) -> None:
        """See `transfer.transfer`."""
        transfer.transfer(self._at(now), target)

    def compact(self, index: int, data: bytes) -> None:
        """The state machine has made a snapshot of itself after the applied entry `index`."""
        log = self.state.log
        assert index <= self.state.applied
        if index <= log.snapshot.index:
            return  # one of the leader's came first
        snapshot = Snapshot(
            index=index, term=log.term_at(index) or 0, configuration=log.configuration_at(index), data=data
        )
        settings = self.state.settings
        log.compact(snapshot, settings.trailing_entries, settings.trailing_bytes)

    # --- effects -----------------------------------------------------------------------------------------------------

    def take(self, now: float) -> Effects:
        """What is to be done now. If there is something to persist, the next call comes after `persisted`."""
        assert not self._writing
        state = self._at(now)
        if state.leading is not None:
            transfer.go_on(state, state.leading)
            replication.send_all(state, state.leading)
            if state.leading.round_due:
                replication.beat(state, state.leading)
        persist = self._persist()
        self._writing = persist is not None
        first: tuple[AnyMessage, ...] = ()
        after = tuple(state.outbox)
        if persist is not None and persist.hard_state is None:
            first = tuple(message for message in after if isinstance(message, _LEADERS_OWN))
            after = tuple(message for message in after if not isinstance(message, _LEADERS_OWN))
        state.outbox.clear()
        restored, state.restored = state.restored, None
        return Effects(
            send_first=first, persist=persist, send=after, restore=restored, apply=self._apply(), reads=self._reads()
        )

    def persisted(self, now: float) -> None:
        """The write of the last effects is durable."""
        assert self._writing
        self._writing = False
        state = self._at(now)
        state.log.persisted()
        replication.advance_commit(state)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _at(self, now: float) -> State:
        self.state.now = max(self.state.now, now)
        return self.state

    def _dispatch(self, state: State, message: AnyMessage) -> None:
        leading = state.leading
        match message:
            case Append():
                replication.on_append(state, message)
            case Heartbeat():
                replication.on_heartbeat(state, message)
            case InstallSnapshot():
                snapshots.on_install_snapshot(state, message)
            case VoteResponse():
                election.on_vote_response(state, message)
            case TimeoutNow():
                election.on_timeout_now(state, message)
            case ReadResponse():
                reads.on_read_response(state, message)
            case ReadRequest() if leading is None:
                reads.refuse(state, message)
            case _ if leading is None:
                pass  # answers to a leader that has stepped down
            case AppendResponse():
                replication.on_append_response(state, leading, message)
            case HeartbeatResponse():
                replication.on_heartbeat_response(state, leading, message)
            case SnapshotResponse():
                snapshots.on_snapshot_response(state, leading, message)
            case ReadRequest():
                reads.on_read_request(state, leading, message)

    def _persist(self) -> Persist | None:
        state = self.state
        hard = HardState(state.term, state.vote)
        persist = state.log.take()
        if hard == state.saved:
            return persist
        state.saved = hard
        if persist is None:
            return Persist(hard_state=hard)
        return Persist(
            snapshot=persist.snapshot,
            base_index=persist.base_index,
            base_term=persist.base_term,
            reset=persist.reset,
            entries=persist.entries,
            hard_state=hard,
        )

    def _apply(self) -> tuple[Entry, ...]:
        state = self.state
        if state.applied == state.commit:
            return ()
        entries = state.log.between(state.applied, state.commit)
        state.applied = state.commit
        return entries

    def _reads(self) -> tuple[ReadState, ...]:
        state = self.state
        if not state.readable and not state.lost_reads:
            return ()
        ready = [ReadState(ticket=ticket) for index, ticket in state.readable if index <= state.applied]
        state.readable = [(index, ticket) for index, ticket in state.readable if index > state.applied]
        lost = [ReadState(ticket=ticket, lost=True) for ticket in state.lost_reads]
        state.lost_reads = []
        return (*ready, *lost)
