"""`hanse drain`: nothing of any group is left on a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.errors import UserMistake
from .options import data_option

if TYPE_CHECKING:
    from ..config import ClusterConfig, Secrets

_GROUPS = (
    "SELECT name, array(SELECT i->>'node' FROM jsonb_array_elements(instances) i), "
    "array(SELECT n.name FROM hanse.nodes n WHERE n.labels @> location) FROM hanse.groups ORDER BY name"
)


@click.command("drain")
@click.argument("node")
@data_option
def command(node: str, data_dir: Path) -> None:
    """Move the groups' instances from NODE to other nodes, leaders without an error for those who had not begun.

    Refused where a group has an instance on every other node. The node's gateway and workspace stay.
    """
    import asyncio

    from ..agent.cluster_dir import load_existing
    from ..agent.orders import tell
    from ..core.ids import quote_identifier, quote_literal

    cluster, secrets = load_existing(data_dir.absolute())
    for group in asyncio.run(_groups_on(cluster, secrets, node)):
        click.echo(f"{group} leaves {node}.", err=True)
        sql = f"ALTER TABLESPACE {quote_identifier(group)} SET (leave = {quote_literal(node)})"
        asyncio.run(tell(cluster, secrets, sql))
    click.echo(f"No group has an instance on {node}.")


async def _groups_on(cluster: ClusterConfig, secrets: Secrets, node: str) -> list[str]:
    """Raises UserMistake before anything is moved where one of them could not be."""
    from ..agent.orders import ask

    nodes = [name for (name,) in await ask(cluster, secrets, "SELECT name FROM hanse.nodes ORDER BY name")]
    if node not in nodes:
        raise UserMistake(f"there is no node {node}; there are {', '.join(nodes)}")
    rows = await ask(cluster, secrets, _GROUPS)
    found = {name: (set(holders), set(possible)) for name, holders, possible in rows if node in holders}
    for group, (holders, possible) in found.items():
        if nodes == [node]:
            raise UserMistake(
                f"node {node} is the only one; another has to join before it can be drained (hanse token)"
            )
        if possible <= holders:
            where = "" if possible == set(nodes) else " in its location"
            if len(holders) == 1:
                raise UserMistake(f"group {group} cannot leave node {node}: there is no other node{where}")
            raise UserMistake(
                f"group {group} cannot leave node {node}: every other node{where} has an instance of it; "
                f"take one away first (ALTER TABLESPACE {group} SET (replicas = {len(holders) - 1}))"
            )
    return list(found)
