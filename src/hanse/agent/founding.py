"""The first instance of a new group is made, as a copy of another group's leader
(docs/decisions/2026-11-23-a-new-group-is-a-stripped-copy.md).

    the catalog has it as coming ── FoundGroup ── copy ── follow the origin until little is lacking
        ── lock for schema changes, gateways without a lease stopped, reference tables frozen and locked in the origin: a moment L
        ── everything up to L is here ── promote ── strip ── another system identifier ── lead as a member
        ── OpenGroup ── locks are let go

Writers of reference tables wait from L until the group is open; everybody else goes on. Whatever is cut off is begun anew, from
nothing: `FoundGroup` makes sure that no earlier attempt can open the group any more (`catalog/group_commands.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets as random
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from ..catalog.client import ControlClient
from ..catalog.founding import (
    INDEX_JOBS,
    PREPARED,
    SCHEMA_CHANGES,
    SEQUENCES,
    SHARDS_LEFT,
    TEMPORARY,
    drop_temporary,
    park_sequences,
    reference_tables,
    strip,
)
from ..catalog.group_commands import FoundGroup, OpenGroup
from ..catalog.marks import CLOSED, renaming
from ..catalog.model import Coming, Snapshot
from ..catalog.told import services
from ..config import SYSTEM_ROLE, InstanceConfig, NodeConfig, Secrets
from ..core.errors import PgError
from ..core.ids import quote_literal, quote_qualified
from ..core.limits import (
    FOUNDING_CUT_S_MAX,
    FREEZE_WAIT_S_MAX,
    MEMBER_START_S_MAX,
    STREAMLESS_S_MAX,
    SWITCHOVER_BEHIND_BYTES_MAX,
)
from ..engines.postgres.cloning import clone
from ..engines.postgres.group_files import remove_traces
from ..engines.postgres.identity import renew_identity
from ..engines.postgres.instance import Instance
from ..engines.postgres.promotion import found, local_timeline, promote, write_record
from ..engines.postgres.streaming import Access, Member, make_slot, slot_of, source_of
from ..replication.pledge import Pledge
from ..replication.record import RuleRecord
from ..replication.rule import Policy, rule_of
from .backoff import Backoff
from .group_records import row_of
from .members import FOUNDING, MemberPart, pledge_file
from .pledges import PledgeFile
from .replica import TROUBLE
from .tasks import in_thread

log = logging.getLogger(__name__)

POLL_S = 0.02
_IS_IDLE = "SELECT bool_and(NOT active) IS NOT FALSE FROM pg_replication_slots WHERE slot_name = $1"
_DROP_SLOT = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1"
PAUSE_S_MIN = 1.0  # between attempts
AGAIN_S = 5.0  # before reference tables are frozen again


class Founding:
    """`make_part`: the member that the instance becomes. `run` returns it, started, when the group is open; None: it is not."""

    def __init__(
        self,
        node: NodeConfig,
        secrets: Secrets,
        config: InstanceConfig,
        instance: Instance,
        make_part: Callable[[], MemberPart],
    ) -> None:
        self.name = config.name
        self._node = node
        self._secrets = secrets
        self._config = config
        self._instance = instance
        self._make_part = make_part
        self._member = Member(instance, member_access(node, secrets, node.host, config.port))
        self._part: MemberPart | None = None
        self._is_cut_off = False  # of its origin
        self._is_proposed = False  # that it be open

    async def run(self) -> MemberPart | None:
        backoff = Backoff()
        while True:
            try:
                async with self._control() as control:
                    coming = control.snapshot.coming_by_name.get(self._config.group)
                    if coming is None or coming.founder.name != self.name:
                        return await self._opened(control.snapshot)
                    await self._attempt(control, coming)
                    return self._part
            except TROUBLE as error:
                log.warning("group %s is not made yet: %s", self._config.group, error or type(error).__name__)
            await asyncio.sleep(max(PAUSE_S_MIN, backoff.ended(asyncio.get_running_loop().time())))

    async def _opened(self, snapshot: Snapshot) -> MemberPart | None:
        """By an earlier attempt, which did not hear of it."""
        group = snapshot.group_by_name.get(self._config.group)
        if group is None or all(each.name != self.name for each in group.instances):
            return None
        part = self._make_part()
        await part.start()
        return part

    @contextlib.asynccontextmanager
    async def _control(self) -> AsyncIterator[ControlClient]:
        name = f"{self._node.name}.founding.{self._config.group}.{random.token_hex(2)}"
        control = ControlClient(services(self._node), self._node.tls_among_nodes(), name)
        await control.connect()
        try:
            yield control
        finally:
            await control.close()

    # --- one attempt

    async def _attempt(self, control: ControlClient, coming: Coming) -> None:
        """Raises what went wrong; then no server runs, and what it has is of no more use, unless the group is open after all."""
        attempt = uuid.uuid4().hex
        command = FoundGroup(
            group=self._config.group,
            attempt=attempt,
            host=self._node.host,
            port=self._config.port,
            peer_port=self._config.peer_port,
            socket_directory=self._node.socket_directory,
        )
        await control.propose(command)
        await in_thread(discard, self._instance, self._node, self._config.group)
        self._is_cut_off = False
        leader = control.snapshot.group_by_name[coming.origin].leader
        origin = member_access(self._node, self._secrets, leader.host, leader.port)
        log.info("%s is made as a copy of %s", self.name, leader.name)
        try:
            slot = await make_slot(origin, self.name)
            await clone(self._instance, source_of(origin, self.name, slot))
            await in_thread(self._instance.bring_up)
            await self._near(origin)
            await self._until_open(control, origin, coming, attempt)
        except BaseException:
            if self._part is not None:
                await self._part.stop()
                self._part = None
            await in_thread(self._instance.stop)
            raise
        finally:
            await drop_slot(origin, self.name)

    async def _near(self, origin: Access) -> None:
        """Until little is lacking. Raises TimeoutError where nothing comes any more."""
        had, deadline = -1, 0.0
        while True:
            now = asyncio.get_running_loop().time()
            end = await _position(origin, "pg_current_wal_lsn()")
            here = await _position(self._member.access, "coalesce(pg_last_wal_replay_lsn(), '0/0')")
            if end - here <= SWITCHOVER_BEHIND_BYTES_MAX and await self._member.streams():
                return
            if here > had:
                had, deadline = here, now + STREAMLESS_S_MAX
            elif now > deadline and not await self._member.streams():
                raise TimeoutError(f"{self.name} gets nothing from its origin")
            await asyncio.sleep(POLL_S)

    async def _until_open(self, control: ControlClient, origin: Access, coming: Coming, attempt: str) -> None:
        """Transactions that stay open on reference tables cost no other copy: this one goes on following."""
        while True:
            try:
                async with control.ddl_lock():
                    await self._open(control, origin, coming, attempt)
                return
            except (PgError, TimeoutError) as error:
                known = control.snapshot.coming_by_name.get(coming.group.name)
                if self._is_cut_off or known is None or known.attempt != attempt:
                    raise
                log.info("group %s is not opened yet: %s", coming.group.name, error or type(error).__name__)
            await asyncio.sleep(AGAIN_S)
            await self._near(origin)

    async def _open(self, control: ControlClient, origin: Access, coming: Coming, attempt: str) -> None:
        """Under the lock for schema changes, by which the snapshot is the newest and stays so in what matters here."""
        snapshot = control.snapshot
        tables = reference_tables(snapshot)
        began = asyncio.get_running_loop().time()
        async with contextlib.AsyncExitStack() as held:
            self._is_proposed = False
            await held.enter_async_context(self._closed(control))
            if tables:
                await held.enter_async_context(control.frozen(tables, FREEZE_WAIT_S_MAX))
            home = snapshot.group_by_name[snapshot.home_group].leader
            await _refuse_while(
                member_access(self._node, self._secrets, home.host, home.port), INDEX_JOBS, "an index is being made"
            )
            holder = await held.enter_async_context(origin.connected())
            async with asyncio.timeout(FOUNDING_CUT_S_MAX):
                await held.enter_async_context(holder.transaction())
                if tables:
                    await holder.execute(
                        f"LOCK TABLE {', '.join(quote_qualified(*each) for each in tables)} IN SHARE MODE"
                    )
                await _refuse_while(origin, SCHEMA_CHANGES, "a schema change is being ended by recovery")
                moment = await _mark(origin)
                while await _position(self._member.access, "pg_last_wal_replay_lsn()") < moment:
                    await asyncio.sleep(POLL_S)
            await self._become_own(snapshot, coming)
            part = await self._lead()
            await holder.fetchval("SELECT 1")  # the lock there was held all the time
            self._is_proposed = True
            await control.propose(OpenGroup(group=self._config.group, attempt=attempt, term=part.term))
        held_s = asyncio.get_running_loop().time() - began
        log.info(
            "group %s is open; schema changes and writers of reference tables waited for %.1f s",
            coming.group.name,
            held_s,
        )

    @contextlib.asynccontextmanager
    async def _closed(self, control: ControlClient) -> AsyncIterator[None]:
        """No gateway that has lost the control plane runs anything (`gateway/versions.py`): it would not write reference tables
        here. If nobody knows whether the group is open, or a leader is lost, it stays so until the next schema change.
        """
        before = control.snapshot
        try:
            await self._rename(before, before.schema_version, CLOSED)
            yield
        finally:
            if not self._is_proposed or control.snapshot.schema_version > before.schema_version:
                try:
                    await self._rename(control.snapshot, before.schema_version, control.snapshot.schema_version)
                except TROUBLE as error:
                    log.warning("a group does not know the catalog's version: %s", error or type(error).__name__)

    async def _rename(self, snapshot: Snapshot, old: int, new: int | str) -> None:
        for name in snapshot.group_names:
            leader = snapshot.group_by_name[name].leader
            access = member_access(self._node, self._secrets, leader.host, leader.port)
            async with asyncio.timeout(FOUNDING_CUT_S_MAX), access.connected() as connection:
                await connection.execute(renaming(old, new))

    async def _become_own(self, snapshot: Snapshot, coming: Coming) -> None:
        """Its term is its timeline."""
        term = local_timeline(self._member) + 1
        self._is_cut_off = True
        await promote(self._member, term)
        await found(self._member)
        async with self._member.access.connected() as connection:
            for row in await connection.fetch(PREPARED):
                await connection.execute(f"ROLLBACK PREPARED {quote_literal(row[0])}")
            async with connection.transaction():
                await connection.execute("SET LOCAL session_replication_role = replica; SET LOCAL search_path = ''")
                temporary = await connection.fetch(TEMPORARY)
                await _run(connection, drop_temporary((row[0], row[1], row[2]) for row in temporary))
                await _run(connection, strip(snapshot, coming.origin))
                sequences = await connection.fetch(SEQUENCES)
                await _run(connection, park_sequences(((row[0], row[1]) for row in sequences), coming.group.number))
                if await connection.fetchval(SHARDS_LEFT):
                    raise PgError("XX000", f"{self.name} has shards of {coming.origin} left")
        rule = rule_of(Policy.QUORUM, [self.name])
        record = RuleRecord(term=term, serial=0, leader=self.name, promotion_id=uuid.uuid4().hex, rule=rule)
        await write_record(self._member, row_of(record))
        await in_thread(self._instance.stop)
        await in_thread(renew_identity, self._instance)
        await in_thread(self._instance.bring_up)  # not as a follower, which would refuse WAL that pg_resetwal has begun
        pledge = Pledge(group=self._config.group, term=term, attempt=FOUNDING, leader=self.name, record=record)
        await in_thread(PledgeFile.create, pledge_file(self._node, self._config.group), pledge)

    async def _lead(self) -> MemberPart:
        """As a member whose agent comes back and finds it leading."""
        part = self._part = self._make_part()
        await part.start()
        async with asyncio.timeout(MEMBER_START_S_MAX):
            while not part.leads:
                await asyncio.sleep(POLL_S)
        return part


def member_access(node: NodeConfig, secrets: Secrets, host: str, port: int) -> Access:
    return Access(host=host, port=port, user=SYSTEM_ROLE, password=secrets.system_password, database=node.database)


def discard(instance: Instance, node: NodeConfig, group: str) -> None:
    """Whatever an attempt has left in this node; its server is stopped. Blocks."""
    instance.stop()
    if instance.exists:
        instance.remove()
    remove_traces(instance)
    pledge_file(node, group).unlink(missing_ok=True)


async def drop_slot(origin: Access, owner: str) -> None:
    """Where the origin can be reached. The slot of one that streams still stays, for a moment."""
    with contextlib.suppress(PgError, TimeoutError):
        async with asyncio.timeout(FOUNDING_CUT_S_MAX), origin.connected() as connection:
            while not await connection.fetchval(_IS_IDLE, slot_of(owner)):
                await asyncio.sleep(POLL_S)
            await connection.execute(_DROP_SLOT, slot_of(owner))


async def _position(server: Access, function: str) -> int:
    async with server.connected() as connection:
        return int(await connection.fetchval(f"SELECT {function} - '0/0'::pg_lsn"))


async def _mark(origin: Access) -> int:
    """A position in the origin up to which everything is as durable as its group wants it: no failover takes it back."""
    return await _position(origin, "pg_logical_emit_message(true, 'hanse.cut', '')")


async def _refuse_while(server: Access, count: str, reason: str) -> None:
    async with server.connected() as connection:
        if await connection.fetchval(count):
            raise PgError("55006", reason)


async def _run(connection: Any, statements: Iterable[str]) -> None:
    for sql in statements:
        await connection.execute(sql)
