"""`hanse down`: stop a local cluster, whatever of it is running."""

from __future__ import annotations

from pathlib import Path

import click

from .options import data_option


@click.command("down")
@data_option
def command(data_dir: Path) -> None:
    """Stop a local cluster; its data stay.

    Also ends what is left after some of its processes were killed.
    """
    from ..agent.cluster_dir import load_existing
    from ..agent.shutdown import end_cluster

    data_dir = data_dir.absolute()
    cluster, _ = load_existing(data_dir)
    ended = end_cluster(data_dir, cluster)
    click.echo("Stopped." if ended else "It was not running.")
