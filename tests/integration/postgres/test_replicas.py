"""Three agents with their servers, left to themselves: they fail over, fence, and come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hanse.agent.attempts import ATTEMPT_S_MAX
from hanse.agent.peers import PeerServer, TcpPeers
from hanse.agent.pledges import PledgeFile
from hanse.agent.replica import Replica
from hanse.core.errors import PgError
from hanse.core.node_tls import NodeTls, node_tls
from hanse.engines.postgres.group_files import leave_led_mark
from hanse.replication.asking import Address, Asker, HandOver, Heard, Leads, Reply, WhoLeads, decode, encode
from hanse.replication.pledge import Heartbeat, Message, Pledge, Promote, Recruit
from hanse.replication.record import RuleRecord
from hanse.replication.rule import Policy, rule_of
from support.certificates import make_node_certificates
from support.processes import free_ports, sweep
from support.replicated_group import Group

WAIT_S = 90.0


def tls_of(directory: Path, *names: str) -> dict[str, NodeTls]:
    """Each member is on a node of its own name."""
    make_node_certificates(directory, *names)
    return {
        name: node_tls(directory / "ca.crt", directory / f"{name}.crt", directory / f"{name}.key") for name in names
    }


class CutPeers(TcpPeers):
    """Messages that cross a partition are lost."""

    own = ""
    cut: set[str]

    async def ask(self, name: str, message: Message | WhoLeads, timeout_s: float) -> Reply | Leads:
        if (self.own in self.cut) != (name in self.cut):
            await asyncio.sleep(timeout_s)
            raise TimeoutError
        return await super().ask(name, message, timeout_s)


class Agents:
    """The agents of a group of three, in this process."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.tls = tls_of(group.directory, *group.names)
        self.cut: set[str] = set()
        self.replicas: dict[str, Replica] = {}
        self._servers: list[PeerServer] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        port = free_ports(len(self.group.names))
        addresses = {name: (name, "127.0.0.1", port + place) for place, name in enumerate(self.group.names)}
        pledge = Pledge(group="g1", term=1, attempt="founding", leader="a", record=self.group.record)
        await self._begin(addresses, {name: PledgeFile.create(self.pledge(name), pledge) for name in self.group.names})

    async def _begin(self, addresses: dict[str, Address], files: dict[str, PledgeFile]) -> None:
        accesses = {name: member.access for name, member in self.group.members.items()}
        self._servers = []
        for name, file in files.items():
            peers = CutPeers(addresses, accesses, self.tls[name])
            peers.own, peers.cut = name, self.cut
            replica = Replica(name, self.group.members[name], file, peers)
            server = PeerServer(replica.handle, self.tls[name], partial(_leads, replica))
            await server.start(*addresses[name][1:])
            self.replicas[name] = replica
            self._servers.append(server)
        self._tasks = [asyncio.create_task(replica.run()) for replica in self.replicas.values()]

    async def restart(self, *, servers_too: bool = False) -> None:
        """Other agents take over from agents that have ended; the servers have gone on, or have been stopped in order."""
        leader = self.leader()
        await self.stop()
        if servers_too:
            assert leader is not None
            members = self.group.members.values()
            await asyncio.gather(*(asyncio.to_thread(member.instance.stop) for member in members))
            leave_led_mark(self.group.instance(leader), self.replicas[leader].term)
        port = free_ports(len(self.group.names))
        addresses = {name: (name, "127.0.0.1", port + place) for place, name in enumerate(self.group.names)}
        await self._begin(addresses, {name: PledgeFile.load(self.pledge(name), "g1") for name in self.group.names})

    def pledge(self, name: str) -> Path:
        return self.group.directory / f"{name}.pledge"

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.stop()

    def leader(self) -> str | None:
        return next((name for name, replica in self.replicas.items() if replica.serving), None)


