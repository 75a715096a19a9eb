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
the first of a coming group is here node.json has it as a `founder`, which is no part yet: `founding.py` makes the group
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
from ..catalog.told import Told, newest, stamp
from ..config import WORKSPACE_PLACE, InstanceConfig, MemberConfig, NodeConfig, Secrets, save
from ..core.clock import to_tick
from ..core.errors import PgError, UserMistake
from .catalog_link import tell_catalog
from .founding import Founding, discard, drop_slot, member_access
from .members import MemberPart
from .ports import choose_free_ports
from .servers import InstancePart, Server, instance_of
from .tasks import end

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
FOUNDER = "founder"


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
        self._again = False
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._foundings: dict[str, asyncio.Task[None]] = {}
        self.parts: dict[str, Part] = {each.name: self._part(each) for each in config.instances if each.role != FOUNDER}

    def _part(self, config: InstanceConfig) -> MemberPart | InstancePart:
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
        run = Path(self._config.data_dir) / "run"
        async with asyncio.TaskGroup() as tasks:
            for config in self._here():
                self._begin(tasks, config)
                if config.members:
                    self._keep_config(msgspec.structs.replace(config, role="joiner"))  # it is founded
            changed_at: object = None
            at_rest = False
            while True:
                await asyncio.sleep(to_tick(WATCH_S))
                before, changed_at = changed_at, stamp(run)
                was_at_rest, at_rest = at_rest, changed_at == before
                if at_rest and was_at_rest and not self._again:
                    continue
                told = await asyncio.to_thread(newest, run)
                if told is None or (told.version <= self._version and not self._again):
                    continue
                self._again = False
                try:
                    await self._carry_out(tasks, told)
                    self._version = told.version
                except (PgError, UserMistake, OSError) as error:
                    self._again = True
                    log.warning("instances of this node are not yet as the catalog wants them: %s", error)
                    await asyncio.sleep(AGAIN_S)

    async def stop(self) -> None:
        for config in self._config.instances:
            if config.role == FOUNDER:  # an agent that was killed has left its server running
                await asyncio.to_thread(instance_of(self._config, config, self._server).stop)
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
        founders = {each.founder.name: each for each in told.coming if each.founder.node == self._config.name}
        made = told.dropped | {group.name: max(group.made, told.dropped.get(group.name, 0)) for group in told.groups}
        for config in self._config.instances:
            gone = config.name not in here and config.name not in founders
            if gone and config.group in made and number_of(config.name) <= made[config.group]:
                await self._remove(config, told)
        for coming in founders.values():
            self._found(tasks, coming.group, coming.founder)
        for group, instance in here.values():
            await self._have(tasks, group, instance)

    async def _have(self, tasks: asyncio.TaskGroup, group: Group, instance: Instance) -> None:
        config = self._config_of(instance.name)
        if config is not None and config.role == FOUNDER:
            self._found(tasks, group, instance)
            return
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

    def _config_of(self, name: str) -> InstanceConfig | None:
        return next((each for each in self._config.instances if each.name == name), None)

    async def _remove(self, config: InstanceConfig, told: Told) -> None:
        log.info("removing %s", config.name)
        if config.role == FOUNDER:
            await self._give_up(config, told)
        else:
            await self._end(config.name)
            part = self.parts.pop(config.name)
            assert isinstance(part, MemberPart | InstancePart)
            await part.remove()
        self._save(tuple(each for each in self._config.instances if each.name != config.name))

    # --- a group that is being made

    def _found(self, tasks: asyncio.TaskGroup, group: Group, founder: Instance) -> None:
        """Goes on beside what else is done here, until the group is open."""
        under_way = self._foundings.get(founder.name)
        if under_way is not None and not under_way.done():
            return
        config = self._config_of(founder.name)
        if config is None:
            port, peer_port = choose_free_ports(self._config.host, 2)
            config = InstanceConfig(group=group.name, name=founder.name, port=port, peer_port=peer_port, role=FOUNDER)
            config = self._with_members(config, msgspec.structs.replace(group, instances=()))
            self._keep_config(config)
        self._foundings[founder.name] = tasks.create_task(self._until_open(tasks, config))

    async def _until_open(self, tasks: asyncio.TaskGroup, config: InstanceConfig) -> None:
        instance = instance_of(self._config, config, self._server)
        member = msgspec.structs.replace(config, role="joiner")

        def make_part() -> MemberPart:
            return MemberPart(self._config, member, instance, self._server.content, self._secrets)

        part = await Founding(self._config, self._secrets, config, instance, make_part).run()
        if part is not None:
            self.parts[config.name] = part
            self._keep_config(member)
            self._begin(tasks, member)
            self._again = True  # it is to hear what is wanted of it

    async def _give_up(self, config: InstanceConfig, told: Told) -> None:
        await end(self._foundings.pop(config.name, None))
        await asyncio.to_thread(discard, instance_of(self._config, config, self._server), self._config, config.group)
        for group in told.groups:
            await drop_slot(
                member_access(self._config, self._secrets, group.leader.host, group.leader.port), config.name
            )
