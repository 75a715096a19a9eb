"""`hanse up`: a whole local cluster, from nothing or from where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..core.errors import UserMistake
from .options import cluster_options, data_option, node_options


@click.command("up")
@click.option("--nodes", type=int, help="Nodes, each with a gateway.  [default: 3]")
@click.option(
    "--replicas", type=int, help="Instances in each group, each on its own node.  [default: 3, or 1 with fewer nodes]"
)
@click.option("--port", type=int, help="The first gateway's port; the others follow.  [default: 5432]")
@data_option
@cluster_options
@node_options
@click.option("--tls-cert", metavar="FILE", help="The gateways' certificate, in PEM form.  [default: self-made]")
@click.option("--tls-key", metavar="FILE", help="Its private key, which others must not be able to read.")
@click.option("--detach", is_flag=True, help="Return when it serves; it goes on in the background.")
def command(data_dir: Path, tls_cert: str | None, tls_key: str | None, detach: bool, **wishes: Any) -> None:
    """Start a whole local cluster and print its DSN.

    The first start makes the data directory. Later ones take what it says; of the options only --port, --workers,
    --postgres, those of TLS and where etcd is may change then. Ctrl-C stops the cluster, its data stay.
    """
    from ..agent.certificates import SELF_MADE
    from ..agent.topology import Request

    request = Request(
        tls_cert=tls_cert if tls_cert in (None, SELF_MADE) else str(Path(tls_cert).absolute()),
        tls_key=None if tls_key is None else str(Path(tls_key).absolute()),
        **wishes,
    )
    bring_up(data_dir, request, detach=detach)


def bring_up(data_dir: Path, request: object, *, detach: bool) -> None:
    from .. import app
    from ..agent.cluster_dir import prepare
    from ..agent.dsn import cluster_dsn
    from ..agent.topology import Request
    from .progress import Display

    assert isinstance(request, Request)
    prepared = prepare(data_dir, request)
    display = Display("Starting" if prepared.fresh else "Restarting")
    dsn = cluster_dsn(prepared.cluster, prepared.secrets)

    def ready() -> None:
        display.close()
        click.echo(f"Hanse is ready:\n\n  {dsn}\n")
        click.echo("It runs in the background; `hanse down` stops it." if detach else "Ctrl-C stops it.")

    try:
        if detach:
            app.start_detached(prepared, progress=display.show)
            ready()
        else:
            app.run_local(prepared, progress=display.show, ready=ready)
            click.echo("Stopped.")
    except KeyboardInterrupt:
        raise UserMistake("interrupted; nothing is left running") from None
    finally:
        display.close()
