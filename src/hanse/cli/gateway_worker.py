"""`hanse gateway-worker` (hidden): one gateway process of a node, started by its agent."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("gateway-worker", hidden=True)
@click.option("--config", "config_file", type=click.Path(path_type=Path), required=True)
@click.option("--worker", type=int, required=True)
def command(config_file: Path, worker: int) -> None:
    """Serve clients."""
    from .. import app
    from ..agent.presence import AlreadyRunning
    from ..config import load_node_config, load_secrets
    from ..core.errors import UserMistake

    app.log_to_stderr()
    config = load_node_config(config_file)
    try:
        app.run_gateway(config, load_secrets(Path(config.secrets_file)), worker)
    except AlreadyRunning:
        raise UserMistake(f"gateway worker {worker} of node {config.name} is running already") from None
