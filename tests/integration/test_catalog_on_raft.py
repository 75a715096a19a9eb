"""The catalog on three Raft nodes: schema changes from every node while leaders end; every outcome is final and everywhere."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from hanse.catalog.commands import CommitDdl
from hanse.catalog.machine import CatalogMachine, Settle, decode_outcome, encode
from hanse.catalog.model import Group, Snapshot
from hanse.consensus.raft.node import Node
from hanse.consensus.raft.saved import Saved
from hanse.core.errors import PgError
from hanse.core.node_tls import node_tls
from support.certificates import make_node_certificates
from support.raft_nodes import SETTINGS, THREE, founders, free_address, until

INITIAL = Snapshot(version=0, groups=(Group(name="g1", instances=()),))
CHANGES, CLIENTS = 25, 3


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nodes: dict[str, Node] = {}
        self.machines: dict[str, CatalogMachine] = {}
        self.addresses = {name: free_address() for name in THREE}

    async def start(self, name: str) -> None:
        initial: Saved = founders(self.addresses)
        machine, files = CatalogMachine(INITIAL), self.directory
        tls = node_tls(files / "ca.crt", files / f"{name}.crt", files / f"{name}.key")
        node = Node(
            name, files / name, initial, machine, tls,
            cluster="test", address=self.addresses[name], settings=SETTINGS, snapshot_entries=15,
        )  # fmt: skip
        await node.start()
        self.nodes[name], self.machines[name] = node, machine

    async def stop(self, name: str) -> None:
        await self.nodes.pop(name).stop()


class Client:
    """Makes schema changes one after another, at any node; asks for the truth where an answer was lost."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.draw = random.Random(number)
        self.committed: dict[str, int] = {}
        self.aborted: list[str] = []

    async def work(self) -> None:
        attempt = 0
        while len(self.committed) < CHANGES:
            attempt += 1
            await self.change(f"c{self.number}.{attempt}")

    async def change(self, transaction_id: str) -> None:
        node, machine = self.choose()
        try:
            await node.read(lease=self.draw.random() < 0.5)
            version = machine.catalog.version
            floor = max(self.committed.values(), default=0)
            assert version >= floor, "a read does not see what was answered"
            command = CommitDdl(transaction_id=transaction_id, expected_version=version, role="hanse")
            made = await propose(node, encode(command))
        except PgError as error:
            if error.sqlstate == "08007":
                await self.settle(transaction_id)
            else:
                assert error.sqlstate in ("57P03", "40001")
                self.aborted.append(transaction_id)
        else:
            assert made == version + 1
            self.committed[transaction_id] = made

    def choose(self) -> tuple[Node, CatalogMachine]:
        name = self.draw.choice(sorted(self.cluster.nodes))
        return self.cluster.nodes[name], self.cluster.machines[name]

    async def settle(self, transaction_id: str) -> None:
        while True:
            node, machine = self.choose()
            try:
                committed = await propose(node, encode(Settle(transaction_id=transaction_id)))
            except PgError as error:
                assert error.sqlstate in ("57P03", "08007")
                continue
            if not committed:
                self.aborted.append(transaction_id)
            else:
                log = machine.ddl_log(0)
                self.committed |= {e.transaction_id: e.version for e in log if e.transaction_id == transaction_id}
            return


async def propose(node: Node, command: bytes) -> int:
    return decode_outcome(await node.propose(command)).value()


async def test_schema_changes_while_leaders_end(tmp_path: Path) -> None:
    make_node_certificates(tmp_path, *THREE)
    cluster = Cluster(tmp_path)
    clients = [Client(cluster, number) for number in range(CLIENTS)]
    try:
        for name in THREE:
            await cluster.start(name)
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(client.work()) for client in clients]
            for wanted in (10, 25, 40):
                await until(lambda wanted=wanted: sum(len(c.committed) for c in clients) >= wanted)  # type: ignore[misc]
                leader = next((name for name, node in cluster.nodes.items() if node.leads), "n1")
                await cluster.stop(leader)
                await until(lambda: any(node.leads for node in cluster.nodes.values()))
                await cluster.start(leader)
            assert not all(task.done() for task in working)
        for node in cluster.nodes.values():
            await node.read(lease=False)
        logs = [machine.ddl_log(0) for machine in cluster.machines.values()]
    finally:
        for name in list(cluster.nodes):
            await cluster.stop(name)
    assert logs[0] == logs[1] == logs[2]
    made = {entry.transaction_id: entry.version for entry in logs[0]}
    assert sorted(made.values()) == list(range(1, len(made) + 1))
    assert made == {key: value for client in clients for key, value in client.committed.items()}
    assert not any(name in made for client in clients for name in client.aborted)
