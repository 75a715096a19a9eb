"""Groups of three on three nodes: a leader is killed, a node is killed, servers and agents are stopped, while money moves.

No acknowledged transfer is lost, no total is ever another, nothing is left prepared, and in the end all copies are equal.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from support.bank import BACK_S, WRITERS, Bank
from support.processes import wait_until
from support.servers import Cluster, three_nodes

HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]


@pytest.fixture(scope="module")
def replicated(run_directory: Path) -> Iterator[Cluster]:
    with three_nodes(run_directory, replicas=3) as cluster:
        yield cluster


def _whole(cluster: Cluster) -> bool:
    groups = cluster.status()["groups"]
    roles = [sorted(each["role"] for each in group["instances"]) for group in groups]
    running = all(each["state"] == "running" for group in groups for each in group["instances"])
    return running and all(found == ["follower", "follower", "leader"] for found in roles)


def _leader(cluster: Cluster, group: str) -> dict[str, Any]:
    found = next(each for each in cluster.status()["groups"] if each["name"] == group)
    leader: dict[str, Any] = next(each for each in found["instances"] if each["name"] == found["leader"])
    return leader


def _kill_leader(cluster: Cluster, go_on: Callable[[], None]) -> None:
    psutil.Process(_leader(cluster, "g1")["pid"]).kill()


def _kill_node(cluster: Cluster, go_on: Callable[[], None]) -> None:
    """Everything on the node that leads g2."""
    status, node = cluster.status(), _leader(cluster, "g2")["node"]
    agent = next(each for each in status["nodes"] if each["name"] == node)
    pids = [agent["pid"], agent["workspace"]["pid"]]
    pids += [each["pid"] for each in status["gateways"] if each["node"] == node]
    pids += [each["pid"] for group in status["groups"] for each in group["instances"] if each["node"] == node]
    for pid in filter(None, pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


def _stop_server(cluster: Cluster, go_on: Callable[[], None]) -> None:
    """It does not answer any more; its agent kills it."""
    server = psutil.Process(_leader(cluster, "g1")["pid"])
    for each in (server, *server.children()):
        each.suspend()


def _stop_agent(cluster: Cluster, go_on: Callable[[], None]) -> None:
    """Its server goes on, and must not be believed; when the agent is back, it follows."""
    led = _leader(cluster, "g2")
    with _stopped_agent(cluster, led["node"]):
        wait_until("another leader", lambda: _another_leads(cluster, "g2", led["name"]), timeout_s=BACK_S)


def _lose_the_control_planes_leader(cluster: Cluster, go_on: Callable[[], None]) -> None:
    """And a group's: gateways find the next one meanwhile (the same, when it is back before the others could go on)."""
    led, leader = _leader(cluster, "g1"), cluster.status()["control"]["leader"] or "n1"
    with _stopped_agent(cluster, leader):
        if led["node"] != leader:
            psutil.Process(led["pid"]).kill()
        go_on()


@contextlib.contextmanager
def _stopped_agent(cluster: Cluster, node: str) -> Iterator[None]:
    agent = psutil.Process(next(each["pid"] for each in cluster.status()["nodes"] if each["name"] == node))
    agent.suspend()
    try:
        yield
    finally:
        agent.resume()


def _another_leads(cluster: Cluster, group: str, former: str) -> bool:
    found = next(each for each in cluster.status()["groups"] if each["name"] == group)
    return any(each["role"] == "leader" and each["name"] != former for each in found["instances"])


FAULTS = (_kill_leader, _kill_node, _stop_server, _stop_agent, _lose_the_control_planes_leader)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
def test_nothing_acknowledged_is_lost(
    replicated: Cluster, fault: Callable[[Cluster, Callable[[], None]], None]
) -> None:
    wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)
    bank = Bank(replicated)
    with bank.working() as go_on:
        go_on()
        fault(replicated, go_on)
        go_on()
        wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)
        go_on()