@pytest.fixture
async def agents(run_directory: Path, request: pytest.FixtureRequest) -> AsyncIterator[Agents]:
    async with _agents(run_directory / f"agents-{abs(hash(request.node.name)) % 10**8}") as made:
        await made.start()
        yield made


@contextlib.asynccontextmanager
async def _agents(path: Path) -> AsyncIterator[Agents]:
    """Not started."""
    path.mkdir()
    path.chmod(0o755)
    group = Group(path)
    made = Agents(group)
    try:
        await group.found()
        yield made
    finally:
        await made.stop()
        with contextlib.suppress(Exception):
            await group.stop()
        sweep(path)
        shutil.rmtree(path, ignore_errors=True)


def _leads(replica: Replica) -> Leads:
    return Leads(replica.name, replica.term, replica.serving, replica.lease_left_s, replica.hears)


async def until(what: str, condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}"
        await asyncio.sleep(0.01)
    return value


async def run(agents: Agents, name: str, sql: str) -> list[Any]:
    async with agents.group.members[name].access.connected() as connection:
        return [row[0] for row in await connection.fetch(sql)]


async def write(agents: Agents, value: int) -> str:
    """By whoever serves; the name of who has it."""
    deadline = time.monotonic() + WAIT_S
    while True:
        name = await until("somebody serves", agents.leader)
        with contextlib.suppress(PgError):
            await run(agents, name, f"INSERT INTO public.t VALUES ({value}) ON CONFLICT DO NOTHING")
            return str(name)
        assert time.monotonic() < deadline, "nobody takes a write"


async def all_have(agents: Agents, rows: list[int]) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        with contextlib.suppress(PgError):
            if all([await run(agents, name, "SELECT x FROM public.t ORDER BY x") == rows for name in agents.replicas]):
                return
        assert time.monotonic() < deadline, "the members do not become equal"
        await asyncio.sleep(0.1)


async def test_a_group_heals_itself(agents: Agents) -> None:
    await until("the founder serves", lambda: agents.leader() == "a")
    await run(agents, "a", "CREATE TABLE public.t (x int PRIMARY KEY)")
    first = await write(agents, 1)

    begin = time.monotonic()
    agents.group.kill(first)
    await until("another serves", lambda: agents.leader() not in (first, None))
    second = await write(agents, 2)
    print({"leading server killed": round(time.monotonic() - begin, 2)})
    await all_have(agents, [1, 2])

    second = await until("somebody serves", agents.leader)
    term = agents.replicas[second].term
    await agents.restart()  # the end of an agent is no reason for a failover
    await until("the same leader serves", lambda: (agents.leader(), agents.replicas[second].term) == (second, term))
    await write(agents, 3)
    await all_have(agents, [1, 2, 3])

    await agents.restart(servers_too=True)  # nor is the end of everything
    await until("the same leader serves", lambda: (agents.leader(), agents.replicas[second].term) == (second, term))
    await write(agents, 3)
    await all_have(agents, [1, 2, 3])

    begin = time.monotonic()
    second = await until("somebody serves", agents.leader)
    agents.cut.add(second)
    await until("the majority serves", lambda: agents.leader() not in (second, None))
    assert not agents.replicas[second].serving, "its lease is over"
    await write(agents, 4)
    print({"leader cut off": round(time.monotonic() - begin, 2)})
    agents.cut.clear()
    await all_have(agents, [1, 2, 3, 4])

    leader = await until("somebody serves", agents.leader)
    successor, _ = others = sorted(agents.replicas.keys() - {leader})
    agents.cut.add(
        successor
    )  # its server has everything, and its agent says nothing: the former leader's data are needed
    begin, replica = time.monotonic(), agents.replicas[leader]
    assert isinstance(replica.hand_over(HandOver(replica.term, successor, tuple(others))), Heard)
    await until("it has handed over", lambda: not replica.serving)
    await until("somebody serves", agents.leader)
    assert time.monotonic() - begin < ATTEMPT_S_MAX
    agents.cut.clear()
    await write(agents, 5)
    await all_have(agents, [1, 2, 3, 4, 5])


