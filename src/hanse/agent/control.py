"""The control service inside the agent of the first node."""

from __future__ import annotations

import logging
from pathlib import Path

from ..catalog.commands import SetTopology
from ..catalog.model import Snapshot
from ..catalog.service import ControlService
from ..config import NodeConfig, Secrets
from .topology import with_roles_of

log = logging.getLogger(__name__)


class Control:
    def __init__(self, config: NodeConfig, secrets: Secrets) -> None:
        assert config.control_dir is not None
        self._address = (config.control_host, config.control_port)
        self._service_dir = Path(config.control_dir)
        self._token = secrets.control_token
        self._service: ControlService | None = None

    async def start(self, topology: Snapshot) -> None:
        """Serve the catalog; where ports or nodes have changed since the last start, it is told so."""
        service = ControlService(self._service_dir, self._token, topology)
        await service.start(*self._address)
        self._service = service
        stored = service.snapshot
        topology = with_roles_of(topology, stored)
        if (stored.nodes, stored.groups) != (topology.nodes, topology.groups):
            version = await service.propose(SetTopology(nodes=topology.nodes, groups=topology.groups))
            log.info("the catalog has the new topology, version %d", version)

    async def stop(self) -> None:
        if self._service is not None:
            await self._service.stop()
            self._service = None
