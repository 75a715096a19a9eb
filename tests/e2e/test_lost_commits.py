"""The leader of a group is killed with its sessions while commits are under way, and each client is told what became of his.

Under quorum and under async, where a commit may be gone with the server that had it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

from hanse.core.limits import POSITIONS_PERIOD_S
from support.processes import wait_until
from support.servers import Cluster, three_nodes

WRITERS, KILLS = 6, 1
BACK_S = 90.0
LATE_S = 0.3  # an answer that took so long has been looked for


@pytest.fixture(scope="module")
def replicated(run_directory: Path) -> Iterator[Cluster]:
    with three_nodes(run_directory, replicas=3) as cluster:
        yield cluster


@dataclass
class Told:
    """By the COMMITs."""

    numbers: Iterator[int] = field(default_factory=itertools.count)
    committed: set[int] = field(default_factory=set)
    rolled_back: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    never_sent: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)  # of those that were committed


def _is_whole(cluster: Cluster) -> bool:
    groups = cluster.status()["groups"]
    members = [[each for each in group["instances"] if each["state"] == "running"] for group in groups]
    return all(sorted(each["role"] for each in group) == ["follower", "follower", "leader"] for group in members)


def _kill_leader(cluster: Cluster) -> None:
    """With its backends, which would otherwise end what they have begun."""
    group = next(each for each in cluster.status()["groups"] if each["name"] == "g1")
    server = psutil.Process(next(each["pid"] for each in group["instances"] if each["name"] == group["leader"]))
    server.suspend()
    for process in (*server.children(recursive=True), server):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _write(cluster: Cluster, writer: int, told: Told, over: threading.Event) -> None:
    """Odd ones by a COMMIT that goes the thorough way."""
    dsn = cluster.gateways[writer % len(cluster.gateways)].dsn
    commit = "COMMIT AND NO CHAIN" if writer % 2 else "COMMIT"
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not over.is_set():
            number = next(told.numbers)
            heard = told.never_sent
            try:
                connection.execute("BEGIN")
                connection.execute("INSERT INTO lost_commits VALUES (%s)", (number,))
                heard, began = told.unknown, time.monotonic()
                connection.execute(commit)
                heard = told.committed
                if time.monotonic() - began > LATE_S:
                    told.late.add(number)
            except psycopg.Error as error:
                assert error.sqlstate in ("40001", "08006", "08001", "57P01"), error
                if heard is told.unknown and error.sqlstate == "40001":
                    heard = told.rolled_back
                connection.execute("ROLLBACK")
            heard.add(number)


@pytest.mark.parametrize("durability", ["quorum", "async"])
def test_a_lost_commit_is_told_as_it_is(replicated: Cluster, durability: str) -> None:
    wait_until("the cluster is whole", lambda: _is_whole(replicated), timeout_s=BACK_S)
    with psycopg.connect(replicated.dsn, autocommit=True) as connection:
        connection.execute(f"ALTER TABLESPACE g1 SET (durability = '{durability}')")
        connection.execute("DROP TABLE IF EXISTS lost_commits")
        connection.execute("CREATE TABLE lost_commits (id int PRIMARY KEY) TABLESPACE g1")
        told, over = Told(), threading.Event()
        with ThreadPoolExecutor(WRITERS) as pool:
            writers = [pool.submit(_write, replicated, writer, told, over) for writer in range(WRITERS)]
            try:
                for _ in range(KILLS):
                    wait_until("the cluster is whole", lambda: _is_whole(replicated), timeout_s=BACK_S)
                    before = len(told.committed)
                    time.sleep(3 * POSITIONS_PERIOD_S)  # from then on positions are known, and commits marked
                    wait_until(
                        "commits", lambda before=before: len(told.committed) > before + WRITERS, timeout_s=BACK_S
                    )
                    _kill_leader(replicated)
            finally:
                wait_until("the cluster is whole", lambda: _is_whole(replicated), timeout_s=BACK_S)
                over.set()
            for writer in writers:
                writer.result()
        there = {row[0] for row in connection.execute("SELECT id FROM lost_commits")}
    assert not told.rolled_back & there, "told to be rolled back, and it is there"
    assert not told.never_sent & there, "it was not to be committed"
    if durability == "quorum":  # async may lose the newest
        assert told.committed <= there, "told to be committed, and it is not there"
    assert told.rolled_back or told.late or not told.unknown, "none was looked up"
