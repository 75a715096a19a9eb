"""`hanse remove`: a node is a node no more."""

from __future__ import annotations

from pathlib import Path

import click

from .options import data_option


@click.command("remove")
@click.argument("node")
@data_option
def command(node: str, data_dir: Path) -> None:
    """Take NODE, which was drained, out of the cluster: its agent and gateways end, its vote goes to another node.

    Its name is not used again. Its directory stays, and may be deleted.
    """
    import asyncio
    import logging

    from ..agent.removal import remove_node

    logging.getLogger("hanse").addHandler(logging.NullHandler())  # each vain try to connect; the error says it once
    asyncio.run(remove_node(data_dir.absolute(), node))
    click.echo(f"{node} is no node of the cluster any more.")
