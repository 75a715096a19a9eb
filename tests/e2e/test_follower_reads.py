"""Reads from followers on a real cluster: as new as the session needs them, and otherwise the leader's."""

from __future__ import annotations

import contextlib
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
from support.servers import Cluster, three_nodes

HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]
BACK_S = 90.0  # for a cluster on a slow machine


@pytest.fixture(scope="module")
def replicas(run_directory: Path) -> Iterator[Cluster]:
    with three_nodes(run_directory, replicas=3) as cluster:
        yield cluster


@pytest.fixture
def counters(replicas: Cluster) -> Iterator[str]:
    """A table of counters in both groups; id 1 and 2 lie in different ones."""
    name = f"counters_{uuid.uuid4().hex[:8]}"
    with connected(replicas) as leader:
        leader.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, n int) PARTITION BY HASH (id) WITH (shards = 4)")
        leader.execute(f"INSERT INTO {name} SELECT i, 0 FROM generate_series(1, 20) i")
    yield name


@contextlib.contextmanager
def connected(cluster: Cluster, **settings: str) -> Iterator[Any]:
    """Through the last node's gateway, in autocommit mode. The type is left open: SQL is put together here."""
    options = " ".join(f"-c hanse.{name}={value}" for name, value in settings.items())
    port = cluster.gateways[-1].port
    with psycopg.connect(cluster.dsn, port=port, autocommit=True, options=options) as connection:
        yield connection


def guarantee(connection: Any) -> str:
    return str(connection.execute("SHOW hanse.guarantee").fetchone()[0])


def until_followers_serve(connection: Any, query: str) -> None:
    """A schema change is waited for before they do."""

    def served() -> bool:
        connection.execute(query)
        return "follower" in guarantee(connection)

    wait_until("a follower serves", served, timeout_s=BACK_S)


def followers(cluster: Cluster, group: str) -> list[dict[str, Any]]:
    found = next(each for each in cluster.status()["groups"] if each["name"] == group)
    return [each for each in found["instances"] if each["name"] != found["leader"]]


