"""The catalog on three nodes of each consensus: schema changes from every node while leaders end; every outcome is final and
everywhere.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from hanse.catalog.commands import CommitDdl
from hanse.catalog.machine import CatalogMachine, Settle, decode_outcome, encode
from hanse.catalog.model import Group, Snapshot
from hanse.consensus.contract import Consensus
from hanse.core.errors import PgError
from support.consensus import Members, by_etcd, by_raft
from support.etcd import needs_etcd, running_etcd
from support.raft_nodes import THREE, until

INITIAL = Snapshot(version=0, groups=(Group(name="g1", instances=()),))
CLIENTS = 3
CHANGES = 12  # between two ends of leaders, and after the last

Cluster = Members[CatalogMachine]


class Client:
    """Makes schema changes one after another, at any node; asks for the truth where an answer was lost."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.draw = random.Random(number)
        self.committed: dict[str, int] = {}
        self.aborted: list[str] = []
        self.ending = asyncio.Event()

    async def work(self) -> None:
        attempt = 0
        while not self.ending.is_set():
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

    def choose(self) -> tuple[Consensus, CatalogMachine]:
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


async def propose(node: Consensus, command: bytes) -> int:
    return decode_outcome(await node.propose(command)).value()


async def test_schema_changes_while_leaders_end_by_raft(tmp_path: Path) -> None:
    await change_schemas(Members(by_raft(tmp_path, snapshot_entries=15), lambda: CatalogMachine(INITIAL)))


@needs_etcd
async def test_schema_changes_while_leaders_end_by_etcd(tmp_path: Path, run_directory: Path) -> None:
    with running_etcd(run_directory) as etcd:
        make = by_etcd(tmp_path, etcd.url, snapshot_entries=15)
        await change_schemas(Members(make, lambda: CatalogMachine(INITIAL)))


async def change_schemas(cluster: Cluster) -> None:
    clients = [Client(cluster, number) for number in range(CLIENTS)]
    async with cluster:
        await cluster.start(*THREE)
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.work())
            for _ in range(3):
                await more_changes(clients)
                leader = next((name for name, node in cluster.nodes.items() if node.leadership.leads), "n1")
                await cluster.stop(leader)
                await until(lambda: any(node.leadership.leads for node in cluster.nodes.values()))
                await cluster.start(leader)
            await more_changes(clients)
            for client in clients:
                client.ending.set()
        for node in cluster.nodes.values():
            await node.read(lease=False)
        logs = [machine.ddl_log(0) for machine in cluster.machines.values()]
    assert logs[0] == logs[1] == logs[2]
    made = {entry.transaction_id: entry.version for entry in logs[0]}
    assert sorted(made.values()) == list(range(1, len(made) + 1))
    assert made == {key: value for client in clients for key, value in client.committed.items()}
    assert not any(name in made for client in clients for name in client.aborted)


async def more_changes(clients: list[Client]) -> None:
    def made() -> int:
        return sum(len(client.committed) for client in clients)

    wanted = made() + CHANGES
    await until(lambda: made() >= wanted)
