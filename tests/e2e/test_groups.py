"""Groups that change while clients work: another leader is asked for."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.processes import free_ports, sweep, wait_until
from support.servers import Cluster, Server

HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]
ROWS, CLIENTS = 100, 3
BACK_S = 90.0


@pytest.fixture(scope="module")
def cluster(run_directory: Path) -> Iterator[Cluster]:
    directory = run_directory / f"groups-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    data, port = directory / "data", free_ports(3)
    options = ["--port", str(port), "--nodes", "3", "--groups", "2", "--replicas", "3", "--password", "secret"]
    subprocess.run([*HANSE, "up", "--detach", "--data", str(data), *options], check=True, timeout=150)
    try:
        yield Cluster(data, Server("127.0.0.1", port, "hanse", "secret", "hanse"))
    finally:
        subprocess.run([*HANSE, "down", "--data", str(data)], check=False, timeout=90)
        sweep(directory)


class Clients:
    """Single statements, and transactions over both groups, through every gateway; not one may fail."""

    def __init__(self, cluster: Cluster) -> None:
        self.table = f"counts_{uuid.uuid4().hex[:8]}"
        self.cluster = cluster
        self.ports = [gateway.port for gateway in cluster.gateways]
        self.stop = threading.Event()
        self.added = [0] * CLIENTS
        self.said = [0] * CLIENTS
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            connection.execute(
                f"CREATE TABLE {self.table} (id int PRIMARY KEY, n int) PARTITION BY HASH (id) WITH (shards = 4)"  # type: ignore[call-overload]
            )
            connection.execute(f"INSERT INTO {self.table} SELECT i, 0 FROM generate_series(1, {ROWS}) i")  # type: ignore[call-overload]

    def work(self, number: int) -> None:
        draw = random.Random(number)
        add = f"UPDATE {self.table} SET n = n + 1 WHERE id = %s"
        with psycopg.connect(
            self.cluster.dsn, port=self.ports[number % len(self.ports)], autocommit=True
        ) as connection:
            while not self.stop.is_set():
                kind = draw.choice(("write", "read", "count", "transaction"))
                if kind == "write":
                    connection.execute(add, (draw.randint(1, ROWS),))  # type: ignore[call-overload]
                    self.added[number] += 1
                elif kind == "read":
                    connection.execute(f"SELECT n FROM {self.table} WHERE id = %s", (draw.randint(1, ROWS),))  # type: ignore[call-overload]
                elif kind == "count":
                    row = connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()  # type: ignore[call-overload]
                    assert row == (ROWS,)
                else:
                    with connection.transaction():
                        for row_id in sorted(draw.sample(range(1, ROWS + 1), 2)):
                            connection.execute(add, (row_id,))  # type: ignore[call-overload]
                    self.added[number] += 2
                self.said[number] += 1

    def go_on(self, running: list[Future[None]]) -> None:
        """Until each client has done something more; a client's error is raised."""
        before = list(self.said)
        wait_until(
            "all clients",
            lambda: all(map(int.__gt__, self.said, before)) or any(each.done() for each in running),
            timeout_s=BACK_S,
        )
        for each in running:
            if each.done():
                each.result()

    @contextlib.contextmanager
    def working(self) -> Iterator[list[Future[None]]]:
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(self.work, number) for number in range(CLIENTS)]
            try:
                self.go_on(running)
                yield running
                self.go_on(running)
            finally:
                self.stop.set()
        with psycopg.connect(self.cluster.dsn, autocommit=True) as connection:
            row = connection.execute(f"SELECT sum(n) FROM {self.table}").fetchone()  # type: ignore[call-overload]
            assert row == (sum(self.added),)


def say(cluster: Cluster, sql: str) -> None:
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(sql)  # type: ignore[call-overload]


def group_of(cluster: Cluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in cluster.status()["groups"] if each["name"] == name)
    return found


def leader_node(cluster: Cluster, group: str) -> str:
    found = group_of(cluster, group)
    return str(next(each["node"] for each in found["instances"] if each["name"] == found["leader"]))