def ask(cluster: Cluster, instance: dict[str, Any], sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(cluster._system_server(instance["port"]).dsn, autocommit=True) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[call-overload, no-any-return]


def tell(cluster: Cluster, instance: dict[str, Any], sql: str) -> None:
    with psycopg.connect(cluster._system_server(instance["port"]).dsn, autocommit=True) as connection:
        connection.execute(sql)  # type: ignore[call-overload]


@contextlib.contextmanager
def replay_paused(cluster: Cluster, instances: list[dict[str, Any]]) -> Iterator[None]:
    for each in instances:
        ask(cluster, each, "SELECT pg_wal_replay_pause()")
    try:
        paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
        wait_until(
            "replay has stopped",
            lambda: all(ask(cluster, each, paused) == [(True,)] for each in instances),
            timeout_s=BACK_S,
        )
        yield
    finally:
        for each in instances:
            ask(cluster, each, "SELECT pg_wal_replay_resume()")


def group_of(cluster: Cluster, table: str, key: int) -> str:
    """By where the row is."""
    for name, dsn in cluster.group_dsns().items():
        with psycopg.connect(dsn) as connection:
            if connection.execute(f"SELECT FROM {table} WHERE id = {key}").fetchall():  # type: ignore[call-overload]
                return name
    raise AssertionError(key)


@pytest.mark.parametrize("mode", ["follower", "nearest"])
def test_a_session_reads_its_own_writes(replicas: Cluster, counters: str, mode: str) -> None:
    with connected(replicas, read_from=mode) as connection:
        until_followers_serve(connection, f"SELECT n FROM {counters} WHERE id = 1")
        by_followers = 0
        for number in range(1, 61):
            connection.execute(f"UPDATE {counters} SET n = %s WHERE id = %s", (number, 1 + number % 2))
            found = connection.execute(f"SELECT n FROM {counters} WHERE id = %s", (1 + number % 2,)).fetchone()
            assert found == (number,)
            by_followers += "follower" in guarantee(connection)
        assert by_followers > 0
        with connection.transaction():  # a leader's
            connection.execute(f"UPDATE {counters} SET n = 1000 WHERE id = 1")
            assert connection.execute(f"SELECT n FROM {counters} WHERE id = 1").fetchone() == (1000,)
            assert guarantee(connection) == "leader"
        assert connection.execute(f"SELECT n FROM {counters} WHERE id = 1").fetchone() == (1000,)


def test_a_read_only_transaction_reads_from_followers(replicas: Cluster, counters: str) -> None:
    one, two = (f"SELECT n FROM {counters} WHERE id = {id}" for id in (1, 2))
    with connected(replicas, read_from="follower") as connection, connected(replicas) as writer:
        until_followers_serve(connection, one)
        until_followers_serve(connection, two)
        by_followers = 0
        for number in range(1, 31):
            connection.execute(f"UPDATE {counters} SET n = {number} WHERE id = 1")
            connection.execute("BEGIN READ ONLY" if number % 2 else "START TRANSACTION READ ONLY")
            assert connection.execute(one).fetchone() == (number,), "its own write, before the transaction"
            by_followers += "follower" in guarantee(connection)
            connection.execute("COMMIT")
        assert by_followers > 0
        for level, serves in (
            ("READ COMMITTED", "follower"),
            ("REPEATABLE READ", "leader"),
            ("SERIALIZABLE", "leader"),
        ):
            connection.execute(f"BEGIN READ ONLY ISOLATION LEVEL {level}")
            connection.execute(two)
            assert serves in guarantee(connection), level
            connection.execute("COMMIT")
        connection.execute("SET default_transaction_read_only = on")
        connection.execute("BEGIN")
        assert connection.execute(two).fetchone() == (0,)
        assert "follower" in guarantee(connection)
        writer.execute(f"UPDATE {counters} SET n = n + 1")
        assert connection.execute(f"SELECT count(*) FROM {counters}").fetchone() == (20,)
        assert guarantee(connection) == "leader", "one moment of several groups"
        assert connection.execute(two).fetchone() == (1,), "READ COMMITTED; after what its leaders have shown"
        assert guarantee(connection) == "leader", "its branch is there"
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute(f"SELECT 1 / (n - n) FROM {counters} WHERE id = 1")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute(one)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute(f"UPDATE {counters} SET n = 0 WHERE id = 1")
        connection.execute("ROLLBACK")


def test_what_is_older_than_the_bound_is_not_shown(replicas: Cluster, counters: str) -> None:
    group = group_of(replicas, counters, 1)
    query = f"SELECT n FROM {counters} WHERE id = 1"
    with (
        connected(replicas, read_from="follower", max_staleness="1h") as patient,
        connected(replicas, read_from="follower", max_staleness="500ms") as strict,
        connected(replicas, read_from="follower", max_staleness="0") as strictest,
        connected(replicas) as writer,
    ):
        for each in (patient, strict, strictest):
            until_followers_serve(each, query)
        with replay_paused(replicas, followers(replicas, group)):
            writer.execute(f"UPDATE {counters} SET n = 1 WHERE id = 1")
            assert strictest.execute(query).fetchone() == (1,)
            assert guarantee(strictest) == "leader"
            assert patient.execute(query).fetchone() == (0,)
            assert guarantee(patient).startswith(f"{group}: follower {group}.")
            time.sleep(0.6)
            assert strict.execute(query).fetchone() == (1,)
            assert guarantee(strict) == "leader"
            patient.execute(f"UPDATE {counters} SET n = 2 WHERE id = 1")
            assert patient.execute(query).fetchone() == (2,)
            assert guarantee(patient) == "leader"
        until_followers_serve(patient, query)
        assert patient.execute(query).fetchone() == (2,)


def test_a_session_never_goes_back_in_time(replicas: Cluster, counters: str) -> None:
    """A counter grows while now the one follower stops to replay, now the other."""
    group = group_of(replicas, counters, 1)
    query, stop = f"SELECT n FROM {counters} WHERE id = 1", threading.Event()

    def write() -> None:
        with connected(replicas) as writer:
            while not stop.is_set():
                writer.execute(f"UPDATE {counters} SET n = n + 1 WHERE id = 1")

    def read(mode: str, staleness: str) -> tuple[int, set[str]]:
        last, by = 0, set()
        with connected(replicas, read_from=mode, max_staleness=staleness) as reader:
            while not stop.is_set():
                (found,) = reader.execute(query).fetchone()
                assert found >= last
                last = found
                by.add(guarantee(reader).split(",")[0])
        return last, by

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(read, "follower", "200ms"), pool.submit(read, "nearest", "30s")]
        writing = pool.submit(write)
        try:
            for each in followers(replicas, group) * 2:
                with replay_paused(replicas, [each]):
                    time.sleep(0.5)
                time.sleep(0.3)
        finally:
            stop.set()
        writing.result(BACK_S)
        results = [each.result(BACK_S) for each in running]
    assert all(last > 0 for last, _ in results)
    assert any("follower" in name for _, by in results for name in by)


