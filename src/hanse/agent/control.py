"""A node's vote in the control plane, as a part that the agent keeps alive: its Raft, the catalog, the control service.

The first topology comes from the first node, after the catalog of a cluster from before it was replicated, where there is one:
so no client sees a catalog that is not whole (`tenure.py` waits for it). Later each agent tells where its own node is (`node.py`).

Who leads sees to it that the right nodes have votes (`voters.py`), as nodes join and are removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from ..catalog.commands import SetTopology
from ..catalog.former_store import mark_adopted, read_former
from ..catalog.machine import Adopt, CatalogMachine, State
from ..catalog.model import Snapshot
from ..catalog.service import ControlService
from ..config import NodeConfig, load_cluster_config, load_node_config
from ..consensus.raft.configuration import Configuration
from ..consensus.raft.node import Node
from ..consensus.raft.saved import founding, joining
from ..core.errors import PgError
from ..core.limits import RAFT_RETRY_PAUSE_S
from .admission import Admission, propose
from .topology import initial_snapshot, node_file
from .voters import keep_voters

log = logging.getLogger(__name__)

VACATED = "vacated"  # beside Raft's log; see `tenure.py`


class Control:
    def __init__(self, config: NodeConfig) -> None:
        assert config.control_dir is not None and config.cluster_file is not None
        self.name = f"the control plane on {config.name}"
        self._config = config
        self._directory = Path(config.control_dir)
        self._cluster_file = Path(config.cluster_file)
        self._node: Node | None = None
        self._service: ControlService | None = None
        self._working: list[asyncio.Task[None]] = []
        self._former: State | None = None

    def is_alive(self) -> bool:
        return self._node is not None and not self._node.failed.done()

    @property
    def leads(self) -> bool:
        return self._node is not None and self._node.leads

    async def start(self) -> None:
        """Takes part; who leads, and what of it, comes later. Raises UserMistake."""
        await self.stop()
        config = self._config
        if config.former_catalog is not None:
            self._former = await asyncio.to_thread(read_former, Path(config.former_catalog))
        own = next(each for each in config.control if each.name == config.name)
        addresses = {each.name: f"{each.host}:{each.raft_port}" for each in config.control}
        machine = CatalogMachine(Snapshot(database=config.database))
        tls = config.tls_among_nodes()
        node = Node(
            config.name,
            self._directory,
            # Without addresses, which may have changed before the last node's first start: all must be given the same.
            founding(Configuration(voters=tuple(sorted(config.founders)))) if config.founders else joining(),
            machine,
            tls,
            cluster=config.cluster_id,
            address=addresses[config.name],
            addresses=addresses,
        )
        await node.start()
        self._node = node
        admission = Admission(config, machine, node)
        service = ControlService(
            node, machine, tls, door=admission if admission.is_open else None, vacated=self._read_vacated()
        )
        try:
            await service.start(own.host, own.port)
        except BaseException:
            await self.stop()
            raise
        self._service = service
        self._working = [
            asyncio.create_task(self._tell(node, machine)),
            asyncio.create_task(keep_voters(node, machine)),
        ]

    async def stop(self) -> None:
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        self._working = []
        if self._service is not None:
            await self._service.stop()
            self._write_vacated(self._service.vacated)
            self._service = None
        if self._node is not None:
            await self._node.stop()
            self._node = None

    def _read_vacated(self) -> int | None:
        """The term of a tenure. It is believed for the next term only, so one that is left from before says nothing."""
        try:
            text = (self._directory / VACATED).read_text()
        except OSError:
            return None
        return int(text) if text.strip().isdigit() else None

    def _write_vacated(self, term: int | None) -> None:
        if term is not None:
            with contextlib.suppress(OSError):  # then leases are waited for in vain
                (self._directory / VACATED).write_text(f"{term}\n")

    # --- the first topology ------------------------------------------------------------------------------------------

    async def _tell(self, node: Node, machine: CatalogMachine) -> None:
        """Until there is one, however long there is no majority."""
        while self._config.former_catalog is not None and not node.failed.done():
            try:
                await node.read(lease=False)
                if self._former is not None:
                    await self._adopt(node, machine)
                if not machine.catalog.groups:
                    await self._tell_topology(node)
                return
            except PgError as error:
                log.info("the catalog is not told yet: %s", error.message)
                await asyncio.sleep(RAFT_RETRY_PAUSE_S)

    async def _adopt(self, node: Node, machine: CatalogMachine) -> None:
        assert self._former is not None and self._config.former_catalog is not None
        if not machine.catalog.groups:
            version = await propose(node, Adopt(state=self._former))
            log.info("the former catalog, of version %d, is in the control plane's log", version)
        await asyncio.to_thread(mark_adopted, Path(self._config.former_catalog))
        self._former = None

    async def _tell_topology(self, node: Node) -> None:
        cluster = load_cluster_config(self._cluster_file)
        files = [node_file(self._cluster_file.parent, each.name) for each in cluster.nodes]
        topology = initial_snapshot(cluster, tuple(map(load_node_config, files)))
        version = await propose(node, SetTopology(nodes=topology.nodes, groups=topology.groups))
        log.info("the catalog has its first topology, version %d", version)
