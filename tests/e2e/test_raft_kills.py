"""Three Raft nodes, each a process; the leader is killed with -9 again and again, while clients write and read.

Whatever was answered is there at the end, everybody has the same, and the history is linearizable (`simulation/raft_checks.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.certificates import make_node_certificates
from support.raft_nodes import THREE, free_address

sys.path.insert(0, str(Path(__file__).parents[1] / "simulation"))

from raft_checks import Checks, Operation

TESTS = Path(__file__).parents[1]
KILLS = int(os.environ.get("HANSE_TEST_RAFT_KILLS", "4"))


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = {name: int(free_address().partition(":")[2]) for name in THREE}
        self.addresses = ",".join(f"{name}={free_address()}" for name in THREE)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.checks = Checks()

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "support.raft_nodes", name, str(self.directory), str(self.ports[name])]
        with open(self.directory / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [*command, self.addresses], cwd=TESTS, stdin=subprocess.PIPE, stderr=log
            )

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()

    async def ask(self, name: str, line: str, timeout_s: float = 20) -> list[str]:
        """The words of the answer. Raises OSError or TimeoutError, after which nothing is known."""
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[name], limit=1 << 22)
            try:
                writer.write(line.encode() + b"\n")
                answer = await reader.readline()
            finally:
                writer.close()
        if not answer.endswith(b"\n"):
            raise ConnectionError("it ended")
        return answer.decode().split()

    async def leader(self) -> str:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            for name in self.processes:
                with contextlib.suppress(OSError, TimeoutError):
                    state = await self.ask(name, "state", 2)
                    if state[1] == "1":
                        return name
            await asyncio.sleep(0.05)
        raise AssertionError("nobody leads")

    async def operate(self, draw: random.Random) -> None:
        operation = Operation(len(self.checks.operations), time.monotonic(), writes=draw.random() < 0.6)
        self.checks.operations.append(operation)
        line = f"write {operation.number}" if operation.writes else draw.choice(("read lease", "read index"))
        try:
            word, told = await self.ask(draw.choice(THREE), line)
        except (OSError, TimeoutError):
            await asyncio.sleep(0.05)  # to a node that is not there
            return
        if word == "ok":
            operation.end, operation.version = time.monotonic(), int(told)
        else:
            assert told in ("57P03", "08007")


async def test_kill_9_of_the_leader_loses_nothing(tmp_path: Path) -> None:
    make_node_certificates(tmp_path, *THREE)
    cluster = Cluster(tmp_path)
    stopped = asyncio.Event()

    async def client(seed: int) -> None:
        draw = random.Random(seed)
        while not stopped.is_set():
            await cluster.operate(draw)

    try:
        for name in THREE:
            cluster.start(name)
        await cluster.leader()
        async with asyncio.TaskGroup() as group:
            for seed in range(6):
                group.create_task(client(seed))
            for _ in range(KILLS):
                await written_more(cluster, 30)
                leader = await cluster.leader()
                cluster.kill(leader)
                await written_more(cluster, 10)  # the others go on
                cluster.start(leader)
            await written_more(cluster, 30)
            stopped.set()
        journals = [await journal(cluster, name) for name in THREE]
    finally:
        for name in list(cluster.processes):
            cluster.kill(name)
    judge(cluster.checks, journals)


async def written_more(cluster: Cluster, count: int) -> None:
    def answered() -> int:
        return sum(each.writes and each.end is not None for each in cluster.checks.operations)

    wanted, deadline = answered() + count, time.monotonic() + 90
    while answered() < wanted:
        assert time.monotonic() < deadline, "no write is answered"
        await asyncio.sleep(0.02)


async def journal(cluster: Cluster, name: str) -> list[int]:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError, TimeoutError):  # the last that was killed may not listen yet
            if (await cluster.ask(name, "read index"))[0] == "ok":
                break
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return [int(number) for number in (await cluster.ask(name, "state"))[3:]]


def judge(checks: Checks, journals: list[list[int]]) -> None:
    assert journals[0] == journals[1] == journals[2]
    assert len(set(journals[0])) == len(journals[0])  # nothing twice
    for version, number in enumerate(journals[0], start=1):
        operation = checks.operations[number]
        assert operation.version in (None, version)
        operation.version = version  # also of one whose answer was lost
    assert {each.number for each in checks.operations if each.writes and each.end} <= set(journals[0])
    checks.linearizable()
