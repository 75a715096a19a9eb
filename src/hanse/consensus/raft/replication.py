"""Replication of the log (dissertation, chapter 3.5; pipelining and batching 10.2).

A leader sends when its effects are taken, so that all proposals since the last time go as one message and one write. To a
follower whose log is known to agree it streams, up to a window of messages; after a rejection it goes back to one message
at a time. It sends while its own write is under way and counts itself only when that is durable (10.2.1).

A rejection carries the last place where the logs may agree, as far as the follower can tell: its last entry whose term is not
above that of the leader's. The leader does the same on its side, so that every term costs one message at most.

Lost messages are found by heartbeats: a follower that answers one, and has not all, is sent something, and rejects it.
"""

from __future__ import annotations

from . import membership, reads, snapshots
from .messages import Append, AppendResponse, Heartbeat, HeartbeatResponse
from .state import Flow, Leading, Peer, State

# --- a follower ------------------------------------------------------------------------------------------------------


def on_append(state: State, message: Append) -> None:
    state.hear_leader(message.sender)
    previous, previous_term, entries = message.prev_index, message.prev_term, message.entries
    if previous < state.commit:
        # What is committed is the leader's, too (3.6.3); some of it may be in a snapshot now.
        entries = entries[state.commit - previous :]
        previous, previous_term = state.commit, state.log.term_at(state.commit) or 0
    elif state.log.term_at(previous) != previous_term:
        return _reject(state, message)
    new = next((i for i, entry in enumerate(entries) if state.log.term_at(entry.index) != entry.term), None)
    if new is not None:
        assert entries[new].index > state.commit, "a committed entry would be lost"
        state.log.append(entries[new:])
    match = previous + len(entries)
    state.commit = max(state.commit, min(message.commit, match))
    state.send(AppendResponse(sender=state.node, receiver=message.sender, term=state.term, match=match))


def _reject(state: State, message: Append) -> None:
    hint = state.log.agreeing(message.prev_index, message.prev_term)
    state.send(
        AppendResponse(
            sender=state.node,
            receiver=message.sender,
            term=state.term,
            rejected=message.prev_index,
            hint_index=hint,
            hint_term=state.log.term_at(hint) or 0,
        )
    )


def on_heartbeat(state: State, message: Heartbeat) -> None:
    state.hear_leader(message.sender)
    assert message.commit <= state.log.last_index, "what the leader has seen here is not here any more"
    state.commit = max(state.commit, message.commit)
    state.send(HeartbeatResponse(sender=state.node, receiver=message.sender, term=state.term, round=message.round))


# --- a leader --------------------------------------------------------------------------------------------------------


def on_append_response(state: State, leading: Leading, message: AppendResponse) -> None:
    peer = leading.peers.get(message.sender)
    if peer is None:
        return
    peer.heard_at = state.now
    if message.rejected is None:
        _accepted(state, peer, message.match)
    elif peer.match < message.rejected < peer.next and (
        peer.flow is Flow.REPLICATE or (peer.flow is Flow.PROBE and message.rejected == peer.next - 1)
    ):
        agreeing = state.log.agreeing(message.hint_index, message.hint_term)
        peer.next = max(peer.match, min(agreeing, message.rejected - 1)) + 1
        probe(peer)


def _accepted(state: State, peer: Peer, match: int) -> None:
    assert match <= state.log.last_index
    arrived = peer.snapshot is None or match >= min(peer.snapshot.index, state.log.base_index)
    if peer.flow is Flow.PROBE or (peer.flow is Flow.SNAPSHOT and arrived):
        peer.flow, peer.snapshot, peer.waiting = Flow.REPLICATE, None, False
        peer.next = max(peer.match, match) + 1
        peer.in_flight.clear()
    peer.match = max(peer.match, match)
    peer.next = max(peer.next, match + 1)
    while peer.in_flight and peer.in_flight[0] <= match:
        peer.in_flight.popleft()
    advance_commit(state)


def on_heartbeat_response(state: State, leading: Leading, message: HeartbeatResponse) -> None:
    peer = leading.peers.get(message.sender)
    if peer is None:
        return
    peer.heard_at = state.now
    for number, sent_at in leading.rounds:
        if number == message.round and number > peer.round:
            peer.round, peer.round_sent_at = number, sent_at
    reads.on_round(state, leading)
    if peer.match < state.log.last_index or peer.flow is not Flow.REPLICATE:
        peer.waiting, peer.due = False, True
        if len(peer.in_flight) >= state.settings.in_flight_max:
            peer.in_flight.popleft()


def probe(peer: Peer) -> None:
    peer.flow, peer.waiting, peer.due = Flow.PROBE, False, True
    peer.in_flight.clear()


def advance_commit(state: State) -> None:
    """Commits what a quorum has, if the last of it is of this term (3.6.2, figure 3.7)."""
    leading = state.leading
    if leading is None:
        return
    matches = {node: peer.match for node, peer in leading.peers.items()}
    matches[state.node] = state.log.stable
    agreed = state.configuration.agreed(matches, 0)
    if agreed > state.commit and may_commit(state, agreed):
        leading.uncommitted_bytes -= sum(len(entry.data) for entry in state.log.between(state.commit, agreed))
        state.commit = agreed
        reads.on_commit(state, leading)
        membership.on_commit(state)


def may_commit(state: State, index: int) -> bool:
    return state.log.term_at(index) == state.term


def beat(state: State, leading: Leading) -> None:
    """A round of heartbeats to everybody."""
    leading.round += 1
    leading.round_due = False
    leading.heartbeat_at = state.now + state.settings.heartbeat_s
    leading.rounds.append((leading.round, state.now))
    while len(leading.rounds) > ROUNDS_KEPT_MAX:
        leading.rounds.popleft()
    for node, peer in leading.peers.items():
        commit = min(state.commit, peer.match)
        state.send(Heartbeat(sender=state.node, receiver=node, term=state.term, commit=commit, round=leading.round))
    reads.on_round(state, leading)


def send_all(state: State, leading: Leading) -> None:
    """What followers lack, as far as each one's window allows."""
    for node, peer in leading.peers.items():
        if peer.flow is not Flow.SNAPSHOT and peer.next <= state.log.base_index:
            snapshots.begin(state, peer)
        if peer.flow is Flow.SNAPSHOT:
            snapshots.send_piece(state, node, peer)
        else:
            _send_entries(state, node, peer)


def _send_entries(state: State, node: str, peer: Peer) -> None:
    log, settings = state.log, state.settings
    news = peer.due or peer.commit_sent < state.commit
    while not peer.waiting and (news or peer.next <= log.last_index):
        if len(peer.in_flight) >= settings.in_flight_max:
            return
        previous = peer.next - 1
        entries = log.batch(previous, settings.append_bytes_max)
        state.send(
            Append(
                sender=state.node,
                receiver=node,
                term=state.term,
                prev_index=previous,
                prev_term=log.term_at(previous) or 0,
                entries=entries,
                commit=state.commit,
            )
        )
        news = peer.due = False
        peer.commit_sent = state.commit
        if peer.flow is Flow.PROBE:
            peer.waiting = True
        elif entries:
            peer.next = entries[-1].index + 1
            peer.in_flight.append(entries[-1].index)


ROUNDS_KEPT_MAX = 64  # rounds without an answer; an older one is of no use for a lease
