"""A group's server is killed under load: statements that had not begun there wait for it, queries are asked again, and only who
was writing there at that moment is told that nobody knows."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
import pytest

from support.processes import wait_until
from support.servers import Cluster

CLIENTS = 6
KEYS = 60
KILLED = ("g1", "g2")
UNKNOWN = ("08006", "57P01", "57P02")


def _instance(cluster: Cluster, group: str) -> dict[str, Any]:
    found = next(each for each in cluster.status()["groups"] if each["name"] == group)
    instance: dict[str, Any] = found["instances"][0]
    return instance


def _kill(cluster: Cluster, group: str) -> int:
    pid: int = _instance(cluster, group)["pid"]
    os.kill(pid, signal.SIGKILL)
    return pid


@contextmanager
def _not_restarted(cluster: Cluster, group: str) -> Iterator[None]:
    """The node's agent is stopped meanwhile."""
    node = _instance(cluster, group)["node"]
    agent = psutil.Process(next(each["pid"] for each in cluster.status()["nodes"] if each["name"] == node))
    agent.suspend()
    try:
        yield
    finally:
        agent.resume()


@pytest.fixture
def table(fresh_cluster: Cluster) -> Iterator[Cluster]:
    with psycopg.connect(fresh_cluster.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE held (id int PRIMARY KEY, n int) PARTITION BY HASH (id) WITH (shards = 4)")
        connection.execute("INSERT INTO held SELECT i, 0 FROM generate_series(0, %s) i", (KEYS - 1,))
    yield fresh_cluster
    with psycopg.connect(fresh_cluster.dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE held")


def test_only_who_was_writing_notices(table: Cluster) -> None:
    """Acknowledged updates are all there; those whose fate is not known are at most one of each client and kill."""
    stop = threading.Event()
    acknowledged, unknown, read = [0] * CLIENTS, [0] * CLIENTS, [0] * CLIENTS

    def client(number: int, prepare: bool) -> None:
        connection = psycopg.connect(table.dsn, autocommit=True, prepare_threshold=0 if prepare else None)
        key = number
        while not stop.is_set():
            key = (key + CLIENTS) % KEYS
            assert connection.execute("SELECT count(*) FROM held WHERE id = %s", (key,)).fetchone() == (1,)
            assert connection.execute("SELECT count(*) FROM held").fetchone() == (KEYS,)
            read[number] += 2
            try:
                connection.execute("UPDATE held SET n = n + 1 WHERE id = %s", (key,))
                acknowledged[number] += 1
            except psycopg.Error as error:
                assert error.sqlstate in UNKNOWN, error
                unknown[number] += 1
        connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(client, number, number % 2 == 0) for number in range(CLIENTS)]

        def go_on(counts: list[int]) -> None:
            """Until each client has done one more."""
            before = [*counts]
            wait_until("all clients", lambda: all(map(int.__gt__, counts, before)) or failed(), timeout_s=30)

        def failed() -> bool:
            return any(each.done() and each.exception() is not None for each in running)

        try:
            for group in KILLED:
                go_on(read)
                old = _kill(table, group)
                wait_until(
                    "its restart", lambda group=group, old=old: _instance(table, group)["pid"] not in (None, old)
                )
                go_on(acknowledged)
        finally:
            stop.set()
        for each in running:
            each.result(60)
    assert max(unknown) <= len(KILLED)
    with psycopg.connect(table.dsn, autocommit=True) as connection:
        total = connection.execute("SELECT sum(n) FROM held").fetchone()
    assert total is not None and sum(acknowledged) <= total[0] <= sum(acknowledged) + sum(unknown)


@pytest.mark.parametrize("begin", [None, "BEGIN"])
def test_who_waits_can_be_cancelled_and_goes_on_later(table: Cluster, begin: str | None) -> None:
    with psycopg.connect(table.dsn, autocommit=True) as connection, ThreadPoolExecutor(1) as pool:

        def ask() -> object:
            return connection.execute("SELECT count(*) FROM held").fetchone()

        with _not_restarted(table, "g2"):
            old = _kill(table, "g2")
            wait_until("its end", lambda: not psutil.pid_exists(old) or psutil.Process(old).status() == "zombie")
            if begin is not None:
                connection.execute("BEGIN")
            waiting = pool.submit(ask)
            _cancel_until(connection, waiting.done)
            with pytest.raises(psycopg.errors.QueryCanceled):
                waiting.result(20)
            connection.rollback()
            waiting = pool.submit(ask)
            time.sleep(0.2)
            assert not waiting.done()
        assert waiting.result(60) == (KEYS,)


def _cancel_until(connection: psycopg.Connection, done: Callable[[], bool]) -> None:
    def cancelled() -> bool:
        connection.cancel_safe()
        return done()

    wait_until("the cancelled statement's end", cancelled, timeout_s=20)
