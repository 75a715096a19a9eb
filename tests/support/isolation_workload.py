"""Clients that append to lists and write registers in two groups, and note what they sent and were answered (`histories.py`).

Keys below `SECOND_GROUP` lie in g1, the others in g2. At any time the clients use the four keys of each group and table that are
the newest; after `PER_GENERATION` transactions they go on to the next four, so that lists stay short while every key is
contended. Rows of even keys are there from the beginning, those of odd ones come with their first write, so that reads
that find nothing are part of it.
"""

from __future__ import annotations

import functools
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from support.histories import (
    Append,
    Final,
    Level,
    Operation,
    Outcome,
    ReadList,
    ReadRegister,
    Transaction,
    Write,
)

SECOND_GROUP = 10_000
PER_GENERATION, GENERATIONS = 60, 400
KEYS = 4  # in each group and table at a time
LEVELS = {
    "read committed": Level.READ_COMMITTED,
    "repeatable read": Level.SNAPSHOT,
    "serializable": Level.SERIALIZABLE,
}
RECONNECT_S = 60.0  # on a slow machine, when a gateway or a group was killed
AGAIN_S = 0.05
END_S_MAX = 120.0  # for the last transaction of a client: a lock of a branch whose gateway died is held until recovery


def make_tables(connection: psycopg.Connection) -> None:
    for table, kind in (("lists", "int[] DEFAULT '{}'"), ("registers", "int")):
        connection.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v {kind}) PARTITION BY RANGE (k)")  # type: ignore[call-overload]
        for group, low in (("g1", 0), ("g2", SECOND_GROUP)):
            connection.execute(  # type: ignore[call-overload]
                f"CREATE TABLE {table}_{group} PARTITION OF {table} FOR VALUES FROM ({low}) TO ({low + SECOND_GROUP}) "
                f"TABLESPACE {group}"
            )
            connection.execute(  # type: ignore[call-overload]
                f"INSERT INTO {table} (k) SELECT generate_series({low}, {low + KEYS * GENERATIONS}, 2)"
            )


def final_state(connection: psycopg.Connection) -> Final:
    final: dict[object, tuple[int, ...] | int | None] = {}
    for k, v in connection.execute("SELECT k, v FROM lists").fetchall():
        final["list", k] = tuple(v)
    for k, v in connection.execute("SELECT k, v FROM registers").fetchall():
        final["register", k] = v
    return final


@dataclass
class Shared:
    """What the clients of one run have in common."""

    stop: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    values: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class Client:
    """One client; reconnects when its gateway or a group is gone. `done` is all it did."""

    def __init__(self, shared: Shared, connect: Callable[..., psycopg.Connection], level: str, seed: int) -> None:
        self.shared = shared
        self.connect = connect
        self.level = level
        self.draw = random.Random(seed)
        self.seed = seed
        self.connections = 0
        self.done: list[Transaction] = []
        self.committed = 0
        self.spread = 0  # of those that wrote in both groups
        self.errors: dict[str, int] = {}

    def run(self) -> None:
        connection = self._connected()
        while not self.shared.stop.is_set():
            number = next(self.shared.numbers)
            if number >= PER_GENERATION * GENERATIONS:
                break
            attempt = _Attempt(self, connection, f"T{number}", number // PER_GENERATION)
            attempt.run()
            if connection.closed or not self._cleared(connection):
                with suppress(psycopg.Error):
                    connection.close()
                connection = self._connected()
        connection.close()

    def _cleared(self, connection: psycopg.Connection) -> bool:
        try:
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            return False
        return not connection.closed

    def _connected(self) -> psycopg.Connection:
        deadline = time.monotonic() + RECONNECT_S
        while True:
            self.connections += 1
            connection = None
            try:
                connection = self.connect(
                    cursor_factory=psycopg.ClientCursor if self.seed % 2 else psycopg.Cursor, connect_timeout=10
                )
                connection.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {self.level}")  # type: ignore[call-overload]
                return connection
            except psycopg.Error:
                if connection is not None:
                    connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN_S)

    @property
    def session(self) -> tuple[int, int]:
        return self.seed, self.connections


