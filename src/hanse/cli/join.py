"""`hanse join`: this machine becomes a node of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import data_option, label_option, listen_option, node_options, where


@click.command("join")
@click.argument("address", metavar="HOST:PORT")
@click.option("--token", "text", envvar="HANSE_TOKEN", required=True, help="As `hanse token` printed it.")
@data_option
@listen_option
@click.option("--node", help="The node's name.  [default: the next that is free]")
@label_option
@node_options
def command(address: str, text: str, data_dir: Path, listen: str, node: str | None, **wishes: Any) -> None:
    """Make this machine a node of the cluster at HOST:PORT, which `hanse node` or `hanse up` then starts.

    `hanse token`, on the cluster's first machine, prints the address and the token.
    """
    from ..agent.joining import join
    from ..agent.tokens import Token
    from ..agent.topology import Request, check_request
    from .init import tell_how_to_start

    where(address)
    host, port = where(listen)
    request = Request(nodes=1, host=host, port=port, node=node, **wishes)
    check_request(request)
    cluster = join(data_dir, address, Token.parse(text), request)
    tell_how_to_start(data_dir, cluster.nodes[0].name)
