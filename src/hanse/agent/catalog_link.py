"""How an agent tells the catalog something: one connection, one command."""

from __future__ import annotations

import secrets as random
from collections.abc import Callable

from ..catalog.client import ControlClient
from ..catalog.commands import Command
from ..catalog.model import Snapshot
from ..catalog.told import services
from ..config import NodeConfig


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