class _Attempt:
    """One transaction, from its first statement to what became of it."""

    def __init__(self, client: Client, connection: psycopg.Connection, name: str, generation: int) -> None:
        self.client, self.connection, self.name = client, connection, name
        self.draw = client.draw
        self.level = LEVELS[client.level]
        first = KEYS * generation
        self.keys = [low + first + place for low in (0, SECOND_GROUP) for place in range(KEYS)]
        self.operations: list[Operation] = []
        self.statements: list[Transaction] = []
        self.ending = False

    def run(self) -> None:
        alone = self.draw.random() < 0.3
        groups = self.draw.choice(([0], [1], [0, 1], [0, 1], [0, 1]))
        keys = [key for key in self.keys if (key >= SECOND_GROUP) in groups]
        steps = self._steps(keys, 0 if alone else self.draw.randint(2, 4))
        outcome, begun, ended = Outcome.COMMITTED, time.monotonic(), float("inf")
        try:
            if not alone:
                read_only = all(step in (self._read_list, self._read_register, self._read_several) for step, _ in steps)
                self._begin(read_only=read_only and self.draw.random() < 0.5)
                begun = time.monotonic()
            self.ending = alone
            for step, chosen in steps:
                step(chosen)
            if not alone:
                self.ending = True
                self._execute("COMMIT")
            ended = time.monotonic()
        except psycopg.Error as error:
            state = error.sqlstate or "lost"
            self.client.errors[state] = self.client.errors.get(state, 0) + 1
            if state.startswith(("08", "57P")):
                time.sleep(AGAIN_S)
            outcome = Outcome.UNKNOWN if self.ending and _leaves_open(error) else Outcome.ABORTED
        self._note(outcome, begun, ended, alone)

    def _begin(self, *, read_only: bool) -> None:
        """The level is the session's default, or said."""
        if read_only:
            self._execute(f"BEGIN ISOLATION LEVEL {self.client.level} READ ONLY")
        else:
            self._execute(self.draw.choice(("BEGIN", f"BEGIN ISOLATION LEVEL {self.client.level}")))

    def _note(self, outcome: Outcome, begun: float, ended: float, alone: bool) -> None:
        several = (
            alone and not any(isinstance(op, Append | Write) for op in self.operations) and len(self.operations) > 1
        )
        level = max(self.level, Level.SNAPSHOT) if several else self.level  # a statement of its own over several groups
        session = self.client.session
        self.client.done.append(Transaction(self.name, tuple(self.operations), level, outcome, session, begun, ended))
        if self.level is Level.READ_COMMITTED and not alone:
            self.client.done += self.statements
        written = {op.key[1] >= SECOND_GROUP for op in self.operations if isinstance(op, Append | Write)}  # type: ignore[index]
        self.client.committed += outcome is Outcome.COMMITTED
        self.client.spread += outcome is Outcome.COMMITTED and len(written) == 2

    def _steps(self, keys: list[int], count: int) -> list[tuple[Callable[[list[int]], None], list[int]]]:
        """What to do with which keys; 0: one statement alone. Mostly in the order of keys, so that deadlocks are the exception."""
        steps = []
        only_reads = self.draw.random() < 0.25
        reads = (self._read_list, self._read_register, self._read_several, self._read_several)
        writes = (self._append, self._append, self._append_several, self._write, self._read_and_write)
        if not count:
            writes = writes[:4]
        for _ in range(count or 1):
            step = self.draw.choice(reads if only_reads or self.draw.random() < 0.5 else writes)
            steps.append((step, self.draw.sample(keys, 3)))
        if self.draw.random() < 0.9:
            steps.sort(key=lambda step: step[1][0])
        return steps

    def _execute(self, sql: str, *parameters: object) -> psycopg.Cursor[Any]:
        return self.connection.execute(sql, parameters or None)  # type: ignore[call-overload, no-any-return]

    # --- what is done. A write is noted before it is sent, a read when it was answered.

    def _append(self, chosen: list[int]) -> None:
        key, value = chosen[0], next(self.client.shared.values)
        self.operations.append(Append(("list", key), value))
        if key % 2:
            self._execute(
                "INSERT INTO lists VALUES (%s, ARRAY[%s]::int[]) ON CONFLICT (k) DO UPDATE SET v = lists.v || EXCLUDED.v",
                *(key, value),
            )
        else:
            self._execute("UPDATE lists SET v = v || %s::int WHERE k = %s", value, key)

    def _append_several(self, chosen: list[int]) -> None:
        value, keys = next(self.client.shared.values), sorted({key - key % 2 for key in chosen})
        self.operations += [Append(("list", key), value) for key in keys]
        self._execute("UPDATE lists SET v = v || %s::int WHERE k = ANY(%s)", value, keys)

    def _write(self, chosen: list[int]) -> None:
        key, value = chosen[0], next(self.client.shared.values)
        self.operations.append(Write(("register", key), value))
        if key % 2:
            self._execute(
                "INSERT INTO registers VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v", key, value
            )
        else:
            self._execute("UPDATE registers SET v = %s WHERE k = %s", value, key)

    def _read_and_write(self, chosen: list[int]) -> None:
        self._read_register(chosen, " FOR UPDATE" if self.draw.random() < 0.5 else "")
        self._write(chosen)

    def _read_list(self, chosen: list[int]) -> None:
        row = self._execute("SELECT v FROM lists WHERE k = %s", chosen[0]).fetchone()
        self.operations.append(ReadList(("list", chosen[0]), tuple(row[0]) if row else ()))

    def _read_register(self, chosen: list[int], locking: str = "") -> None:
        row = self._execute(f"SELECT v FROM registers WHERE k = %s{locking}", chosen[0]).fetchone()
        self.operations.append(ReadRegister(("register", chosen[0]), row[0] if row else None))

    def _read_several(self, chosen: list[int]) -> None:
        """One statement over several keys, of both groups as a rule: a snapshot at every level."""
        begun = time.monotonic()
        form = self.draw.randrange(3)
        found: list[Operation] = []
        if form == 0:
            lists = dict(self._execute("SELECT k, v FROM lists WHERE k = ANY(%s)", chosen).fetchall())
            found = [ReadList(("list", key), tuple(lists.get(key, ()))) for key in chosen]
        elif form == 1:
            values = dict(self._execute("SELECT k, v FROM registers WHERE k = ANY(%s) ORDER BY k", chosen).fetchall())
            found = [ReadRegister(("register", key), values.get(key)) for key in chosen]
        else:
            rows = self._execute(
                "SELECT l.k, l.v, r.v FROM lists l FULL JOIN registers r ON r.k = l.k + 0 WHERE l.k = ANY(%s)", chosen
            ).fetchall()
            found = [ReadList(("list", k), tuple(seen)) for k, seen, _ in rows]
            found += [ReadRegister(("register", k), seen) for k, _, seen in rows]
        self.operations += found
        name = f"{self.name}/{len(self.statements)}"
        self.statements.append(
            Transaction(name, tuple(found), Level.SNAPSHOT, begun=begun, ended=time.monotonic(), within=self.name)
        )


