"""One fault, and the time until everything is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic

import click

from ...agent.observe import ClusterStatus
from ...core.errors import UserMistake
from . import WHOLE_S_MAX, disk, network, targets
from .load import Beat, Clients, drop_tables, make_tables
from .watching import POLL_S, Cluster, Watch, facts, is_whole

STEADY_S_MAX = 30.0


def say(at: float, text: str) -> None:
    click.echo(f"{at:8.2f} s  {text}")


async def kill(cluster: Cluster, name: str) -> None:
    target = targets.find_target(cluster.status(), name)
    await _do(cluster, target, f"kill -9 of {name}", lambda: targets.kill(target))


async def pause(cluster: Cluster, name: str, seconds: float | None) -> None:
    target = targets.find_target(cluster.status(), name)
    texts = Lasting(f"{name} is paused", f"{name} is still paused: hanse chaos resume {name}", f"{name} goes on")
    await _lasting(cluster, target.node, texts, seconds, lambda: targets.pause(target), lambda: targets.resume(target))


async def partition(cluster: Cluster, names: tuple[str, ...], direction: str, seconds: float | None) -> None:
    names = _nodes(cluster, names)
    side, others = network.sides(cluster, names)
    arrow = {"both": "|", "from": "✗→", "to": "←✗"}[direction]
    far = [each.name for each in others] + (["etcd"] if cluster.secrets.control_plane else [])
    text = f"{', '.join(each.name for each in side)} {arrow} {', '.join(far)}"
    texts = Lasting(text, "the nodes are still parted: hanse chaos heal", "the links are whole")
    end = partial(network.whole, cluster)
    await _lasting(cluster, names, texts, seconds, partial(network.partition, cluster, names, direction), end)


async def slow(cluster: Cluster, names: tuple[str, ...], ms: float, seconds: float | None) -> None:
    names = _nodes(cluster, names)
    pairs = network.pairs(cluster, names)
    text = f"{', '.join(f'{a.name}–{b.name}' for a, b in pairs)}: messages take {ms:g} ms more"
    texts = Lasting(text, "the links are still slow: hanse chaos heal", "the links are whole")
    end = partial(network.whole, cluster)
    await _lasting(cluster, (), texts, seconds, partial(network.slow, cluster, pairs, ms), end)


async def fill(cluster: Cluster, name: str, limit_mb: int, seconds: float | None) -> None:
    node = targets.find_node(cluster.status(), name)
    disk.check(cluster, node, limit_mb)
    texts = Lasting(f"the disk of {node} is full", "it still is: hanse chaos heal", f"the disk of {node} has room")
    begin = partial(disk.fill, cluster.data_dir / node)
    await _lasting(cluster, node, texts, seconds, begin, partial(disk.empty, cluster))


def _nodes(cluster: Cluster, names: tuple[str, ...]) -> tuple[str, ...]:
    status = cluster.status()
    return tuple(targets.find_node(status, name) for name in names)


@dataclass(frozen=True, slots=True)
class Lasting:
    """What is said of a fault that lasts."""

    begun: str
    left: str
    over: str


async def _lasting(
    cluster: Cluster,
    without: str | tuple[str, ...],
    texts: Lasting,
    seconds: float | None,
    begin: Callable[[], None],
    end: Callable[[], None],
) -> None:
    """Without `seconds` this returns when every group takes writes, and the fault goes on."""
    async with watched(cluster, cluster.clients(without=without)) as watch:
        await asyncio.to_thread(begin)
        await watch.begin()
        say(0.0, texts.begun)
        if seconds is None:
            await watch.until(lambda _: True, WHOLE_S_MAX)
            click.echo(texts.left)
            return
        try:
            await watch.until(lambda _: False, seconds)
        finally:
            end()
        say(seconds, texts.over)
        await _whole(watch)


async def resume(cluster: Cluster, name: str | None) -> None:
    status = cluster.status()
    target = targets.everything(status) if name is None else targets.find_target(status, name)
    if name is not None and not targets.is_paused(target):
        raise UserMistake(f"{name} is not paused")
    targets.resume(target)
    if name is None:
        network.whole(cluster)
        disk.empty(cluster)
    whole = await _until_whole(cluster, WHOLE_S_MAX)
    if whole is None:
        raise UserMistake(_not_whole(cluster))
    click.echo(f"everything runs: {', '.join(f'{group.leader} leads {group.name}' for group in whole.groups)}")


async def _until_whole(cluster: Cluster, timeout_s: float) -> ClusterStatus | None:
    until = monotonic() + timeout_s
    while not is_whole(status := await cluster.look()):
        if monotonic() > until:
            return None
        await asyncio.sleep(POLL_S)
    return status


async def _do(cluster: Cluster, target: targets.Target, text: str, fault: Callable[[], None]) -> None:
    async with watched(cluster, cluster.clients(without=target.node)) as watch:
        await watch.begin()
        say(0.0, text)
        done = asyncio.create_task(asyncio.to_thread(fault))
        await _whole(watch, done.done)
        await done


async def _whole(watch: Watch, begun: Callable[[], bool] = lambda: True) -> None:
    if not await watch.until(lambda status: begun() and is_whole(status), WHOLE_S_MAX):
        raise UserMistake(_not_whole(watch.cluster))
    for group, seconds in watch.longest().items():
        errors = watch.beats[group].errors
        click.echo(f"{group}: no write was answered for {seconds:.2f} s; errors seen by a writing client: {errors}")


def _not_whole(cluster: Cluster) -> str:
    now = ", ".join(f"{part} is {state}" for part, state in facts(cluster.status()).items() if "running" not in state)
    return f"the cluster is not whole after {WHOLE_S_MAX:.0f} s: {now or 'a follower does not follow'}"


@asynccontextmanager
async def watched(cluster: Cluster, clients: Clients) -> AsyncIterator[Watch]:
    """With a client that writes in each group."""
    status = await _until_whole(cluster, STEADY_S_MAX)
    if status is None:
        raise UserMistake("the cluster is not whole; look at `hanse status`, or say `hanse chaos heal`")
    groups = [group.name for group in status.groups]
    connection = await clients.connect()
    await make_tables(connection, groups)
    beats = {group: Beat(clients, number) for number, group in enumerate(groups)}
    running = [asyncio.create_task(beat.run()) for beat in beats.values()]
    try:
        until = monotonic() + STEADY_S_MAX
        while not all(beat.last for beat in beats.values()):
            if monotonic() > until:
                raise UserMistake("the cluster takes no writes")
            await asyncio.sleep(0.05)
        yield Watch(cluster, beats, say)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if not connection.is_closed():
        await connection.close()
    connection = await clients.connect()
    await drop_tables(connection)
    await connection.close()
