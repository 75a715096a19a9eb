"""`hanse chaos`: faults on a local cluster, and what it does about them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..options import data_option

if TYPE_CHECKING:
    from .watching import Cluster

T = TypeVar("T")
WHOLE_S_MAX = 120.0
TARGET = "TARGET is a node (n2), n2:agent, n2:gateway, g1:leader, g1:follower, or a server's name."


@click.group("chaos")
@data_option
@click.pass_context
def command(context: click.Context, data_dir: Path) -> None:
    """Do faults to a local cluster, and see what it does.

    Clients write in every group meanwhile, in a schema of their own, hanse_chaos. Never do this to data that you need: what
    is under test may be wrong.
    """
    context.find_root().obj = data_dir.absolute()


@command.command("kill", epilog=TARGET)
@click.argument("target")
def kill(target: str) -> None:
    """kill -9, PostgreSQL's backends included."""
    from . import single

    _run(single.kill(_cluster(), target))


@command.command("pause", epilog=TARGET)
@click.argument("target")
@click.option(
    "--seconds", type=click.FloatRange(0.0, 3600.0), help="Resume after this time; without it, `hanse chaos resume`."
)
def pause(target: str, seconds: float | None) -> None:
    """SIGSTOP: it is there, and does not answer."""
    from . import single

    _run(single.pause(_cluster(), target, seconds))


@command.command("resume", epilog=TARGET)
@click.argument("target")
def resume(target: str) -> None:
    """SIGCONT to what was paused."""
    from . import single

    _run(single.resume(_cluster(), target))


@command.command("heal")
def heal() -> None:
    """Resume everything, and wait until the cluster is whole."""
    from . import single

    _run(single.resume(_cluster(), None))


@command.command("storm")
@click.option("--seconds", type=click.FloatRange(1.0), default=60.0, show_default=True, help="How long.")
@click.option(
    "--every", type=click.FloatRange(0.5), default=8.0, show_default=True, help="Seconds from fault to fault."
)
@click.option("--clients", type=click.IntRange(1, 200), default=6, show_default=True, help="Clients that move money.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the choice of faults.")
@click.option("--faults", default="kill-leader,kill-node,pause-leader,pause-agent,kill-gateway", show_default=True)
def storm(seconds: float, every: float, clients: int, seed: int, faults: str) -> None:
    """Random faults under transfers and totals; then nothing acknowledged may be missing.

    Exit code 1 when something is wrong in the end.
    """
    from .storming import Storm

    _run(Storm(_cluster(), seconds, every, clients, seed, tuple(faults.split(","))).run())


def _cluster() -> Cluster:
    from ...agent.cluster_dir import check_owner, load_existing
    from .watching import Cluster

    data_dir: Path = click.get_current_context().find_root().obj
    config, secrets = load_existing(data_dir)
    check_owner(data_dir)
    return Cluster(data_dir, config, secrets)


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