def _leaves_open(error: psycopg.Error) -> bool:
    """Whether what became of a commit is not known: the connection or the server was lost, or Hanse says so (08007).

    A server that is still starting (57P03) has not begun on it.
    """
    return error.sqlstate is None or error.sqlstate.startswith("08") or error.sqlstate in ("57P01", "57P02")


class Run:
    """Clients at once for a time, and what they did."""

    def __init__(
        self, connection: psycopg.Connection, dsns: Sequence[str], levels: Sequence[str], clients: int
    ) -> None:
        """`connection` reads the end, `dsns` are those of the gateways; levels and gateways take turns among the clients."""
        make_tables(connection)
        self.dsns, self.levels, self.count = dsns, levels, clients
        self.clients: list[Client] = []

    def go(self, meanwhile: Callable[[], None]) -> None:
        """Until `meanwhile` returns."""
        shared = Shared()
        with ThreadPoolExecutor(self.count) as pool:
            self.clients = [self._client(shared, number) for number in range(self.count)]
            running = [pool.submit(client.run) for client in self.clients]
            try:
                meanwhile()
            finally:
                shared.stop.set()
            for each in running:
                each.result(END_S_MAX)

    def _client(self, shared: Shared, number: int) -> Client:
        dsn = self.dsns[number % len(self.dsns)]
        level = self.levels[number // len(self.dsns) % len(self.levels)]
        return Client(shared, functools.partial(psycopg.connect, dsn, autocommit=True), level, number)

    @property
    def committed(self) -> int:
        """So far."""
        return sum(client.committed for client in self.clients)

    @property
    def spread(self) -> int:
        """So far: committed in both groups."""
        return sum(client.spread for client in self.clients)

    @property
    def history(self) -> list[Transaction]:
        return [done for client in self.clients for done in client.done]

    def counts(self) -> Counter[str]:
        """Transactions by outcome, those that wrote in both groups (`spread`), and errors by SQLSTATE."""
        found = Counter(done.outcome.value for done in self.history if done.within is None)
        found["spread"] = self.spread
        return sum((Counter(client.errors) for client in self.clients), found)