def _chaos(cluster: Cluster, *arguments: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    command = [*HANSE, "chaos", "--data", str(cluster.data_directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def test_a_storm_of_faults(replicated: Cluster) -> None:
    """`hanse chaos storm`: it judges itself what was acknowledged and what totals were seen; copies are compared here."""
    wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)
    bank = Bank(replicated)
    for number in range(WRITERS):
        bank.transfer(number, 5)
    done = _chaos(replicated, "storm", "--seconds", "120", "--every", "3", "--seed", "7", timeout_s=600.0)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "nothing acknowledged is missing" in done.stdout
    wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)
    bank.look()


def test_one_fault_and_what_the_cluster_did(replicated: Cluster) -> None:
    led = _leader(replicated, "g1")["name"]
    done = _chaos(replicated, "kill", "g1:leader")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert f"{led}: stopped" in done.stdout and f"{led}: follower, running" in done.stdout
    assert "g1 takes writes again, after" in done.stdout
    assert _leader(replicated, "g1")["name"] != led


def test_what_is_paused_is_resumed(replicated: Cluster) -> None:
    led = _leader(replicated, "g2")
    done = _chaos(replicated, "pause", f"{led['node']}:agent")
    assert done.returncode == 0 and f"hanse chaos resume {led['node']}:agent" in done.stdout, (
        f"{done.stdout}\n{done.stderr}"
    )
    assert _chaos(replicated, "resume", "n9").returncode == 2
    assert _chaos(replicated, "heal").returncode == 0
    assert _whole(replicated)
    again = _chaos(replicated, "resume", f"{led['node']}:agent")
    assert again.returncode == 2 and "is not paused" in again.stderr


def test_an_autocommit_client_sees_only_a_pause(replicated: Cluster) -> None:
    """Queries and single writes that had not begun when the leader died."""
    wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)
    with psycopg.connect(replicated.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE pause (id int PRIMARY KEY) PARTITION BY HASH (id) WITH (shards = 4)")
        led = _leader(replicated, "g1")["name"]
        psutil.Process(_leader(replicated, "g1")["pid"]).kill()
        for number in range(20):
            connection.execute("INSERT INTO pause VALUES (%s)", (number,))
            assert connection.execute("SELECT count(*) FROM pause").fetchone() == (number + 1,)
        wait_until("another leader", lambda: _leader(replicated, "g1")["name"] != led, timeout_s=BACK_S)
        rows = connection.execute("SELECT leader FROM hanse.groups WHERE name = 'g1'").fetchall()
        assert rows == [(_leader(replicated, "g1")["name"],)]
        connection.execute("DROP TABLE pause")


@pytest.mark.parametrize("begin", ["", "BEGIN; "])
def test_durability_cannot_be_lowered(replicated: Cluster, begin: str) -> None:
    with psycopg.connect(replicated.dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = remote_apply")
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute(f"{begin}SET {'LOCAL ' if begin else ''}synchronous_commit = off")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT set_config('synchronous_commit', 'off', false)",
        "SELECT set_config('synchronous_commit', 'local', true)",
        "SELECT set_config('Synchronous_Commit', upper('remote_write'), false)",
        "SELECT set_config('synchronous_' || 'commit', 'off', false)",
        "BEGIN; SELECT set_config('synchronous_commit', 'off', true); COMMIT",
        "BEGIN; SELECT set_config('synchronous_' || 'commit', 'off', true); COMMIT",
        "ALTER ROLE CURRENT_USER SET synchronous_commit = off",
        "ALTER ROLE hanse IN DATABASE hanse SET synchronous_commit TO 'local'",
        "ALTER ROLE ALL SET synchronous_commit = 0",
        "DO $$ BEGIN SET synchronous_commit = off; END $$",
        "-c synchronous_commit=off",
    ],
)
def test_durability_cannot_be_lowered_by(replicated: Cluster, statement: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        options = statement if statement.startswith("-c") else ""
        with psycopg.connect(replicated.dsn, autocommit=True, options=options) as connection:
            try:
                connection.execute(statement)  # type: ignore[call-overload]
            finally:
                connection.execute("ROLLBACK")
                assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    assert caught.value.sqlstate in ("22023", "0A000") or "synchronous_commit cannot be" in str(caught.value)


def test_a_function_that_lowers_durability_does_so_in_vain(replicated: Cluster) -> None:
    """A deferred trigger sees the setting that the commit has."""
    bodies = {"named": "SET LOCAL synchronous_commit = off", "dynamic": "EXECUTE 'SET synchronous_commit = local'"}
    with psycopg.connect(replicated.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE lowered (name text, at_end text)")
        connection.execute("CREATE TABLE lowering (name text)")
        connection.execute(
            "CREATE FUNCTION lowering_note() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN INSERT INTO lowered VALUES (NEW.name, current_setting('synchronous_commit')); RETURN NULL; END$$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER note AFTER INSERT ON lowering DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION lowering_note()"
        )
        for name, body in bodies.items():
            connection.execute(
                f"CREATE FUNCTION lowering_{name}() RETURNS text LANGUAGE plpgsql AS "  # type: ignore[call-overload]
                f"$$BEGIN {body}; INSERT INTO lowering VALUES ('{name}'); RETURN current_setting('synchronous_commit'); END$$"
            )
        for name in bodies:
            for begin in ("", "BEGIN; "):
                found = connection.execute(f"{begin}SELECT lowering_{name}()")  # type: ignore[call-overload]
                while found.nextset():
                    pass
                if begin:
                    connection.execute("COMMIT")
                assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        rows = connection.execute("SELECT name, at_end FROM lowered ORDER BY name").fetchall()
        assert rows == [(name, "on") for name in sorted([*bodies, *bodies])]
        connection.execute("DROP TABLE lowering, lowered")


def test_a_cancelled_wait_for_followers_is_no_commit(replicated: Cluster) -> None:
    """PostgreSQL would commit here alone, warn, and say that it was committed."""
    wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)
    leader = _leader(replicated, "g1")["name"]
    group = next(each for each in replicated.status()["groups"] if each["name"] == "g1")
    followers = [psutil.Process(each["pid"]) for each in group["instances"] if each["name"] != leader]
    with psycopg.connect(replicated.dsn, autocommit=True) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("CREATE TABLE lonely (id int PRIMARY KEY)")
        for each in followers:
            each.suspend()
            for child in each.children():
                child.suspend()
        try:
            waiting = pool.submit(connection.execute, "INSERT INTO lonely VALUES (1)")
            time.sleep(0.5)

            def cancelled() -> bool:
                connection.cancel_safe()
                return waiting.done()

            wait_until("the statement's end", cancelled, timeout_s=BACK_S)
            error = waiting.exception()
            assert isinstance(error, psycopg.Error) and error.sqlstate in (
                "08006",
                "57014",
                "57P01",
                "57P02",
                "57P03",
                None,
            )
        finally:
            for each in followers:
                for child in each.children():
                    child.resume()
                each.resume()
    wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)