def test_several_groups_are_read_from_followers_only_without_a_common_moment(replicas: Cluster, counters: str) -> None:
    with connected(replicas, read_from="follower") as connection:
        until_followers_serve(connection, f"SELECT n FROM {counters} WHERE id = 1")
        query = f"SELECT count(*), sum(n) FROM {counters}"
        assert connection.execute(query).fetchone() == (20, 0)
        assert guarantee(connection) == "leader"
        connection.execute("SET hanse.read_consistency = 'fast'")
        until_followers_serve(connection, query)
        assert connection.execute(query).fetchone() == (20, 0)
        assert guarantee(connection).count(": follower g") == 2
        joined = f"SELECT count(*) FROM {counters} a JOIN {counters} b ON a.n = b.n"
        assert connection.execute(joined).fetchone() == (400,)
        connection.execute("SET hanse.read_from = leader")
        assert connection.execute(query).fetchone() == (20, 0)
        assert guarantee(connection) == "leader"


def test_what_a_follower_cannot_do_the_leader_does(replicas: Cluster, counters: str) -> None:
    with connected(replicas, read_from="follower") as connection:
        until_followers_serve(connection, f"SELECT n FROM {counters} WHERE id = 1")
        connection.execute(f"CREATE SEQUENCE {counters}_ids")
        connection.execute(
            f"CREATE FUNCTION {counters}_next() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('{counters}_ids')$$"
        )
        connection.execute(
            f"CREATE FUNCTION {counters}_xid() RETURNS boolean LANGUAGE sql AS $$SELECT txid_current() > 0$$"
        )
        connection.execute(f"CREATE VIEW {counters}_seen AS SELECT {counters}_xid() AS x")
        for query, answer in (
            (f"SELECT nextval('{counters}_ids')", (1,)),
            (f"SELECT {counters}_next()", (2,)),
            (f"SELECT n FROM {counters} WHERE id = 1 FOR UPDATE", (0,)),
            (f"SELECT x FROM {counters}_seen", (True,)),
            ("SELECT pg_is_in_recovery()", (False,)),
            ("SHOW transaction_read_only", ("off",)),
            ("SHOW default_transaction_read_only", ("off",)),
            ("SELECT current_setting('transaction_read_only')", ("off",)),
        ):
            assert connection.execute(query).fetchone() == answer, query
            assert guarantee(connection) == "leader", query
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        connection.execute(f"CREATE TEMPORARY TABLE {counters}_own AS SELECT 7 AS x")
        assert connection.execute(f"SELECT x FROM {counters}_own").fetchone() == (7,)
        connection.execute(f"DROP TABLE {counters}_own")
        connection.execute("SET default_transaction_isolation = 'serializable'")
        assert connection.execute(f"SELECT n FROM {counters} WHERE id = 1").fetchone() == (0,)
        assert guarantee(connection) == "leader"
        connection.execute(f"DROP VIEW {counters}_seen; DROP FUNCTION {counters}_next(), {counters}_xid()")
        connection.execute(f"DROP SEQUENCE {counters}_ids")


