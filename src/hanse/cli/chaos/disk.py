"""Full disks: a file of ballast in a node's directory, as large as its file system lets it be."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from ...core.errors import UserMistake
from .watching import Cluster

BALLAST_FILE = "ballast"
_CHUNKS = (b"\0" * (1 << 20), b"\0" * 4096)  # the small ones for what is left in the end


def check(cluster: Cluster, node: str, limit_mb: int) -> None:
    """Raises UserMistake where the node's file system is a large one, or has other nodes on it."""
    directory = cluster.data_dir / node
    total_mb = shutil.disk_usage(directory).total >> 20
    if total_mb > limit_mb:
        raise UserMistake(
            f"the file system of {directory} has {total_mb} MB, and only small ones are filled, of {limit_mb} MB at most "
            "(--limit-mb): mount one there before `hanse up`"
        )
    device = directory.stat().st_dev
    others = [each.name for each in cluster.config.nodes if each.name != node]
    shared = [name for name in others if (cluster.data_dir / name).stat().st_dev == device]
    if shared:
        raise UserMistake(f"{', '.join(shared)} would be filled as well: {directory} is on the same file system")


def fill(directory: Path) -> None:
    """Until there is no room for another 4 kB."""
    with (directory / BALLAST_FILE).open("wb", buffering=0) as file:
        for chunk in _CHUNKS:
            with suppress(OSError):
                while file.write(chunk) == len(chunk):
                    pass
        with suppress(OSError):
            os.fsync(file.fileno())


def empty(cluster: Cluster) -> None:
    """No node has ballast any more."""
    for node in cluster.config.nodes:
        (cluster.data_dir / node.name / BALLAST_FILE).unlink(missing_ok=True)
