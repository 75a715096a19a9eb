"""Rows of several clients in one transaction (gateway/shared_commits.py): each client is told of his own, and only of them."""

from __future__ import annotations

import os
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import psycopg
import pytest

from hanse.core.limits import PREPARED_AGE_S_MIN
from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster

CLIENTS = 8
STATEMENTS = 25
ROWS = 12  # more than a long list needs (insert_keys.ROWS_MIN)


@pytest.fixture(scope="module")
def schema(cluster: Cluster) -> Iterator[Schema]:
    found = Schema(f"shared_commits_{os.getpid()}", cluster.server)
    with found.connect() as owner:
        owner.execute(f"DROP SCHEMA IF EXISTS {found.name} CASCADE")
        owner.execute(f"CREATE SCHEMA {found.name}")
        yield found
        owner.execute(f"DROP SCHEMA {found.name} CASCADE")


@pytest.fixture
def owner(schema: Schema) -> Iterator[psycopg.Connection]:
    with schema.connect() as found:
        found.execute("DROP TABLE IF EXISTS t")
        found.execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, client int, who text DEFAULT current_setting('application_name'))"
            " PARTITION BY HASH (id) WITH (shards = 4)"
        )
        yield found


def batch(client: int, number: int, *, key: int | None = None) -> bytes:
    """One client's statement; its rows have ids of their own. `key`: in the place of the last one."""
    ids = [1_000_000 * client + 100 * number + row for row in range(ROWS)]
    if key is not None:
        ids[-1] = key
    rows = ", ".join(f"({each}, {client})" for each in ids)
    return f"INSERT INTO t (id, client) VALUES {rows}".encode()


def together(count: int, work: Callable[[int], list[int]]) -> list[list[int]]:
    """`work(client)` of all clients at once; gives the numbers of the statements that succeeded."""
    start = threading.Barrier(count)

    def run(client: int) -> list[int]:
        start.wait()
        return work(client)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def kept(owner: psycopg.Connection, client: int) -> dict[int, int]:
    """By statement: how many of its rows there are."""
    rows = owner.execute("SELECT mod(id / 100, 10000), count(*) FROM t WHERE client = %s GROUP BY 1", (client,))
    return {int(number): int(count) for number, count in rows}


def transactions_shared(owner: psycopg.Connection) -> int:
    """How often rows of several clients were inserted by one transaction."""
    clients: dict[object, set[int]] = defaultdict(set)
    for shard, transaction, client in owner.execute("SELECT tableoid::regclass::text, xmin::text, client FROM t"):
        clients[shard, transaction].add(client)
    return sum(len(each) > 1 for each in clients.values())


@pytest.mark.parametrize("elsewhere", [False, True], ids=["", "deferrable_elsewhere"])
def test_one_clients_error_is_nobody_elses(schema: Schema, owner: psycopg.Connection, elsewhere: bool) -> None:
    if elsewhere:  # then nobody prepares with the statement
        owner.execute("CREATE TABLE d (id int UNIQUE DEFERRABLE)")
    owner.execute("INSERT INTO t VALUES (-1, -1)")

    def work(client: int) -> list[int]:
        done = []
        with schema.connect() as connection:
            for number in range(STATEMENTS):
                if client == 0:
                    with pytest.raises(psycopg.errors.UniqueViolation, match=r"\(id\)=\(-1\) already exists"):
                        connection.execute(batch(client, number, key=-1))
                else:
                    assert connection.execute(batch(client, number)).statusmessage == f"INSERT 0 {ROWS}"
                    done.append(number)
        return done

    together(CLIENTS, work)
    assert kept(owner, 0) == {}
    for client in range(1, CLIENTS):
        assert kept(owner, client) == dict.fromkeys(range(STATEMENTS), ROWS)


def test_only_equal_sessions_share(schema: Schema, owner: psycopg.Connection) -> None:
    """A default that asks for a setting gives each client's own."""

    def work(client: int) -> list[int]:
        with schema.connect() as connection:
            connection.execute(f"SET application_name = 'half {client % 2}'")
            for number in range(STATEMENTS):
                connection.execute(batch(client, number))
        return []

    for _ in range(20):  # until it has been seen: nobody waits for company
        together(CLIENTS, work)
        assert owner.execute("SELECT count(*) FROM t WHERE who <> 'half ' || mod(client, 2)").fetchone() == (0,)
        assert owner.execute("SELECT count(*) FROM t").fetchone() == (CLIENTS * STATEMENTS * ROWS,)
        if transactions_shared(owner):
            return
        owner.execute("DELETE FROM t")
    pytest.fail("no two clients' rows were ever inserted together")


def test_cancelled_or_gone(schema: Schema, owner: psycopg.Connection) -> None:
    """Each statement is there as a whole or not at all, and as its client was told."""

    def work(client: int) -> list[int]:
        chance = random.Random(client)
        done = []
        with ExitStack() as stack:
            connection = stack.enter_context(schema.connect())
            for number in range(STATEMENTS):
                if client < 2:
                    timer = threading.Timer(chance.random() * 0.02, connection.cancel_safe)
                    timer.start()
                    with suppress(psycopg.errors.QueryCanceled):
                        connection.execute(batch(client, number))
                        done.append(number)
                    timer.join()
                elif client == 2:
                    connection.pgconn.send_query(batch(client, number))
                    connection.close()
                    connection = stack.enter_context(schema.connect())
                else:
                    connection.execute(batch(client, number))
                    done.append(number)
        return done

    told = together(CLIENTS, work)
    open_ones = "SELECT 1 FROM hanse.transactions"
    soon = PREPARED_AGE_S_MIN - 2  # before recovery would help
    wait_until("nothing is prepared", lambda: not owner.execute(open_ones).fetchall(), timeout_s=soon)
    for client, done in enumerate(told):
        found = kept(owner, client)
        assert set(found.values()) <= {ROWS}
        assert client == 2 or set(found) == set(done), client


def test_who_waits_for_a_lock_waits_alone(schema: Schema, owner: psycopg.Connection) -> None:
    with psycopg.connect(schema.dsn) as holder, schema.connect() as waiter, ThreadPoolExecutor(1) as pool:
        holder.execute("INSERT INTO t VALUES (-1, -1)")
        waiting = pool.submit(waiter.execute, batch(CLIENTS, 0, key=-1))

        def work(client: int) -> list[int]:
            with schema.connect() as connection:
                for number in range(STATEMENTS):
                    connection.execute(batch(client, number))
            return []

        together(CLIENTS, work)
        assert not waiting.done()
        holder.rollback()
        assert waiting.result().rowcount == ROWS
    assert owner.execute("SELECT count(*) FROM t").fetchone() == ((CLIENTS * STATEMENTS + 1) * ROWS,)
