"""A gateway worker: the process that listens for clients. Started by the node's agent, one per `gateway_workers`.

It follows the control plane, shares the node's workspace, and holds nothing that must survive it: kill -9 costs its
sessions, and the agent starts another. Several workers of a node share its port (SO_REUSEPORT).
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import logging
import os
import signal
import socket
from pathlib import Path

from ..catalog.client import ControlClient
from ..catalog.model import Snapshot
from ..catalog.told import is_news, services, tell
from ..config import WORKSPACE_PLACE, NodeConfig, Secrets
from ..core.errors import FatalError, UserMistake
from ..core.limits import COMMITS_END_S_MAX
from ..engines.postgres.workspace import Workspace
from ..replication.asking import Asker
from . import cancelling, holds, jobkeeper
from .client import Client
from .faults import fault_of
from .gateway import Gateway
from .process import on_loop_error
from .tls import Certificates

log = logging.getLogger(__name__)

SWEEP_S = 30.0
LISTEN_BACKLOG = 1024


async def serve(config: NodeConfig, secrets: Secrets, worker: int) -> None:
    """Serves until SIGTERM or SIGINT; then clients are disconnected and it returns.

    Waits for the control plane and the workspace, which may be started beside it. Raises UserMistake when the port is taken.
    """
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    certificates = Certificates(config)
    name = f"{config.name}.gateway.{worker}"
    tls = config.tls_among_nodes()
    control = ControlClient(services(config), tls, name)
    await control.connect(None)
    workspace = _workspace(config, secrets, worker, control)
    await workspace.start()
    gateway = Gateway(
        config=config,
        secrets=secrets,
        worker=worker,
        control=control,
        workspace=workspace,
        snapshot=control.snapshot,
        asker=Asker(tls),
        certificates=certificates,
        mock_secret=secrets.system_password.encode(),
        fault=fault_of(os.environ, worker),
    )
    workspace.gate.close_idle = gateway.leave_main
    _follow(gateway)
    cancels = await cancelling.listen(config, worker, gateway.cancel_own)
    server = await _listen(gateway)
    works = (
        _sweep(gateway),
        gateway.watch.run(),
        gateway.leaders.run(),
        gateway.positions.run(),
        gateway.followers.run(),
        certificates.follow(),
        jobkeeper.keep(gateway),
    )
    background = [asyncio.create_task(work) for work in works]
    profile = _start_profile()
    try:
        await _until_signal()
    finally:
        _end_profile(profile)
        for task in background:
            task.cancel()
        server.close()
        cancels.close()
        for session in list(gateway.sessions.values()):
            session.fail(_shutdown())
        await _commits_end(gateway)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(workspace.stop(), 5)
        gateway.asker.close()
        await control.close()


async def _commits_end(gateway: Gateway) -> None:
    """What is being committed gets its chance; recovery ends the rest."""
    deadline = asyncio.get_running_loop().time() + COMMITS_END_S_MAX
    await asyncio.sleep(0)
    while gateway.committing and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)


def _shutdown() -> FatalError:
    return FatalError("57P01", "terminating connection due to administrator command")


def _workspace(config: NodeConfig, secrets: Secrets, worker: int, control: ControlClient) -> Workspace:
    for instance in config.instances:
        if instance.group == WORKSPACE_PLACE:
            return Workspace(
                "127.0.0.1",
                instance.port,
                config.socket_directory,
                secrets.system_password,
                worker,
                control,
                database=config.database,
            )
    raise UserMistake(f"node {config.name} has no workspace in its configuration")


def _follow(gateway: Gateway) -> None:
    """From now on the control plane's news reach the gateway."""

    def on_change(snapshot: Snapshot) -> None:
        tells = is_news(snapshot, gateway.snapshot)
        gateway.take_over(snapshot)
        if tells:
            _tell_agent(gateway)
        gateway.spawn(_refresh(gateway, snapshot))

    async def on_freeze(identities: tuple[tuple[str, str], ...]) -> None:
        await gateway.freeze(frozenset(identities))
        await holds.drained(gateway, identities)

    def on_thaw(identities: tuple[tuple[str, str], ...]) -> None:
        gateway.thaw(frozenset(identities))

    gateway.control.on_change = on_change
    gateway.control.on_freeze = on_freeze
    gateway.control.on_thaw = on_thaw
    gateway.take_over(gateway.control.snapshot)
    _tell_agent(gateway)


def _tell_agent(gateway: Gateway) -> None:
    run_directory = Path(gateway.config.data_dir) / "run"
    try:
        tell(run_directory, gateway.worker, gateway.snapshot)
    except OSError as error:  # a full disk; the next change tells again
        log.warning("the agent is not told of the groups: %s", error)


async def _refresh(gateway: Gateway, snapshot: Snapshot) -> None:
    await gateway.workspace.refresh(snapshot)


async def _listen(gateway: Gateway) -> asyncio.Server:
    config = gateway.config
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((config.host, config.gateway_port))
    except OSError as error:
        listener.close()
        raise UserMistake(f"port {config.gateway_port} on {config.host} cannot be used: {error.strerror}") from None
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Client(gateway), sock=listener, backlog=LISTEN_BACKLOG)


async def _sweep(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        for pool in gateway.pools.values():
            pool.sweep()


async def _until_signal() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def _start_profile() -> cProfile.Profile | None:
    """HANSE_PROFILE=path: a cProfile of this worker, written when it ends (benchmarks)."""
    if not os.environ.get("HANSE_PROFILE"):
        return None
    profile = cProfile.Profile()
    profile.enable()
    return profile


def _end_profile(profile: cProfile.Profile | None) -> None:
    if profile is not None:
        profile.disable()
        profile.dump_stats(os.environ["HANSE_PROFILE"])
