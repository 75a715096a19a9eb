"""Groups that change while clients work: instances come and go, another leader is asked for.

The tests are in order: each goes on with the cluster as the one before has left it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from support.processes import wait_until
from support.servers import Cluster, hanse, three_nodes

HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]
ROWS, CLIENTS = 100, 3
BACK_S = 90.0
MADE_S = 240.0  # for a new group, whose copy is made twice here
PAUSE_S = 0.02  # of each client: what it does is to meet changes, not to fill the machine


@pytest.fixture(scope="module")
def cluster(run_directory: Path) -> Iterator[Cluster]:
    with three_nodes(run_directory, replicas=1) as cluster:
        yield cluster


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
                self.stop.wait(PAUSE_S)

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


def members_of(cluster: Cluster, group: str) -> dict[str, str]:
    """Node by member."""
    found = group_of(cluster, group)
    return {each["name"]: each["node"] for each in found["instances"] if each["member"]}


def test_groups_of_one_server_become_groups_of_three(cluster: Cluster) -> None:
    clients = Clients(cluster)
    notices: list[str] = []
    with clients.working() as running:
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            connection.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
            connection.execute("ALTER TABLESPACE g1 SET (replicas = 3)")
        clients.go_on(running)
        say(cluster, "ALTER TABLESPACE g2 SET (replicas = 3, durability = 'all')")
    for name, k in (("g1", 1), ("g2", 2)):
        assert sorted(members_of(cluster, name).values()) == ["n1", "n2", "n3"]
        assert group_of(cluster, name)["k"] == k
    assert "instance g1.2 on n3 is being copied" in notices
    say(cluster, "ALTER TABLESPACE g2 SET (durability = 'quorum')")
    assert group_of(cluster, "g2")["k"] == 1


def test_a_switchover_fails_nobody(cluster: Cluster) -> None:
    clients = Clients(cluster)
    with clients.working() as running:
        for node in ("n2", "n3"):
            say(cluster, f"ALTER TABLESPACE g1 SET (leader = '{node}')")
            clients.go_on(running)
            wait_until(f"{node} leads", lambda node=node: leader_node(cluster, "g1") == node, timeout_s=BACK_S)
        subprocess.run(
            [*HANSE, "switchover", "g1", "n1", "--data", str(cluster.data_directory)], check=True, timeout=60
        )
    assert leader_node(cluster, "g1") == "n1"
    say(cluster, "ALTER TABLESPACE g1 SET (leader = 'n1')")  # it does already


def test_a_successor_whose_agent_hangs_is_refused(cluster: Cluster) -> None:
    term, agents = group_of(cluster, "g1")["term"], {each["name"]: each["pid"] for each in cluster.status()["nodes"]}
    node = next(each for each in ("n2", "n3") if each != leader_node(cluster, "g1"))
    os.kill(agents[node], signal.SIGSTOP)
    try:
        with (
            psycopg.connect(cluster.dsn, autocommit=True) as connection,
            pytest.raises(psycopg.Error, match="does not answer"),
        ):
            connection.execute(f"ALTER TABLESPACE g1 SET (leader = '{node}')")  # type: ignore[call-overload]
        assert group_of(cluster, "g1")["term"] == term
    finally:
        os.kill(agents[node], signal.SIGCONT)


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


def test_instances_leave_and_others_come(cluster: Cluster) -> None:
    clients = Clients(cluster)
    with clients.working():
        before = members_of(cluster, "g2")
        say(cluster, "ALTER TABLESPACE g2 SET (replicas = 2)")
        left = members_of(cluster, "g2")
        assert len(left) == 2 and left.items() < before.items()
        assert leader_node(cluster, "g2") in left.values()
        (gone,) = before.items() - left.items()

        def is_gone() -> bool:
            return not (cluster.data_directory / gone[1] / "g2").exists()

        wait_until("its directory is removed", is_gone, timeout_s=BACK_S)
        say(cluster, "ALTER TABLESPACE g2 SET (replicas = 3)")
        after = members_of(cluster, "g2")
        assert left.items() < after.items() and gone[0] not in after
        slots = cluster.ask_instances("SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'hanse%'")
        assert sum(int(rows[0][0]) for name, rows in slots.items() if name.endswith(".g2")) >= 2


def _agents(cluster: Cluster) -> dict[str, psutil.Process]:
    return {each["name"]: psutil.Process(each["pid"]) for each in cluster.status()["nodes"] if each["pid"]}


@contextlib.contextmanager
def _silent(cluster: Cluster, node: str) -> Iterator[None]:
    """The node is there, and says nothing to anybody."""
    status = cluster.status()
    pids = [each["pid"] for each in status["nodes"] if each["name"] == node]
    pids += [each["pid"] for each in status["gateways"] if each["node"] == node]
    pids += [each["pid"] for group in status["groups"] for each in group["instances"] if each["node"] == node]
    processes = [psutil.Process(pid) for pid in pids]
    processes += [child for each in processes if "postgres" in each.name() for child in each.children()]
    for each in processes:
        each.suspend()
    try:
        yield
    finally:
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()


@pytest.mark.parametrize(("lost", "change"), [("follower", "durability = 'quorum'"), ("leader", "replicas = 2")])
def test_a_rule_that_waits_for_one_who_is_lost_is_changed(cluster: Cluster, lost: str, change: str) -> None:
    """Under `all` commits wait for it; those who are left, a majority, decide that they need not."""
    say(cluster, "ALTER TABLESPACE g1 SET (replicas = 3, durability = 'all')")
    table = f"kept_without_{lost}"
    say(cluster, f"CREATE TABLE {table} (n int) TABLESPACE g1")
    nodes = dict(zip(("n1", "n2", "n3"), cluster.gateways, strict=True))
    leader = leader_node(cluster, "g1")
    node = leader if lost == "leader" else min(nodes.keys() - {leader})
    other = nodes[min(nodes.keys() - {node})].dsn
    seen = f"SELECT n FROM {table} ORDER BY n"

    def insert() -> None:
        waiting.execute(f"INSERT INTO {table} VALUES (1)")  # type: ignore[call-overload]

    with (
        _silent(cluster, node),
        psycopg.connect(other, autocommit=True) as connection,
        psycopg.connect(other, autocommit=True) as waiting,
        ThreadPoolExecutor(1) as pool,
    ):
        assert connection.execute(seen).fetchall() == []  # type: ignore[call-overload]
        inserted = pool.submit(insert)
        time.sleep(0.5)
        assert not inserted.done()
        connection.execute(f"ALTER TABLESPACE g1 SET ({change})")  # type: ignore[call-overload]
        inserted.result(BACK_S)
        connection.execute(f"INSERT INTO {table} VALUES (2)")  # type: ignore[call-overload]
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        assert connection.execute(seen).fetchall() == [(1,), (2,)]  # type: ignore[call-overload]
    say(cluster, "ALTER TABLESPACE g1 SET (durability = 'quorum')")


def test_killed_agents_go_on_with_a_change(cluster: Cluster) -> None:
    """Every agent is killed, wherever the change is at that moment."""
    replicas = 2 if len(members_of(cluster, "g1")) == 3 else 3
    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(say, cluster, f"ALTER TABLESPACE g1 SET (replicas = {replicas})")
        began = time.monotonic()
        for moment_s in (0.2, 0.7, 1.5):
            time.sleep(max(0.0, began + moment_s - time.monotonic()))
            for agent in _agents(cluster).values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    agent.kill()
        with contextlib.suppress(psycopg.Error):  # the catalog's node was killed, too
            change.result(BACK_S)

    def settled() -> bool:
        with contextlib.suppress(psycopg.Error):
            say(cluster, f"ALTER TABLESPACE g1 SET (replicas = {replicas})")  # waits, where it was heard before
            return True
        return False

    wait_until("the change is done", settled, timeout_s=BACK_S)
    assert len(members_of(cluster, "g1")) == replicas

    def only_they() -> bool:
        return len(group_of(cluster, "g1")["instances"]) == replicas

    wait_until("nothing else is left", only_they, timeout_s=BACK_S)
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS lives (id int)")
        connection.execute("INSERT INTO lives VALUES (1)")


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("ALTER TABLESPACE g1 SET (replicas = 4)", "22023"),
        ("ALTER TABLESPACE g1 SET (replicas = 0)", "22023"),
        ("ALTER TABLESPACE g1 SET (replicas = 'many')", "22023"),
        ("ALTER TABLESPACE g1 SET (replicas = '²')", "22023"),
        ("ALTER TABLESPACE g1 SET (replicas = 99999999999)", "22023"),
        ("ALTER TABLESPACE g1 SET (durability = 'most')", "22023"),
        ("ALTER TABLESPACE g1 SET (leader = 'n1', replicas = 2)", "0A000"),
    ],
)
def test_what_no_group_can_be(cluster: Cluster, sql: str, sqlstate: str) -> None:
    with psycopg.connect(cluster.dsn, autocommit=True) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(sql)  # type: ignore[call-overload]
    assert caught.value.sqlstate == sqlstate


def _drain(cluster: Cluster, node: str) -> subprocess.CompletedProcess[str]:
    arguments = [*HANSE, "drain", node, "--data", str(cluster.data_directory)]
    return subprocess.run(arguments, check=False, timeout=2 * BACK_S, capture_output=True, text=True)


def test_a_node_is_drained(cluster: Cluster) -> None:
    """Of leaders, too; the group that was led there goes to a node that had none of it."""
    for name in ("g1", "g2"):
        say(cluster, f"ALTER TABLESPACE {name} SET (replicas = 3)")
    refused = _drain(cluster, "n3")
    assert refused.returncode == 2 and "every other node has an instance of it" in refused.stderr
    say(cluster, "ALTER TABLESPACE g1 SET (leader = 'n3')")
    clients = Clients(cluster)
    with clients.working():
        for name in ("g1", "g2"):
            say(cluster, f"ALTER TABLESPACE {name} SET (replicas = 2)")
        drained = _drain(cluster, "n3")
        assert drained.returncode == 0, drained.stderr
    for name in ("g1", "g2"):
        assert sorted(members_of(cluster, name).values()) == ["n1", "n2"]
    say(cluster, "ALTER TABLESPACE g1 SET (leave = 'n3')")  # it has


def test_of_two_members_one_is_given_up(cluster: Cluster) -> None:
    """Commits wait for it; when it is back, it is removed."""
    group = group_of(cluster, "g2")
    (follower,) = (each for each in group["instances"] if each["name"] != group["leader"])
    server = psutil.Process(follower["pid"])
    stopped = [_agents(cluster)[follower["node"]], server, *server.children()]
    for each in stopped:
        each.suspend()
    try:
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            threading.Timer(2.0, connection.cancel).start()
            with pytest.raises(psycopg.errors.QueryCanceled):  # a change that the other one has to hear of
                connection.execute("ALTER TABLESPACE g2 SET (durability = 'async')")
        say(cluster, "ALTER TABLESPACE g2 SET (replicas = 1, durability = 'quorum')")
        assert list(members_of(cluster, "g2")) == [group["leader"]]
        Clients(cluster)  # it writes
    finally:
        for each in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()
    directory = cluster.data_directory / follower["node"] / "g2"
    wait_until("it is removed", lambda: not directory.exists(), timeout_s=BACK_S)


def test_a_follower_that_was_away_for_too_long_is_copied_again(cluster: Cluster) -> None:
    """Its slot does not fill the leader's disk: beyond the budget it is lost, and that can be seen."""
    say(cluster, "ALTER TABLESPACE g2 SET (replicas = 2)")
    with contextlib.suppress(psycopg.errors.InvalidParameterValue):  # where g2 has none on n1
        say(cluster, "ALTER TABLESPACE g2 SET (leader = 'n1')")
    group = group_of(cluster, "g2")
    follower = next(each for each in group["instances"] if each["name"] != group["leader"])
    agent = _agents(cluster)[follower["node"]]
    leader = cluster.group_dsns()["g2"]

    def replication() -> object:
        found = group_of(cluster, "g2")["instances"]
        return next(each["replication"] for each in found if each["name"] == follower["name"])

    agent.suspend()
    try:
        psutil.Process(follower["pid"]).kill()
        with psycopg.connect(leader, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
            connection.execute("ALTER SYSTEM SET wal_keep_size = 0")
            connection.execute("SELECT pg_reload_conf()")
            for _ in range(4):
                connection.execute("SELECT pg_logical_emit_message(false, 'test', 'on and on')")
                connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        wait_until("its slot is lost", lambda: replication() == "lost", timeout_s=BACK_S)
    finally:
        agent.resume()
    wait_until("it streams again", lambda: replication() == "streaming", timeout_s=BACK_S)
    with psycopg.connect(leader, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("SELECT pg_reload_conf()")


# --- groups that come and go


class Writers:
    """Rows for a reference table, each with one of a sharded table, through every gateway. Whose connection ends takes another."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ports = [gateway.port for gateway in cluster.gateways]
        self.stop = threading.Event()
        self.next = list(range(len(self.ports)))  # of each writer; one whose answer was lost may be there
        self.acknowledged: list[list[int]] = [[] for _ in self.ports]
        say(cluster, "CREATE TABLE rates (id int PRIMARY KEY, rate int) WITH (distribution = 'reference')")
        say(cluster, "CREATE TABLE uses (id int PRIMARY KEY, rate int) PARTITION BY HASH (id) WITH (shards = 4)")
        say(cluster, "CREATE TABLE notes (id serial PRIMARY KEY, note text)")
        say(cluster, "INSERT INTO notes (note) SELECT 'here' FROM generate_series(1, 10)")

    def work(self, number: int) -> None:
        while not self.stop.is_set():
            with (
                contextlib.suppress(psycopg.Error),
                psycopg.connect(self.cluster.dsn, port=self.ports[number], autocommit=True) as connection,
            ):
                while not self.stop.is_set():
                    self.next[number] += len(self.ports)
                    following = self.next[number]
                    with connection.transaction():
                        connection.execute("INSERT INTO rates VALUES (%s, 1)", (following,))
                        connection.execute("INSERT INTO uses VALUES (%s, 1)", (following,))
                    self.acknowledged[number].append(following)
                    self.stop.wait(PAUSE_S)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self.stop.clear()
        with ThreadPoolExecutor(len(self.ports)) as pool:
            running = [pool.submit(self.work, number) for number in range(len(self.ports))]
            try:
                self.go_on()
                yield
                self.go_on()
            finally:
                self.stop.set()
        for each in running:
            each.result()

    def go_on(self) -> None:
        before = [len(each) for each in self.acknowledged]
        wait_until(
            "all writers",
            lambda: all(len(each) > count for each, count in zip(self.acknowledged, before, strict=True)),
            timeout_s=BACK_S,
        )

    def check(self, groups: set[str]) -> None:
        """Every group has the same rows, those that were acknowledged among them; the single table is in its own group."""
        told = {id for each in self.acknowledged for id in each}
        query = "SELECT array_agg(id ORDER BY id), (SELECT count(*) FROM notes), (SELECT last_value FROM notes_id_seq) FROM rates"
        found: dict[str, tuple[Any, ...]] = {}
        for name, dsn in self.cluster.group_dsns().items():
            with psycopg.connect(dsn, autocommit=True) as connection:
                wait_until(
                    f"{name} has ended its prepared transactions",
                    lambda on=connection: on.execute("SELECT FROM pg_prepared_xacts").fetchone() is None,
                    timeout_s=BACK_S,
                )
                row = connection.execute(query).fetchone()  # type: ignore[call-overload]
                assert row is not None
                found[name] = row
        assert set(found) == groups
        for name, (rows, notes, last_value) in found.items():
            assert rows == found["g1"][0] and told <= set(rows)
            assert (notes, last_value) == ((10, 10) if name == "g1" else (0, 2**31 - 1)), name
        with psycopg.connect(self.cluster.dsn, autocommit=True) as connection:
            used = connection.execute("SELECT array_agg(id ORDER BY id) FROM uses").fetchone()
        assert used == (found["g1"][0],)


@pytest.fixture(scope="module")
def writers(cluster: Cluster) -> Writers:
    return Writers(cluster)


def _open_groups(cluster: Cluster) -> set[str]:
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        return {
            str(row[0])
            for row in connection.execute("SELECT name FROM hanse.groups WHERE array_length(members, 1) > 1")
        }


def test_a_group_is_made_though_its_agent_is_killed(cluster: Cluster, writers: Writers) -> None:
    """The agent that makes it, too, which has a vote in the control plane: it begins anew, and the group is opened once."""
    agents = _agents(cluster)

    def copied_on() -> list[str]:
        return [node for node in agents if (cluster.data_directory / node / "g3" / "PG_VERSION").exists()]

    with writers.working(), ThreadPoolExecutor(1) as pool:
        change = pool.submit(say, cluster, "CREATE TABLESPACE g3 WITH (replicas = 2)")
        wait_until("it is copied", lambda: bool(copied_on()), timeout_s=BACK_S)
        for node in copied_on():
            agents[node].kill()
        with contextlib.suppress(psycopg.Error):
            change.result(MADE_S)

        def is_open() -> bool:
            with contextlib.suppress(psycopg.Error):
                return "g3" in _open_groups(cluster)
            return False

        wait_until("the group is open", is_open, timeout_s=MADE_S)
    writers.check({"g1", "g2", "g3"})
    identifiers = cluster.ask_instances("SELECT system_identifier FROM pg_control_system()")
    of_groups = {name.rpartition(".")[2]: rows[0][0] for name, rows in identifiers.items() if "workspace" not in name}
    assert len(set(of_groups.values())) == 3


def test_a_group_that_came_later_is_used_and_dropped(cluster: Cluster, writers: Writers) -> None:
    hanse("down", "--data", str(cluster.data_directory), timeout_s=90)
    hanse("up", "--detach", "--data", str(cluster.data_directory), timeout_s=150)
    with writers.working(), psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY LIST (id)")
        connection.execute("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1) TABLESPACE g1")
        connection.execute("CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3) TABLESPACE g3")
        connection.execute("INSERT INTO parts VALUES (1), (3)")
        with connection.transaction():
            connection.execute("UPDATE parts SET id = id")
            connection.execute("PREPARE TRANSACTION 'mine'")
        listed = json.loads(hanse("transactions", "--data", str(cluster.data_directory), "--json"))
        assert [each["groups"] for each in listed["transactions"] if each["gid"] == "mine"] == [["g1", "g3"]]
        connection.execute("ROLLBACK PREPARED 'mine'")
        connection.execute("ALTER TABLE notes SET TABLESPACE g3")
        joined = "SELECT count(*), (SELECT count(*) FROM notes) FROM parts JOIN rates USING (id)"
        assert connection.execute(joined).fetchone() == (1, 10)  # the writers began with 3
        with pytest.raises(psycopg.Error, match='tablespace "g3" is not empty'):
            connection.execute("DROP TABLESPACE g3")
        connection.execute("ALTER TABLE notes SET TABLESPACE g1")
        connection.execute("ALTER TABLE parts_3 SET TABLESPACE g2")
        connection.execute("DROP TABLESPACE g3")
        assert connection.execute(joined).fetchone() == (1, 10)
        writers.go_on()
        directories = [cluster.data_directory / f"n{number}" / "g3" for number in (1, 2, 3)]
        wait_until("its directories are removed", lambda: not any(map(Path.exists, directories)), timeout_s=BACK_S)
    writers.check({"g1", "g2"})


CHANGES_OF_NO_GROUP = (
    "ALTER TABLESPACE g1 RENAME TO g5",
    "ALTER TABLESPACE g1 OWNER TO passer",
    "COMMENT ON TABLESPACE g1 IS 'here'",
    "GRANT CREATE ON TABLESPACE g1 TO passer",
    "REVOKE CREATE ON TABLESPACE pg_default, g1 FROM passer",
)


def test_what_is_no_group(cluster: Cluster) -> None:
    wrong = {
        "CREATE TABLESPACE g1 WITH (replicas = 1)": "42710",
        "CREATE TABLESPACE pg_mine": "42939",
        "CREATE TABLESPACE \"Odd:name\" LOCATION ''": "42602",
        "CREATE TABLESPACE g4 LOCATION '/srv/fast'": "22023",
        "CREATE TABLESPACE g4 LOCATION 'region=nowhere'": "22023",
        "CREATE TABLESPACE g4 OWNER postgres LOCATION ''": "0A000",
        "CREATE TABLESPACE g4 WITH (replicas = 4)": "22023",
        "CREATE TABLESPACE g4 WITH (durability = 'most')": "22023",
        "CREATE TABLESPACE g4 WITH (seq_page_cost = 2)": "22023",
        "BEGIN; CREATE TABLESPACE g4 LOCATION ''": "25001",
        "DROP TABLESPACE g4": "42704",
        "DROP TABLESPACE g1": "55006",
        "DROP TABLESPACE g2": "55000",
        **dict.fromkeys(CHANGES_OF_NO_GROUP, "0A000"),
        **dict.fromkeys((sql.replace("g1", "g4") for sql in CHANGES_OF_NO_GROUP), "42704"),
        "ALTER TABLESPACE pg_default RENAME TO plain": "0A000",
    }
    for sql, sqlstate in wrong.items():
        with psycopg.connect(cluster.dsn, autocommit=True) as connection, pytest.raises(psycopg.Error) as caught:
            connection.execute(sql)  # type: ignore[call-overload]
        assert caught.value.sqlstate == sqlstate, sql
    for sql in ("DROP TABLESPACE IF EXISTS g4", "COMMENT ON TABLESPACE pg_default IS 'where all is'"):
        say(cluster, sql)
    with psycopg.connect(cluster.server.dsn_for(user="passer", password="by"), autocommit=True) as passer:
        for sql in ("CREATE TABLESPACE g4", "DROP TABLESPACE g2", *CHANGES_OF_NO_GROUP):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                passer.execute(sql)  # type: ignore[call-overload]
