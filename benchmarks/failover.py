"""For how long writes pause when something is lost: a client writes in each group all the time, and each fault comes many times.

    python -m benchmarks.failover                         20 runs of each fault, about a quarter of an hour
    python -m benchmarks.failover --runs 5 --fault kill-leader --fault kill-node

`partition` cuts a leading node's agents off, while PostgreSQL's own connections go on; `disk-full` needs root, because the
directory of one node is a file system of its own then.

The cluster is `hanse up --nodes 3 --groups 2 --replicas 3` in a temporary directory. A pause is the longest time without an
answer to either client, from the last answer before it to the first after it. Errors are what the two clients were told: of
statements that were under way when their server died.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from hanse.agent.cluster_dir import load_existing
from hanse.agent.observe import ClusterStatus
from hanse.cli.chaos import disk, network, targets
from hanse.cli.chaos.single import watched
from hanse.cli.chaos.watching import Cluster, Watch, is_whole
from support.processes import free_ports
from support.servers import hanse

CLIENTS_AT = "n1"  # its gateway; what is lost is elsewhere
SHORTEST_S = 0.02  # a pause that counts as one
PAUSED_S = 6.0  # longer than any silence that is forgiven
WHOLE_S_MAX = 180.0

DISK_AT, DISK_MB = "n2", 1024  # the node whose disk is small, where that is possible

Fault = Callable[[Cluster], Awaitable[None]]


def _leader(status: ClusterStatus) -> targets.Target:
    return targets.find_target(status, f"{random.choice(status.groups).name}:leader")


def _leading_node(status: ClusterStatus) -> targets.Target:
    leaders = [targets.find_target(status, f"{group.name}:leader") for group in status.groups]
    return targets.find_target(status, next(each.node for each in leaders if each.node != CLIENTS_AT))


def _leads_where(status: ClusterStatus, nodes: Collection[str]) -> bool:
    return any(each.name == group.leader and each.node in nodes for group in status.groups for each in group.instances)


async def kill_leader(cluster: Cluster) -> None:
    await asyncio.to_thread(targets.kill, _leader(cluster.status()))


async def kill_node(cluster: Cluster) -> None:
    await asyncio.to_thread(targets.kill, _leading_node(cluster.status()))


async def _paused(target: targets.Target) -> None:
    targets.pause(target)
    try:
        await asyncio.sleep(PAUSED_S)
    finally:
        targets.resume(target)


async def pause_leader(cluster: Cluster) -> None:
    await _paused(_leader(cluster.status()))


async def pause_node(cluster: Cluster) -> None:
    await _paused(_leading_node(cluster.status()))


async def partition(cluster: Cluster) -> None:
    network.partition(cluster, (_leading_node(cluster.status()).name,), "both")
    try:
        await asyncio.sleep(PAUSED_S)
    finally:
        network.whole(cluster)


async def disk_full(cluster: Cluster) -> None:
    await asyncio.to_thread(disk.fill, cluster.data_dir / DISK_AT)
    try:
        await asyncio.sleep(2 * PAUSED_S)  # it is found out by writes that fail, one after another
    finally:
        disk.empty(cluster)


async def switchover(cluster: Cluster) -> None:
    """No fault: another leader, on purpose."""
    status = cluster.status()
    group = random.choice(status.groups)
    node = next(each.node for each in group.instances if each.name != group.leader)
    await asyncio.to_thread(hanse, "switchover", group.name, node, "--data", status.data)


FAULTS: dict[str, Fault] = {
    "switchover": switchover,
    "kill-leader": kill_leader,
    "kill-node": kill_node,
    "pause-leader": pause_leader,
    "pause-node": pause_node,
    "partition": partition,
    "disk-full": disk_full,
}

ELSEWHERE = ("n2", "n3")  # than the clients
LED_AT = {"kill-node": ELSEWHERE, "pause-node": ELSEWHERE, "partition": ELSEWHERE, "disk-full": (DISK_AT,)}


async def measure(watch: Watch, name: str, runs: int) -> tuple[list[float], Counter[str]]:
    """Seconds of each run, and errors."""
    before = sum((beat.errors.seen for beat in watch.beats.values()), Counter[str]())
    pauses: list[float] = []
    for _ in range(runs):
        if not await watch.until(is_whole, WHOLE_S_MAX):
            raise SystemExit("the cluster does not become whole")
        while name in LED_AT and not _leads_where(watch.cluster.status(), LED_AT[name]):
            await kill_leader(watch.cluster)
            await watch.until(is_whole, WHOLE_S_MAX)
        await asyncio.sleep(3.0)  # leases and slots are as they are in quiet times
        await watch.begin()
        await FAULTS[name](watch.cluster)
        if not await watch.until(is_whole, WHOLE_S_MAX):
            raise SystemExit("the cluster does not become whole")
        pauses.append(max(watch.longest().values()))
    after = sum((beat.errors.seen for beat in watch.beats.values()), Counter[str]())
    return sorted(pauses), after - before


def row(name: str, pauses: list[float], errors: Counter[str]) -> str:
    p99 = pauses[min(len(pauses) - 1, round(0.99 * len(pauses)))]
    told = ", ".join(f"{state} × {count}" for state, count in sorted(errors.items())) or "none"
    return f"| {name} | {len(pauses)} | {statistics.median(pauses):.2f} | {p99:.2f} | {pauses[-1]:.2f} | {told} |"


async def run(data: Path, names: list[str], runs: int) -> None:
    cluster = Cluster(data, *load_existing(data))
    print(
        "| fault | runs | p50 s | p99 s | longest s | errors |\n| --- | ---: | ---: | ---: | ---: | --- |", flush=True
    )
    async with watched(cluster, cluster.clients(only=CLIENTS_AT)) as watch:
        watch.say = lambda at, text: None
        for beat in watch.beats.values():
            beat.gap_s = SHORTEST_S
        for name in names:
            print(row(name, *await measure(watch, name, runs)), flush=True)


def _give_disk(directory: Path) -> bool:
    """Whether it is one of its own now."""
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", str(directory)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--fault", action="append", choices=list(FAULTS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hanse-failover-") as directory:
        Path(directory).chmod(0o755)
        data = Path(directory) / "data"
        disk_given = _give_disk(data / DISK_AT)
        faults = [name for name in FAULTS if disk_given or name != "disk-full"]
        hanse("up", "--detach", "--data", str(data), "--port", str(free_ports(3)), "--nodes", "3", "--groups", "2",
              "--replicas", "3", timeout_s=180)  # fmt: skip
        try:
            asyncio.run(run(data, arguments.fault or faults, arguments.runs))
        finally:
            hanse("down", "--data", str(data))
            if disk_given:
                subprocess.run(["umount", "-l", data / DISK_AT], check=False)


if __name__ == "__main__":
    main()
