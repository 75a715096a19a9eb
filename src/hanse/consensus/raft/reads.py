"""Linearizable reads without a write (dissertation, chapter 6.4).

*Read-index*: the leader notes its commit index, and that a quorum answers a round of heartbeats which began later shows that
nobody else had committed more before the read came. *Lease* (6.4.1): a quorum that answered a round elects nobody for an
election timeout from then; the leader counts from when the round was sent, and shorter by what two clocks may differ. A
leader that has asked somebody to take over has no lease until its term ends, for that request may arrive at any later time.
In both cases the leader must know what is committed, so an entry of its own term comes first.

A follower asks the leader for the index, and answers from its own state machine when that is applied.
"""

from __future__ import annotations

from .messages import ReadRequest, ReadResponse
from .state import Busy, Leading, NotLeader, PendingRead, State


def read(state: State, *, lease: bool) -> int:
    """Asks for a moment at which the state machine may be read; gives the ticket that `Effects.reads` will name.

    Raises NotLeader where no leader is known, Busy when too many wait.
    """
    if state.leader is None:
        raise NotLeader(None)
    if len(state.asked) >= state.settings.reads_max:
        raise Busy
    ticket = state.next_ticket
    state.next_ticket += 1
    leading = state.leading
    if leading is None:
        state.asked.add(ticket)
        request = ReadRequest(sender=state.node, receiver=state.leader, term=state.term, ticket=ticket)
        state.send(request)
    elif lease and has_lease(state, leading) and may_read(state, leading):
        state.readable.append((state.commit, ticket))
    else:
        _take_up(state, leading, state.node, ticket)
    return ticket


def has_lease(state: State, leading: Leading) -> bool:
    return leading.lease_usable and state.now < lease_end(state, leading)


def lease_end(state: State, leading: Leading) -> float:
    sent = {node: peer.round_sent_at for node, peer in leading.peers.items()}
    sent[state.node] = state.now
    return state.configuration.agreed(sent, float("-inf")) + state.settings.lease_s


def may_read(state: State, leading: Leading) -> bool:
    """Whether the commit index is what the cluster has committed."""
    return state.commit >= leading.first_index


def on_read_request(state: State, leading: Leading, message: ReadRequest) -> None:
    if len(leading.reads) + len(leading.early_reads) < state.settings.reads_max:
        _take_up(state, leading, message.sender, message.ticket)
    else:
        _answer(state, message.sender, message.ticket, None)


def refuse(state: State, message: ReadRequest) -> None:
    """This node does not lead any more."""
    _answer(state, message.sender, message.ticket, None)


def on_read_response(state: State, message: ReadResponse) -> None:
    if message.ticket not in state.asked:
        return
    state.asked.discard(message.ticket)
    if message.index is None:
        state.lost_reads.append(message.ticket)
    else:
        state.readable.append((message.index, message.ticket))


def on_commit(state: State, leading: Leading) -> None:
    if leading.early_reads and may_read(state, leading):
        early, leading.early_reads = leading.early_reads, []
        for origin, ticket in early:
            _take_up(state, leading, origin, ticket)


def on_round(state: State, leading: Leading) -> None:
    """Answers the reads whose round a quorum has answered."""
    if not leading.reads:
        return
    answered = {node: peer.round for node, peer in leading.peers.items()}
    answered[state.node] = leading.round
    confirmed = state.configuration.agreed(answered, 0)
    while leading.reads and leading.reads[0].round <= confirmed:
        pending = leading.reads.popleft()
        _answer(state, pending.origin, pending.ticket, pending.index)


def _take_up(state: State, leading: Leading, origin: str, ticket: int) -> None:
    if not may_read(state, leading):
        leading.early_reads.append((origin, ticket))
        return
    leading.round_due = True
    leading.reads.append(PendingRead(leading.round + 1, state.commit, origin, ticket))


def _answer(state: State, origin: str, ticket: int, index: int | None) -> None:
    if origin != state.node:
        state.send(ReadResponse(sender=state.node, receiver=origin, term=state.term, ticket=ticket, index=index))
    elif index is not None:
        state.readable.append((index, ticket))