def test_a_schema_change_is_seen_at_once(replicas: Cluster, counters: str) -> None:
    with connected(replicas, read_from="follower", max_staleness="1h") as connection, connected(replicas) as other:
        until_followers_serve(connection, f"SELECT * FROM {counters} WHERE id = 1")
        with replay_paused(replicas, followers(replicas, "g1") + followers(replicas, "g2")):
            for number in range(3):
                other.execute(f"ALTER TABLE {counters} ADD COLUMN c{number} int DEFAULT {number}")
                found = connection.execute(f"SELECT * FROM {counters} WHERE id = 1").fetchone()
                assert found == (1, 0, *range(number + 1))
                assert guarantee(connection) == "leader"


def test_a_conflict_with_recovery_is_the_leaders_to_answer(replicas: Cluster, counters: str) -> None:
    group = group_of(replicas, counters, 1)
    own = followers(replicas, group)
    for each in own:
        tell(replicas, each, "ALTER SYSTEM SET max_standby_streaming_delay = 0")
        tell(replicas, each, "SELECT pg_reload_conf()")
    query = f"SELECT n, pg_sleep(1) IS NULL FROM {counters} WHERE id = 1"
    with connected(replicas, read_from="follower") as connection, connected(replicas) as writer:
        until_followers_serve(connection, f"SELECT n FROM {counters} WHERE id = 1")
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(connection.execute, query)
            conflicts = "SELECT sum(confl_snapshot + confl_lock)::int FROM pg_stat_database_conflicts"
            before = sum(ask(replicas, each, conflicts)[0][0] for each in own)

            def met() -> bool:
                writer.execute(f"UPDATE {counters} SET n = n + 1 WHERE id = 1")
                writer.execute(f"VACUUM {counters}")
                return sum(ask(replicas, each, conflicts)[0][0] for each in own) > before or reading.done()

            wait_until("a conflict", met, timeout_s=BACK_S)
            assert reading.result(BACK_S).fetchone()[0] > 0
            assert guarantee(connection) == "leader"
    for each in own:
        tell(replicas, each, "ALTER SYSTEM RESET max_standby_streaming_delay")
        tell(replicas, each, "SELECT pg_reload_conf()")


@pytest.mark.parametrize("fault", ["killed", "stopped"])
def test_a_follower_that_is_gone_costs_no_answer(replicas: Cluster, counters: str, fault: str) -> None:
    group = group_of(replicas, counters, 1)
    query = f"SELECT n, pg_sleep(0.5) IS NULL FROM {counters} WHERE id = 1"
    with connected(replicas, read_from="follower") as connection, ThreadPoolExecutor(1) as pool:
        until_followers_serve(connection, f"SELECT n FROM {counters} WHERE id = 1")
        reading = pool.submit(connection.execute, query)
        servers = [psutil.Process(each["pid"]) for each in followers(replicas, group)]
        if fault == "killed":
            servers[0].kill()  # whether it is the one that serves or the other
            assert reading.result(BACK_S).fetchone() == (0, False)
        else:
            everybody = [process for server in servers for process in (server, *server.children())]
            for process in everybody:
                process.suspend()
            try:
                assert reading.result(BACK_S).fetchone() == (0, False)
                assert connection.execute(f"SELECT n FROM {counters} WHERE id = 1").fetchone() == (0,)
            finally:
                for process in everybody:
                    process.resume()
        assert connection.execute(f"SELECT n FROM {counters} WHERE id = 1").fetchone() == (0,)
    wait_until("the followers are back", lambda: _is_whole(replicas, group), timeout_s=BACK_S)


