"""`hanse label`: where a node is, as placement is to know it."""

from __future__ import annotations

from pathlib import Path

import click

from .options import data_option


@click.command("label")
@click.argument("node")
@click.argument("labels", metavar="KEY=VALUE…", nargs=-1, required=True)
@data_option
def command(node: str, labels: tuple[str, ...], data_dir: Path) -> None:
    """Give NODE labels; `zone=` takes one away.

    A group's instances are spread over regions and zones, and a group with a location has them on nodes with its labels only.
    What there is already stays where it is: the statement ALTER TABLESPACE moves it.
    """
    import asyncio
    import logging

    from ..agent.catalog_link import order
    from ..agent.cluster_dir import load_existing
    from ..catalog.labels import parse
    from ..catalog.node_commands import LabelNode
    from ..core.errors import UserMistake

    logging.getLogger("hanse").addHandler(logging.NullHandler())  # each vain try to connect; the error says it once
    try:
        changes = parse(labels)
    except ValueError as error:
        raise UserMistake(str(error)) from None
    data_dir = data_dir.absolute()
    cluster, _ = load_existing(data_dir)
    asyncio.run(order(data_dir, cluster, "label", LabelNode(name=node, changes=changes)))
    click.echo(f"{node} has these labels now: see hanse.nodes.")
