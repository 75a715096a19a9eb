"""A node's part in the control plane, as a part that the agent keeps alive: its consensus, the catalog, the control service.

The consensus is the nodes' own Raft, or an etcd's, as the cluster was made (`consensus/contract.py`).

The first topology comes from the first node, after the catalog of a cluster from before it was replicated, where there is one:
so no client sees a catalog that is not whole (`tenure.py` waits for it). Later each agent tells where its own node is (`node.py`).

Who leads Raft sees to it that the right nodes have votes (`voters.py`), as nodes join and are removed.
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
from ..config import NodeConfig, Secrets, load_cluster_config, load_node_config
from ..consensus.contract import Consensus
from ..consensus.etcd import address as etcd
from ..consensus.etcd.node import Node as EtcdNode
from ..consensus.raft.configuration import Configuration
from ..consensus.raft.node import Node as RaftNode
from ..consensus.raft.saved import founding, joining
from ..core.errors import PgError
from ..core.limits import RAFT_RETRY_PAUSE_S
from ..core.node_tls import NodeTls
from .admission import Admission, propose
from .topology import initial_snapshot, node_file
from .voters import keep_voters

log = logging.getLogger(__name__)

VACATED = "vacated"  # in the control plane's directory; see `tenure.py`


class Control:
    def __init__(self, config: NodeConfig, secrets: Secrets) -> None:
        assert config.control_dir is not None and config.cluster_file is not None
        self.name = f"the control plane on {config.name}"
        self._config = config
        self._etcd = secrets.control_plane
        self._directory = Path(config.control_dir)
        self._cluster_file = Path(config.cluster_file)
        self._node: Consensus | None = None
        self._service: ControlService | None = None
        self._working: list[asyncio.Task[None]] = []
        self._former: State | None = None

    def is_alive(self) -> bool:
        return self._node is not None and not self._node.failed.done()

    @property
    def leads_voters(self) -> bool:
        """Then a node that was removed gives its vote away before it ends. With an etcd it has none."""
        return isinstance(self._node, RaftNode) and self._node.leads

    @property
    def votes(self) -> bool:
        """As far as this node has heard; it hears of the change that takes its vote before that is made, and of none after."""
        return isinstance(self._node, RaftNode) and self._config.name in self._node.membership.voters

    async def start(self) -> None:
        """Takes part; who leads, and what of it, comes later. Raises UserMistake."""
        await self.stop()
        config = self._config
        if config.former_catalog is not None:
            self._former = await asyncio.to_thread(read_former, Path(config.former_catalog))
        own = next(each for each in config.control if each.name == config.name)
        machine = CatalogMachine(Snapshot(database=config.database))
        tls = config.tls_among_nodes()
        node: Consensus
        if self._etcd:
            servers = etcd.parse(self._etcd)
            node = EtcdNode(config.name, self._directory, servers, machine, cluster=config.cluster_id)
        else:
            node = self._make_raft(machine, tls)
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
        ]
        if isinstance(node, RaftNode):
            self._working.append(asyncio.create_task(keep_voters(node, machine)))

    def _make_raft(self, machine: CatalogMachine, tls: NodeTls) -> RaftNode:
        config = self._config
        addresses = {each.name: f"{each.host}:{each.raft_port}" for each in config.control}
        return RaftNode(
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

    async def _tell(self, node: Consensus, machine: CatalogMachine) -> None:
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

    async def _adopt(self, node: Consensus, machine: CatalogMachine) -> None:
        assert self._former is not None and self._config.former_catalog is not None
        if not machine.catalog.groups:
            version = await propose(node, Adopt(state=self._former))
            log.info("the former catalog, of version %d, is in the control plane's log", version)
        await asyncio.to_thread(mark_adopted, Path(self._config.former_catalog))
        self._former = None

    async def _tell_topology(self, node: Consensus) -> None:
        cluster = load_cluster_config(self._cluster_file)
        files = [node_file(self._cluster_file.parent, each.name) for each in cluster.nodes]
        topology = initial_snapshot(cluster, tuple(map(load_node_config, files)))
        version = await propose(node, SetTopology(nodes=topology.nodes, groups=topology.groups))
        log.info("the catalog has its first topology, version %d", version)
