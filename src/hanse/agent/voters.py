"""Who votes in the control plane, as nodes join and are removed.

As many as are odd have votes, five at most (`topology.control_nodes_of`); those that have one keep it. The leader of the control
plane makes the change, in one step from one majority to the next, when those that are new have the whole log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from ..catalog.machine import CatalogMachine
from ..catalog.model import Node
from ..consensus.raft.node import Node as RaftNode
from ..core.errors import PgError
from ..core.limits import VOTERS_PERIOD_S
from .topology import control_nodes_of

log = logging.getLogger(__name__)


def voters_wanted(nodes: Sequence[Node], voters: Sequence[str], leader: str | None) -> tuple[str, ...]:
    """Sorted. `nodes` in the order in which they came."""
    able = [node.name for node in nodes if node.raft_port]
    if {node.name for node in nodes} & set(voters) - set(able):
        return tuple(voters)  # a voter of a former version, which has not told yet where it is
    staying = sorted(set(voters) & set(able), key=lambda name: (name != leader, able.index(name)))
    chosen = (staying + [name for name in able if name not in voters])[: control_nodes_of(len(nodes))]
    odd = len(chosen) - (len(chosen) + 1) % 2
    return tuple(sorted(chosen[:odd])) or tuple(voters)


async def keep_voters(raft: RaftNode, machine: CatalogMachine) -> None:
    """While this node leads. Until it is cancelled."""
    while True:
        await asyncio.sleep(VOTERS_PERIOD_S)
        nodes, membership = machine.catalog.nodes, raft.membership
        wanted = voters_wanted(nodes, membership.voters, membership.leader)
        if not raft.leads or (wanted == membership.voters and not membership.learners):
            continue
        addresses = {node.name: f"{node.host}:{node.raft_port}" for node in nodes if node.raft_port}
        try:
            await raft.reshape({name: addresses[name] for name in wanted if name in addresses})
            log.info("the control plane's votes are those of %s", ", ".join(wanted))
        except PgError as error:
            log.info("the control plane's votes are not yet those of %s: %s", ", ".join(wanted), error.message)
