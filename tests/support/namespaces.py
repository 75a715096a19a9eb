"""Nodes as machines of their own: Linux network namespaces with a router between them, which drops what it is told to, and a small
disk for one of them.

    n1  10.213.1.2 ── 10.213.1.1 ┐
    n2  10.213.2.2 ── 10.213.2.1 ├ router
    n3  10.213.3.2 ── 10.213.3.1 ┘

Each namespace lives as long as a process that sleeps in it, so nothing is left when these are killed. Clients are threads that have
entered the router's namespace. Needs root, on Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from hanse.agent.cluster_dir import prepare
from hanse.agent.observe import observe_processes
from hanse.agent.topology import Request
from hanse.config import NodeConfig, save
from support.processes import free_ports, stop, sweep, wait_until
from support.servers import PASSWORD, Cluster, Server

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
DISK_MB = 768
TOOLS = ("ip", "nsenter", "unshare")


def missing() -> str | None:
    """Why there can be no namespaces here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"there is no program {absent[0]} here"
    commands = (
        "ip link add v1 type veth peer name v2 && ip rule add iif v1 blackhole && sysctl -qw net.ipv4.ip_forward=1"
        " && mount -t tmpfs -o size=1m tmpfs /mnt"
    )
    tried = subprocess.run(["unshare", "--net", "--mount", "sh", "-c", commands], capture_output=True, text=True)
    return f"namespaces or mounts cannot be made here: {tried.stderr.strip()}" if tried.returncode else None


class Network:
    def __init__(self, directory: Path, nodes: int) -> None:
        self._sleepers: list[subprocess.Popen[bytes]] = []
        self._cuts: set[tuple[int, int]] = set()
        own = os.readlink("/proc/self/ns/net")
        for _ in range(nodes + 1):
            sleeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], cwd=directory)
            self._sleepers.append(sleeper)
            wait_until("a namespace", lambda pid=sleeper.pid: os.readlink(f"/proc/{pid}/ns/net") != own)
        self._in(0, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for number in range(1, nodes + 1):
            pid = str(self._sleepers[number].pid)
            self._in(0, "ip", "link", "add", f"n{number}", "type", "veth", "peer", "name", "eth0", "netns", pid)
            for place, device, host in ((0, f"n{number}", 1), (number, "eth0", 2)):
                self._in(place, "ip", "address", "add", f"10.213.{number}.{host}/24", "dev", device)
                self._in(place, "ip", "link", "set", device, "up")
            self._in(number, "ip", "link", "set", "lo", "up")
            self._in(number, "ip", "route", "add", "default", "via", f"10.213.{number}.1")

    def _in(self, place: int, *command: str) -> None:
        subprocess.run([*self.prefix(place), *command], check=True, capture_output=True)

    def prefix(self, place: int) -> list[str]:
        """Of a command that is to run in the namespace of a node; 0: of the router."""
        return ["nsenter", f"--net=/proc/{self._sleepers[place].pid}/ns/net"]

    def enter(self) -> None:
        """Sockets that this thread opens from now on are the router's."""
        with open(f"/proc/{self._sleepers[0].pid}/ns/net") as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def within(self, work: Callable[[], T]) -> T:
        with ThreadPoolExecutor(1, initializer=self.enter) as thread:
            return thread.submit(work).result()

    def cut(self, sender: int, receiver: int) -> None:
        """Packets from node to node are dropped, in silence, in this direction."""
        self._cuts.add((sender, receiver))
        self._rule("add", sender, receiver)

    def heal(self) -> None:
        for sender, receiver in self._cuts:
            self._rule("del", sender, receiver)
        self._cuts.clear()

    def _rule(self, action: str, sender: int, receiver: int) -> None:
        self._in(0, "ip", "rule", action, "iif", f"n{sender}", "to", f"10.213.{receiver}.0/24", "blackhole")

    def close(self) -> None:
        for sleeper in self._sleepers:
            sleeper.kill()
            sleeper.wait()


@contextlib.contextmanager
def three_machines(run_directory: Path) -> Iterator[tuple[Cluster, Network]]:
    """Three nodes and a group of three, each node in a network of its own; the directory of n2 is a small file system."""
    directory = run_directory / f"machines-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    network = Network(directory, 3)
    agents: list[subprocess.Popen[bytes]] = []
    try:
        data, port = directory / "data", free_ports(3)
        disk = data / "n2"
        disk.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", disk], check=True)
        prepared = prepare(data, Request(nodes=3, groups=1, replicas=3, port=port, password=PASSWORD))
        for config in prepared.configs:
            save(Path(config.data_dir) / "node.json", _with_addresses(config))
            (data / config.name / "log").mkdir(exist_ok=True)
        os.close(prepared.lock)
        cluster = Cluster(data, Server("10.213.1.2", port, "hanse", PASSWORD, "hanse"))

        def running() -> bool:
            """One that could not be made in time is begun again, as `hanse up` does."""
            for number, config in enumerate(prepared.configs):
                if len(agents) <= number:
                    agents.append(_start(network.prefix(number + 1), config))
                elif agents[number].poll() is not None:
                    agents[number] = _start(network.prefix(number + 1), config)
            return observe_processes(data, prepared.cluster, prepared.secrets).state == "running"

        wait_until("the nodes are ready", running, timeout_s=240, every_s=0.5)
        yield cluster, network
    finally:
        network.heal()
        for agent in agents:
            agent.terminate()
        for agent in agents:
            stop(agent.pid, timeout_s=60)
            agent.wait()
        network.close()
        sweep(directory)
        subprocess.run(["umount", "-l", directory / "data" / "n2"], capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)


def _start(prefix: list[str], config: NodeConfig) -> subprocess.Popen[bytes]:
    directory = Path(config.data_dir)
    command = [*prefix, sys.executable, "-P", "-m", "hanse.cli.main", "node", "--config", str(directory / "node.json")]
    with (directory / "log" / "agent.log").open("ab") as log:
        return subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)


def _with_addresses(config: NodeConfig) -> NodeConfig:
    """As if each node had been made on a machine of its own; g1.3 is on n3."""
    hosts = {node.name: _address(node.name) for node in config.control}
    instances = tuple(
        msgspec.structs.replace(
            each,
            members=tuple(msgspec.structs.replace(m, host=_address(m.name.replace("g1.", "n"))) for m in each.members),
        )
        for each in config.instances
    )
    return msgspec.structs.replace(
        config,
        host=_address(config.name),
        control=tuple(msgspec.structs.replace(each, host=hosts[each.name]) for each in config.control),
        instances=instances,
    )


def _address(node: str) -> str:
    return f"10.213.{node.removeprefix('n')}.2"
