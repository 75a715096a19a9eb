"""Handing leadership over (dissertation, section 3.10): nothing new, until the other has all; then it stands at once."""

from __future__ import annotations

from .messages import TimeoutNow
from .state import Busy, ChangeRefused, Leading, NotLeader, State


def transfer(state: State, target: str) -> None:
    """Begins it; after an election timeout without success the leader goes on. Raises NotLeader, Busy, ChangeRefused."""
    leading = state.leading
    if leading is None:
        raise NotLeader(state.leader)
    if target == state.node:
        return
    if leading.transfer_to is not None:
        raise Busy
    if target not in state.configuration.voters:
        raise ChangeRefused(f"{target} is not a voter")
    leading.transfer_to, leading.transfer_told = target, False
    leading.transfer_until = state.now + state.settings.election_timeout_s


def go_on(state: State, leading: Leading) -> None:
    """Tells the target once it has everything."""
    if leading.transfer_to is None or leading.transfer_told:
        return
    peer = leading.peers.get(leading.transfer_to)
    if peer is not None and peer.match == state.log.last_index:
        leading.transfer_told = True
        leading.lease_usable = False
        state.send(TimeoutNow(sender=state.node, receiver=leading.transfer_to, term=state.term))


def give_up(state: State, leading: Leading) -> None:
    if leading.transfer_to is not None and state.now >= leading.transfer_until:
        leading.transfer_to = None
