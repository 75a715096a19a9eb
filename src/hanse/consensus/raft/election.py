"""Elections (dissertation, chapter 3.4, 3.6; pre-vote 9.6; leases of leaders 6.4.1).

A node that has heard of no leader for a random time first asks whether it would be elected, and raises its term only if so.
Nobody grants a vote, or answers such a question with yes, within an election timeout since a leader was heard of, or since
the node itself started, unless the leader has asked for it (`forced`). This keeps a node that comes back from disturbing,
and it is what leases of leaders rest upon.

**Who led when it ended in order** asks for the next term at once when it starts again (`Saved.led`), and forced: as a leader
may ask another to stand (`transfer`), it has asked itself. Its own lease ended with its former life. No promise to another
leader is broken: one of an earlier term has no lease any more, because this node was elected after it; and a majority that made a
promise to one of a later term refuses by that term.
"""

from __future__ import annotations

from . import membership
from .messages import Kind, TimeoutNow, VoteRequest, VoteResponse
from .state import Leading, Role, State


def time_out(state: State) -> None:
    """No leader was heard of in time."""
    if _resumes(state):
        return
    state.wait_anew()
    if membership.may_stand(state):
        _ask(state, Role.PRE_CANDIDATE)


def _resumes(state: State) -> bool:
    """Others may be starting as well, and not hear it yet: it asks again, for a while."""
    if state.now >= state.resumes_until or not membership.may_stand(state):
        return False
    if state.role is Role.FOLLOWER and state.term == state.resumes_after:
        _ask(state, Role.CANDIDATE, forced=True)
    elif state.role is Role.CANDIDATE and state.term == state.resumes_after + 1:
        _request(state, forced=True)
    else:
        return False
    state.election_at = state.now + state.settings.heartbeat_s
    return True


def on_timeout_now(state: State, message: TimeoutNow) -> None:
    if state.role is Role.FOLLOWER and membership.may_stand(state):
        _ask(state, Role.CANDIDATE, forced=True)


def on_vote_request(state: State, message: VoteRequest) -> None:
    if not message.forced and _leader_is_there(state):
        return
    if not message.pre and message.term > state.term:
        state.become_follower(message.term, None)
    granted = _may_vote(state, message) and up_to_date(state, message)
    if granted and not message.pre:
        state.vote = message.sender
        state.wait_anew()
    term = message.term if granted else state.term
    state.send(VoteResponse(sender=state.node, receiver=message.sender, term=term, granted=granted, pre=message.pre))


def on_vote_response(state: State, message: VoteResponse) -> None:
    wanted = Role.PRE_CANDIDATE if message.pre else Role.CANDIDATE
    if state.role is not wanted or (message.granted and message.term != asked_term(state)):
        return
    state.votes.setdefault(message.sender, message.granted)
    _count(state)


def asked_term(state: State) -> int:
    """The term that this candidate has asked votes for."""
    return state.term + 1 if state.role is Role.PRE_CANDIDATE else state.term


def up_to_date(state: State, message: VoteRequest) -> bool:
    """Section 3.6.1: who has less than us could lack what is committed."""
    return (message.last_term, message.last_index) >= (state.log.last_term, state.log.last_index)


def _leader_is_there(state: State) -> bool:
    return state.role is Role.LEADER or state.now < state.heard_at + state.settings.election_timeout_s


def _may_vote(state: State, message: VoteRequest) -> bool:
    if message.pre:
        return message.term > state.term
    return message.term == state.term and (
        state.vote == message.sender or (state.vote is None and state.leader is None)
    )


def _ask(state: State, role: Role, *, forced: bool = False) -> None:
    state.become_follower(state.term, None)
    if role is Role.CANDIDATE:
        state.term += 1
        state.vote = state.node
        state.wait_anew()
    state.role = role
    state.votes = {state.node: True}
    _request(state, forced=forced)
    _count(state)


def _request(state: State, *, forced: bool) -> None:
    for node in state.configuration.members:
        if node not in state.votes and state.configuration.votes(node):
            state.send(
                VoteRequest(
                    sender=state.node,
                    receiver=node,
                    term=asked_term(state),
                    last_index=state.log.last_index,
                    last_term=state.log.last_term,
                    pre=state.role is Role.PRE_CANDIDATE,
                    forced=forced,
                )
            )


def _count(state: State) -> None:
    outcome = state.configuration.outcome(state.votes)
    if outcome is False:
        state.become_follower(state.term, None)
    elif outcome and state.role is Role.PRE_CANDIDATE:
        _ask(state, Role.CANDIDATE)
    elif outcome:
        _lead(state)


def _lead(state: State) -> None:
    last = state.log.last_index
    state.role, state.leader, state.votes = Role.LEADER, state.node, {}
    uncommitted = sum(len(entry.data) for entry in state.log.between(state.commit, last))
    state.leading = Leading(first_index=last + 1, peers={}, heartbeat_at=state.now, uncommitted_bytes=uncommitted)
    membership.follow_configuration(state)
    state.append_own(Kind.EMPTY, b"")
