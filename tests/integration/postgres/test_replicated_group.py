"""A group of three real servers: a leader is killed, followers go astray, copies are interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hanse.agent.group_records import row_of
from hanse.agent.rejoining import rewound
from hanse.core.errors import PgError
from hanse.engines.postgres.group_files import rewind_mark
from hanse.engines.postgres.instance import READY_TIMEOUT_S
from hanse.engines.postgres.promotion import promote, write_record
from hanse.engines.postgres.streaming import Member, make_slot, slot_is_lost, slot_of
from hanse.replication.rejoin import Rejoin
from support.processes import sweep, wait_until
from support.replicated_group import SECRET, Group, shedding_wal

WAIT_S = 60.0


@pytest.fixture
async def group(run_directory: Path, request: pytest.FixtureRequest) -> AsyncIterator[Group]:
    path = run_directory / f"group-{abs(hash(request.node.name)) % 10**8}"
    path.mkdir()
    path.chmod(0o755)
    made = Group(path)
    try:
        await made.found()
        yield made
    finally:
        with contextlib.suppress(Exception):
            await made.stop()
        sweep(path)
        shutil.rmtree(path, ignore_errors=True)


async def until(what: str, condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}"
        await asyncio.sleep(0.05)


async def ask(member: Member, sql: str, *arguments: object) -> list[Any]:
    async with member.access.connected() as connection:
        return [row[0] for row in await connection.fetch(sql, *arguments)]


async def same_rows(group: Group, name: str) -> None:
    """`name` has in the end what the leader has, by a hash over all rows."""
    sql = "SELECT md5(string_agg(t::text, ',' ORDER BY t)) FROM public.t"
    wanted = await ask(group.leader, sql)

    async def equal() -> bool:
        return await ask(group.members[name], sql) == wanted

    await until(f"{name} equals the leader", equal)


async def streams(group: Group, name: str) -> None:
    async def seen() -> bool:
        return any(each.name == name and each.state == "streaming" for each in await group.leader.followers())

    await until(f"{name} streams", seen)


class Writers:
    """Sessions that insert rows and remember what was acknowledged. A lost connection ends its writer."""

    def __init__(self, member: Member, count: int) -> None:
        self.acknowledged: set[int] = set()
        self._member = member
        self._next = 0
        self.tasks = [asyncio.create_task(self._write()) for _ in range(count)]

    async def _write(self) -> None:
        access = self._member.access
        connection = await asyncpg.connect(
            host=access.host, port=access.port, user="hanse", password=SECRET, database="hanse", ssl=False
        )
        try:
            while True:
                self._next += 1
                number = self._next
                await connection.execute("INSERT INTO t VALUES ($1)", number)
                self.acknowledged.add(number)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            pass
        finally:
            connection.terminate()


async def test_a_killed_leader_loses_nothing_and_comes_back(group: Group) -> None:
    await ask(group.leader, "CREATE TABLE public.t (x int PRIMARY KEY)")
    for name in ("b", "c"):
        await streams(group, name)
    writers = Writers(group.leader, 8)

    async def busy() -> bool:
        return len(writers.acknowledged) > 200

    await until("writers write", busy)
    begin = time.monotonic()
    group.kill("a")
    record = await group.fail_over(("b", "c"), term=5)
    await ask(group.leader, "INSERT INTO public.t VALUES (-1)")
    group.took["first commit"] = time.monotonic() - begin
    await asyncio.wait_for(asyncio.gather(*writers.tasks), WAIT_S)
    print({what: round(seconds, 3) for what, seconds in group.took.items()}, len(writers.acknowledged), "acknowledged")
    rows = set(await ask(group.leader, "SELECT x FROM public.t"))
    assert writers.acknowledged <= rows
    assert record.leader in ("b", "c")
    other = "c" if record.leader == "b" else "b"
    await streams(group, other)
    local = await group.alone("a")
    way = await group.way_back(local)
    assert way in (Rejoin.STREAM, Rejoin.REWIND)
    await group.come_back("a", way)
    await streams(group, "a")
    for name in ("a", other):
        await same_rows(group, name)


async def test_a_leader_that_went_on_alone_is_rewound(group: Group) -> None:
    """Also: a term far above the last one, a follower that was told late, a rewind that was interrupted."""
    await ask(group.leader, "CREATE TABLE public.t (x int PRIMARY KEY)")
    for name in ("b", "c"):
        await streams(group, name)
    await group.members["b"].fence(timeout_s=60)
    await group.members["c"].fence(timeout_s=60)
    async with group.leader.access.connected() as alone:
        await alone.execute("SET synchronous_commit = local; INSERT INTO public.t SELECT generate_series(1, 1000)")
    group.kill("a")
    await group.fail_over(("b", "c"), term=7)
    await ask(group.leader, "INSERT INTO public.t SELECT generate_series(2001, 2010)")
    local = await group.alone("a")
    assert (local.timeline, local.promotion_id) == (1, "founding")
    assert await group.way_back(local) is Rejoin.REWIND
    await group.come_back("a", Rejoin.REWIND)
    assert rewind_mark(group.instance("a")) is None
    await streams(group, "a")
    await same_rows(group, "a")
    assert await ask(group.members["a"], "SELECT count(*) FROM public.t WHERE x <= 1000") == [0]

    await _a_rewind_that_lacks_wal_is_given_up_at_once(group)
    (group.instance("a").directory / "global" / "pg_control").unlink()  # as far as it had come
    assert await group.way_back(replace(local, marked=rewind_mark(group.instance("a")) == 7)) is Rejoin.CLONE
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", f"--target-pgdata={group.instance('a').directory}"]
    )  # as by an agent that was killed during the rewind: it would write into the copy
    try:
        progress = await group.clone("a")
        assert left.poll() is not None
    finally:
        left.kill()
        left.wait()
    assert progress and progress[-1][0] > 1 << 20
    assert rewind_mark(group.instance("a")) is None
    await streams(group, "a")
    await same_rows(group, "a")


async def _a_rewind_that_lacks_wal_is_given_up_at_once(group: Group) -> None:
    """The follower goes astray, and its leader removes the WAL with which it would begin; then it is marked, and stopped."""
    stray = group.members["a"]
    await stray.fence(timeout_s=60)
    await stray.follow(None, "")
    await promote(stray, 8)
    await ask(stray, "CREATE TABLE public.stray (x int)")
    await asyncio.to_thread(stray.instance.stop)
    leader = group.leader
    await leader.drop_slot(slot_of("a"))
    async with shedding_wal(leader):
        source = group.source("a", slot=await make_slot(leader.access, "a"))
        begin = time.monotonic()
        assert not await rewound(stray, source, 7, group.clause)
        assert time.monotonic() - begin < READY_TIMEOUT_S / 2
    assert rewind_mark(stray.instance) == 7
    await asyncio.to_thread(stray.instance.stop)


async def test_two_promotions_with_one_timeline_are_told_apart(group: Group) -> None:
    """Both fences held, and two were promoted to term 4, as only lost pledges could bring about."""
    await ask(group.leader, "CREATE TABLE public.t (x int PRIMARY KEY)")
    for name in ("b", "c"):
        await streams(group, name)
    assert group.record is not None
    for name in ("b", "c"):
        await group.members[name].fence(timeout_s=60)
    group.kill("a")
    stray = group.members["c"]
    await stray.follow(None, "")
    await promote(stray, 4)
    await ask(stray, "CREATE TABLE public.stray (x int)")
    await write_record(stray, _row(group, "c", "stray"))
    await asyncio.to_thread(stray.instance.stop)
    leader = group.members["b"]
    await leader.follow(None, "")
    group.record = _record(group, "b", "right")
    await group.lead(group.record)
    await write_record(leader, _row(group, "b", "right"))
    local = await group.alone("c")
    assert (local.timeline, local.promotion_id) == (4, "stray")
    assert await group.way_back(local) is Rejoin.CLONE
    await group.come_back("c", Rejoin.CLONE)
    await streams(group, "c")
    assert await ask(group.members["c"], "SELECT to_regclass('public.stray')") == [None]
    with pytest.raises(PgError, match="timeline 4 exists already"):
        await promote(group.members["c"], 4)


async def test_fences_slots_lags_and_rules(group: Group) -> None:
    """One group for what needs no failover."""
    await ask(group.leader, "CREATE TABLE public.t (x int PRIMARY KEY)")
    for name in ("b", "c"):
        await streams(group, name)
    await _a_server_is_watched_over_one_connection(group)
    await _a_fence_ends_a_long_query(group)
    await _a_slot_keeps_what_its_owner_lacks(group)
    await _a_rule_that_is_required_holds_for_every_commit(group)
    await _a_planned_switchover_gives_everything_to_its_target(group)
    await _a_leader_whose_backend_is_killed_does_not_lead_again(group)


async def _a_server_is_watched_over_one_connection(group: Group) -> None:
    """One that breaks costs a question its answer, and the next one comes over another."""
    leader = group.leader
    probes = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'hanse agent' AND query LIKE 'SET LOCAL%alive%' "
        "AND pid <> pg_backend_pid()"
    )
    await leader.probe()
    (first,) = await ask(leader, probes)
    await leader.probe()
    assert await ask(leader, probes) == [first]
    await ask(leader, f"SELECT pg_terminate_backend({first}, 60000)")
    with pytest.raises(PgError) as told:
        await leader.probe()
    assert told.value.sqlstate in ("08006", "57P01")
    await leader.probe()
    (second,) = await ask(leader, probes)
    assert second != first
    follower = group.members["b"]
    assert await follower.streams() and not await leader.streams()
    leader.hang_up()
    follower.hang_up()

    async def gone() -> bool:
        return not await ask(leader, probes)

    await until("the connection is ended", gone)


async def _a_fence_ends_a_long_query(group: Group) -> None:
    """Findings C17: a query that replay waits for kept the receiver streaming, and acknowledging, for seconds."""
    follower = group.members["b"]
    await follower.follow(group.source("b", slot=slot_of("b")), group.clause)
    async with follower.access.connected() as reader:
        await reader.execute("SET statement_timeout = 0")
        long = asyncio.create_task(reader.execute("SELECT pg_sleep(60), count(*) FROM public.t"))
        await asyncio.sleep(0.1)
        lock = asyncio.create_task(ask(group.leader, "ALTER TABLE public.t ADD COLUMN y int"))
        await follower.fence(timeout_s=60)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await long
    await lock  # the other follower has it
    before = await follower.data()
    await ask(group.leader, "INSERT INTO public.t SELECT generate_series(1, 100)")
    after = await follower.data()
    assert after == before and before.row is not None and before.row.promotion_id == "founding"


async def _a_slot_keeps_what_its_owner_lacks(group: Group) -> None:
    async def known() -> dict[str, Any]:
        """c's receiver may have to connect again on a machine that is busy."""
        found = {slot.owner: slot for slot in await group.leader.slots(("b", "c"))}
        return found if found["c"].active else {}

    slots = await until("c uses its slot", known)
    assert set(slots) == {"b", "c"}
    assert not slots["b"].active
    assert slots["b"].retained_bytes > 0
    assert not await slot_is_lost(group.leader.access, "b")
    async with shedding_wal(group.leader):
        assert await slot_is_lost(group.leader.access, "b")
    await group.leader.drop_slot(slots["b"].name)
    await group.leader.drop_slot(slots["b"].name)  # who comes second finds nothing to do
    assert [slot.owner for slot in await group.leader.slots(("b", "c"))] == ["c"]
    await asyncio.to_thread(group.instance("b").stop)
    await group.clone("b")
    await streams(group, "b")
    await same_rows(group, "b")

    async def level() -> bool:
        return all(each.lag_bytes == 0 for each in await group.leader.followers())

    await until("followers have flushed everything", level)


