"""An instance of a group of several, as a part that the agent keeps alive: `replica.py` with all that it needs.

A group is founded by its first instance, in term 1; the others clone it before they take part in anything, because members
without data could find no leader. The pledge is what this ends with: a directory without one, while the mark
`.<group>.founding` lies beside it, was cut off, and is made anew. One without either has lost its pledge, and takes no part.

Whoever leads tells the catalog, again whenever its term has changed; gateways and other agents go by that. Gateways also ask the
members themselves (`WhoLeads`), so that a group is served while the control plane is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets as random
from pathlib import Path

from ..catalog.client import ControlClient
from ..catalog.commands import SetLeader
from ..config import SYSTEM_ROLE, InstanceConfig, MemberConfig, NodeConfig, Secrets
from ..core.errors import PgError, UserMistake
from ..core.limits import MEMBER_START_S_MAX, START_TIMEOUT_S
from ..engines.postgres.bootstrap import Bootstrap
from ..engines.postgres.cloning import clone
from ..engines.postgres.group_files import settle
from ..engines.postgres.instance import Instance
from ..engines.postgres.promotion import found, promotions, write_record
from ..engines.postgres.streaming import Access, Member, make_slot
from ..replication.asking import Leads
from ..replication.pledge import Pledge
from ..replication.record import RuleRecord
from ..replication.rule import Policy, rule_of
from .group_records import row_of
from .peers import PeerServer, TcpPeers
from .pledges import PledgeFile
from .replica import Replica, source_of

log = logging.getLogger(__name__)

FOUNDING = "founding"  # the attempt and the promotion that nobody has made
POLL_S = 0.05


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
        accesses = {each.name: self._access(each) for each in config.members}
        addresses = {each.name: (each.host, each.peer_port) for each in config.members}
        key = secrets.control_token.encode()
        self._peers = TcpPeers(addresses, accesses, key)
        self._member = Member(instance, accesses[config.name])
        self._replica: Replica | None = None
        self._server: PeerServer | None = None
        self._tasks: asyncio.Task[None] | None = None

    def _access(self, member: MemberConfig) -> Access:
        return Access(
            host=member.host,
            port=member.port,
            user=SYSTEM_ROLE,
            password=self._secrets.system_password,
            database=self._node.database,
        )

    @property
    def leads(self) -> bool:
        return self._replica is not None and self._replica.serving

    def _leads(self) -> Leads:
        assert self._replica is not None
        replica = self._replica
        return Leads(self.name, replica.term, replica.serving, replica.lease_left_s)

    def is_alive(self) -> bool:
        return self._tasks is not None and not self._tasks.done()

    async def start(self) -> None:
        await self._end_tasks()
        pledges = await self._pledges()
        self._replica = Replica(self.name, self._member, pledges, self._peers)
        self._server = PeerServer(
            self._replica.handle, self._secrets.control_token.encode(), self._leads, self._replica.hand_over
        )
        own = next(each for each in self._config.members if each.name == self.name)
        try:
            await self._server.start(own.host, own.peer_port)
        except OSError as error:
            raise UserMistake(
                f"the agent of {self.name} cannot listen on port {own.peer_port}: {error.strerror}"
            ) from None
        self._tasks = asyncio.create_task(self._run(self._replica))
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
        await self._end_tasks()
        if self._member.instance.exists:
            await asyncio.to_thread(self._member.instance.stop)
            log.info("stopped %s", self.name)

    async def _end_tasks(self) -> None:
        if self._tasks is not None:
            self._tasks.cancel()
            await asyncio.wait((self._tasks,))
            self._tasks = None
        if self._server is not None:
            await self._server.stop()
            self._server = None

    # --- founding

    async def _pledges(self) -> PledgeFile:
        path = Path(self._node.data_dir) / f"{self._config.group}.pledge"
        instance = self._member.instance
        mark = instance.spec.directory.with_name(f".{self._config.group}.founding")
        if path.exists() or (instance.exists and not mark.exists()):
            mark.unlink(missing_ok=True)
            return PledgeFile.load(path, self._config.group)
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
            await asyncio.sleep(POLL_S)
            term = replica.term
            if replica.serving and told != term:
                try:
                    await self._tell(SetLeader(group=self._config.group, leader=self.name, term=term))
                    told = term
                except (PgError, OSError) as error:
                    log.warning("the catalog does not know yet that %s leads: %s", self.name, error)

    async def _tell(self, command: SetLeader) -> None:
        node = self._node
        name = f"{node.name}.{self.name}.{random.token_hex(2)}"
        control = ControlClient(node.control_addresses, self._secrets.control_token, name)
        await control.connect()
        try:
            known = control.snapshot.group_by_name[command.group]
            if known.term < command.term:
                await control.propose(command)
        finally:
            await control.close()


async def _is_founded(leader: Access) -> bool:
    try:
        return bool(await promotions(leader))
    except PgError:  # it is not there yet, or has no such table
        return False
