"""An instance of a group of several, as a part that the agent keeps alive: `replica.py` with all that it needs.

A group is founded by its first instance, in term 1; the others clone it before they take part in anything, because members
without data could find no leader. The pledge is what this ends with: a directory without one, while the mark
`.<group>.founding` lies beside it, was cut off, and is made anew. One without either has lost its pledge, and takes no part.

Later ones are *joiners*: they have pledged themselves to nobody (term 0), and are copied when a leader asks them to follow. A
group that was one server is *enrolled*: the server starts anew as the only member, in term 1.

Whoever leads tells the catalog, again whenever its term has changed; gateways and other agents go by that. Gateways also ask the
members themselves (`WhoLeads`), so that a group is served while the control plane is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from ..catalog.commands import SetLeader, SettleGroup
from ..catalog.model import Group, Snapshot
from ..config import SYSTEM_ROLE, InstanceConfig, MemberConfig, NodeConfig, Secrets
from ..core.clock import to_tick
from ..core.errors import PgError, UserMistake
from ..core.limits import MEMBER_START_S_MAX, START_TIMEOUT_S
from ..engines.postgres.bootstrap import Bootstrap
from ..engines.postgres.cloning import clone
from ..engines.postgres.group_files import configure_member, leave_led_mark, remove_traces, settle
from ..engines.postgres.instance import Instance
from ..engines.postgres.promotion import found, promotions, write_record
from ..engines.postgres.streaming import Access, Member, make_slot, source_of
from ..replication.asking import Address, Leads
from ..replication.pledge import Pledge
from ..replication.record import RuleRecord
from ..replication.rule import Policy, rule_of
from .catalog_link import tell_catalog
from .group_records import row_of
from .peers import PeerServer, TcpPeers
from .pledges import PledgeFile
from .replica import Replica

log = logging.getLogger(__name__)

FOUNDING = "founding"  # the attempt and the promotion that nobody has made
POLL_S = 0.05
AGAIN_S = 0.5


class MemberPart:
    """See the module's docstring. `start` returns when the member leads or follows, or after MEMBER_START_S_MAX."""

    def __init__(
        self, node: NodeConfig, config: InstanceConfig, instance: Instance, content: Bootstrap, secrets: Secrets
    ) -> None:
        self.name = config.name
        self._node = node
        self._config = config
        self._content = content
        self._secrets = secrets
        self._tls = node.tls_among_nodes()
        self._peers = TcpPeers(*self._reached(config.members), self._tls)
        self._member = Member(instance, self._peers.access(config.name))
        self._group: Group | None = None  # as the catalog has it
        self._names_with_slots: frozenset[str] | None = None  # after slots of others were dropped
        self._replica: Replica | None = None
        self._server: PeerServer | None = None
        self._tasks: asyncio.Task[None] | None = None

    def _reached(self, members: tuple[MemberConfig, ...]) -> tuple[dict[str, Address], dict[str, Access]]:
        addresses = {each.name: (each.node, each.host, each.peer_port) for each in members}
        return addresses, {each.name: self._access(each) for each in members}

    def learn(self, group: Group, members: tuple[MemberConfig, ...]) -> None:
        """What the catalog says of the group, and how the members that it knows the addresses of are reached."""
        self._group = group
        self._peers.know(*self._reached(members))
        self._want()

    def _want(self) -> None:
        if self._group is not None and self._replica is not None:
            wanted = frozenset(each.name for each in self._group.wanted)
            self._replica.want(wanted, Policy(self._group.durability))

    def _access(self, member: MemberConfig) -> Access:
        return Access(
            host=member.host,
            port=member.port,
            user=SYSTEM_ROLE,
            password=self._secrets.system_password,
            database=self._node.database,
        )

    @property
    def term(self) -> int:
        return 0 if self._replica is None else self._replica.term

    @property
    def leads(self) -> bool:
        return self._replica is not None and self._replica.serving

    def _leads(self) -> Leads:
        assert self._replica is not None
        replica = self._replica
        return Leads(
            self.name, replica.term, replica.serving, replica.lease_left_s, replica.hears, begins=replica.begins
        )

    def is_alive(self) -> bool:
        return self._tasks is not None and not self._tasks.done()

    async def start(self) -> None:
        await self._end_tasks()
        pledges = await self._pledges()
        self._replica = Replica(self.name, self._member, pledges, self._peers)
        self._want()
        self._server = PeerServer(self._replica.handle, self._tls, self._leads, self._replica.hand_over)
        own = next(each for each in self._config.members if each.name == self.name)
        try:
            await self._server.start(own.host, own.peer_port)
        except OSError as error:
            raise UserMistake(
                f"the agent of {self.name} cannot listen on port {own.peer_port}: {error.strerror}"
            ) from None
        self._tasks = asyncio.create_task(self._run(self._replica))
        if self._replica.term == 0:
            return  # a joiner, whose leader has to hear of it first
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEMBER_START_S_MAX):
                while not (self.leads or self._replica.follows or self._tasks.done()):
                    await asyncio.sleep(POLL_S)

    async def _run(self, replica: Replica) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(replica.run())
                tasks.create_task(self._announce(replica))
        except Exception:
            log.exception("the agent of %s", self.name)
            raise

    async def stop(self) -> None:
        led = self._replica.term if self._replica is not None and self._replica.serving else None
        await self._end_tasks()
        if self._member.instance.exists:
            await asyncio.to_thread(self._member.instance.stop)
            if led is not None:
                leave_led_mark(self._member.instance, led)
            log.info("stopped %s", self.name)

    async def remove(self) -> None:
        """After `stop`: nothing of it is left."""
        if self._member.instance.exists:
            await asyncio.to_thread(self._member.instance.remove)
        await asyncio.to_thread(remove_traces, self._member.instance)
        self._pledge_file.unlink(missing_ok=True)

    @property
    def _pledge_file(self) -> Path:
        return pledge_file(self._node, self._config.group)

    async def _end_tasks(self) -> None:
        if self._tasks is not None:
            self._tasks.cancel()
            await asyncio.wait((self._tasks,))
            self._tasks = None
        if self._server is not None:
            await self._server.stop()
            self._server = None
        self._peers.close()

    # --- founding

    async def _pledges(self) -> PledgeFile:
        path = self._pledge_file
        instance = self._member.instance
        mark = instance.spec.directory.with_name(f".{self._config.group}.founding")
        if self._config.role == "enrolled" and not path.exists():
            return await self._enrol(path, instance)
        if path.exists() or (instance.exists and not mark.exists()):
            mark.unlink(missing_ok=True)
            return PledgeFile.load(path, self._config.group)
        if self._config.role == "joiner":
            return await asyncio.to_thread(PledgeFile.create, path, _to_nobody(self._config.group))
        mark.touch()
        rule = rule_of(Policy.QUORUM, [each.name for each in self._config.members])
        leader = next(each.name for each in self._config.members if each.name.endswith(".1"))
        record = RuleRecord(term=1, serial=0, leader=leader, promotion_id=FOUNDING, rule=rule)
        await asyncio.to_thread(settle, instance)
        if instance.exists:
            await asyncio.to_thread(instance.stop)
            await asyncio.to_thread(instance.remove)
        if self.name == leader:
            await self._found(instance, record)
        else:
            await self._join(instance, leader)
        pledge = Pledge(group=self._config.group, term=1, attempt=FOUNDING, leader=leader, record=record)
        pledges = await asyncio.to_thread(PledgeFile.create, path, pledge)
        mark.unlink()
        return pledges

    async def _enrol(self, path: Path, instance: Instance) -> PledgeFile:
        """May have been cut off before: the record is written once."""
        log.info("enrolling %s", self.name)
        await asyncio.to_thread(instance.stop)
        await asyncio.to_thread(configure_member, instance, source=None, synchronous_standby_names="")
        await asyncio.to_thread(instance.bring_up)
        await found(self._member)
        rule = rule_of(Policy.QUORUM, [self.name])
        record = RuleRecord(term=1, serial=0, leader=self.name, promotion_id=FOUNDING, rule=rule)
        newest = await self._member.newest()
        if newest is None:
            await write_record(self._member, row_of(record))
        elif newest != row_of(record):
            return PledgeFile.load(path, self._config.group)  # it was a member, and has lost its pledge
        pledge = Pledge(group=self._config.group, term=1, attempt=FOUNDING, leader=self.name, record=record)
        return await asyncio.to_thread(PledgeFile.create, path, pledge)

    async def _found(self, instance: Instance, record: RuleRecord) -> None:
        log.info("making %s", self.name)
        await asyncio.to_thread(instance.create, self._content)
        await asyncio.to_thread(instance.bring_up)
        await found(self._member)
        await write_record(self._member, row_of(record))
        await self._member.require(record.clause().text)

    async def _join(self, instance: Instance, leader: str) -> None:
        """Raises UserMistake where there is no founder to be cloned in time."""
        access = self._peers.access(leader)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await _is_founded(access):
                    await asyncio.sleep(POLL_S)
                log.info("cloning %s", self.name)
                slot = await make_slot(access, self.name)
                await clone(instance, source_of(access, self.name, slot))
        except TimeoutError:
            raise UserMistake(f"instance {self.name} has found nothing to clone: {leader} does not answer") from None
        except PgError as error:
            raise UserMistake(f"instance {self.name} cannot be cloned: {error.message}") from None

    # --- the catalog

    async def _announce(self, replica: Replica) -> None:
        told = 0
        while True:
            await asyncio.sleep(to_tick(POLL_S))
            if not replica.serving:
                continue
            try:
                if told != replica.term:
                    told = await self._tell_leader(replica.term)
                await self._settle(replica)
            except (PgError, OSError) as error:
                log.warning("the catalog does not know yet how %s leads: %s", self.name, error)
                await asyncio.sleep(AGAIN_S)

    async def _tell_leader(self, term: int) -> int:
        command = SetLeader(group=self._config.group, leader=self.name, term=term)

        def needed(known: Snapshot) -> bool:
            group = known.group_by_name.get(command.group)
            return group is not None and group.term < term  # one that is being made is told of when it is opened

        await tell_catalog(self._node, self.name, command, needed=needed)
        return term

    async def _settle(self, replica: Replica) -> None:
        """Who has left the rule may go from the catalog, and with that from its node; then its slot."""
        group, record = self._group, replica.record
        if group is None or record is None or record.previous is not None:
            return
        if any(each.leaving and each.name not in record.members for each in group.instances):
            command = SettleGroup(group=group.name, members=tuple(sorted(record.members)))
            await tell_catalog(self._node, self.name, command)
            self._group = None  # until the news come back
            return
        names = frozenset(each.name for each in group.instances)
        if names != self._names_with_slots:
            for slot in await self._member.slots(names):
                if not slot.owner:
                    await self._member.drop_slot(slot.name)
            self._names_with_slots = names


def pledge_file(node: NodeConfig, group: str) -> Path:
    return Path(node.data_dir) / f"{group}.pledge"


def _to_nobody(group: str) -> Pledge:
    """Of one that has heard of no term yet."""
    return Pledge(group=group, term=0, attempt="")


async def _is_founded(leader: Access) -> bool:
    try:
        return bool(await promotions(leader))
    except PgError:  # it is not there yet, or has no such table
        return False