async def _a_rule_that_is_required_holds_for_every_commit(group: Group) -> None:
    """From asynchronous to all: the commit after `require` waits for a follower that does not stream."""
    await group.leader.require("")
    await group.members["c"].fence(timeout_s=60)
    await ask(group.leader, "INSERT INTO public.t VALUES (1001)")
    await group.leader.require('ANY 2 ("b", "c")')
    waiting = asyncio.create_task(ask(group.leader, "INSERT INTO public.t VALUES (1002)"))

    async def waits() -> bool:
        return bool(await ask(group.leader, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))

    await until("the commit waits", waits)
    assert not waiting.done()
    await group.follow("c")
    await asyncio.wait_for(waiting, WAIT_S)
    await same_rows(group, "c")


async def _a_planned_switchover_gives_everything_to_its_target(group: Group) -> None:
    """A server that is stopped in order sends its followers all it has, its last checkpoint included."""
    for name in ("b", "c"):
        await streams(group, name)
    await ask(group.leader, "INSERT INTO public.t SELECT generate_series(2000, 2999)")
    count = await ask(group.leader, "SELECT count(*) FROM public.t")
    begin = time.monotonic()
    await asyncio.to_thread(group.instance("a").stop)
    record = await group.fail_over(("b", "c"), term=3, prefer="c")
    print({"switchover": round(time.monotonic() - begin, 3)})
    assert record.leader == "c"
    assert await ask(group.leader, "SELECT count(*) FROM public.t") == count
    local = await group.alone("a")
    assert await group.way_back(local) is Rejoin.STREAM, "it has nothing that the new leader lacks"
    await group.come_back("a", Rejoin.STREAM)
    await streams(group, "a")
    await same_rows(group, "a")


