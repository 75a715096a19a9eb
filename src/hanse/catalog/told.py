"""What the gateways of a node have last heard of the groups, as a file for the node's agent.

Gateways follow the control plane, and the agent sees their file within a tenth of a second. So it needs no connection of its own,
which schema changes would have to wait for.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..config import Address, NodeConfig
from .model import Coming, Group, Node, Snapshot


class Told(msgspec.Struct, frozen=True, kw_only=True):
    version: int  # the catalog's
    groups: tuple[Group, ...]
    nodes: tuple[Node, ...] = ()
    coming: tuple[Coming, ...] = ()
    dropped: dict[str, int] = {}


def services(config: NodeConfig) -> list[Address]:
    """Where the control plane may be asked: what the node was started with, and what has been heard since. Blocks."""
    told = newest(Path(config.data_dir) / "run")
    heard = ((node.name, node.host, node.control_port) for node in (told.nodes if told else ()) if node.control_port)
    return list(dict.fromkeys((*config.control_addresses, *heard)))


def is_news(snapshot: Snapshot, before: Snapshot) -> bool:
    """Whether the agent is to be told."""
    return _told(snapshot) != msgspec.structs.replace(_told(before), version=snapshot.version)


def _told(snapshot: Snapshot) -> Told:
    return Told(
        version=snapshot.version,
        groups=snapshot.groups,
        nodes=snapshot.nodes,
        coming=snapshot.coming,
        dropped=snapshot.dropped,
    )


_decoder = msgspec.json.Decoder(Told)


def file_of(run_directory: Path, worker: int) -> Path:
    return run_directory / f"groups-{worker}.told"


def tell(run_directory: Path, worker: int, snapshot: Snapshot) -> None:
    """Blocks for the writing. Not durable: after a crash of the machine it is told anew."""
    path = file_of(run_directory, worker)
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode(_told(snapshot)))
    unfinished.rename(path)


def stamp(run_directory: Path) -> object:
    """Another one after anything was told. Two changes within a tick of the file system's clock may leave the same."""
    try:
        return run_directory.stat().st_mtime_ns
    except OSError:
        return None


def newest(run_directory: Path) -> Told | None:
    """None: nobody has told yet."""
    found: Told | None = None
    for path in run_directory.glob("groups-*.told"):
        try:
            told = _decoder.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError):  # of another version of Hanse, or gone at this moment
            continue
        if found is None or told.version > found.version:
            found = told
    return found
