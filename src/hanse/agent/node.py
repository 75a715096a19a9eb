"""The agent of a node: starts its parts, keeps them alive, ends them in order. This is the process `hanse node`.

Parts are the PostgreSQL instances (the workspace is one), the gateway workers and, on nodes that have a vote in the control
plane, that, which runs inside this process. Order of a start: instances and control plane side by side, then gateways, when the
control plane answers; without a majority of it that may take long, and the instances are kept alive meanwhile.
Order of an end: gateways, instances (fast shutdown), control plane. Every step is bounded in time, and escalates.

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
from pathlib import Path

from ..catalog.client import ControlClient
from ..catalog.node_commands import PlaceNode, change_nodes
from ..catalog.service import REMOVED
from ..catalog.told import newest, services
from ..config import WORKSPACE_PLACE, InstanceConfig, NodeConfig, Secrets
from ..core.clock import to_tick
from ..core.errors import PgError, UserMistake
from ..core.limits import REMOVED_VOTE_S_MAX, START_FAILURES_MAX
from .backoff import Backoff
from .control import Control
from .health import Facts, HealthServer
from .placing import Part, Placing, Work
from .presence import Presence
from .recovery import Recovery, times_of
from .servers import prepare_server
from .sizes import Sizes
from .statistics import Statistics
from .topology import catalog_instance, catalog_node
from .workers import GatewayPart, end_surplus

log = logging.getLogger(__name__)

WATCH_S = 0.1
MEMBERSHIP_WATCH_S = 1.0


class NodeAgent:
    """One node. `run` returns after the end of everything that the node had running."""

    def __init__(self, config: NodeConfig, secrets: Secrets, config_file: Path, presence: Presence) -> None:
        self.config = config
        self.secrets = secrets
        self.presence = presence
        self._config_file = config_file
        self._placing: Placing | None = None
        self._gateways: list[GatewayPart] = []
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
        alive, led = ({}, {}) if self._placing is None else (self._placing.alive(), self._placing.led())
        return Facts(
            node=self.config.name,
            state=self.presence.record.state,
            gateways=gateways,
            workspace=alive.get(WORKSPACE_PLACE, False),
            leads=led,
        )

    async def _work(self) -> None:
        await self._health.start(self.config.host, self.config.http_port)
        await self._start_unless_removed()
        assert self._placing is not None
        try:
            async with asyncio.TaskGroup() as tasks:
                works = (self._placing.run(), self._serve(), self._watch_membership())
                working = [tasks.create_task(work) for work in works]
                if self._control is not None:
                    working.append(tasks.create_task(self._keep(self._control)))
                await self._watch_directory()
                for work in working:
                    work.cancel()
        except BaseExceptionGroup as failures:
            raise _first(failures) from None

    async def _serve(self) -> None:
        """Gateways, and what else needs the catalog."""
        await self._start_gateways()
        self.presence.update(state="ready", note="")
        log.info("node %s is ready", self.config.name)
        async with asyncio.TaskGroup() as tasks:
            for part in self._gateways:
                tasks.create_task(self._keep(part))
            tasks.create_task(Sizes(self.config, self.secrets).run())

    def _look_after(self, part: Part, instance: InstanceConfig, leads: Callable[[], bool]) -> list[Work]:
        """What goes on for a PostgreSQL instance, as long as the node has it."""
        works: list[Work] = [self._keep(part)]
        if instance.group != WORKSPACE_PLACE:
            works.append(Recovery(self.config, self.secrets, instance, times_of(os.environ), leads=leads).run())
            works.append(Statistics(self.config, self.secrets, instance, leads=leads).run())
        return works

    # --- start

    async def _start_unless_removed(self) -> None:
        """A member that was removed would look for its group for long."""
        try:
            async with asyncio.TaskGroup() as tasks:
                asking = tasks.create_task(self._hear_of_removal())
                await self._start_servers()
                asking.cancel()
        except BaseExceptionGroup as failures:
            raise _first(failures) from None

    async def _hear_of_removal(self) -> None:
        """Raises UserMistake if the cluster, once it answers, has this node no more."""
        await asyncio.sleep(MEMBERSHIP_WATCH_S)  # most starts are over sooner
        control = await self._connected()
        await asyncio.shield(control.close())

    async def _start_servers(self) -> None:
        config = self.config
        self._gateways = [GatewayPart(config, self._config_file, worker) for worker in range(config.gateway_workers)]
        await asyncio.to_thread(end_surplus, config)
        for gateway in self._gateways:
            gateway.begin()
        server = await asyncio.to_thread(prepare_server, config, self.secrets)
        self._placing = Placing(config, self.secrets, self._config_file, server, self._look_after)
        self.presence.update(note="PostgreSQL")
        await _all(self._start_control(), *(self._try_start(part) for part in self._placing.parts.values()))

    async def _start_gateways(self) -> None:
        await self._wait_for_control()
        self.presence.update(note="gateways")
        await _all(*(self._try_start(part) for part in self._gateways))

    async def _start_control(self) -> None:
        if self.config.control_dir is None:
            return
        self._control = Control(self.config, self.secrets)
        try:
            await self._try_start(self._control)
        except UserMistake as mistake:
            if len(self.config.control) == 1:
                raise
            log.error("%s; the others decide without this node", mistake)

    async def _wait_for_control(self) -> None:
        """Gateways read the catalog first of all; it answers when a majority of its nodes is there."""
        self.presence.update(note="the control plane")
        control = await self._connected()
        try:
            await self._tell_where_we_are(control)
        finally:
            await control.close()

    async def _connected(self) -> ControlClient:
        """To the control plane, however long that takes. Raises UserMistake where it has this node no more."""
        name = f"{self.config.name}.agent"
        control = ControlClient(services(self.config), self.config.tls_among_nodes(), name)
        while True:
            try:
                await control.connect()
                return control
            except PgError as error:
                if error.sqlstate == "28000":
                    raise UserMistake(f"{error.message}: {self.config.name}") from None
                log.warning("the control plane is waited for: %s", error.message)

    async def _tell_where_we_are(self, control: ControlClient) -> None:
        """Ports may have changed since the last start, and who knows us goes by the catalog."""
        config = self.config
        here = tuple(catalog_instance(config, each) for each in config.instances if each.group != WORKSPACE_PLACE)
        command = PlaceNode(node=catalog_node(config), instances=here)
        known = control.snapshot
        after = change_nodes(known, command)
        if (known.nodes, known.groups) != (after.nodes, after.groups):
            version = await control.propose(command)
            log.info("the catalog knows where node %s is now, version %d", config.name, version)

    async def _watch_membership(self) -> None:
        """The catalog may not have this node any more. While it leads the voters it gives its vote away first; else it stays
        for a while until the vote is taken from it, for which the others may need it: one of them may be lost.
        """
        removed_at: float | None = None
        while True:
            await asyncio.sleep(MEMBERSHIP_WATCH_S)
            told = await asyncio.to_thread(newest, Path(self.config.data_dir) / "run")
            removed = told is not None and told.nodes and all(each.name != self.config.name for each in told.nodes)
            if not removed:
                continue
            now = asyncio.get_running_loop().time()
            removed_at = now if removed_at is None else removed_at
            if self._control is not None and (
                self._control.leads_voters or (self._control.votes and now < removed_at + REMOVED_VOTE_S_MAX)
            ):
                continue
            raise UserMistake(f"{REMOVED}: {self.config.name}")

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
                await asyncio.sleep(to_tick(WATCH_S))
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
        if self._placing is not None:
            await self._placing.stop()
        if self._control is not None:
            await _settle([self._control.stop()])
        self._remove_socket_directory()

    def _remove_socket_directory(self) -> None:
        """One outside the data directory (/tmp) would be left behind for ever; the next start makes it again."""
        path = self.config.socket_directory
        if path is not None and not Path(path).is_relative_to(self.config.data_dir):
            with suppress(OSError):  # not empty: something is still there, and needs it
                Path(path).rmdir()


def _first(failure: BaseException) -> BaseException:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


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
