"""`hanse node`: one node of a cluster, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("node")
@click.option("--config", "config_file", type=click.Path(path_type=Path), required=True, help="The node's node.json.")
def command(config_file: Path) -> None:
    """Run one node of a cluster: its agent, PostgreSQL instances and gateways."""
    from .. import app

    app.log_to_stderr()
    app.run_node(config_file)
