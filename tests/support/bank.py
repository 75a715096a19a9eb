"""Money that moves between accounts in all groups while something is broken, and what must hold in the end.

No acknowledged transfer is lost, no total is ever another, no query misses what was acknowledged before it began, nothing is left
prepared, and all copies are equal.
"""

from __future__ import annotations

import contextlib
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from support.processes import wait_until
from support.servers import Cluster

ACCOUNTS, EACH, WRITERS = 40, 100, 4
BACK_S = 90.0  # for a cluster on a slow machine to be whole again
# None: the gateway was killed. 55P03: a snapshot that was begun waited for a server that was stopped.
TRUTHFUL = ("08006", "08001", "08007", "40001", "40P01", "55P03", "57P01", "57P02", "57P03", None)


class Bank:
    """Transfers and totals through every gateway, until told to stop."""

    def __init__(self, cluster: Cluster, *, truthful: tuple[str | None, ...] = TRUTHFUL) -> None:
        """`truthful`: what clients may be told."""
        self.cluster = cluster
        self.truthful = truthful
        self.table = f"bank_{uuid.uuid4().hex[:8]}"
        self.stop = threading.Event()
        self.done, self.seen = [0] * WRITERS, [0]
        self.errors: set[str | None] = set()
        with self.connect(0) as connection:
            connection.execute(
                f"CREATE TABLE {self.table} (id int PRIMARY KEY, n int) PARTITION BY HASH (id) WITH (shards = 4)"  # type: ignore[call-overload]
            )
            connection.execute(
                f"INSERT INTO {self.table} SELECT i, {EACH} FROM generate_series(1, {ACCOUNTS}) i"  # type: ignore[call-overload]
            )
            connection.execute(f"CREATE TABLE {self.table}_log (id uuid PRIMARY KEY)")  # type: ignore[call-overload]
        self.acknowledged: list[list[uuid.UUID]] = [[] for _ in range(WRITERS)]

    def connect(self, number: int) -> psycopg.Connection:
        """Again and again: a gateway that was killed is back in a moment."""

        def connected() -> psycopg.Connection | None:
            with contextlib.suppress(psycopg.OperationalError):
                gateway = self.cluster.gateways[number % len(self.cluster.gateways)]
                return psycopg.connect(gateway.dsn, autocommit=True, connect_timeout=5)
            return None

        found: psycopg.Connection = wait_until("a gateway", connected, timeout_s=BACK_S)
        return found

    def _go_on(self, number: int, work: Callable[[psycopg.Connection], None], over: Callable[[], bool]) -> None:
        connection = self.connect(number)
        while not over():
            try:
                work(connection)
            except psycopg.Error as error:
                self.errors.add(error.sqlstate)
                assert error.sqlstate in self.truthful, error
                if connection.closed:
                    connection = self.connect(number)
        connection.close()

    def transfer(self, number: int, times: int) -> None:
        """So many, and then it ends."""
        until = self.done[number] + times
        self._go_on(number, self._transfer(number), lambda: self.done[number] >= until)

    def write(self, number: int) -> None:
        self._go_on(number, self._transfer(number), self.stop.is_set)

    def _transfer(self, number: int) -> Callable[[psycopg.Connection], None]:
        draw = random.Random(number)

        def transfer(connection: psycopg.Connection) -> None:
            low, high = draw.sample(range(1, ACCOUNTS + 1), 2)
            name = uuid.uuid4()
            with connection.transaction():
                for account, by in ((low, -1), (high, 1)):
                    connection.execute(
                        f"UPDATE {self.table} SET n = n + %s WHERE id = %s",  # type: ignore[call-overload]
                        (by, account),
                    )
                connection.execute(f"INSERT INTO {self.table}_log VALUES (%s)", (name,))  # type: ignore[call-overload]
            self.acknowledged[number].append(name)
            self.done[number] += 1

        return transfer

    def read(self, number: int = 1) -> None:
        query = f"SELECT sum(n), (SELECT count(*) FROM {self.table}_log) FROM {self.table}"

        def total(connection: psycopg.Connection) -> None:
            before = sum(self.done)
            row = connection.execute(query).fetchone()  # type: ignore[call-overload]
            assert row is not None and row[0] == ACCOUNTS * EACH
            assert row[1] >= before, "a query missed what was acknowledged before it began"
            self.seen[0] += 1

        self._go_on(number, total, self.stop.is_set)

    @contextlib.contextmanager
    def working(self, readers: tuple[int, ...] = (1,), **pool: Any) -> Iterator[Callable[..., None]]:
        """While clients write and read; gives what waits until each, or each of some gateways, has done something more.

        Ends with `look`.
        """
        with ThreadPoolExecutor(WRITERS + len(readers), **pool) as threads:
            running = [threads.submit(self.write, number) for number in range(WRITERS)]
            running += [threads.submit(self.read, number) for number in readers]

            def go_on(writers: tuple[int, ...] = tuple(range(WRITERS)), *, reads: bool = True) -> None:
                before = [*self.done, *self.seen]

                def all_have() -> bool:
                    now = [*self.done, *self.seen]
                    wanted = (*writers, WRITERS) if reads else writers
                    return all(now[each] > before[each] for each in wanted) or any(each.done() for each in running)

                wait_until("all clients", all_have, timeout_s=BACK_S)

            try:
                yield go_on
            finally:
                self.stop.set()
            for each in running:
                each.result(BACK_S)
            threads.submit(self.look).result()

    def look(self) -> None:
        with self.connect(2) as connection:
            row = connection.execute(f"SELECT sum(n) FROM {self.table}").fetchone()  # type: ignore[call-overload]
            assert row == (ACCOUNTS * EACH,)
            kept = {row[0] for row in connection.execute(f"SELECT id FROM {self.table}_log")}  # type: ignore[call-overload]
        assert {name for names in self.acknowledged for name in names} <= kept
        wait_until("no branch is left prepared", self._nothing_prepared, timeout_s=BACK_S)
        wait_until("all copies are equal", self._are_equal, timeout_s=BACK_S)

    def _nothing_prepared(self) -> bool:
        with self.connect(0) as connection:
            return connection.execute("SELECT count(*) FROM hanse.transactions").fetchone() == (0,)

    def _are_equal(self) -> bool:
        query = (
            "SELECT md5(coalesce(string_agg(rows, ',' ORDER BY rows), '')) FROM "
            f"(SELECT t::text AS rows FROM {self.table} t) x"
        )
        found: dict[str, list[object]] = {}
        with contextlib.suppress(psycopg.OperationalError):
            for name, rows in self.cluster.ask_instances(query).items():
                found.setdefault(name.split(".")[1], []).append(rows[0][0])
        found.pop("workspace", None)
        return bool(found) and all(len(copies) == 3 and len(set(copies)) == 1 for copies in found.values())