@contextlib.contextmanager
def small_disk(directory: Path, aside: Path) -> Iterator[None]:
    """Puts what is in `directory` onto a file system of its own, in memory. Skips the test where that is not allowed."""
    directory.rename(aside)
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=384m", "tmpfs", directory], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here (it needs root, and the right to mount)")
    try:
        subprocess.run(["cp", "-a", f"{aside}/.", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as target:
        while True:
            target.write(b"x" * 4096)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to mount a small file system")
async def test_a_leader_whose_disk_is_full_is_lost_and_comes_back_when_there_is_room(run_directory: Path) -> None:
    async with _agents(run_directory / "agents-full") as agents:
        leader = agents.group.members["a"].instance
        await asyncio.to_thread(leader.stop)
        with small_disk(leader.directory, run_directory / "agents-full" / "aside"):
            try:
                await asyncio.to_thread(leader.bring_up)
                await agents.start()
                await until("the founder serves", lambda: agents.leader() == "a")
                await run(agents, "a", "CREATE TABLE public.t (x int PRIMARY KEY)")
                await write(agents, 1)
                filler = leader.directory / "filler"
                await asyncio.to_thread(fill, filler)
                await until("another serves", lambda: agents.leader() not in ("a", None))
                await write(agents, 2)
                filler.unlink()
                await all_have(agents, [1, 2])
            finally:
                await agents.stop()
                await agents.group.stop()


async def test_only_nodes_of_the_cluster_are_answered(tmp_path: Path) -> None:
    asked: list[Message] = []

    async def handle(message: Message) -> Reply:
        asked.append(message)
        if message.term == 3:
            raise TimeoutError
        return Heard("a", message.term)

    for name in ("ours", "others"):
        (tmp_path / name).mkdir()
    tls, stranger = tls_of(tmp_path / "ours", "a", "b"), tls_of(tmp_path / "others", "b")["b"]
    port = free_ports(1)
    server = PeerServer(handle, tls["a"])
    await server.start("127.0.0.1", port)
    asker, impostor = Asker(tls["b"]), Asker(stranger)
    try:
        with pytest.raises(OSError):
            await impostor.ask(("a", "127.0.0.1", port), Recruit(2, "r"), timeout_s=10)
        with pytest.raises(OSError):  # another node than the one that is called
            await asker.ask(("c", "127.0.0.1", port), Recruit(2, "r"), timeout_s=10)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)  # without TLS
        writer.write(encode(Recruit(2, "r")))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert asked == []
        for _ in range(2):
            assert await asker.ask(("a", "127.0.0.1", port), Recruit(2, "r"), timeout_s=10) == Heard("a", 2)
        assert server.server.connections == 1  # a connection is kept
        with pytest.raises((EOFError, OSError)):
            await asker.ask(("a", "127.0.0.1", port), Recruit(3, "r"), timeout_s=10)
        await server.stop()
        server = PeerServer(handle, tls["a"])
        await server.start("127.0.0.1", port)
        assert await asker.ask(("a", "127.0.0.1", port), Recruit(4, "r"), timeout_s=10) == Heard("a", 4)
    finally:
        asker.close()
        await server.stop()


def test_frames_carry_what_was_said() -> None:
    record = RuleRecord(
        term=2,
        serial=0,
        leader="a",
        promotion_id="r",
        rule=rule_of(Policy.ALL, "abc"),
        previous=rule_of(Policy.ASYNC, "ab"),
    )
    for message in (Promote(2, "r", record, 0.5), Heartbeat(2, "r", "a", 1.25), Heartbeat(2, "r", "a")):
        frame = encode(message)
        assert decode(frame[4:]) == message
        with pytest.raises(ValueError, match="cannot be read"):
            decode(frame[4:] + b"x")
