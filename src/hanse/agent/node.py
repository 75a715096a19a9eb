"""The agent of a node: starts its parts, keeps them alive, ends them in order. This is the process `hanse node`.

Parts are the PostgreSQL instances (the workspace is one), the gateway workers and, on the first node, the control
service, which runs inside this process. Order of a start: instances and control service side by side, then gateways.
Order of an end: gateways, instances (fast shutdown), control service. Every step is bounded in time, and escalates.

Whatever runs already is adopted: an agent that was killed leaves everything else running, and the next one finds the
instances by their postmaster.pid and the gateways by their records (presence.py). A part that ends is started again
after a pause (backoff.py). Its own record says how far it is: `starting`, `ready`, `stopping`, or `failed` with the
reason. When that record disappears, so has the data directory, and the agent ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from ..config import WORKSPACE_PLACE, InstanceConfig, NodeConfig, Secrets, load_cluster_config, load_node_config
from ..core.errors import UserMistake
from ..core.limits import START_FAILURES_MAX, START_TIMEOUT_S
from .backoff import Backoff
from .control import Control
from .health import Facts, HealthServer
from .members import MemberPart
from .presence import Presence
from .recovery import Recovery, times_of
from .servers import InstancePart, Server, instance_of, prepare_server
from .sizes import Sizes
from .statistics import Statistics
from .topology import initial_snapshot, node_file
from .workers import GatewayPart, end_surplus

log = logging.getLogger(__name__)

WATCH_S = 0.1


class Part(Protocol):
    """Something that the agent keeps alive."""

    name: str

    def is_alive(self) -> bool: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class NodeAgent:
    """One node. `run` returns after the end of everything that the node had running."""

    def __init__(self, config: NodeConfig, secrets: Secrets, config_file: Path, presence: Presence) -> None:
        self.config = config
        self.secrets = secrets
        self.presence = presence
        self._config_file = config_file
        self._instances: list[Part] = []
        self._gateways: list[Part] = []
        self._control: Control | None = None
        self._health = HealthServer(self._facts)

    async def run(self, ending: asyncio.Event) -> None:
        """Until `ending` is set, or something cannot be started (UserMistake)."""
        ended = asyncio.create_task(ending.wait())
        work = asyncio.create_task(self._work())
        try:
            await asyncio.wait((ended, work), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            ended.cancel()
            await asyncio.gather(work, ended, return_exceptions=True)
            await self._end()

    def _facts(self) -> Facts:
        """For balancers."""
        gateways = sum(part.is_alive() for part in self._gateways)
        parts = zip(self.config.instances, self._instances, strict=False)  # none has been made at the start
        alive = {config.group: part.is_alive() for config, part in parts}
        led = {config.group: alive[config.group] and leads() for config, leads in self._led()} if alive else {}
        return Facts(
            node=self.config.name,
            state=self.presence.record.state,
            gateways=gateways,
            workspace=alive.get(WORKSPACE_PLACE, False),
            leads=led,
        )

    async def _work(self) -> None:
        await self._health.start(self.config.host, self.config.http_port)
        await self._start()
        self.presence.update(state="ready", note="")
        log.info("node %s is ready", self.config.name)
        async with asyncio.TaskGroup() as tasks:
            keepers = [tasks.create_task(self._keep(part)) for part in (*self._instances, *self._gateways)]
            times = times_of(os.environ)
            for instance, leads in self._led():
                recovery = Recovery(self.config, self.secrets, instance, times, leads=leads)
                keepers.append(tasks.create_task(recovery.run()))
                keepers.append(tasks.create_task(Statistics(self.config, self.secrets, instance, leads=leads).run()))
            keepers.append(tasks.create_task(Sizes(self.config, self.secrets).run()))
            await self._watch_directory()
            for keeper in keepers:
                keeper.cancel()

    # --- start

    async def _start(self) -> None:
        config = self.config
        server = await asyncio.to_thread(prepare_server, config, self.secrets)
        self._instances = [self._part(each, server) for each in config.instances]
        self._gateways = [GatewayPart(config, self._config_file, worker) for worker in range(config.gateway_workers)]
        self.presence.update(note="PostgreSQL")
        await _all(self._start_control(), *(self._try_start(part) for part in self._instances))
        self.presence.update(note="gateways")
        await self._wait_for_control()
        await asyncio.to_thread(end_surplus, config)
        await _all(*(self._try_start(part) for part in self._gateways))

    def _part(self, config: InstanceConfig, server: Server) -> Part:
        instance = instance_of(self.config, config, server)
        if config.members:
            return MemberPart(self.config, config, instance, server.content, self.secrets)
        return InstancePart(config, instance, server.content)

    def _led(self) -> list[tuple[InstanceConfig, Callable[[], bool]]]:
        """The group instances here, each with whether it leads now."""
        found: list[tuple[InstanceConfig, Callable[[], bool]]] = []
        for config, part in zip(self.config.instances, self._instances, strict=True):
            if isinstance(part, MemberPart):
                found.append((config, partial(getattr, part, "leads")))
            elif config.group != WORKSPACE_PLACE:
                found.append((config, lambda: True))
        return found

    async def _start_control(self) -> None:
        if self.config.control_dir is None:
            return
        assert self.config.cluster_file is not None, "the node with the catalog's store knows the cluster"
        file = Path(self.config.cluster_file)
        cluster = load_cluster_config(file)
        configs = tuple(load_node_config(node_file(file.parent, node.name)) for node in cluster.nodes)
        control = Control(self.config, self.secrets)
        await control.start(initial_snapshot(cluster, configs))
        self._control = control

    async def _wait_for_control(self) -> None:
        """Gateways read the catalog first of all; its node may start a moment later than this one."""
        address = (self.config.control_host, self.config.control_port)
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while True:
            try:
                _, writer = await asyncio.open_connection(*address)
            except OSError:
                if asyncio.get_running_loop().time() > deadline:
                    raise UserMistake(f"the control service on {address[0]}:{address[1]} does not answer") from None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return

    async def _try_start(self, part: Part) -> None:
        """A part may fail because of something that passes; what fails several times in a row is told."""
        backoff = Backoff()
        while True:
            try:
                await part.start()
                return
            except UserMistake as mistake:
                pause = backoff.ended(asyncio.get_running_loop().time())
                log.warning("%s", mistake)
                if backoff.failures >= START_FAILURES_MAX:
                    raise
                await asyncio.sleep(pause)

    # --- watch

    async def _keep(self, part: Part) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        backoff.started(loop.time())
        while True:
            while part.is_alive():
                await asyncio.sleep(WATCH_S)
            pause = backoff.ended(loop.time())
            log.warning("%s has ended; next start in %.1f s", part.name, pause)
            await asyncio.sleep(pause)
            backoff.started(loop.time())
            try:
                await part.start()
            except UserMistake as mistake:
                log.warning("%s", mistake)

    async def _watch_directory(self) -> None:
        while self.presence.path.exists():
            await asyncio.sleep(1.0)
        log.warning("%s is gone: the data directory was removed", self.presence.path)

    # --- end

    async def _end(self) -> None:
        log.info("node %s ends", self.config.name)
        await self._health.stop()
        if self.presence.path.exists():
            self.presence.update(state="stopping", note="")
        await _settle(part.stop() for part in self._gateways)
        await _settle(part.stop() for part in self._instances)
        if self._control is not None:
            await _settle([self._control.stop()])
        self._remove_socket_directory()

    def _remove_socket_directory(self) -> None:
        """One outside the data directory (/tmp) would be left behind for ever; the next start makes it again."""
        path = self.config.socket_directory
        if path is not None and not Path(path).is_relative_to(self.config.data_dir):
            with suppress(OSError):  # not empty: something is still there, and needs it
                Path(path).rmdir()


async def _all(*steps: Awaitable[None]) -> None:
    """Side by side; waits for all of them even if one fails, and then raises the first failure."""
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _settle(steps: Iterable[Awaitable[None]]) -> None:
    """Side by side; a failure is logged and does not keep the others from ending."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            log.error("while ending: %r", outcome)
