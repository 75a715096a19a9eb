"""Faults of the links between nodes: files that say to each node's processes what is wrong (`core/links.py`).

They reach the messages of agents and gateways to other nodes' agents: leases, failovers, the control plane, with an etcd that
keeps its log. PostgreSQL's replication, and gateways' connections to servers, go on: for these it takes a real network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...config import ClusterNode
from ...consensus.etcd import address as etcd
from ...core.errors import UserMistake
from ...core.links import LINKS_FILE
from .watching import Cluster

Ways = tuple[float | None, float | None]  # ms by which what is sent, and what comes back, is late; None: lost
Pair = tuple[ClusterNode, ClusterNode]
Call = tuple[ClusterNode, Iterable[str], Ways]


def partition(cluster: Cluster, names: tuple[str, ...], direction: str) -> None:
    """Cuts `names` off from all others, and from an etcd.

    `direction`: both, from (what they send is lost), to (what they are sent is).

    Raises UserMistake.
    """
    side, others = sides(cluster, names)
    there = None if direction in ("both", "from") else 0.0
    back = None if direction in ("both", "to") else 0.0
    _disturb(cluster, [(a, b, (there, back)) for a in side for b in others])
    _disturb_calls(cluster, [(a, _etcd(cluster), (there, back)) for a in side])


def slow(cluster: Cluster, links: Sequence[Pair], ms: float) -> None:
    """Messages come `ms` later than they would, each way."""
    _disturb(cluster, [(a, b, (ms, ms)) for a, b in links])


def pairs(cluster: Cluster, names: tuple[str, ...]) -> list[Pair]:
    """Of two nodes the link between them, of one those to all others. Raises UserMistake."""
    if len(names) == 2:
        return [(_node(cluster, names[0]), _node(cluster, names[1]))]
    side, others = sides(cluster, names)
    return [(a, b) for a in side for b in others]


def sides(cluster: Cluster, names: tuple[str, ...]) -> tuple[list[ClusterNode], list[ClusterNode]]:
    side = [_node(cluster, name) for name in dict.fromkeys(names)]
    others = [each for each in cluster.config.nodes if each not in side]
    if not others:
        raise UserMistake("there is no node on the other side")
    return side, others


def whole(cluster: Cluster) -> None:
    """No link has a fault any more."""
    for node in cluster.config.nodes:
        _file(cluster.data_dir, node).unlink(missing_ok=True)


def _node(cluster: Cluster, name: str) -> ClusterNode:
    return next(node for node in cluster.config.nodes if node.name == name)


def _disturb(cluster: Cluster, links: Iterable[tuple[ClusterNode, ClusterNode, Ways]]) -> None:
    """(a, b, what happens to messages from a to b, and from b to a)."""
    calls: list[Call] = []
    for a, b, (there, back) in links:
        calls += [(a, _addresses(cluster, b), (there, back)), (b, _addresses(cluster, a), (back, there))]
    _disturb_calls(cluster, calls)


def _disturb_calls(cluster: Cluster, calls: Iterable[Call]) -> None:
    """(who calls, where, what happens to what is sent and to what comes back), beside what is disturbed already."""
    found = {node.name: _read(_file(cluster.data_dir, node)) for node in cluster.config.nodes}
    for node, addresses, ways in calls:
        found[node.name] |= dict.fromkeys(addresses, ways)
    for node in cluster.config.nodes:
        if found[node.name]:
            _write(_file(cluster.data_dir, node), found[node.name])


def _addresses(cluster: Cluster, node: ClusterNode) -> Iterator[str]:
    """Where the node's agent is called."""
    for port in (node.control_port, node.raft_port, *(each.peer_port for each in node.instances)):
        if port:
            yield f"{cluster.config.host}:{port}"


def _etcd(cluster: Cluster) -> Iterator[str]:
    """Where the etcd is, if one keeps the log."""
    url = cluster.secrets.control_plane
    return (f"{host}:{port}" for host, port in etcd.parse(url).addresses) if url else iter(())


def _file(data_dir: Path, node: ClusterNode) -> Path:
    return data_dir / node.name / "run" / LINKS_FILE


def _read(path: Path) -> dict[str, Ways]:
    try:
        return {address: (there, back) for address, (there, back) in json.loads(path.read_bytes()).items()}
    except (FileNotFoundError, ValueError):
        return {}


def _write(path: Path, ways: dict[str, Ways]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(ways))
    unfinished.rename(path)
