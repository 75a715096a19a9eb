"""`hanse balancer-config`: what a load balancer in front of the gateways is to be told."""

from __future__ import annotations

from pathlib import Path

import click

from .options import data_option


@click.command("balancer-config")
@click.argument("balancer", type=click.Choice(["haproxy"]))
@data_option
@click.option(
    "--listen",
    default="127.0.0.1:6432",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where clients will connect to the balancer.",
)
def command(balancer: str, data_dir: Path, listen: str) -> None:
    """Print the configuration of a load balancer for this cluster, which must run: its catalog knows the nodes.

    For HAProxy: hanse balancer-config haproxy > haproxy.cfg; haproxy -f haproxy.cfg
    """
    import asyncio
    import logging

    from ..agent.balancer import haproxy
    from ..agent.catalog_link import look
    from ..agent.cluster_dir import load_existing

    logging.getLogger("hanse").addHandler(logging.NullHandler())  # each vain try to connect; the error says it once
    data_dir = data_dir.absolute()
    cluster, _ = load_existing(data_dir)
    snapshot = asyncio.run(look(data_dir, cluster, "balancer-config"))
    click.echo(haproxy(snapshot.nodes, listen), nl=False)
