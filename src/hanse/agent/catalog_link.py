"""How an agent, or a command line on a machine with a node, tells the catalog something: one connection, one command."""

from __future__ import annotations

import contextlib
import os
import secrets as random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from ..catalog.client import ControlClient
from ..catalog.commands import Command
from ..catalog.model import Snapshot
from ..catalog.told import services
from ..config import ClusterConfig, NodeConfig
from ..core.errors import PgError, UserMistake, in_a_line
from .certificates import tls_of_a_node


async def tell_catalog(
    config: NodeConfig,
    who: str,
    command: Command,
    *,
    needed: Callable[[Snapshot], bool] = lambda _: True,
) -> None:
    """`needed`: by the catalog as it is. Raises PgError or OSError where it cannot be told."""
    name = f"{config.name}.{who}.{random.token_hex(2)}"
    control = ControlClient(services(config), config.tls_among_nodes(), name)
    await control.connect()
    try:
        if needed(control.snapshot):
            await control.propose(command)
    finally:
        await control.close()


async def order(data_dir: Path, cluster: ClusterConfig, who: str, command: Command) -> None:
    """For a person. Raises UserMistake; then nothing has changed, or the message says that this is unknown."""
    try:
        async with _connected(data_dir, cluster, who) as control:
            await control.propose(command)
    except PgError as error:
        raise UserMistake(in_a_line(error.message, error.detail, error.hint)) from None


async def look(data_dir: Path, cluster: ClusterConfig, who: str) -> Snapshot:
    """What the catalog has now, for a person. Raises UserMistake where it does not answer."""
    try:
        async with _connected(data_dir, cluster, who) as control:
            return control.snapshot
    except PgError as error:
        raise UserMistake(f"the catalog is not known while the cluster does not run: {error.message}") from None


@contextlib.asynccontextmanager
async def _connected(data_dir: Path, cluster: ClusterConfig, who: str) -> AsyncIterator[ControlClient]:
    name = f"{who}.{os.getpid()}.{random.token_hex(2)}"
    control = ControlClient(cluster.control_addresses, tls_of_a_node(cluster, data_dir), name)
    await control.connect()
    try:
        yield control
    finally:
        await control.close()
