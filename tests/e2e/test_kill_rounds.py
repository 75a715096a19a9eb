"""kill -9 at every step of the commit protocol, many times: of gateways, of an agent, of a group's servers.

One cluster of its own, started by `hanse up`, with ten gateway workers. In a *battle* each has the fault point of one step in its
way, and clients make transfers through it. At that very step the worker is killed, or stops while something else is killed and then
goes on; each is a *round*. Nobody helps: the supervisor starts the agent again, the agent gateways and servers, and it ends what
is left prepared (branches of one second here, those of living gateways among them). When all are back it is judged: sums are
constant, each transfer is there wholly or not at all, those that were acknowledged are, those that were refused are not, nothing
is prepared, nobody waits.

Every transfer moves money between the groups and writes its number into a journal of each; now and then a number is written
again, which a deferred constraint refuses at the end, so that the protocol undoes, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from hanse.agent.presence import find_process, read_record
from hanse.agent.workers import worker_name
from hanse.gateway.gateway import CANCEL_PID_BITS
from support.processes import free_ports, sweep
from support.servers import PASSWORD, Cluster, Server, hanse

ROUNDS = 200
ACCOUNTS, BALANCE = 200, 1000  # in each group
CLIENTS = 2  # of each gateway
STEPS = ("constraints", "prepare", "decide", "finish", "undo")
POINTS = tuple(f"{when}_{step}" for step in STEPS for when in ("before", "after"))
BATTLE_S_MAX = 100.0
# Who is stopped there with a lost decider will ask for its record, and is killed before it does or when it was answered.
ASK_THEN = {
    "after_constraints": "after_resolve",
    "before_prepare": "before_resolve",
    "after_prepare": "after_resolve",
    "before_decide": "before_resolve",
}
REFUSED = ("40001", "40P01", "23505", "55P03")  # said to have been rolled back

SCHEMA = """
CREATE TABLE accounts (side int, id int, balance int NOT NULL, PRIMARY KEY (side, id)) PARTITION BY RANGE (side);
CREATE TABLE accounts_1 PARTITION OF accounts FOR VALUES FROM (1) TO (2) TABLESPACE g1;
CREATE TABLE accounts_2 PARTITION OF accounts FOR VALUES FROM (2) TO (3) TABLESPACE g2;
CREATE TABLE journal (side int, number int, UNIQUE (side, number) DEFERRABLE INITIALLY DEFERRED) PARTITION BY RANGE (side);
CREATE TABLE journal_1 PARTITION OF journal FOR VALUES FROM (1) TO (2) TABLESPACE g1;
CREATE TABLE journal_2 PARTITION OF journal FOR VALUES FROM (2) TO (3) TABLESPACE g2;
"""
TRANSFER = """BEGIN; UPDATE accounts SET balance = balance - 1 WHERE side = 1 AND id = {low};
UPDATE accounts SET balance = balance + 1 WHERE side = 2 AND id = {high};
INSERT INTO journal VALUES (1, {number}); INSERT INTO journal VALUES (2, {number}); COMMIT"""


@dataclass
class Books:
    """What the clients were told."""

    numbers: Iterator[int] = field(default_factory=itertools.count)
    acknowledged: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    unknown: int = 0


@dataclass
class Gateway:
    """One worker of a battle."""

    number: int
    point: str
    action: str
    fault: Path
    process: psutil.Process
    clients: int = 0

    def arm(self) -> None:
        self.fault.write_text(f"{self.point} {self.action}")

    @property
    def reached(self) -> bool:
        return not self.fault.exists()

    @property
    def undoes(self) -> bool:
        return self.point.endswith("_undo")

    @property
    def ended(self) -> bool:
        return self.reached and not self.process.is_running()


@dataclass
class War:
    cluster: Cluster
    directory: Path
    dsns: dict[str, str]  # of the groups
    books: Books = field(default_factory=Books)
    rounds: dict[tuple[str, str], int] = field(default_factory=dict)  # what was lost at which point → how often
    draw: random.Random = field(default_factory=lambda: random.Random(20261122))
    killed_groups: int = 0
    not_reached: list[str] = field(default_factory=list)  # of the last battle

    # --- the parts -------------------------------------------------------------------------------------------------

    async def gateways(self, action: str) -> list[Gateway]:
        """When all ten serve."""
        return [await self._gateway(worker, point, action) for worker, point in enumerate(POINTS)]

    async def _gateway(self, worker: int, point: str, action: str) -> Gateway:
        while True:
            record = read_record(self.cluster.data_directory / "n1" / "run", worker_name(worker))
            process = find_process(record)
            if record is not None and process is not None and record.state == "ready":
                return Gateway(worker, point, action, self.directory / f"fault-{worker}", process)
            await asyncio.sleep(0.05)

    async def client(self, gateways: list[Gateway], armed: asyncio.Event, over: asyncio.Event) -> None:
        """Makes transfers until its gateway or the battle ends."""
        dsn = self.cluster.server.dsn_for(options="-c lock_timeout=3s", sslmode="disable")
        gateway: Gateway | None = None
        while not over.is_set() and not (gateway is not None and gateway.ended):
            try:
                connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10)
            except psycopg.OperationalError:
                await asyncio.sleep(0.02)
                continue
            async with connection:
                gateway = gateways[(connection.info.backend_pid >> CANCEL_PID_BITS) - 1]
                if not armed.is_set() and gateway.clients == CLIENTS:
                    continue  # the kernel chose; another shall have it
                gateway.clients += 1
                with contextlib.suppress(psycopg.Error):  # another client's commit may have begun the fight
                    for sql in ("BEGIN", "COMMIT"):  # known texts: the first commit that counts is a quick one
                        await connection.execute(sql)
                await armed.wait()
                while not over.is_set() and not connection.closed:
                    await self._transfer(connection, undone=gateway.undoes)

    async def _transfer(self, connection: psycopg.AsyncConnection[Any], *, undone: bool) -> None:
        books = self.books
        number, again = next(books.numbers), False
        if undone and books.acknowledged and self.draw.random() < 0.5:
            number, again = self.draw.choice(tuple(books.acknowledged)), True
        low, high = self.draw.randrange(ACCOUNTS), self.draw.randrange(ACCOUNTS)
        transfer = TRANSFER.format(low=low, high=high, number=number)
        try:
            for sql in (
                transfer.split(";") if number % 4 else (transfer,)
            ):  # one message goes another way in the gateway
                await connection.execute(sql)  # type: ignore[call-overload]
        except psycopg.Error as error:
            if again:
                assert error.sqlstate is None or not error.sqlstate.startswith("XX"), error
            elif error.sqlstate in REFUSED:
                books.refused.add(number)
            else:
                books.unknown += 1
            if not connection.closed:
                with contextlib.suppress(psycopg.Error):
                    await connection.execute("ROLLBACK")
                await asyncio.sleep(0.02)  # a server that is away answers at once
        else:
            assert not again, "a number was written twice"
            books.acknowledged.add(number)

    async def recovered(self) -> None:
        """Until the agent has ended everything."""
        for dsn in self.dsns.values():
            while not await _is_recovered(dsn):
                await asyncio.sleep(0.1)

    # --- battles ---------------------------------------------------------------------------------------------------

    async def battle(self, kind: str) -> None:
        phase, self.not_reached = "the gateways' start", []
        try:
            async with asyncio.timeout(BATTLE_S_MAX):
                gateways = await self.gateways("kill" if kind in ("gateway", "agent") else "stop")
                phase = "the fight"
                async with self._fighting(gateways):
                    await BATTLES[kind](self, gateways)
                    phase = "the clients' end"
                phase = "recovery"
                await self.recovered()
                phase = "judgement"
                await self._judge()
        except TimeoutError:
            told = f"{kind}: {phase} does not end; not reached: {self.not_reached}"
            raise AssertionError(f"{told}\n{self.cluster.log_tail()}") from None

    def _count(self, what: str, gateways: list[Gateway]) -> None:
        for gateway in gateways:
            self.rounds[what, gateway.point] = self.rounds.get((what, gateway.point), 0) + 1

    @contextlib.asynccontextmanager
    async def _fighting(self, gateways: list[Gateway]) -> AsyncIterator[None]:
        armed, over = asyncio.Event(), asyncio.Event()
        clients = [asyncio.create_task(self.client(gateways, armed, over)) for _ in gateways for _ in range(CLIENTS)]
        try:
            while not all(each.clients for each in gateways):
                await asyncio.sleep(0.02)
            for each in gateways:
                each.arm()
            armed.set()
            yield
            over.set()
            await asyncio.gather(*clients)
        finally:
            self.not_reached = [each.point for each in gateways if not each.reached]
            for each in gateways:
                each.fault.unlink(missing_ok=True)
                with contextlib.suppress(psutil.Error):
                    each.process.resume()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def kill_gateways(self, gateways: list[Gateway]) -> None:
        await self._reached(gateways)
        self._count("gateway", gateways)

    async def kill_agent(self, gateways: list[Gateway]) -> None:
        agent = psutil.Process(self.cluster.status()["nodes"][0]["pid"])
        await self._reached(gateways, half=True)
        agent.kill()
        await self._reached(gateways)
        self._count("agent and gateway", gateways)

    async def kill_backend(self, gateways: list[Gateway]) -> None:
        """Its server ends all others and recovers."""
        await self._reached(gateways)
        group = self._next_group()
        with psycopg.connect(self.dsns[group], autocommit=True) as connection:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE usename = 'hanse' ORDER BY state = 'active', random() LIMIT 1"
            ).fetchone()
        assert row is not None
        others = self._server(group).children()
        os.kill(row[0], signal.SIGKILL)
        while any(
            each.is_running() for each in others
        ):  # who goes on before its backend ends may commit, and asks nobody
            await asyncio.sleep(0.02)
        await self._go_on(gateways, group)

    async def kill_server(self, gateways: list[Gateway]) -> None:
        """With its backends, which would otherwise end what they have begun."""
        await self._reached(gateways)
        group = self._next_group()
        server = self._server(group)
        server.suspend()
        for process in (*server.children(recursive=True), server):
            process.kill()
        await self._go_on(gateways, group)

    def _server(self, group: str) -> psutil.Process:
        found = next(each for each in self.cluster.status()["groups"] if each["name"] == group)
        return psutil.Process(found["instances"][0]["pid"])

    def _next_group(self) -> str:
        self.killed_groups += 1
        return ("g1", "g2")[self.killed_groups % 2]

    async def _reached(self, gateways: list[Gateway], *, half: bool = False) -> None:
        while sum(each.reached for each in gateways) < len(gateways) // (2 if half else 1):
            await asyncio.sleep(0.02)

    async def _go_on(self, gateways: list[Gateway], group: str) -> None:
        """g2 decides: where it was lost, those that have not decided yet ask for its record."""
        asking = [each for each in gateways if group == "g2" and each.point in ASK_THEN]
        self._count(f"{group} lost", gateways)
        for gateway in asking:
            gateway.point, gateway.action = ASK_THEN[gateway.point], "kill"
            gateway.arm()
        for gateway in gateways:
            gateway.process.resume()
        await asyncio.sleep(0.3)  # the fight goes on for a while
        await self._reached(asking)
        self._count("gateway asking", asking)

    # --- judgement -------------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        sums, journals = [], []
        for side, dsn in enumerate(self.dsns.values(), 1):
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as group:
                assert await _rows(group, "SELECT gid FROM pg_prepared_xacts") == [], "something is left prepared"
                await group.execute("SET lock_timeout = '5s'")
                await group.execute(f"UPDATE accounts_{side} SET balance = balance")  # type: ignore[call-overload]
                ((total,),) = await _rows(group, f"SELECT sum(balance) FROM accounts_{side}")
                sums.append(total)
                journals.append({row[0] for row in await _rows(group, f"SELECT number FROM journal_{side}")})
        assert sum(sums) == 2 * ACCOUNTS * BALANCE == await self._total()
        assert journals[0] == journals[1], "a transfer is there in one group"
        assert sums[1] - ACCOUNTS * BALANCE == len(journals[1]), "a transfer's number without its money"
        assert self.books.acknowledged <= journals[0], "an acknowledged transfer is lost"
        assert not self.books.refused & journals[0], "a refused transfer was made"

    async def _total(self) -> int:
        """Through the gateway that nobody kills, whose idle connections may have lost their servers."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self.cluster.dsn, autocommit=True) as connection:
                    ((total,),) = await _rows(connection, "SELECT sum(balance) FROM accounts")
                    return int(total)
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)


