"""How a machine is let in, where the authority's key is: `catalog/protocol.py` has the messages, `joining.py` the other side.

In this order: the token is taken, certificates are signed, the catalog has the node, it is told. Where the catalog refuses, the
token is given back; when the answer is lost, the node is in the catalog and nobody is it: `hanse remove` takes it out.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

from ..catalog import protocol as p
from ..catalog.machine import AnyCommand, CatalogMachine, decode_outcome, encode
from ..catalog.model import Node, Snapshot
from ..catalog.node_commands import AddNode
from ..config import ControlNode, NodeConfig, load_secrets
from ..consensus.contract import Consensus
from ..core.errors import PgError, UserMistake
from ..core.limits import CONTROL_VOTERS_MAX, NODES_MAX
from .certificates import sign
from .tokens import TokenRefused, give_back, take_token

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")  # it is a DNS name in certificates, and a directory's name


class Admission:
    def __init__(self, config: NodeConfig, machine: CatalogMachine, consensus: Consensus) -> None:
        self._config = config
        self._machine = machine
        self._consensus = consensus
        self._authority = Path(config.authority).parent
        self._turn = asyncio.Lock()  # two machines would be given one name

    @property
    def is_open(self) -> bool:
        return (self._authority / "ca.key").exists()

    async def answer(self, question: p.AskAuthority | p.Join) -> p.ServiceMessage:
        if isinstance(question, p.AskAuthority):
            return p.Authority(certificate=await asyncio.to_thread((self._authority / "ca.crt").read_bytes))
        if question.format != p.FORMAT:
            return _refused("08P01", "this machine has another version of Hanse than the cluster")
        try:
            taken = await asyncio.to_thread(take_token, self._authority, question.secret)
        except TokenRefused as refusal:
            log.warning("a machine at %s was not let in: %s", question.host, refusal)
            return _refused("28P01", str(refusal))
        try:
            async with self._turn:
                joined = await self._let_in(question)
        except (PgError, UserMistake, ValueError, OSError) as error:
            if not isinstance(error, PgError) or error.sqlstate != "08007":
                await asyncio.to_thread(give_back, taken)
            message = error.message if isinstance(error, PgError) else str(error)
            log.warning("a machine at %s was not let in: %s", question.host, message)
            return _refused(error.sqlstate if isinstance(error, PgError) else "22023", message)
        await asyncio.to_thread(taken.unlink)
        log.info("node %s at %s has joined", joined.name, question.host)
        return joined

    async def _let_in(self, question: p.Join) -> p.Joined:
        await self._consensus.read(lease=False)  # what this node knows may be old
        catalog = self._machine.catalog
        name = question.name or _free_name(catalog)
        if not NAME.fullmatch(name):
            raise UserMistake(f"a node's name has small letters, digits and hyphens, not {name!r}")
        if len(catalog.nodes) >= NODES_MAX:
            raise UserMistake(f"the cluster has {NODES_MAX} nodes already")
        may_vote = sum(bool(node.control_port) for node in catalog.nodes) < CONTROL_VOTERS_MAX
        joined = await asyncio.to_thread(self._certified, question, name, may_vote)
        node = Node(
            name=name,
            host=question.host,
            gateway_port=question.gateway_port,
            labels=question.labels,
            control_port=question.control_port if may_vote else 0,
            raft_port=0 if not may_vote or joined.secrets.control_plane else question.raft_port,
        )
        await propose(self._consensus, AddNode(node=node))
        return joined

    def _certified(self, question: p.Join, name: str, may_vote: bool) -> p.Joined:
        config = self._config
        ours = self._authority.parent
        gateways = config.tls != "off" and (ours / "ca.key").exists()
        names = frozenset(question.gateway_names), frozenset(question.gateway_addresses)
        return p.Joined(
            name=name,
            cluster_id=config.cluster_id,
            database=config.database,
            secrets=load_secrets(Path(config.secrets_file)),
            tls=config.tls,
            certificate=sign(self._authority, question.request, (frozenset({name}), frozenset())),
            gateway_authority=(ours / "ca.crt").read_bytes() if gateways else None,
            gateway_certificate=sign(ours, question.gateway_request, names) if gateways else None,
            control=_control_nodes(self._machine.catalog),
            may_vote=may_vote,
        )


def _refused(sqlstate: str, message: str) -> p.Refused:
    return p.Refused(sqlstate=sqlstate, message=message)


def _free_name(catalog: Snapshot) -> str:
    """The next after all that were ever given."""
    names = [*(node.name for node in catalog.nodes), *catalog.removed_nodes]
    numbers = [int(name[1:]) for name in names if name[0] == "n" and name[1:].isdecimal()]
    return f"n{max(numbers, default=0) + 1}"


def _control_nodes(catalog: Snapshot) -> tuple[ControlNode, ...]:
    return tuple(
        ControlNode(name=node.name, host=node.host, port=node.control_port, raft_port=node.raft_port)
        for node in catalog.nodes
        if node.control_port
    )


async def propose(node: Consensus, command: AnyCommand) -> int:
    """From any node of the control plane. Raises the PgError that the command met."""
    return decode_outcome(await node.propose(encode(command))).value()
