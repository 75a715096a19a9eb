"""A group of real PostgreSQL instances, and a repairer that does what the decisions say."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hanse.agent.group_records import record_of, reigns, row_of
from hanse.config import SYSTEM_ROLE
from hanse.engines.postgres.binaries import find_binaries
from hanse.engines.postgres.bootstrap import Bootstrap
from hanse.engines.postgres.cloning import clone, rewind
from hanse.engines.postgres.group_files import (
    Source,
    clear_rewind_mark,
    configure_member,
    rewind_mark,
    settle,
    start_as_follower,
)
from hanse.engines.postgres.instance import Instance, InstanceSpec, StopMode
from hanse.engines.postgres.osuser import choose_user
from hanse.engines.postgres.promotion import (
    establish,
    found,
    history,
    local_timeline,
    promote,
    promotions,
    write_record,
)
from hanse.engines.postgres.settings import replicated_profile
from hanse.engines.postgres.streaming import Access, Member, make_slot, system_identifier
from hanse.pgwire.verifier import make_verifier
from hanse.replication.failover import Attempt, Observation, Report, choose
from hanse.replication.record import RuleRecord
from hanse.replication.rejoin import LeaderHistory, LocalData, Rejoin, rejoin
from hanse.replication.rule import Policy, rule_of
from support.processes import free_ports, wait_until

SECRET = "s3cret"


@contextlib.asynccontextmanager
async def shedding_wal(leader: Member) -> AsyncIterator[None]:
    """It has removed the WAL that it had, also what slots would keep, and goes on so."""
    async with leader.access.connected() as connection:
        for setting in ("max_slot_wal_keep_size = '1MB'", "wal_keep_size = 0", "min_wal_size = '32MB'"):
            await connection.execute(f"ALTER SYSTEM SET {setting}")
        await connection.execute("SELECT pg_reload_conf()")
        for _ in range(6):
            await connection.execute(
                "SELECT pg_logical_emit_message(false, 'test', 'on and on'); SELECT pg_switch_wal()"
            )
        await connection.execute("CHECKPOINT")
        yield
        await connection.execute("ALTER SYSTEM RESET ALL")
        await connection.execute("SELECT pg_reload_conf()")


@dataclass
class Group:
    directory: Path
    names: tuple[str, ...] = ("a", "b", "c")
    policy: Policy = Policy.QUORUM
    members: dict[str, Member] = field(default_factory=dict)
    record: RuleRecord | None = None
    took: dict[str, float] = field(default_factory=dict)

    @property
    def leader(self) -> Member:
        assert self.record is not None
        return self.members[self.record.leader]

    def instance(self, name: str) -> Instance:
        return self.members[name].instance

    async def found(self) -> None:
        """The first name leads in term 1; the others are its clones."""
        port = free_ports(len(self.names))
        for place, name in enumerate(self.names):
            self.members[name] = self._member(name, port + place)
        first = self.members[self.names[0]]
        verifier = make_verifier(SECRET)
        content = Bootstrap(database="hanse", user="hanse", user_verifier=verifier, system_verifier=verifier)
        await asyncio.to_thread(first.instance.create, content)
        await asyncio.to_thread(first.instance.bring_up)
        await found(first)
        rule = rule_of(self.policy, self.names)
        self.record = RuleRecord(term=1, serial=0, leader=self.names[0], promotion_id="founding", rule=rule)
        lsn = await write_record(first, row_of(self.record))
        await asyncio.gather(*(self.clone(name) for name in self.names[1:]))
        clause = self.record.establishing()
        await establish(first, lsn, clause.names, clause.count)
        await first.require(self.record.clause().text)

    def _member(self, name: str, port: int) -> Member:
        spec = InstanceSpec(
            name=f"g1.{name}",
            directory=self.directory / name,
            profile=replicated_profile(),
            port=port,
            log_file=self.directory / f"{name}.log",
        )
        access = Access(host="127.0.0.1", port=port, user=SYSTEM_ROLE, password=SECRET, database="hanse")
        return Member(Instance(spec, find_binaries(), choose_user()), access)

    def source(self, follower: str, *, slot: str | None = None, name: str | None = None) -> Source:
        access = self.leader.access
        return Source(
            host=access.host,
            port=access.port,
            user=access.user,
            password=access.password,
            name=name or follower,
            slot=slot,
        )

    @property
    def clause(self) -> str:
        """For a follower: whichever it is, all the others count."""
        assert self.record is not None
        names = ", ".join(f'"{name}"' for name in sorted(self.record.rule.members))
        return f"ANY {self.record.rule.k} ({names})" if self.record.rule.k else ""

    async def clone(self, name: str) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        slot = await make_slot(self.leader.access, name)
        await clone(
            self.instance(name),
            self.source(name, slot=slot),
            synchronous_standby_names=self.clause,
            progress=lambda done, total: seen.append((done, total)),
        )
        await asyncio.to_thread(self.instance(name).bring_up)
        return seen

    def kill(self, name: str) -> None:
        """kill -9 of every process of a server."""
        instance = self.instance(name)
        assert instance.pid is not None
        process = psutil.Process(instance.pid)
        everyone = [process, *process.children()]
        for each in everyone:
            each.kill()
        wait_until(f"{name} is gone", lambda: not instance.is_alive())

    async def report(self, name: str, attempt: Attempt) -> Report:
        data = await self.members[name].data()
        return Report(
            name=name,
            term=attempt.term,
            attempt=attempt.id,
            record=None if data.row is None else record_of(data.row),
            lsn=data.lsn,
        )

    async def fail_over(self, recruits: tuple[str, ...], *, term: int, prefer: str | None = None) -> RuleRecord:
        """From recruits to an established leader; `took` has the times of the steps in seconds."""
        attempt = Attempt(id=uuid.uuid4().hex, term=term, prefer=prefer)
        begin = time.monotonic()
        await asyncio.gather(*(self.members[name].fence(timeout_s=60) for name in recruits))
        self.took["fence"] = time.monotonic() - begin
        reports = {name: await self.report(name, attempt) for name in recruits}
        attempt = choose(attempt, Observation(0.0, reports, frozenset(self.names)))
        record = attempt.record
        assert record is not None, "not enough recruits"
        self.took["choose"] = time.monotonic() - begin
        await self.lead(record)
        self.took["promote"] = time.monotonic() - begin
        others = [name for name in recruits if name != record.leader]
        for name in others:
            await self.follow(name)
        lsn = await write_record(self.leader, row_of(record))
        clause = record.establishing()
        async with asyncio.timeout(60):
            await establish(self.leader, lsn, clause.names, clause.count)
        self.took["establish"] = time.monotonic() - begin
        return record

    async def lead(self, record: RuleRecord) -> None:
        self.record = record
        await promote(self.leader, record.term)

    async def follow(self, name: str) -> None:
        slot = await make_slot(self.leader.access, name)
        await self.members[name].follow(self.source(name, slot=slot), self.clause)

    async def alone(self, name: str) -> LocalData:
        """Start a server that has ended as a follower of nobody, and see what it has."""
        member = self.members[name]
        settle(member.instance)
        configure_member(member.instance, source=None, synchronous_standby_names=self.clause)
        start_as_follower(member.instance)
        await asyncio.to_thread(member.instance.bring_up)
        data = await member.data()
        timeline = local_timeline(member)
        return LocalData(
            system_identifier=await system_identifier(member.access),
            marked=rewind_mark(member.instance) is not None,
            timeline=timeline,
            promotion_id=data.row.promotion_id if data.row is not None and data.row.term == timeline else None,
            lsn=data.lsn,
        )

    async def way_back(self, local: LocalData | None) -> Rejoin:
        branches = await history(self.leader.access)
        identifier = await system_identifier(self.leader.access)
        ids = await promotions(self.leader.access)
        return rejoin(local, LeaderHistory(system_identifier=identifier, reigns=reigns(branches, ids)))

    async def come_back(self, name: str, way: Rejoin) -> None:
        """`name` runs as a follower of nobody, or not at all."""
        instance = self.instance(name)
        if way is Rejoin.STREAM:
            await self.follow(name)
            return
        await asyncio.to_thread(instance.stop, StopMode.FAST)
        if way is Rejoin.CLONE:
            await self.clone(name)
            return
        assert self.record is not None
        slot = await make_slot(self.leader.access, name)
        unnamed = self.source(name, slot=slot, name=f"{name} (rejoins)")
        await rewind(instance, unnamed, term=self.record.term, synchronous_standby_names=self.clause)
        await asyncio.to_thread(instance.bring_up)
        while not await self.members[name].is_consistent():
            await asyncio.sleep(0.02)
        clear_rewind_mark(instance)
        await self.members[name].follow(self.source(name, slot=slot), self.clause)

    async def stop(self) -> None:
        for member in self.members.values():
            if member.instance.exists:
                await asyncio.to_thread(member.instance.stop, StopMode.IMMEDIATE)
