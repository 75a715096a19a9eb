"""What a cluster does after a fault, with times: seen from outside, as `hanse status` and a client see it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from ...agent.cluster_dir import load_existing
from ...agent.observe import ClusterStatus, observe_processes, with_replication
from ...config import DEFAULT_USER, ClusterConfig, Secrets
from .load import Beat, Clients

POLL_S = 0.05


@dataclass(slots=True)
class Cluster:
    data_dir: Path
    config: ClusterConfig
    secrets: Secrets

    def status(self) -> ClusterStatus:
        """Of the instances that there are now: groups change."""
        return observe_processes(self.data_dir, load_existing(self.data_dir)[0], self.secrets)

    async def look(self) -> ClusterStatus:
        """With the followers, where it may be whole."""
        status = await asyncio.to_thread(self.status)
        return await with_replication(status, self.config, self.secrets) if runs(status) else status

    def clients(self, *, without: str | tuple[str, ...] = (), only: str = "") -> Clients:
        """Through the gateways of all nodes; of all but some, unless there is no other; of one."""
        left_out = (without,) if isinstance(without, str) else without
        ports = [
            each.gateway_port for each in self.config.nodes if each.name not in left_out and only in ("", each.name)
        ]
        return Clients(
            self.config.host, ports or [self.config.nodes[0].gateway_port], DEFAULT_USER,
            self.secrets.user_password, self.config.database,
        )  # fmt: skip


def runs(status: ClusterStatus) -> bool:
    """Everything runs, and each group has one leader."""
    leaders = [sum(each.role == "leader" for each in group.instances) for group in status.groups]
    return status.state == "running" and all(count == 1 for count in leaders)


def is_whole(status: ClusterStatus) -> bool:
    """And every follower streams: the next fault would not be one too many."""
    followers = [each for group in status.groups for each in group.instances if each.name != group.leader]
    return runs(status) and all(each.replication == "streaming" for each in followers)


def facts(status: ClusterStatus) -> dict[str, str]:
    """Part → what it is now."""
    found = {f"node {node.name}": node.state for node in status.nodes}
    found |= {f"gateway {each.node}.{each.worker}": each.state for each in status.gateways}
    for group in status.groups:
        for each in group.instances:
            found[each.name] = f"{each.role}, {each.state}" if each.state != "stopped" else "stopped"
    return found


@dataclass(slots=True)
class Watch:
    """Tells changes of the processes and pauses of the writing clients; times count from `begin`."""

    cluster: Cluster
    beats: dict[str, Beat]  # group → its client
    say: Callable[[float, str], None]
    poll_s: float = POLL_S
    _before: dict[str, str] = field(default_factory=dict)
    _told: dict[str, int] = field(default_factory=dict)
    _begun: float = 0.0

    async def begin(self) -> None:
        """Just before the fault."""
        self._before = facts(await asyncio.to_thread(self.cluster.status))
        self._told = {group: len(beat.gaps) for group, beat in self.beats.items()}
        self._begun = monotonic()

    async def until(self, over: Callable[[ClusterStatus], bool], timeout_s: float) -> bool:
        """Whether `over`, and every group answers a write that was sent after that, in time."""
        until, since = monotonic() + timeout_s, math.inf
        while monotonic() < until:
            status = await self.cluster.look()
            for text in (*self._changes(facts(status)), *self._pauses()):
                self.say(monotonic() - self._begun, text)
            since = min(since, monotonic()) if over(status) else math.inf
            if all(beat.begun > since for beat in self.beats.values()):
                return True
            await asyncio.sleep(self.poll_s)
        return False

    def longest(self) -> dict[str, float]:
        """Group → the longest time without an answer since `begin`, in seconds."""
        return {
            group: max((end - begin for begin, end in beat.gaps if end > self._begun), default=0.0)
            for group, beat in self.beats.items()
        }

    def _changes(self, now: dict[str, str]) -> Iterator[str]:
        for part, state in now.items():
            if self._before.get(part) != state:
                yield f"{part}: {state}"
        self._before = now

    def _pauses(self) -> Iterator[str]:
        for group, beat in self.beats.items():
            for begin, end in beat.gaps[self._told.get(group, 0) :]:
                yield f"{group} takes writes again, after {end - begin:.2f} s without an answer"
            self._told[group] = len(beat.gaps)
