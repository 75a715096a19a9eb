"""The clients that look on: one that writes in each group all the time, and those that move money between groups.

Everything is in a schema of its own, which goes in the end unless something was found wrong.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from ...core.errors import UserMistake
from ...core.ids import quote_identifier

SCHEMA = "hanse_chaos"
ACCOUNTS, BALANCE = 100, 1000
CONNECT_S_MAX = 5.0
STATEMENT_S_MAX = 60.0  # gateways hold statements for ten seconds at most
PREPARED_S_MAX = 30.0  # agents end what was left after ten
PAUSE_S = 0.02  # before another attempt
BEAT_S = 0.005

Connection = Any  # asyncpg has no types


@dataclass(slots=True)
class Clients:
    """How to reach the cluster: any of its gateways, in an order that differs from client to client."""

    host: str
    ports: Sequence[int]
    user: str
    password: str
    database: str

    async def connect(self, first: int = 0, *, patience_s: float = 30.0) -> Connection:
        import asyncpg

        until, attempt = monotonic() + patience_s, first
        while True:
            port = self.ports[attempt % len(self.ports)]
            attempt += 1
            try:
                return await asyncpg.connect(
                    host=self.host, port=port, user=self.user, password=self.password, database=self.database,
                    ssl=False, timeout=CONNECT_S_MAX, command_timeout=STATEMENT_S_MAX,
                )  # fmt: skip
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if monotonic() > until:
                    raise UserMistake(f"no gateway answers: {error or type(error).__name__}") from None
                await asyncio.sleep(PAUSE_S)


async def make_tables(connection: Connection, groups: Sequence[str]) -> None:
    """Raises what PostgreSQL says."""
    statements = [
        f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
        f"CREATE SCHEMA {SCHEMA}",
        f"CREATE TABLE {SCHEMA}.accounts (id int PRIMARY KEY, balance bigint NOT NULL) PARTITION BY HASH (id)",
        f"CREATE TABLE {SCHEMA}.journal (id uuid PRIMARY KEY) PARTITION BY HASH (id)",
        f"CREATE TABLE {SCHEMA}.beats (id int PRIMARY KEY, n bigint NOT NULL) PARTITION BY LIST (id)",
        f"INSERT INTO {SCHEMA}.accounts SELECT i, {BALANCE} FROM generate_series(1, {ACCOUNTS}) i",
    ]
    for number, group in enumerate(groups):
        place = quote_identifier(group)
        statements.append(
            f"CREATE TABLE {SCHEMA}.beats_{number} PARTITION OF {SCHEMA}.beats FOR VALUES IN ({number}) TABLESPACE {place}"
        )
        statements.append(f"INSERT INTO {SCHEMA}.beats VALUES ({number}, 0)")
    for statement in statements:
        await connection.execute(statement)


async def drop_tables(connection: Connection) -> None:
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


@dataclass(slots=True)
class Errors:
    """SQLSTATE, or 'connection', → how often."""

    seen: Counter[str] = field(default_factory=Counter)

    def note(self, error: BaseException) -> None:
        self.seen[getattr(error, "sqlstate", None) or "connection"] += 1

    def __str__(self) -> str:
        return ", ".join(f"{state} × {count}" for state, count in sorted(self.seen.items())) or "none"


@dataclass(slots=True)
class Beat:
    """Writes in one group, one statement after another. `gaps`: (begin, end) of every time without an answer over `gap_s`."""

    clients: Clients
    number: int
    errors: Errors = field(default_factory=Errors)
    last: float = 0.0  # when a write was answered
    begun: float = 0.0  # when that was sent
    gaps: list[tuple[float, float]] = field(default_factory=list)
    gap_s: float = 0.3

    async def run(self) -> None:
        import asyncpg

        statement = f"UPDATE {SCHEMA}.beats SET n = n + 1 WHERE id = $1"
        connection = await self.clients.connect(self.number)
        while True:
            begun = monotonic()
            try:
                await connection.execute(statement, self.number)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                self.errors.note(error)
                if connection.is_closed():
                    connection = await self.clients.connect(self.number + 1, patience_s=300.0)
                await asyncio.sleep(PAUSE_S)
            else:
                now = monotonic()
                if self.last and now - self.last > self.gap_s:
                    self.gaps.append((self.last, now))
                self.last, self.begun = now, begun
                await asyncio.sleep(BEAT_S)


@dataclass(slots=True)
class Bank:
    """Transfers, mostly between groups, and totals: what `judge` knows to be right."""

    clients: Clients
    seed: int
    errors: Errors = field(default_factory=Errors)
    acknowledged: list[uuid.UUID] = field(default_factory=list)
    totals: int = 0
    wrong: list[str] = field(default_factory=list)

    async def transfers(self, number: int) -> None:
        import asyncpg

        draw = random.Random(f"{self.seed} {number}")
        connection = await self.clients.connect(number)
        while True:
            name = uuid.UUID(int=draw.getrandbits(128))
            try:
                await self._transfer(connection, name, *draw.sample(range(1, ACCOUNTS + 1), 2))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                connection = await self._after(error, connection, number)
            else:
                self.acknowledged.append(name)

    async def _transfer(self, connection: Connection, name: uuid.UUID, giver: int, taker: int) -> None:
        async with connection.transaction():
            for account, amount in sorted(((giver, -1), (taker, 1))):
                await connection.execute(
                    f"UPDATE {SCHEMA}.accounts SET balance = balance + $2 WHERE id = $1", account, amount
                )
            await connection.execute(f"INSERT INTO {SCHEMA}.journal VALUES ($1)", name)

    async def totals_read(self, number: int) -> None:
        import asyncpg

        connection = await self.clients.connect(number)
        while True:
            try:
                total = await connection.fetchval(f"SELECT sum(balance) FROM {SCHEMA}.accounts")
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                connection = await self._after(error, connection, number)
            else:
                self.totals += 1
                if total != ACCOUNTS * BALANCE:
                    self.wrong.append(f"a query saw {total} where there are {ACCOUNTS * BALANCE}")
                await asyncio.sleep(PAUSE_S)

    async def _after(self, error: Exception, connection: Connection, number: int) -> Connection:
        self.errors.note(error)
        await asyncio.sleep(PAUSE_S)
        if not connection.is_closed():
            return connection
        return await self.clients.connect(number + 1, patience_s=300.0)

    async def judge(self) -> list[str]:
        """What is wrong, as sentences; the cluster is whole and the clients have ended."""
        connection = await self.clients.connect()
        try:
            found = list(self.wrong)
            total = await connection.fetchval(f"SELECT sum(balance) FROM {SCHEMA}.accounts")
            if total != ACCOUNTS * BALANCE:
                found.append(f"the accounts hold {total}, and held {ACCOUNTS * BALANCE}")
            kept = {row[0] for row in await connection.fetch(f"SELECT id FROM {SCHEMA}.journal")}
            lost = [name for name in self.acknowledged if name not in kept]
            if lost:
                found.append(f"{len(lost)} acknowledged transfers are lost, {lost[0]} among them")
            if not await self._nothing_prepared(connection):
                found.append(f"transactions are still prepared after {PREPARED_S_MAX:.0f} s; see `hanse transactions`")
            return found
        finally:
            with suppress(Exception):
                await connection.close()

    async def _nothing_prepared(self, connection: Connection) -> bool:
        until = monotonic() + PREPARED_S_MAX
        while await connection.fetchval("SELECT count(*) FROM hanse.transactions"):
            if monotonic() > until:
                return False
            await asyncio.sleep(PAUSE_S)
        return True