async def _a_leader_whose_backend_is_killed_does_not_lead_again(group: Group) -> None:
    """Findings B11: with restart_after_crash it was a leader again, and showed what nobody else had."""
    await asyncio.gather(group.members["a"].fence(timeout_s=60), group.members["b"].fence(timeout_s=60))
    waiting = asyncio.create_task(ask(group.leader, "INSERT INTO public.t VALUES (5000)"))

    async def waits() -> list[int]:
        return await ask(group.leader, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    (pid,) = await until("the commit waits", waits)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(PgError):
        await waiting
    wait_until("the server ends", lambda: not group.instance("c").is_alive(), timeout_s=WAIT_S)
    assert (await group.fail_over(("a", "b"), term=4)).leader in ("a", "b")
    assert await ask(group.leader, "SELECT count(*) FROM public.t WHERE x = 5000") == [0]
    local = await group.alone("c")
    assert await group.way_back(local) is Rejoin.REWIND
    await group.come_back("c", Rejoin.REWIND)
    await streams(group, "c")
    await same_rows(group, "c")


def _record(group: Group, leader: str, promotion_id: str) -> Any:
    assert group.record is not None
    return replace(group.record, term=4, leader=leader, promotion_id=promotion_id)


def _row(group: Group, leader: str, promotion_id: str) -> Any:
    return row_of(_record(group, leader, promotion_id))
