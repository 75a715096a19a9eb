"""The same nodes by each of the two implementations of `consensus.contract`: what is tested of one is tested of the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from hanse.consensus.contract import Consensus, StateMachine
from hanse.consensus.etcd import address
from hanse.consensus.etcd.node import Node as EtcdNode
from hanse.consensus.raft.node import Node as RaftNode
from hanse.core.node_tls import node_tls
from support.certificates import make_node_certificates
from support.raft_nodes import SETTINGS, THREE, founders, free_address, until

Make = Callable[[str, StateMachine], Consensus]
M = TypeVar("M", bound=StateMachine)


def by_raft(directory: Path, *, snapshot_entries: int) -> Make:
    make_node_certificates(directory, *THREE)
    addresses = {name: free_address() for name in THREE}

    def make(name: str, machine: StateMachine) -> Consensus:
        tls = node_tls(*(directory / file for file in ("ca.crt", f"{name}.crt", f"{name}.key")))
        return RaftNode(
            name, directory / name, founders(addresses), machine, tls,
            cluster="test", address=addresses[name], settings=SETTINGS, snapshot_entries=snapshot_entries,
        )  # fmt: skip

    return make


def by_etcd(directory: Path, url: str, *, snapshot_entries: int, lease_s: float = 5.0) -> Make:
    cluster = directory.name  # another in each test

    def make(name: str, machine: StateMachine) -> Consensus:
        return EtcdNode(
            name, directory / name, address.parse(url), machine,
            cluster=cluster, lease_s=lease_s, snapshot_entries=snapshot_entries,
        )  # fmt: skip

    return make


class Members(Generic[M]):
    """The nodes that run, each with a state machine of its own."""

    def __init__(self, make: Make, machine: Callable[[], M]) -> None:
        self.nodes: dict[str, Consensus] = {}
        self.machines: dict[str, M] = {}
        self._make = make
        self._machine = machine

    async def start(self, *names: str) -> None:
        for name in names:
            machine = self._machine()
            node = self._make(name, machine)
            await node.start()
            self.nodes[name], self.machines[name] = node, machine

    async def stop(self, *names: str) -> None:
        for name in names:
            await self.nodes.pop(name).stop()

    async def __aenter__(self) -> Members[M]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(*self.nodes)

    async def leader(self) -> str:
        """That has answered a read since it leads."""
        while True:
            await until(lambda: any(node.leadership.leads for node in self.nodes.values()))
            found = next((name for name, node in self.nodes.items() if node.leadership.leads), None)
            if found is not None:
                await self.nodes[found].read(lease=False)
                if self.nodes[found].leadership.leads:
                    return found
