"""`hanse supervise` (hidden): the background process of `hanse up --detach`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .options import data_option


@click.command("supervise", hidden=True)
@data_option
@click.option("--lock", type=int, required=True, help="Descriptor of the cluster's lock, held by the caller.")
def command(data_dir: Path, lock: int) -> None:
    """Supervise a cluster that `hanse up` has prepared."""
    from .. import app
    from ..agent.cluster_dir import Prepared, load_existing
    from ..agent.topology import node_file
    from ..config import load_node_config

    os.set_inheritable(lock, False)  # what is started from here must not hold it
    app.log_to_stderr()
    cluster, secrets = load_existing(data_dir)
    configs = tuple(load_node_config(node_file(data_dir, node.name)) for node in cluster.nodes)
    prepared = Prepared(data_dir, cluster, secrets, configs, False, lock)
    app.run_local(prepared, progress=lambda states: None, ready=lambda: None)
