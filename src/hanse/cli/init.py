"""`hanse init`: the first node of a cluster whose nodes are on machines of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import cluster_options, data_option, label_option, listen_option, node_options, where


@click.command("init")
@data_option
@listen_option
@click.option("--node", default="n1", show_default=True, help="The node's name.")
@label_option
@cluster_options
@node_options
def command(data_dir: Path, listen: str, node: str, **wishes: Any) -> None:
    """Make the first node of a new cluster, which `hanse node` or `hanse up` then starts.

    Other machines join it with a token: see `hanse token`.
    """
    from ..agent.admission import NAME
    from ..agent.cluster_dir import check_new_directory, prepare, released
    from ..agent.topology import Request
    from ..core.errors import UserMistake

    if not NAME.fullmatch(node):
        raise UserMistake(f"a node's name has small letters, digits and hyphens, not {node!r}")
    host, port = where(listen)
    check_new_directory(data_dir.absolute())
    request = Request(nodes=1, host=host, port=port, node=node, **wishes)
    released(prepare(data_dir, request))
    tell_how_to_start(data_dir, node)


def tell_how_to_start(data_dir: Path, node: str) -> None:
    from ..agent.topology import node_file

    click.echo(
        f"Node {node} is made. Start it, as a service would:\n\n  hanse node --config {node_file(data_dir, node)}\n"
    )
    click.echo(f"or in the background:\n\n  hanse up --detach --data {data_dir}")
