"""The PostgreSQL instances of a node, as the catalog wants them: made, enrolled, told where they are, removed.

The node's gateways leave what they hear of the groups in a file (`catalog/told.py`). What has to be done is found by comparing that
with `node.json`, which says what the node has; so an agent that was killed in the middle goes on from there:

=================================== ================================================================================
the catalog says                    then
=================================== ================================================================================
an instance here that is not        ports are chosen, node.json has it as a `joiner`, its agent waits for the leader to be copied
its ports differ from node.json's   the catalog is told
a group of one server has others    its server starts anew as a member (`enrolled`)
an instance here is gone            its server is stopped, its directory and its pledge are deleted, then node.json forgets it
=================================== ================================================================================

An instance is gone only where the catalog knows that its number was given once: an older catalog deletes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ..catalog.commands import PlaceInstance
from ..catalog.model import Group, Instance, number_of
from ..catalog.told import Told, newest
from ..config import WORKSPACE_PLACE, InstanceConfig, MemberConfig, NodeConfig, Secrets, save
from ..core.errors import PgError, UserMistake
from .catalog_link import tell_catalog
from .members import MemberPart
from .ports import choose_free_ports
from .servers import InstancePart, Server, instance_of

log = logging.getLogger(__name__)

WATCH_S = 0.1
AGAIN_S = 1.0  # after something that did not succeed


class Part(Protocol):
    """Something that the agent keeps alive."""

    name: str

    def is_alive(self) -> bool: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


Work = Coroutine[Any, Any, None]


class Placing:
    """`look_after` gives what goes on for as long as a part is here; the third argument tells whether a group's instance leads."""

    def __init__(
        self,
        config: NodeConfig,
        secrets: Secrets,
        config_file: Path,
        server: Server,
        look_after: Callable[[Part, InstanceConfig, Callable[[], bool]], list[Work]],
    ) -> None:
        self._config = config
        self._secrets = secrets
        self._file = config_file
        self._server = server
        self._look_after = look_after
        self._version = -1
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self.parts: dict[str, Part] = {each.name: self._part(each) for each in config.instances}

    def _part(self, config: InstanceConfig) -> Part:
        instance = instance_of(self._config, config, self._server)
        if config.members:
            return MemberPart(self._config, config, instance, self._server.content, self._secrets)
        return InstancePart(config, instance, self._server.content)

    def leads(self, name: str) -> bool:
        part = self.parts.get(name)
        return part.leads if isinstance(part, MemberPart) else part is not None

    def alive(self) -> dict[str, bool]:
        """By group; the workspace is one of them."""
        return {each.group: self.parts[each.name].is_alive() for each in self._here()}

    def led(self) -> dict[str, bool]:
        """By group that has an instance here."""
        groups = (each for each in self._here() if each.group != WORKSPACE_PLACE)
        return {each.group: self.leads(each.name) and self.parts[each.name].is_alive() for each in groups}

    def _here(self) -> list[InstanceConfig]:
        return [each for each in self._config.instances if each.name in self.parts]

    async def run(self) -> None:
        """The parts have been started. Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for config in self._config.instances:
                self._begin(tasks, config)
                if config.members:
                    self._keep_config(msgspec.structs.replace(config, role="joiner"))  # it is founded
            while True:
                await asyncio.sleep(WATCH_S)
                told = await asyncio.to_thread(newest, Path(self._config.data_dir) / "run")
                if told is None or told.version <= self._version:
                    continue
                try:
                    await self._carry_out(tasks, told)
                    self._version = told.version
                except (PgError, UserMistake, OSError) as error:
                    log.warning("instances of this node are not yet as the catalog wants them: %s", error)
                    await asyncio.sleep(AGAIN_S)

    async def stop(self) -> None:
        for outcome in await asyncio.gather(*(part.stop() for part in self.parts.values()), return_exceptions=True):
            if isinstance(outcome, BaseException):
                log.error("while ending: %r", outcome)

    # --- parts

    def _begin(self, tasks: asyncio.TaskGroup, config: InstanceConfig) -> None:
        name = config.name
        works = self._look_after(self.parts[name], config, lambda: self.leads(name))
        self._tasks[name] = [tasks.create_task(work) for work in works]

    async def _end(self, name: str) -> None:
        tasks = self._tasks.pop(name, [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.parts[name].stop()

    def _keep_config(self, config: InstanceConfig) -> None:
        """In node.json, which is the truth of what is here."""
        others = tuple(each for each in self._config.instances if each.name != config.name)
        self._save((*others, config))

    def _save(self, instances: tuple[InstanceConfig, ...]) -> None:
        ordered = tuple(sorted(instances, key=lambda each: (each.group == WORKSPACE_PLACE, each.group, each.name)))
        if ordered != self._config.instances:
            self._config = msgspec.structs.replace(self._config, instances=ordered)
            save(self._file, self._config)

    # --- what the catalog says

    async def _carry_out(self, tasks: asyncio.TaskGroup, told: Told) -> None:
        here = {
            instance.name: (group, instance)
            for group in told.groups
            for instance in group.instances
            if instance.node == self._config.name
        }
        groups = {group.name: group for group in told.groups}
        for config in self._config.instances:
            group = groups.get(config.group)
            if group is not None and config.name not in here and number_of(config.name) <= group.made:
                await self._remove(config)
        for group, instance in here.values():
            await self._have(tasks, group, instance)

    async def _have(self, tasks: asyncio.TaskGroup, group: Group, instance: Instance) -> None:
        config = next((each for each in self._config.instances if each.name == instance.name), None)
        if config is None:
            port, peer_port = choose_free_ports(self._config.host, 2)
            config = InstanceConfig(group=group.name, name=instance.name, port=port, peer_port=peer_port, role="joiner")
            config = self._with_members(config, group)
            self._keep_config(config)
            await self._start(tasks, config)
        elif len(group.instances) > 1 and not config.peer_port:
            (peer_port,) = choose_free_ports(self._config.host, 1)
            config = self._with_members(msgspec.structs.replace(config, peer_port=peer_port, role="enrolled"), group)
            self._keep_config(config)
            await self._end(config.name)
            await self._start(tasks, config)
            config = msgspec.structs.replace(config, role="joiner")
            self._keep_config(config)
        elif config.members:
            config = self._with_members(config, group)
            self._keep_config(config)
        if (instance.port, instance.peer_port) != (config.port, config.peer_port):
            command = PlaceInstance(
                group=group.name,
                name=config.name,
                host=self._config.host,
                port=config.port,
                peer_port=config.peer_port,
                socket_directory=self._config.socket_directory,
            )
            await tell_catalog(self._config, config.name, command)
        part = self.parts[config.name]
        if isinstance(part, MemberPart):
            part.learn(group, config.members)

    async def _start(self, tasks: asyncio.TaskGroup, config: InstanceConfig) -> None:
        part = self.parts[config.name] = self._part(config)
        try:
            await part.start()
        finally:
            self._begin(tasks, config)

    def _with_members(self, config: InstanceConfig, group: Group) -> InstanceConfig:
        own = MemberConfig(
            name=config.name,
            host=self._config.host,
            port=config.port,
            peer_port=config.peer_port,
            node=self._config.name,
        )
        others = [
            MemberConfig(name=each.name, host=each.host, port=each.port, peer_port=each.peer_port, node=each.node)
            for each in group.instances
            if each.peer_port and each.name != config.name
        ]
        return msgspec.structs.replace(config, members=tuple(sorted((own, *others), key=lambda each: each.name)))

    async def _remove(self, config: InstanceConfig) -> None:
        log.info("removing %s", config.name)
        await self._end(config.name)
        part = self.parts[config.name]
        assert isinstance(part, MemberPart)
        await part.remove()
        del self.parts[config.name]
        self._save(tuple(each for each in self._config.instances if each.name != config.name))
