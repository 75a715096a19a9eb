"""What atomicity and global snapshots cost: transfers over two groups beside what else could be done, on the same machine.

    python -m benchmarks --workload atomic_transfer      a transfer between two keys, nine times in ten in two groups, as
        hanse        BEGIN, two UPDATEs, COMMIT through the gateway
        plain        the same on one plain PostgreSQL
        independent  the two UPDATEs as commits of their own, on two plain servers: the floor, without atomicity
        classic      two-phase commit of the client's over two plain servers, whose decision is a durable row before anybody is
                     told of it
    python -m benchmarks --workload global_snapshots     writes through the gateway beside 0, 10 and 100 queries over both groups
        in a second

The client is the same for all: one thread, one message for each statement, no parsing of rows. Rounds are interleaved. What is
printed are medians and their ratios.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psycopg
import uvloop

from benchmarks.measure import Settings
from hanse.core.errors import PgError
from hanse.engines.postgres.backend import Backend
from hanse.engines.postgres.connect import Address, connect_backend
from hanse.pgwire.scram import Password
from support.servers import Server

ALL = ("atomic_transfer", "global_snapshots")
WAYS = ("hanse", "plain", "independent", "classic")
RATES = (0, 10, 100)  # global snapshots a second
READERS = 4  # sessions that take them
IN_TWO_GROUPS = 0.9  # of the transfers
RETRIED = ("40001", "40P01")

SCHEMA = """
CREATE TABLE moved (side int, id int, balance bigint NOT NULL, filler text NOT NULL, PRIMARY KEY (side, id)){spread};
CREATE TABLE looked_at (side int PRIMARY KEY, v int NOT NULL){spread}
"""
PARTITION = "CREATE TABLE {table}_{side} PARTITION OF {table} FOR VALUES FROM ({side}) TO ({next}) TABLESPACE g{side}"
DECISIONS = "CREATE TABLE decisions (gid text PRIMARY KEY)"

Work = Callable[[random.Random], Awaitable[None]]


@dataclass(slots=True)
class Tally:
    done: int = 0
    again: int = 0  # failed with an error that is to be retried
    looks: int = 0
    seconds: float = 0.0

    @property
    def tps(self) -> float:
        return self.done / self.seconds


@dataclass(slots=True)
class Bench:
    cluster: Server
    servers: Sequence[Server]  # two plain ones
    settings: Settings
    accounts: int = field(init=False)

    def __post_init__(self) -> None:
        self.accounts = self.settings.accounts // 2  # of each side

    # --- loading ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Both sides on the cluster and on the first plain server; the second has both, too, and uses one."""
        for server in (self.cluster, *self.servers):
            spread = server is self.cluster
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                for statement in (*self._schema(spread), *(() if spread else (DECISIONS,))):
                    connection.execute(statement)  # type: ignore[call-overload]
                with connection.cursor().copy("COPY moved FROM STDIN") as copy:
                    for side in (1, 2):
                        for first in range(0, self.accounts, 5_000):
                            rows = range(first, min(first + 5_000, self.accounts))
                            copy.write("".join(f"{side}\t{i}\t1000\t{'x' * 60}\n" for i in rows))
                connection.execute("INSERT INTO looked_at VALUES (1, 0), (2, 0)")
                connection.execute("VACUUM ANALYZE")

    def _schema(self, spread: bool) -> Iterator[str]:
        text = SCHEMA.format(spread=" PARTITION BY RANGE (side)" if spread else "")
        yield from text.strip().split(";\n")
        if spread:
            for table in ("moved", "looked_at"):
                for side in (1, 2):
                    yield PARTITION.format(table=table, side=side, next=side + 1)

    # --- transfers -------------------------------------------------------------------------------------------------

    def keys(self, draw: random.Random) -> list[tuple[int, int]]:
        """The two rows, in the order in which all take their locks."""
        side = draw.choice((1, 2))
        other = 3 - side if draw.random() < IN_TWO_GROUPS else side
        return sorted({(side, draw.randrange(self.accounts)), (other, draw.randrange(self.accounts))})

    async def work(self, way: str) -> Work:
        """One client."""
        if way == "hanse":
            return self._whole(await session(self.cluster))
        if way == "plain":
            return self._whole(await session(self.servers[0]))
        pair = [await session(server) for server in self.servers]
        return self._independent(pair) if way == "independent" else self._classic(pair)

    def _whole(self, backend: Backend) -> Work:
        async def transfer(draw: random.Random) -> None:
            try:
                await backend.query("BEGIN")
                for side, row in self.keys(draw):
                    await backend.query(update(side, row))
                await backend.query("COMMIT")
            except PgError:
                await backend.query("ROLLBACK")
                raise

        return transfer

    def _independent(self, pair: Sequence[Backend]) -> Work:
        async def transfer(draw: random.Random) -> None:
            for side, row in self.keys(draw):
                await pair[side - 1].query(update(side, row))

        return transfer

    def _classic(self, pair: Sequence[Backend]) -> Work:
        async def transfer(draw: random.Random) -> None:
            keys = self.keys(draw)
            sides = sorted({side for side, _ in keys})
            for side in sides:
                await pair[side - 1].query("BEGIN")
            for side, row in keys:
                await pair[side - 1].query(update(side, row))
            if len(sides) == 1:
                await pair[sides[0] - 1].query("COMMIT")
                return
            gid = f"t{draw.getrandbits(100):x}"
            await asyncio.gather(*(backend.query(f"PREPARE TRANSACTION '{gid}'") for backend in pair))
            await pair[0].query(f"INSERT INTO decisions VALUES ('{gid}')")
            await asyncio.gather(*(backend.query(f"COMMIT PREPARED '{gid}'") for backend in pair))

        return transfer

    # --- runs ------------------------------------------------------------------------------------------------------

    def transfers(self) -> Iterator[str]:
        rounds = [{way: uvloop.run(self._run(way)) for way in WAYS} for _ in range(self.settings.rounds)]
        tps = {way: statistics.median(each[way].tps for each in rounds) for way in WAYS}
        yield f"{'transfer':<14}{'tps':>10}{'hanse is':>10}{'again':>8}"
        for way in WAYS:
            again = sum(each[way].again for each in rounds)
            yield f"{way:<14}{tps[way]:>10.1f}{tps['hanse'] / tps[way]:>10.2f}{again:>8}"
        yield "to reach: 0.6 of independent, above classic, 0.4 of plain"

    def snapshots(self) -> Iterator[str]:
        yield f"{'writes':<14}{'wanted/s':>10}{'taken/s':>10}{'tps':>10}{'of 0/s':>10}"
        for writes in ("update", "transfer"):
            rounds = [
                {rate: uvloop.run(self._beside(writes, rate)) for rate in RATES} for _ in range(self.settings.rounds)
            ]
            tps = {rate: statistics.median(each[rate].tps for each in rounds) for rate in RATES}
            for rate in RATES:
                taken = statistics.median(each[rate].looks / each[rate].seconds for each in rounds)
                yield f"{writes:<14}{rate:>10}{taken:>10.1f}{tps[rate]:>10.1f}{tps[rate] / tps[0]:>10.2f}"
        yield "to reach: 0.97 at 10 a second, 0.88 at 100"

    async def _run(self, way: str) -> Tally:
        return await self._timed([await self.work(way) for _ in range(self.settings.clients)], ())

    async def _beside(self, writes: str, rate: int) -> Tally:
        sessions = [await session(self.cluster) for _ in range(self.settings.clients)]
        readers = [await session(self.cluster) for _ in range(READERS if rate else 0)]
        work = [self._whole(each) if writes == "transfer" else self._single(each) for each in sessions]
        return await self._timed(work, readers, rate)

    def _single(self, backend: Backend) -> Work:
        async def change(draw: random.Random) -> None:
            await backend.query(update(draw.choice((1, 2)), draw.randrange(self.accounts)))

        return change

    async def _timed(self, clients: Sequence[Work], readers: Sequence[Backend], rate: int = 0) -> Tally:
        tally = Tally()
        begun = time.monotonic()
        until = begun + self.settings.seconds
        looks = (look(reader, tally, begun + at / rate, READERS / rate, until) for at, reader in enumerate(readers))
        await asyncio.gather(*(repeat(work, tally, until) for work in clients), *looks)
        tally.seconds = time.monotonic() - begun
        return tally


async def session(server: Server) -> Backend:
    address = Address(server.host, server.port)
    return await connect_backend(address, "server", server.user, server.database, Password(server.password))


def update(side: int, row: int) -> str:
    return f"UPDATE moved SET balance = balance + {3 - 2 * side} WHERE side = {side} AND id = {row}"


async def repeat(work: Work, tally: Tally, until: float) -> None:
    draw = random.Random()
    while time.monotonic() < until:
        try:
            await work(draw)
            tally.done += 1
        except PgError as error:
            if error.sqlstate not in RETRIED:
                raise
            tally.again += 1


async def look(reader: Backend, tally: Tally, due: float, period_s: float, until: float) -> None:
    """A query over both groups every `period_s`; what comes late is not made up for."""
    while due < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await reader.query("SELECT v FROM looked_at")
        tally.looks += 1
        due = max(due + period_s, time.monotonic())


def run(workloads: Sequence[str], cluster: Server, plain: Sequence[Server], settings: Settings) -> Iterator[str]:
    """The lines to print."""
    bench = Bench(cluster, plain, settings)
    bench.load()
    for workload in workloads:
        yield from bench.transfers() if workload == "atomic_transfer" else bench.snapshots()
