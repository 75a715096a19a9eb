"""`hanse switchover`: another instance leads a group, without an error for anybody who had not begun."""

from __future__ import annotations

from pathlib import Path

import click

from .options import data_option


@click.command("switchover")
@click.argument("group")
@click.argument("node")
@data_option
def command(group: str, node: str, data_dir: Path) -> None:
    """Make the instance of GROUP on NODE its leader.

    Statements are held meanwhile, for a fraction of a second. Transactions that stay open for longer than two seconds lose their
    connection.
    """
    import asyncio

    from ..agent.cluster_dir import load_existing
    from ..agent.orders import tell
    from ..core.ids import quote_identifier, quote_literal

    cluster, secrets = load_existing(data_dir.absolute())
    sql = f"ALTER TABLESPACE {quote_identifier(group)} SET (leader = {quote_literal(node)})"
    asyncio.run(tell(cluster, secrets, sql))
    click.echo(f"{group} is led by its instance on {node}.")
