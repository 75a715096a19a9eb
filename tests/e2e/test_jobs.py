"""kill -9 of a gateway in the middle of statements that go from group to group: they are brought to an end by the next.

One cluster of two groups goes through all of it; what is abandoned is waited for once. `after_group` (`gateway/faults.py`) is
when g1 has run the statement, and g2 has not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from support.processes import free_ports, sweep, wait_until
from support.servers import Cluster, Server

HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]
INDEXES = """SELECT c.relname::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = 'public.t'::regclass ORDER BY 1"""
OURS = "SELECT state, groups, done, command, statement, owner::text FROM hanse.jobs"
REPEATED = "SELECT to_regclass('public.repeated')::oid::int"
VACUUMED = "SELECT vacuum_count FROM pg_stat_all_tables WHERE relid = 'public.v'::regclass"
KEPT_S_MAX = 60  # the next gateway looks after 15 s at the latest; the machine may be slow


@dataclass
class World:
    cluster: Cluster
    fault: Path
    seen: dict[str, list[tuple[object, ...]]] = field(default_factory=dict)
    answers: dict[str, str | None] = field(default_factory=dict)  # SQLSTATE; None: the connection was lost

    def ask(self, query: str, user: str | None = None) -> list[tuple[object, ...]]:
        server = self.cluster.server
        dsn = server.dsn if user is None else server.dsn_for(user=user, password="secret")
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(query)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def groups(self, query: str) -> dict[str, list[tuple[object, ...]]]:
        found = {}
        for name, dsn in self.cluster.group_dsns().items():
            with psycopg.connect(dsn, autocommit=True) as connection:
                found[name] = connection.execute(query).fetchall()  # type: ignore[call-overload]
        return found

    def run(self, name: str, sql: str) -> None:
        try:
            self.ask(sql, "ann")
            self.answers[name] = ""
        except psycopg.Error as error:
            self.answers[name] = error.sqlstate

    def killed(self, name: str, point: str, sql: str) -> None:
        """The gateway ends itself at `point` of the statement."""
        self.fault.write_text(f"{point} kill")
        self.run(name, sql)
        assert not self.fault.exists(), f"{name}: the point was never reached"
        self.wait_for_gateway()

    def killed_while(self, statements: dict[str, str], waiting: str) -> None:
        """kill -9 while they all wait in g2; `waiting`: SQL that says there how many do."""
        threads = [threading.Thread(target=self.run, args=named) for named in statements.items()]
        for thread in threads:
            thread.start()
        wait_until("all statements", lambda: self.groups(waiting)["g2"] == [(len(statements),)], timeout_s=30)
        os.kill(int(self.cluster.status()["gateways"][0]["pid"]), signal.SIGKILL)
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        self.wait_for_gateway()

    def wait_for_gateway(self) -> None:
        def serves() -> bool:
            with contextlib.suppress(psycopg.Error):
                return self.ask("SELECT 1") == [(1,)]
            return False

        wait_until("another gateway", serves, timeout_s=30)


@pytest.fixture(scope="module")
def cluster_to_kill(run_directory: Path) -> Iterator[World]:
    directory = run_directory / f"jobs-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    data, fault, port = directory / "data", directory / "fault", free_ports(1)
    options = ["--data", str(data), "--port", str(port), "--nodes", "1", "--groups", "2"]
    environment = {**os.environ, "HANSE_FAULT": str(fault)}
    subprocess.run([*HANSE, "up", "--detach", *options], check=True, timeout=90, env=environment)
    password = json.loads((data / "secrets.json").read_text())["user_password"]
    try:
        yield World(Cluster(data, Server("127.0.0.1", port, "hanse", password, "hanse")), fault)
    finally:
        subprocess.run([*HANSE, "down", "--data", str(data)], check=False, timeout=60)
        sweep(directory)


@pytest.fixture(scope="module")
def world(cluster_to_kill: World) -> World:
    """Everything is killed here; the tests look at what became of it."""
    world = cluster_to_kill
    world.ask("CREATE ROLE ann LOGIN PASSWORD 'secret'; CREATE ROLE bob LOGIN PASSWORD 'secret'")
    world.ask("GRANT ALL ON SCHEMA public TO ann")
    for table in "trv":
        world.ask(f"CREATE TABLE {table} (id int PRIMARY KEY, n int, m int) WITH (distribution = 'reference')", "ann")
        world.ask(f"INSERT INTO {table} SELECT i, i, i FROM generate_series(1, 100) i", "ann")

    world.killed("repeated", "after_group", "CREATE INDEX CONCURRENTLY repeated ON t (n)")
    world.seen["repeated"] = world.ask(OURS)
    before = world.groups(REPEATED)["g1"]
    world.run("repeated again", "CREATE INDEX CONCURRENTLY repeated ON t (n)")
    world.seen["kept"] = [*before, *world.groups(REPEATED)["g1"]]

    world.killed("undecided", "after_prepare", "CREATE INDEX CONCURRENTLY undecided ON t (n)")
    world.killed("decided", "after_decide", "CREATE INDEX CONCURRENTLY decided ON t (n)")
    with psycopg.connect(world.cluster.group_dsns()["g2"]) as writer:
        writer.execute("UPDATE public.t SET n = n WHERE id = 1")
        writer.execute("UPDATE public.r SET n = n WHERE id = 1; LOCK TABLE public.v IN SHARE MODE")
        world.killed_while(
            {
                "half made": "CREATE UNIQUE INDEX CONCURRENTLY half ON t (m)",
                "reindex": "REINDEX TABLE CONCURRENTLY r",
                "vacuum": "VACUUM v",
            },
            "SELECT count(*)::int FROM pg_stat_activity WHERE usename = 'ann' AND wait_event_type = 'Lock'",
        )
        world.seen["owner"], world.seen["other"] = world.ask(OURS, "ann"), world.ask(OURS, "bob")
        world.seen["left"] = world.groups(INDEXES)["g2"]
        world.seen["left in r"] = world.groups(INDEXES.replace("public.t", "public.r"))["g2"]
        # A server ends what nobody waits for: then there would be less to do.
        with psycopg.connect(world.cluster.group_dsns()["g2"], autocommit=True) as killer:
            killer.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query ~ '^(REINDEX|VACUUM)'"
            )
    wait_until("the jobs' end", lambda: world.ask(OURS) == [], timeout_s=KEPT_S_MAX)
    return world


def test_the_same_statement_goes_on(world: World) -> None:
    statement = "CREATE INDEX CONCURRENTLY repeated ON t (n)"
    assert world.seen["repeated"] == [("waiting", ["g1", "g2"], ["g1"], "CREATE INDEX", statement, "ann")]
    assert world.answers["repeated again"] == ""
    before, after = world.seen["kept"]
    assert before == after and before[0] is not None, "g1 keeps the index that it had made"


def test_others_go_on_without_their_client(world: World) -> None:
    vacuum = ("waiting", ["g1", "g2"], ["g1"], "VACUUM", "VACUUM v", "ann")
    assert vacuum in world.seen["owner"]
    assert (*vacuum[:4], None, "ann") in world.seen["other"], "nobody else's to read"
    assert world.groups(VACUUMED) == {"g1": [(1,)], "g2": [(1,)]}
    assert any("_ccnew" in str(name) for name, _ in world.seen["left in r"])
    indexes = INDEXES.replace("public.t", "public.r")
    assert world.groups(indexes) == {"g1": [("r_pkey", True)], "g2": [("r_pkey", True)]}


def test_an_index_is_everywhere_or_nowhere(world: World) -> None:
    """`decided` was the catalog's when the gateway died; of the others it knew nothing."""
    expected = [("decided", True), ("repeated", True), ("t_pkey", True)]
    assert world.groups(INDEXES) == {"g1": expected, "g2": expected}
    assert world.ask(INDEXES) == expected
    assert ("half", False) in world.seen["left"]
    world.ask("INSERT INTO t VALUES (0, 1, 1)", "ann")  # no unique index of a statement that never ended
    world.ask("CREATE INDEX CONCURRENTLY half ON t (m)", "ann")
    world.ask("DROP INDEX half, decided, repeated", "ann")
    assert world.groups(INDEXES) == {"g1": [("t_pkey", True)], "g2": [("t_pkey", True)]}


def test_clients_were_told(world: World) -> None:
    assert {name: answer for name, answer in world.answers.items() if answer is not None} == {"repeated again": ""}