def test_a_body_that_lowers_durability_by_dynamic_sql_is_answered_when_followers_have_it(replicated: Cluster) -> None:
    wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)
    leader = _leader(replicated, "g1")
    group = next(each for each in replicated.status()["groups"] if each["name"] == "g1")
    followers = [psutil.Process(each["pid"]) for each in group["instances"] if each["name"] != leader["name"]]
    receivers = [child for each in followers for child in each.children() if "walreceiver" in " ".join(child.cmdline())]
    assert len(receivers) == 2

    def waits() -> bool:
        """PostgreSQL shows it in the name of the process."""
        titles = [" ".join(child.cmdline()) for child in psutil.Process(leader["pid"]).children()]
        return any(" waiting for " in title for title in titles)

    with psycopg.connect(replicated.dsn, autocommit=True) as connection, ThreadPoolExecutor(1) as pool:
        # Of other tests: where tables are distributed, dynamic SQL that writes is refused.
        for (name,) in connection.execute("SELECT name FROM hanse.tables WHERE kind <> 'single'").fetchall():
            connection.execute(f"DROP TABLE {name} CASCADE")
        connection.execute("CREATE TABLE behind (id int PRIMARY KEY)")
        body = "EXECUTE 'SET synchronous' || '_commit = off'; INSERT INTO behind VALUES (1); COMMIT"
        for each in receivers:
            each.suspend()
        try:
            answer = pool.submit(connection.execute, f"DO $$BEGIN {body}; END$$")  # type: ignore[arg-type]
            wait_until("a wait, or the answer", lambda: waits() or answer.done(), timeout_s=BACK_S)
            assert not answer.done()
        finally:
            for each in receivers:
                each.resume()
        answer.result(timeout=BACK_S)
        connection.execute("DROP TABLE behind")
    wait_until("the cluster is whole", lambda: _whole(replicated), timeout_s=BACK_S)
