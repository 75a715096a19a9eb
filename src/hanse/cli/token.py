"""`hanse token`: lets one machine join."""

from __future__ import annotations

from pathlib import Path

import click

from ..core.limits import JOIN_TOKEN_S
from .options import data_option


@click.command("token")
@data_option
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=JOIN_TOKEN_S / 60,
    show_default=True,
    help="For which it is good.",
)
def command(data_dir: Path, minutes: float) -> None:
    """Print a token with which one machine may join the cluster, once; and the command for it.

    Whoever has it gets the cluster's secrets: give it to nobody else.
    """
    from ..agent.certificates import authority_file
    from ..agent.cluster_dir import load_existing
    from ..agent.tokens import make_token
    from ..core.errors import UserMistake

    cluster, _ = load_existing(data_dir)
    here = [node for node in cluster.nodes if node.control_port]
    if not here:
        raise UserMistake("no node of the control plane is on this machine")
    token = make_token(authority_file(data_dir).parent, minutes * 60)
    address = f"{cluster.host}:{here[0].control_port}"
    click.echo(f"hanse join {address} --token {token} --listen HOST:PORT --data DIR")
