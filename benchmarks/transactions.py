"""What atomicity and global snapshots cost: transfers over two groups beside what else could be done, on the same machine.

    python -m benchmarks --workload atomic_transfer      a transfer between two keys, nine times in ten in two groups, as
        hanse        BEGIN, two UPDATEs, COMMIT through the gateway
        plain        the same on one plain PostgreSQL
        independent  the two UPDATEs as commits of their own, on two plain servers: the floor, without atomicity
        separate     the same in a transaction of each server, BEGIN; UPDATE and then COMMIT, which go to both at the same
                     time: what somebody who needs the answers before he commits can do, without atomicity
        classic      two-phase commit of the client's over two plain servers, whose decision is a durable row before anybody is
                     told of it
        protocol     Hanse's protocol, gates and all, spoken by the client to the two groups' servers: what it costs without a
                     gateway in between, so beside `independent` and `classic` it is the protocol that is measured, and
                     beside `hanse` the gateway
    python -m benchmarks --workload global_snapshots     writes through the gateway beside 0, 10 and 100 queries over both groups
        in a second: each group's answer as it is (hanse.read_consistency = fast), which is what the queries cost, and as
        one snapshot; the difference is what snapshots cost

The client is the same for all: one thread, one message for each statement, no parsing of rows. A round of each is cut into slices
of half a second that are interleaved, so that what else the machine does meets all alike. What is printed are medians of rounds
and their ratios.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg
import uvloop
from psycopg.conninfo import conninfo_to_dict

from benchmarks.measure import Settings
from hanse.core.errors import PgError
from hanse.engines.postgres.backend import Backend
from hanse.engines.postgres.connect import Address, connect_backend
from hanse.executor.request import Discard, pump_tags
from hanse.gateway.quick_commit import decision
from hanse.pgwire.scram import Password
from hanse.transactions.commit import GATE, Run, commit, new_global_id
from support.servers import Cluster, Server

ALL = ("atomic_transfer", "global_snapshots")
WAYS = ("hanse", "plain", "independent", "separate", "classic", "protocol")
BESIDE = (
    (0, ""),
    (10, "fast"),
    (10, "snapshot"),
    (100, "fast"),
    (100, "snapshot"),
)  # queries a second, their consistency
SLICE_S = 0.5
READERS = 4  # sessions that take them
IN_TWO_GROUPS = 0.9  # of the transfers
COMMIT_IN_ONE = f"{GATE}; COMMIT"
RETRIED = ("40001", "40P01")

SCHEMA = """
CREATE TABLE moved (side int, id int, balance bigint NOT NULL, filler text NOT NULL, PRIMARY KEY (side, id)){spread};
CREATE TABLE looked_at (side int PRIMARY KEY, v int NOT NULL){spread}
"""
PARTITION = "CREATE TABLE {table}_{side} PARTITION OF {table} FOR VALUES FROM ({side}) TO ({next}) TABLESPACE g{side}"
DECISIONS = "CREATE TABLE decisions (gid text PRIMARY KEY)"

LOOK = "SELECT v FROM looked_at"  # over both groups, and little else: no workspace takes part

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

    def add(self, other: Tally) -> None:
        self.done += other.done
        self.again += other.again
        self.looks += other.looks
        self.seconds += other.seconds


Key = str | tuple[int, str]
Slice = Callable[[], Awaitable[Tally]]


@dataclass(slots=True)
class Bench:
    cluster: Server
    servers: Sequence[Server]  # two plain ones
    groups: Sequence[str]  # conninfos of the cluster's two, in their order
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
        if way == "protocol":
            return self._protocol([await group_session(self.cluster, conninfo) for conninfo in self.groups])
        pair = [await session(server) for server in self.servers]
        return {"independent": self._independent, "separate": self._separate, "classic": self._classic}[way](pair)

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

    def _separate(self, pair: Sequence[Backend]) -> Work:
        async def transfer(draw: random.Random) -> None:
            sides = await self._begun(pair, self.keys(draw))
            await asyncio.gather(*(pair[side - 1].query("COMMIT") for side in sides))

        return transfer

    async def _begun(self, pair: Sequence[Backend], keys: Sequence[tuple[int, int]]) -> list[int]:
        """The updates; BEGIN goes with a server's first statement, as at the gateway. Gives the sides."""
        begun: set[int] = set()
        for side, row in keys:
            await pair[side - 1].query(update(side, row) if side in begun else f"BEGIN; {update(side, row)}")
            begun.add(side)
        return sorted(begun)

    def _classic(self, pair: Sequence[Backend]) -> Work:
        async def transfer(draw: random.Random) -> None:
            sides = await self._begun(pair, self.keys(draw))
            if len(sides) == 1:
                await pair[sides[0] - 1].query("COMMIT")
                return
            gid = f"t{draw.getrandbits(100):x}"
            await asyncio.gather(*(backend.query(f"PREPARE TRANSACTION '{gid}'") for backend in pair))
            await pair[0].query(f"INSERT INTO decisions VALUES ('{gid}')")
            await asyncio.gather(*(backend.query(f"COMMIT PREPARED '{gid}'") for backend in pair))

        return transfer

    def _protocol(self, pair: Sequence[Backend]) -> Work:
        async def transfer(draw: random.Random) -> None:
            sides = await self._begun(pair, self.keys(draw))
            if len(sides) == 1:
                await pair[sides[0] - 1].query(COMMIT_IN_ONE)
                return
            identity = new_global_id("g2")
            steps = commit(("g1", "g2"), identity, impatient=False)
            try:
                step = next(steps)
                while True:
                    assert isinstance(step, Run)
                    (place,) = step.places
                    backend = pair[int(place[1:]) - 1]
                    if step.stage == "decide":
                        backend.write(decision(backend, identity))
                        await pump_tags(backend, Discard())
                    else:
                        await backend.query(step.sql)
                    step = steps.send({})
            except StopIteration:
                return

        return transfer

    # --- runs ------------------------------------------------------------------------------------------------------

    def transfers(self) -> Iterator[str]:
        rounds = [uvloop.run(self._interleaved(self._ways())) for _ in range(self.settings.rounds)]
        tps = {way: statistics.median(each[way].tps for each in rounds) for way in WAYS}
        yield f"{'transfer':<14}{'tps':>10}{'hanse is':>10}{'again':>8}"
        for way in WAYS:
            again = sum(each[way].again for each in rounds)
            yield f"{way:<14}{tps[way]:>10.1f}{tps['hanse'] / tps[way]:>10.2f}{again:>8}"
        yield "to reach: 0.6 of independent, above classic, 0.4 of plain"
        parts = (f"{tps['protocol'] / tps[way]:.2f} of {way}" for way in ("independent", "separate", "classic"))
        yield f"the protocol alone is {', '.join(parts)}"

    def snapshots(self) -> Iterator[str]:
        yield f"{'writes':<10}{'queries/s':>10}{'taken/s':>9}  {'each':<10}{'tps':>9}{'of 0/s':>8}{'of fast':>9}"
        for writes in ("update", "transfer"):
            rounds = [uvloop.run(self._interleaved(self._beside(writes))) for _ in range(self.settings.rounds)]
            tps = {each: statistics.median(found[each].tps for found in rounds) for each in BESIDE}
            for rate, consistency in BESIDE:
                each = (rate, consistency)
                taken = statistics.median(found[each].looks / found[each].seconds for found in rounds)
                of_fast = f"{tps[each] / tps[rate, 'fast']:.2f}" if consistency == "snapshot" else ""
                line = f"{writes:<10}{rate:>10}{taken:>9.1f}  {consistency or '-':<10}{tps[each]:>9.1f}"
                yield f"{line}{tps[each] / tps[BESIDE[0]]:>8.2f}{of_fast:>9}"
        yield "to reach: 0.97 at 10 a second, 0.88 at 100"

    async def _ways(self) -> dict[Key, Slice]:
        work = {way: [await self.work(way) for _ in range(self.settings.clients)] for way in WAYS}
        return {way: partial(self._timed, work[way]) for way in WAYS}

    async def _beside(self, writes: str) -> dict[Key, Slice]:
        sessions = [await session(self.cluster) for _ in range(self.settings.clients)]
        work = [self._whole(each) if writes == "transfer" else self._single(each) for each in sessions]
        readers: dict[str, list[Backend]] = {"": []}
        for consistency in ("fast", "snapshot"):
            readers[consistency] = [await session(self.cluster) for _ in range(READERS)]
            for reader in readers[consistency]:
                await reader.query(f"SET hanse.read_consistency = '{consistency}'")
                await reader.query(LOOK)
        return {each: partial(self._timed, work, readers[each[1]], each[0]) for each in BESIDE}

    async def _interleaved(self, made: Awaitable[dict[Key, Slice]]) -> dict[Key, Tally]:
        slices = await made
        tallies = {key: Tally() for key in slices}
        for _ in range(round(self.settings.seconds / SLICE_S)):
            for key in random.sample(list(slices), len(slices)):
                tallies[key].add(await slices[key]())
        return tallies

    def _single(self, backend: Backend) -> Work:
        async def change(draw: random.Random) -> None:
            await backend.query(update(draw.choice((1, 2)), draw.randrange(self.accounts)))

        return change

    async def _timed(self, clients: Sequence[Work], readers: Sequence[Backend] = (), rate: int = 0) -> Tally:
        tally = Tally()
        begun = time.monotonic()
        until = begun + SLICE_S
        looks = (look(reader, tally, begun + at / rate, READERS / rate, until) for at, reader in enumerate(readers))
        await asyncio.gather(*(repeat(work, tally, until) for work in clients), *looks)
        tally.seconds = time.monotonic() - begun
        return tally


async def session(server: Server) -> Backend:
    address = Address(server.host, server.port)
    return await connect_backend(address, "server", server.user, server.database, Password(server.password))


async def group_session(cluster: Server, conninfo: str) -> Backend:
    """Past the gateway, as the system's role."""
    parts = conninfo_to_dict(conninfo)
    address = Address(str(parts["host"]), int(str(parts["port"])))
    return await connect_backend(
        address, "group", str(parts["user"]), cluster.database, Password(str(parts["password"]))
    )


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
        await reader.query(LOOK)
        tally.looks += 1
        due = max(due + period_s, time.monotonic())


def run(workloads: Sequence[str], cluster: Cluster, plain: Sequence[Server], settings: Settings) -> Iterator[str]:
    """The lines to print."""
    bench = Bench(cluster.server, plain, list(cluster.group_dsns().values()), settings)
    bench.load()
    for workload in workloads:
        yield from bench.transfers() if workload == "atomic_transfer" else bench.snapshots()
