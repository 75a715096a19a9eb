"""`hanse init`: the first node of a cluster whose nodes are on machines of their own."""

from __future__ import annotations

from pathlib import Path

import click

from .options import data_option, listen_option, where


@click.command("init")
@data_option
@listen_option
@click.option("--node", default="n1", show_default=True, help="The node's name.")
@click.option("--groups", type=int, help="Replica groups, over which tables are sharded.  [default: 2]")
@click.option("--password", envvar="HANSE_PASSWORD", help="Of user hanse.  [default: random]")
@click.option("--workers", type=int, help="Gateway processes.  [default: 1]")
@click.option("--postgres", metavar="BINDIR", help="A PostgreSQL server's bin directory.  [default: the wheel's]")
@click.option("--postgres-user", metavar="NAME", help="Who runs PostgreSQL when root runs Hanse.  [default: postgres]")
@click.option("--tls", metavar="off|on|require", help="TLS for clients; require: no others.  [default: on]")
def command(
    data_dir: Path,
    listen: str,
    node: str,
    groups: int | None,
    password: str | None,
    workers: int | None,
    postgres: str | None,
    postgres_user: str | None,
    tls: str | None,
) -> None:
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
    request = Request(
        nodes=1,
        groups=groups,
        host=host,
        port=port,
        node=node,
        workers=workers,
        password=password,
        postgres_bindir=None if postgres is None else str(Path(postgres).absolute()),
        postgres_user=postgres_user,
        tls=tls,
    )
    released(prepare(data_dir, request))
    tell_how_to_start(data_dir, node)


def tell_how_to_start(data_dir: Path, node: str) -> None:
    from ..agent.topology import node_file

    click.echo(
        f"Node {node} is made. Start it, as a service would:\n\n  hanse node --config {node_file(data_dir, node)}\n"
    )
    click.echo(f"or in the background:\n\n  hanse up --detach --data {data_dir}")
