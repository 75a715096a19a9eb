"""`hanse chaos`: faults on a local cluster, and what it does about them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ...core.errors import UserMistake
from ..options import data_option

if TYPE_CHECKING:
    from .watching import Cluster

T = TypeVar("T")
WHOLE_S_MAX = 120.0
lasting_option = click.option(
    "--seconds", type=click.FloatRange(0.0, 3600.0), help="End the fault after so long; without it, `hanse chaos heal`."
)
TARGET = "TARGET is a node (n2), n2:agent, n2:gateway, g1:leader, g1:follower, or a server's name."
TARGETS = "A TARGET is a node (n2), or something on it, as for `hanse chaos kill`."


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
@lasting_option
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


@command.command("partition", epilog=TARGETS)
@click.argument("nodes", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--lose", "direction", type=click.Choice(["both", "from", "to"]), default="both", show_default=True,
    help="What they send, what they are sent, or both.",
)  # fmt: skip
@lasting_option
def partition(nodes: tuple[str, ...], direction: str, seconds: float | None) -> None:
    """Cut the nodes of the targets off from all others.

    What agents and gateways say to other nodes' agents, and to an etcd, is lost: leases, failovers, the control plane.
    PostgreSQL's own connections go on.
    """
    from . import single

    _run(single.partition(_cluster(), nodes, direction, seconds))


@command.command("slow", epilog=TARGETS)
@click.argument("nodes", nargs=-1, required=True, metavar="TARGET...")
@click.option("--ms", type=click.FloatRange(1.0, 60_000.0), required=True, help="What each message takes more.")
@lasting_option
def slow(nodes: tuple[str, ...], ms: float, seconds: float | None) -> None:
    """Make the link between two nodes slow, or those of one to all others. As in partition, PostgreSQL's own are not."""
    from . import single

    _run(single.slow(_cluster(), nodes, ms, seconds))


@command.command("fill", epilog=TARGETS)
@click.argument("target")
@click.option(
    "--limit-mb",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Of the file system; no larger one is filled.",
)
@lasting_option
def fill(target: str, limit_mb: int, seconds: float | None) -> None:
    """Fill the disk of a node: the file system that its directory is on, and no other node's."""
    from . import single

    _run(single.fill(_cluster(), target, limit_mb, seconds))


@command.command("heal")
def heal() -> None:
    """End every fault that lasts, and wait until the cluster is whole."""
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
    cluster = Cluster(data_dir, config, secrets)
    if cluster.status().state == "stopped":
        raise UserMistake(f"the cluster in {data_dir} does not run; `hanse up` starts it")
    return cluster


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
