"""`hanse join`: this machine becomes a node of a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from .options import data_option, listen_option, where


@click.command("join")
@click.argument("address", metavar="HOST:PORT")
@click.option("--token", "text", envvar="HANSE_TOKEN", required=True, help="As `hanse token` printed it.")
@data_option
@listen_option
@click.option("--node", help="The node's name.  [default: the next that is free]")
@click.option("--workers", type=int, help="Gateway processes.  [default: 1]")
@click.option("--postgres", metavar="BINDIR", help="A PostgreSQL server's bin directory.  [default: the wheel's]")
@click.option("--postgres-user", metavar="NAME", help="Who runs PostgreSQL when root runs Hanse.  [default: postgres]")
def command(
    address: str,
    text: str,
    data_dir: Path,
    listen: str,
    node: str | None,
    workers: int | None,
    postgres: str | None,
    postgres_user: str | None,
) -> None:
    """Make this machine a node of the cluster at HOST:PORT, which `hanse node` or `hanse up` then starts.

    `hanse token`, on the cluster's first machine, prints the address and the token.
    """
    from ..agent.joining import join
    from ..agent.tokens import Token
    from ..agent.topology import Request, check_request
    from .init import tell_how_to_start

    where(address)
    host, port = where(listen)
    request = Request(
        nodes=1,
        host=host,
        port=port,
        node=node,
        workers=workers,
        postgres_bindir=None if postgres is None else str(Path(postgres).absolute()),
        postgres_user=postgres_user,
    )
    check_request(request)
    cluster = join(data_dir, address, Token.parse(text), request)
    tell_how_to_start(data_dir, cluster.nodes[0].name)
