"""A node leaves the catalog: it gets no instances any more, its certificate is good for nothing, its agent ends (`node.py`).

Refused while it has instances of groups. Where it was one of several on this machine, `hanse up` starts it no more; its
directory stays.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..catalog.node_commands import RemoveNode
from ..config import CLUSTER_FILE, load_cluster_config, save
from .catalog_link import order
from .cluster_dir import load_existing


async def remove_node(data_dir: Path, name: str) -> None:
    """Raises UserMistake; then the node is still there, or the message says that this is unknown."""
    cluster, _ = load_existing(data_dir)
    await order(data_dir, cluster, "remove", RemoveNode(name=name))
    _forget(data_dir, name)


def _forget(data_dir: Path, name: str) -> None:
    cluster = load_cluster_config(data_dir / CLUSTER_FILE)
    nodes = tuple(node for node in cluster.nodes if node.name != name)
    if nodes and nodes != cluster.nodes:  # the only one here stays, and says when it is started that it was removed
        save(data_dir / CLUSTER_FILE, msgspec.structs.replace(cluster, nodes=nodes))
