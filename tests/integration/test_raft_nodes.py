"""Raft nodes with their disks and TLS connections, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hanse.consensus.raft.messages import Heartbeat, Persist
from hanse.consensus.raft.node import Node
from hanse.consensus.raft.saved import Saved, joining
from hanse.core.errors import PgError
from support.certificates import make_node_certificates
from support.raft_nodes import THREE, Journal, founders, free_address, make_node, until


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nodes: dict[str, Node] = {}
        self.journals: dict[str, Journal] = {}
        self.addresses: dict[str, str] = {}

    async def start(self, name: str, initial: Saved, address: str) -> Node:
        node, journal = make_node(name, self.directory, self.directory, initial, address, snapshot_entries=20)
        await node.start()
        self.nodes[name], self.journals[name] = node, journal
        self.addresses[name] = node.address
        return node

    async def stop(self, name: str) -> None:
        await self.nodes.pop(name).stop()

    async def led(self, what: Callable[[Node], Awaitable[None]]) -> Node:
        """Asks the leader; again, if that was not it any more. Gives who it was."""
        async with asyncio.timeout(60):
            while True:
                leader = await self.leader()
                try:
                    await what(leader)
                    return leader
                except PgError as error:
                    assert error.sqlstate in ("55000", "57P03")

    async def leader(self) -> Node:
        await until(lambda: any(node.leads for node in self.nodes.values()))
        return next(node for node in self.nodes.values() if node.leads)


@asynccontextmanager
async def running(directory: Path, *names: str) -> AsyncIterator[Cluster]:
    make_node_certificates(directory, *THREE, "n4", "stranger")
    cluster = Cluster(directory)
    addresses = {name: free_address() for name in names}
    try:
        for name in names:
            await cluster.start(name, founders(addresses), addresses[name])
        yield cluster
    finally:
        for name in list(cluster.nodes):
            await cluster.stop(name)


async def test_a_proposal_under_a_term_is_made_by_its_leader_alone(tmp_path: Path) -> None:
    async with running(tmp_path, *THREE) as cluster:
        leader = await cluster.leader()
        await leader.propose(b"1", term=leader.leadership.term)
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        known = leader.leadership
        assert (known.leader, known.leads, follower.leadership.leads) == (leader.name, True, False)
        with pytest.raises(PgError) as caught:  # it would be another's
            await follower.propose(b"2", term=known.term)
        assert caught.value.sqlstate == "57P03"
        waiting = asyncio.create_task(leader.leadership_changed(known))
        await leader.transfer(follower.name)
        assert not (await waiting).leads
        for node in (leader, follower):
            with pytest.raises(PgError) as caught:
                await node.propose(b"3", term=known.term)
            assert caught.value.sqlstate == "57P03"
        await leader.propose(b"4")  # without a term it is sent on
        await follower.read()
        assert cluster.journals[follower.name].writes == [b"1", b"4"]


async def test_a_batch_is_one_write(tmp_path: Path) -> None:
    async with running(tmp_path, "n1") as cluster:
        node = await cluster.leader()
        await node.propose(b"first")
        storage, batches = node._storage, []
        write = storage.write

        def counted(persist: Persist) -> None:
            batches.append(len(persist.entries))
            write(persist)

        storage.write = counted  # type: ignore[method-assign]
        await asyncio.gather(*(node.propose(b"%d" % number) for number in range(100)))
        assert sum(batches) == 100 and len(batches) <= 3


async def test_members_come_and_go(tmp_path: Path) -> None:
    async with running(tmp_path, *THREE) as cluster:
        for first in range(0, 1100, 100):  # more than is kept beside a snapshot
            await asyncio.gather(*(cluster.nodes["n1"].propose(b"%d" % i) for i in range(first, first + 100)))
        new = await cluster.start("n4", joining(), free_address())
        leader = await cluster.led(lambda node: node.add("n4", new.address))
        assert leader.membership.voters == (*THREE, "n4")
        assert cluster.journals["n4"].restored == 1 and len(cluster.journals["n4"].writes) == 1100
        assert await new.propose(b"from n4") == b"1101"
        other = next(name for name in THREE if name != leader.name)
        with pytest.raises(PgError) as raised:
            await cluster.nodes[other].remove("n4")
        assert raised.value.sqlstate == "55000"
        await cluster.led(lambda node: node.transfer("n4"))
        await until(lambda: new.leads)
        await cluster.led(lambda node: node.remove(leader.name))
        assert leader.name not in new.membership.voters and len(new.membership.voters) == 3
        await cluster.stop(leader.name)
        assert await new.propose(b"without") == b"1102"


async def test_without_a_majority_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, *THREE) as cluster:
        leader = await cluster.leader()
        await leader.propose(b"x")
        monkeypatch.setattr("hanse.consensus.raft.node.RAFT_ANSWER_S_MAX", 1.0)
        for name in THREE:
            if name != leader.name:
                await cluster.stop(name)
        with pytest.raises(PgError) as raised:
            await leader.propose(b"y")
        assert raised.value.sqlstate in ("08007", "57P03")  # it is in the leader's log, if that leads yet
        await until(lambda: not leader.leads)
        for attempt in (leader.propose(b"z"), leader.read()):
            with pytest.raises(PgError) as raised:
                await attempt
            assert raised.value.sqlstate == "57P03"


async def test_a_disk_that_fails_ends_the_node_and_not_the_cluster(tmp_path: Path) -> None:
    async with running(tmp_path, *THREE) as cluster:
        leader = await cluster.leader()
        await leader.propose(b"x")
        leader._storage._broken = True
        with contextlib.suppress(PgError):
            await leader.propose(b"y")
        with pytest.raises(PgError, match="must start again"):
            await leader.failed
        await cluster.stop(leader.name)
        written = int(await (await cluster.leader()).propose(b"z"))
        assert written in (2, 3)  # y may have been done


async def test_a_node_whose_log_was_taken_away_ends(tmp_path: Path) -> None:
    """It may have voted, and acknowledged: it must not take part under its name as if it had not."""
    async with running(tmp_path, *THREE) as cluster:
        leader = await cluster.leader()
        await leader.propose(b"x")
        await leader.read(lease=False)
        name = next(name for name in THREE if name != leader.name)
        await until(lambda: cluster.journals[name].writes == [b"x"])
        await until(lambda: leader._raft.state.leading is not None and leader._raft.state.leading.peers[name].match > 2)
        await cluster.stop(name)
        shutil.rmtree(tmp_path / name)
        again = await cluster.start(name, joining(), cluster.addresses[name])
        with pytest.raises(AssertionError, match="is not here any more"):
            async with asyncio.timeout(60):
                await again.failed
        assert await leader.propose(b"y") == b"2"


async def test_a_node_without_a_certificate_of_the_cluster_is_not_heard(tmp_path: Path) -> None:
    """Neither one of another authority, nor one that says it is another node."""
    async with running(tmp_path, *THREE) as cluster:
        leader = await cluster.leader()
        await cluster.stop(next(name for name in THREE if name != leader.name))
        others = tmp_path / "others"
        others.mkdir()
        make_node_certificates(others, *THREE)
        (tmp_path / "as").mkdir()
        for file in ("ca.crt", "stranger.crt", "stranger.key"):
            source = (tmp_path / file).read_bytes()
            (tmp_path / "as" / file.replace("stranger", "n4")).write_bytes(source)
        for certificates, name in ((others, "n1"), (tmp_path / "as", "n4")):
            await _disturb(leader, certificates, name, others / "data", lambda: False)
            assert leader._raft.term < 1000
        await _disturb(leader, tmp_path, "n4", others / "data", lambda: leader._raft.term >= 1000)
        assert leader._raft.term >= 1000  # who has a certificate is heard


async def _disturb(leader: Node, certificates: Path, name: str, data: Path, heard: Callable[[], bool]) -> None:
    """Claims for a while to lead a later term."""
    node, _ = make_node(name, data, certificates, joining(), "127.0.0.1:0")
    await node.start()
    message = Heartbeat(sender=name, receiver=leader.name, term=1000, commit=0, round=1)
    for _ in range(50):
        if heard():
            break
        node._transport.send(message, leader.address)
        await asyncio.sleep(0.02)
    await node.stop()