def test_a_switchover_fails_nobody(cluster: Cluster) -> None:
    clients = Clients(cluster)
    with clients.working() as running:
        for node in ("n2", "n3", "n1"):
            say(cluster, f"ALTER TABLESPACE g1 SET (leader = '{node}')")
            clients.go_on(running)
            wait_until(f"{node} leads", lambda node=node: leader_node(cluster, "g1") == node, timeout_s=BACK_S)
        subprocess.run(
            [*HANSE, "switchover", "g1", "n2", "--data", str(cluster.data_directory)], check=True, timeout=60
        )
    assert leader_node(cluster, "g1") == "n2"
    say(cluster, "ALTER TABLESPACE g1 SET (leader = 'n2')")  # it does already


def test_open_transactions_may_end_before_a_switchover(cluster: Cluster) -> None:
    say(cluster, "CREATE TABLE open (id int PRIMARY KEY)")
    after = {"n1": "n2", "n2": "n3", "n3": "n1"}[leader_node(cluster, "g1")]
    with psycopg.connect(cluster.dsn) as patient, ThreadPoolExecutor(1) as pool:
        patient.execute("INSERT INTO open VALUES (1)")
        switchover = pool.submit(say, cluster, f"ALTER TABLESPACE g1 SET (leader = '{after}')")
        with psycopg.connect(cluster.dsn, autocommit=True) as other:
            while not switchover.done() and patient.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
                other.execute("SELECT 1")
                patient.execute("INSERT INTO open VALUES (2) ON CONFLICT DO NOTHING")
                patient.commit()
        switchover.result(BACK_S)
        row = patient.execute("SELECT count(*) FROM open").fetchone()
        assert row == (2,)


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("ALTER TABLESPACE g9 SET (leader = 'n2')", "42704"),
        ("ALTER TABLESPACE g1 SET (leader = 'n9')", "22023"),
        ("ALTER TABLESPACE g1 SET (seq_page_cost = 2)", "22023"),
        ("ALTER TABLESPACE g1 RESET (leader)", "0A000"),
        ("BEGIN; ALTER TABLESPACE g1 SET (leader = 'n2')", "25001"),
    ],
)
def test_what_is_no_switchover(cluster: Cluster, sql: str, sqlstate: str) -> None:
    with psycopg.connect(cluster.dsn, autocommit=True) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(sql)  # type: ignore[call-overload]
    assert caught.value.sqlstate == sqlstate


def test_only_the_owner_moves_leaders(cluster: Cluster) -> None:
    say(cluster, "CREATE ROLE passer LOGIN PASSWORD 'by'")
    dsn = cluster.server.dsn_for(user="passer", password="by")
    with psycopg.connect(dsn, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("ALTER TABLESPACE g1 SET (leader = 'n1')")


def test_groups_tell_how_they_are(cluster: Cluster) -> None:
    def all_stream() -> bool:
        found = group_of(cluster, "g2")["instances"]
        return sorted(str(each["replication"]) for each in found) == ["leads", "streaming", "streaming"]

    wait_until("all followers stream", all_stream, timeout_s=BACK_S)
    shown = group_of(cluster, "g2")
    assert (shown["k"], shown["durability"], len(shown["members"])) == (1, "quorum", 3)
    query = (
        "SELECT leader, term, members, k, i->>'name', i->>'role', i->>'state', i->>'member', (i->>'lag_bytes')::int, "
        "(i->>'lag_s')::float FROM hanse.groups, jsonb_array_elements(instances) i WHERE name = 'g2'"
    )
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        rows = connection.execute(query).fetchall()
    assert all(row[:4] == (shown["leader"], shown["term"], shown["members"], 1) for row in rows)
    roles = {name: (role, state, member) for *_, name, role, state, member, _lag, _seconds in rows}
    followers = set(shown["members"]) - {shown["leader"]}
    assert roles == {shown["leader"]: ("leader", "leads", "true")} | dict.fromkeys(
        followers, ("follower", "streaming", "true")
    )
    assert all(row[8] >= 0 and row[9] >= 0 for row in rows)
