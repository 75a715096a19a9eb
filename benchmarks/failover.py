"""For how long writes pause when something is lost: a client writes in each group all the time, and each fault comes many times.

    python -m benchmarks.failover                         20 runs of each fault
    python -m benchmarks.failover --runs 5 --fault kill-leader --fault kill-node

`partition` cuts a leading node's agents off, while PostgreSQL's own connections go on; `disk-full` needs root, because the
directory of one node is a file system of its own then. A fault that lasts goes on until others
lead in place of what is lost, and take writes.

The cluster is `hanse up --nodes 3 --groups 2 --replicas 3` in a temporary directory. A pause is the longest time without an
answer to either client, from the last answer before it to the first after it. Errors are what the two clients were told: of
statements that were under way when their server died. A run after which the cluster is not whole in WHOLE_S_MAX is counted
there as well, and its pause is what it was until then.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

import asyncpg

from hanse.agent.cluster_dir import load_existing
from hanse.agent.observe import ClusterStatus, GroupStatus
from hanse.agent.orders import tell
from hanse.cli.chaos import disk, network, targets
from hanse.cli.chaos.single import watched
from hanse.cli.chaos.watching import Cluster, Watch, is_whole
from hanse.core.errors import UserMistake
from support.processes import free_ports
from support.servers import hanse

CLIENTS_AT = "n1"  # its gateway; what is lost is elsewhere
SHORTEST_S = 0.02  # a pause that counts as one
LOOK_S = 0.25  # between two looks at the cluster, which take time from it
QUIET_S = 2.5  # before a fault: leases are as they are in quiet times
LASTING_S_MAX = 15.0  # of a fault; longer than any silence that is forgiven
WHOLE_S_MAX = 90.0
NOT_WHOLE = "not whole"
FAILURES_MAX = 2  # in a row; then the cluster is given up

DISK_AT, DISK_MB = "n2", 1024  # the node whose disk is small, where that is possible
ELSEWHERE = ("n2", "n3")  # than the clients

Fault = Callable[[Watch], Awaitable[None]]


def _leader(status: ClusterStatus) -> targets.Target:
    return targets.find_target(status, f"{random.choice(status.groups).name}:leader")


def _leading_node(status: ClusterStatus) -> targets.Target:
    leaders = [targets.find_target(status, f"{group.name}:leader") for group in status.groups]
    return targets.find_target(status, next(each.node for each in leaders if each.node != CLIENTS_AT))


def _leaders_at(status: ClusterStatus, nodes: Collection[str]) -> set[str]:
    """Instances that lead."""
    members = (each for group in status.groups for each in group.instances if each.name == group.leader)
    return {each.name for each in members if each.node in nodes}


async def kill_leader(watch: Watch) -> None:
    await asyncio.to_thread(targets.kill, _leader(watch.cluster.status()))


async def kill_node(watch: Watch) -> None:
    await asyncio.to_thread(targets.kill, _leading_node(watch.cluster.status()))


async def _lasting(
    watch: Watch, target: targets.Target, begin: Callable[[], object], end: Callable[[], object]
) -> None:
    """Until others lead in place of all that is lost, and take writes."""
    leading = _leaders_at(watch.cluster.status(), (target.node,))
    former = leading & {target.name} or leading

    def succeeded(status: ClusterStatus) -> bool:
        stopped = targets.is_paused(target)  # who is stopped did not hear that it leads no more
        return all(_is_succeeded(group, former, stopped) for group in status.groups)

    try:
        await asyncio.to_thread(begin)
        await watch.until(succeeded, LASTING_S_MAX)
    finally:
        await asyncio.to_thread(end)


def _is_succeeded(group: GroupStatus, former: Collection[str], stopped: bool) -> bool:
    leaders = {each.name for each in group.instances if each.role == "leader" and each.state == "running"}
    return bool(leaders.difference(former)) and (stopped or leaders.isdisjoint(former))


async def _paused(watch: Watch, target: targets.Target) -> None:
    await _lasting(watch, target, lambda: targets.pause(target), lambda: targets.resume(target))


async def pause_leader(watch: Watch) -> None:
    status = watch.cluster.status()
    name = random.choice(status.groups).leader
    assert name is not None
    await _paused(watch, targets.find_target(status, name))


async def pause_node(watch: Watch) -> None:
    await _paused(watch, _leading_node(watch.cluster.status()))


async def partition(watch: Watch) -> None:
    cluster, target = watch.cluster, _leading_node(watch.cluster.status())
    cut = partial(network.partition, cluster, (target.name,), "both")
    await _lasting(watch, target, cut, partial(network.whole, cluster))


async def disk_full(watch: Watch) -> None:
    cluster, target = watch.cluster, targets.find_target(watch.cluster.status(), DISK_AT)
    await _lasting(watch, target, partial(disk.fill, cluster.data_dir / DISK_AT), partial(disk.empty, cluster))


async def switchover(watch: Watch) -> None:
    """No fault: another leader, on purpose."""
    group = random.choice(watch.cluster.status().groups)
    await _lead_from(watch.cluster, group, [each.node for each in group.instances if each.name != group.leader])


async def _lead_from(cluster: Cluster, group: GroupStatus, nodes: Sequence[str]) -> None:
    await tell(
        cluster.config, cluster.secrets, f"ALTER TABLESPACE {group.name} SET (leader = '{random.choice(nodes)}')"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    name: str  # in the table
    fault: Fault
    led_at: Sequence[str] = ()  # a group is to be led at one of these; empty: anywhere
    target_s: float | None = None


KINDS = {
    "kill-leader": Kind(name="leader killed", fault=kill_leader, target_s=0.5),
    "kill-node": Kind(name="node killed", fault=kill_node, led_at=ELSEWHERE, target_s=3.0),
    "pause-leader": Kind(name="leading server stopped (SIGSTOP)", fault=pause_leader, target_s=3.0),
    "pause-node": Kind(name="node stopped", fault=pause_node, led_at=ELSEWHERE, target_s=3.0),
    "partition": Kind(name="node cut off", fault=partition, led_at=ELSEWHERE, target_s=3.0),
    "disk-full": Kind(name="disk full", fault=disk_full, led_at=(DISK_AT,)),
    "switchover": Kind(name="switchover", fault=switchover, target_s=0.3),
}


@dataclass(slots=True)
class Measured:
    pauses: list[float] = field(default_factory=list)  # seconds, of each run
    whole: list[float] = field(default_factory=list)  # seconds from a fault until everything is as it was
    errors: Counter[str] = field(default_factory=Counter)  # SQLSTATE or what was wrong with a run, → how often


async def measure(watch: Watch, kind: Kind, runs: int) -> Measured:
    """Ends early where FAILURES_MAX runs in a row did not go as they should."""
    found, failures = Measured(), 0
    for _ in range(runs):
        try:
            await _until_ready(watch, kind)
            await _run_once(watch, kind, found)
        except (UserMistake, asyncpg.PostgresError, OSError, TimeoutError) as error:
            print(f"{kind.name}: {error}", file=sys.stderr, flush=True)
            found.errors[NOT_WHOLE] += 1
            failures += 1
            if failures == FAILURES_MAX:
                break
            _heal(watch.cluster)
        else:
            failures = 0
    return found


async def _until_ready(watch: Watch, kind: Kind) -> None:
    await _until_whole(watch)
    status = watch.cluster.status()
    if kind.led_at and not _leaders_at(status, kind.led_at):
        await _lead_from(watch.cluster, random.choice(status.groups), kind.led_at)
        await _until_whole(watch)
    await asyncio.sleep(QUIET_S)


async def _until_whole(watch: Watch) -> None:
    if not await watch.until(is_whole, WHOLE_S_MAX):
        raise UserMistake(f"the cluster is not whole after {WHOLE_S_MAX:.0f} s")


async def _run_once(watch: Watch, kind: Kind, found: Measured) -> None:
    before = _errors(watch)
    await watch.begin()
    began = monotonic()
    try:
        await kind.fault(watch)
        await _until_whole(watch)
        found.whole.append(monotonic() - began)
    finally:
        silent = max(monotonic() - beat.last for beat in watch.beats.values())
        found.pauses.append(max(silent, *watch.longest().values()))
        found.errors += _errors(watch) - before


def _errors(watch: Watch) -> Counter[str]:
    return sum((beat.errors.seen for beat in watch.beats.values()), Counter[str]())


def _heal(cluster: Cluster) -> None:
    targets.resume(targets.everything(cluster.status()))
    network.whole(cluster)
    disk.empty(cluster)


def row(kind: Kind, found: Measured) -> str:
    pauses = sorted(found.pauses)
    if not pauses:
        return f"| {kind.name} | 0 | – | – | – | {_told(found)} | – |"
    p50, p99 = statistics.median(pauses), pauses[min(len(pauses) - 1, round(0.99 * len(pauses)))]
    times = f"{p50:.2f} | {p99:.2f} | {pauses[-1]:.2f}"
    return f"| {kind.name} | {len(pauses)} | {times} | {_told(found)} | {_judged(kind.target_s, p50, p99)} |"


def _told(found: Measured) -> str:
    return ", ".join(f"{state} × {count}" for state, count in sorted(found.errors.items())) or "none"


def _judged(target_s: float | None, p50: float, p99: float) -> str:
    if target_s is None:
        return "none"
    if p99 <= target_s:
        return f"≤ {target_s:g}: met"
    return f"≤ {target_s:g}: " + ("met by p50, **missed** by p99" if p50 <= target_s else "**missed**")


async def run(data: Path, kinds: Sequence[Kind], runs: int) -> None:
    cluster = Cluster(data, *load_existing(data))
    print("| fault | runs | p50 s | p99 s | longest s | errors | target |", flush=True)
    print("| --- | ---: | ---: | ---: | ---: | --- | --- |", flush=True)
    async with watched(cluster, cluster.clients(only=CLIENTS_AT)) as watch:
        watch.say, watch.poll_s = (lambda at, text: None), LOOK_S
        for beat in watch.beats.values():
            beat.gap_s = SHORTEST_S
        for kind in kinds:
            began = monotonic()
            found = await measure(watch, kind, runs)
            print(row(kind, found), flush=True)
            whole = f"{statistics.median(found.whole):.1f} s" if found.whole else "never"
            print(
                f"{kind.name}: {monotonic() - began:.0f} s; whole again after {whole} (p50)",
                file=sys.stderr,
                flush=True,
            )


def _give_disk(directory: Path) -> bool:
    """Whether it is one of its own now."""
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", str(directory)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--fault", action="append", choices=list(KINDS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hanse-failover-") as directory, ExitStack() as after:
        Path(directory).chmod(0o755)
        data = Path(directory) / "data"
        disk_given = _give_disk(data / DISK_AT)
        if disk_given:
            after.callback(subprocess.run, ["umount", "-l", data / DISK_AT], check=False)
        names = arguments.fault or [name for name in KINDS if disk_given or name != "disk-full"]
        hanse("up", "--detach", "--data", str(data), "--port", str(free_ports(3)), "--nodes", "3", "--groups", "2",
              "--replicas", "3", timeout_s=180)  # fmt: skip
        after.callback(hanse, "down", "--data", str(data))
        asyncio.run(run(data, [KINDS[name] for name in names], arguments.runs))


if __name__ == "__main__":
    main()
