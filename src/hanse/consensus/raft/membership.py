"""Changes of membership (dissertation, chapter 4): one at a time, in force as soon as it is in the log.

A change of at most one voter is made at once (section 4.2); any other goes through a joint configuration (4.3), which the
leader leaves by itself when it is committed. A node becomes a learner first, and a voter when it has caught up (4.2.1). A
leader proposes nothing before an entry of its own term is committed: without that, two leaders could each have made a change
of one voter to the same configuration, whose majorities need not meet. A leader that is not a voter any more leads
until that is committed, and then steps down (4.2.2); the one who has most of the log is asked to stand at once, as when
leadership is handed over (3.10), so that nobody waits for an election timeout.
"""

from __future__ import annotations

from . import configuration as configurations
from .configuration import Configuration
from .messages import Kind, TimeoutNow
from .state import Busy, ChangeRefused, Flow, NotLeader, Peer, State


def change(state: State, target: Configuration) -> int:
    """Proposes that voters, learners and addresses become those of `target`; gives the entry's index.

    Raises NotLeader, Busy while another change is under way, ChangeRefused.
    """
    leading = state.leading
    if leading is None:
        raise NotLeader(state.leader)
    if leading.transfer_to is not None or under_way(state):
        raise Busy
    _check(state, target)
    current = state.configuration
    joint = len(set(target.voters) ^ set(current.voters)) > 1
    entered = Configuration(
        voters=target.voters,
        outgoing=current.voters if joint else (),
        learners=target.learners,
        addresses={**current.addresses, **target.addresses} if joint else target.addresses,
    )
    return _enter(state, entered)


def under_way(state: State) -> bool:
    leading = state.leading
    assert leading is not None
    return (
        state.commit < leading.first_index or state.log.configuration_index > state.commit or state.configuration.joint
    )


def caught_up(state: State, node: str) -> bool:
    """Whether making this learner a voter would keep nobody waiting."""
    peer = state.leading.peers.get(node) if state.leading is not None else None
    behind = state.log.last_index - state.settings.caught_up_entries_max
    return peer is not None and peer.flow is Flow.REPLICATE and peer.match >= behind


def may_stand(state: State) -> bool:
    """Whether this node may lead: it votes, or did so before a change of which it does not know that it is committed.

    It may be the only one that has the change and can be elected (4.2.2); then it leads until that is committed.
    """
    return any(configuration.votes(state.node) for configuration in state.log.configurations_since(state.commit))


def on_commit(state: State) -> None:
    """A leader's commit index has moved on: leaves a joint configuration, and leadership that is not its own."""
    leading = state.leading
    if leading is None or state.commit < max(leading.first_index, state.log.configuration_index):
        return
    if state.configuration.joint:
        _enter(state, state.configuration.after_joint())
    elif not state.configuration.votes(state.node):
        heir = max(state.configuration.voters, key=lambda node: leading.peers[node].match)
        state.send(TimeoutNow(sender=state.node, receiver=heir, term=state.term))
        state.become_follower(state.term, None)


def follow_configuration(state: State) -> None:
    """A leader sends to the members of the configuration in force, and to nobody else."""
    leading = state.leading
    assert leading is not None
    members = set(state.configuration.members) - {state.node}
    for node in set(leading.peers) - members:
        del leading.peers[node]
    for node in sorted(members - set(leading.peers)):
        leading.peers[node] = Peer(next=state.log.last_index + 1, heard_at=state.now)


def _check(state: State, target: Configuration) -> None:
    if target.joint or not target.voters:
        raise ChangeRefused("a configuration needs a voter")
    for node in sorted(set(target.voters) - set(state.configuration.voters)):
        if not caught_up(state, node):
            raise ChangeRefused(f"{node} must be a learner that has caught up before it votes")


def _enter(state: State, configuration: Configuration) -> int:
    entry = state.append_own(Kind.CONFIGURATION, configurations.encode(configuration))
    follow_configuration(state)
    return entry.index
