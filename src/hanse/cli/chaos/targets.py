"""What faults are done to, and the faults: signals to processes of a local cluster.

Nothing is remembered: who is stopped is seen from the processes, and `resume` sends SIGCONT to all that a target has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

from ...agent.observe import ClusterStatus, InstanceStatus, NodeStatus
from ...core.errors import UserMistake

GONE_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """`pids`: in the order in which they are hit, so that nobody repairs what is hit next."""

    name: str
    pids: tuple[int, ...]
    node: str  # where it is; a gateway of another node looks on


def find_target(status: ClusterStatus, text: str) -> Target:
    """n2 (a node), n2:agent, n2:gateway, g1:leader, g1:follower, or a server's name. Raises UserMistake."""
    place, _, part = text.partition(":")
    for node in status.nodes:
        if node.name == place and part in ("", "agent", "gateway"):
            return Target(text, _some(text, _of_node(status, node, part)), node.name)
    for group in status.groups:
        if group.name == place and part in ("leader", "follower"):
            members = [
                each for each in group.instances if each.pid and (each.name == group.leader) == (part == "leader")
            ]
            return _server(text, members[:1])
    servers = [each for group in status.groups for each in group.instances if each.name == text]
    if servers:
        return _server(text, servers)
    known = [node.name for node in status.nodes] + [f"{group.name}:leader" for group in status.groups]
    raise UserMistake(f"there is no {text!r} here; try one of {', '.join(known)}")


def find_node(status: ClusterStatus, text: str) -> str:
    """The name of the node that `text` is, or is on."""
    known = [node.name for node in status.nodes]
    return text if text in known else find_target(status, text).node


def _server(text: str, found: list[InstanceStatus]) -> Target:
    return Target(text, _some(text, [each.pid for each in found]), found[0].node if found else "")


def _of_node(status: ClusterStatus, node: NodeStatus, part: str) -> list[int | None]:
    agent = [node.pid]
    gateways = [each.pid for each in status.gateways if each.node == node.name]
    if part:
        return agent if part == "agent" else list(gateways)
    workspace = [node.workspace.pid] if node.workspace is not None else []
    servers = [each.pid for group in status.groups for each in group.instances if each.node == node.name]
    return [*agent, *gateways, *servers, *workspace]


def _some(text: str, pids: list[int | None]) -> tuple[int, ...]:
    found = tuple(pid for pid in pids if pid)
    if not found:
        raise UserMistake(f"{text} does not run")
    return found


def everything(status: ClusterStatus) -> Target:
    pids = [pid for node in status.nodes for pid in _of_node(status, node, "") if pid]
    return Target("all", tuple(pids), "")


def kill(target: Target) -> None:
    """SIGKILL, to PostgreSQL's backends as well: a machine that loses its power leaves nobody to end in order."""
    victims = [*_processes(target)]
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    until = time.monotonic() + GONE_S_MAX
    while any(map(_lives, victims)) and time.monotonic() < until:
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def pause(target: Target) -> None:
    for process in _processes(target):
        with suppress(psutil.NoSuchProcess):
            process.suspend()


def resume(target: Target) -> None:
    for process in _processes(target):
        with suppress(psutil.NoSuchProcess):
            process.resume()


def is_paused(target: Target) -> bool:
    for process in _processes(target):
        with suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                return True
    return False


def _processes(target: Target) -> Iterator[psutil.Process]:
    """With those of PostgreSQL's servers; an agent's other children are targets of their own."""
    for pid in target.pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            children = process.children() if "postgres" in process.name() else []
            yield process
            yield from children