def _is_whole(cluster: Cluster, group: str) -> bool:
    found = next(each for each in cluster.status()["groups"] if each["name"] == group)
    return all(each["state"] == "running" and each["role"] in ("leader", "follower") for each in found["instances"])


def test_a_former_leader_is_not_believed(replicas: Cluster, counters: str) -> None:
    """Its agent stops, and the control plane with it: the server goes on. A gateway that was away has not heard of the next
    leader when it is back."""
    status, gateways = replicas.status(), replicas.gateways
    node_of = {each["name"]: each["node"] for group in status["groups"] for each in group["instances"]}
    group = next((each["name"] for each in status["groups"] if node_of[each["leader"]] == "n1"), "g1")
    leader = next(each["leader"] for each in status["groups"] if each["name"] == group)
    key = next(number for number in range(1, 21) if group_of(replicas, counters, number) == group)
    query = f"SELECT n FROM {counters} WHERE id = {key}"
    agent = psutil.Process(next(each["pid"] for each in status["nodes"] if each["name"] == node_of[leader]))
    away = psutil.Process(next(each["pid"] for each in status["gateways"] if each["port"] == gateways[1].port))
    acknowledged, stop = [0], threading.Event()

    def write() -> None:
        with psycopg.connect(replicas.dsn, port=gateways[2].port, autocommit=True) as writer:
            while not stop.is_set():
                with contextlib.suppress(psycopg.OperationalError):  # one may be under way when its leader is given up
                    row = writer.execute(f"UPDATE {counters} SET n = n + 1 WHERE id = {key} RETURNING n").fetchone()  # type: ignore[call-overload]
                    acknowledged[0] = row[0]

    def read() -> None:
        with psycopg.connect(replicas.dsn, port=gateways[1].port, autocommit=True) as reader:
            while not stop.is_set():
                least = acknowledged[0]
                (found,) = reader.execute(query).fetchone()  # type: ignore[call-overload]
                assert found >= least

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(write), pool.submit(read)]

        def until_more(count: int) -> None:
            before = acknowledged[0]
            wait_until("writes", lambda: acknowledged[0] > before + count or any(map(_done, running)), timeout_s=BACK_S)

        try:
            until_more(5)
            agent.suspend()
            away.suspend()
            try:
                wait_until(
                    "another leader", lambda: _leads_another(replicas, group, leader, acknowledged), timeout_s=BACK_S
                )
            finally:
                away.resume()
            until_more(20)
        finally:
            agent.resume()
            stop.set()
        for each in running:
            each.result(BACK_S)


def _leads_another(cluster: Cluster, group: str, former: str, acknowledged: list[int]) -> bool:
    """And writes go there."""
    found = next(each for each in cluster.status()["groups"] if each["name"] == group)
    if all(each["role"] != "leader" or each["name"] == former for each in found["instances"]):
        return False
    before = acknowledged[0]
    wait_until("writes", lambda: acknowledged[0] > before + 5, timeout_s=BACK_S)
    return True


def _done(work: Future[Any]) -> bool:
    return work.done()


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("SET hanse.read_from = 'elsewhere'", "22023"),
        ("SET hanse.max_staleness = 'long'", "22023"),
        ("SET hanse.guarantee = 'all'", "55P02"),
    ],
)
def test_what_cannot_be_set(replicas: Cluster, statement: str, sqlstate: str) -> None:
    with connected(replicas) as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement)
        assert caught.value.sqlstate == sqlstate
        assert connection.execute("SHOW hanse.read_from").fetchone() == ("leader",)
        assert connection.execute("SHOW hanse.max_staleness").fetchone() == ("5s",)