async def _is_recovered(dsn: str) -> bool:
    """The group's server is back, and nothing is prepared."""
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as group:
            return await _rows(group, "SELECT gid FROM pg_prepared_xacts") == []
    except psycopg.OperationalError:
        return False


async def _rows(connection: psycopg.AsyncConnection[Any], sql: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(sql)).fetchall()  # type: ignore[call-overload, no-any-return]


BATTLES: dict[str, Callable[[War, list[Gateway]], Any]] = {
    "gateway": War.kill_gateways,
    "backend": War.kill_backend,
    "server": War.kill_server,
    "agent": War.kill_agent,
}
ORDER = ("gateway", "backend", "server", "agent", "server", "backend", "backend", "server", "server", "backend")


@pytest.fixture(scope="module")
def war(run_directory: Path) -> Iterator[War]:
    directory = run_directory / f"war-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    data, port = directory / "data", free_ports(1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HANSE_FAULT", str(directory / "fault-{worker}"))
        environment.setenv("HANSE_RECOVERY", "0.25,1")
        hanse("up", "--detach", "--data", str(data), "--port", str(port), "--nodes", "1", "--groups", "2",
              "--workers", str(len(POINTS)), "--password", PASSWORD, timeout_s=180)  # fmt: skip
    cluster = Cluster(data, Server("127.0.0.1", port, "hanse", PASSWORD, "hanse"))
    try:
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement)  # type: ignore[call-overload]
            connection.execute(
                f"INSERT INTO accounts SELECT s, i, {BALANCE} FROM generate_series(1, 2) s, generate_series(0, {ACCOUNTS - 1}) i"
            )
        yield War(cluster, directory, cluster.group_dsns())
    finally:
        with contextlib.suppress(RuntimeError):
            hanse("down", "--data", str(data))
        sweep(directory)


@pytest.mark.timeout(900)
async def test_nothing_is_ever_half_done(war: War) -> None:
    for kind in itertools.cycle(ORDER):
        await war.battle(kind)
        if sum(war.rounds.values()) >= ROUNDS:
            break
    assert {what for what, _ in war.rounds} == {"gateway", "agent and gateway", "g1 lost", "g2 lost", "gateway asking"}
    for what in ("gateway", "agent and gateway", "g1 lost", "g2 lost"):
        assert all(war.rounds[what, point] for point in POINTS)
    assert all(war.rounds["gateway asking", point] for point in ASK_THEN.values())
    assert war.books.acknowledged and war.books.unknown
