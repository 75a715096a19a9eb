"""Three nodes whose catalog an etcd of three servers keeps: agents die, and servers of etcd; a fourth node comes and goes.

One cluster is led from one test to the next, so that it starts once.
"""

from __future__ import annotations

import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hanse.agent.cluster_dir import load_existing
from hanse.cli.chaos import network
from hanse.cli.chaos.watching import Cluster as ClusterUnderFaults
from hanse.config import load_secrets
from support.control_cluster import BACK_S, Changes, Three, kill, running_three
from support.etcd import Etcd, needs_etcd, running_etcd
from support.machines import WAIT_S, Machine, join_words
from support.processes import processes_under, sweep, wait_until

pytestmark = needs_etcd


@pytest.fixture(scope="module")
def etcd(run_directory: Path) -> Iterator[Etcd]:
    with running_etcd(run_directory, servers=3) as etcd:
        yield etcd


@pytest.fixture(scope="module")
def three(run_directory: Path, etcd: Etcd) -> Iterator[Three]:
    """Made while the first of etcd's addresses is nobody's."""
    etcd.kill(0)
    with running_three(run_directory, "--control-plane", etcd.url) as cluster:
        etcd.start(0)
        yield cluster


def test_the_address_is_nobody_elses(three: Three, etcd: Etcd) -> None:
    secrets = three.data_directory / "secrets.json"
    assert load_secrets(secrets).control_plane == etcd.url
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    known = [path.name for path in three.data_directory.rglob("*.json") if etcd.url in path.read_text()]
    assert known == [secrets.name]
    commands = [process.cmdline() for process in processes_under(three.data_directory)]
    assert commands and not any(etcd.url in argument for command in commands for argument in command)


def test_schema_changes_go_on_without_the_leader(three: Three) -> None:
    wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)
    leader, term = three.leader(), three.status()["control"]["term"]
    assert leader is not None
    with Changes(three) as changes:
        changes.go_on()
        kill(three.agent(leader))
        changes.go_on()
    changes.check()
    wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)  # all that the new agent knows is from etcd
    assert three.status()["control"]["term"] > term


def test_etcds_leader_is_killed(three: Three, etcd: Etcd) -> None:
    with Changes(three) as changes:
        changes.go_on()
        lost = etcd.leader()
        etcd.kill(lost)
        changes.go_on()
        etcd.start(lost)
        changes.go_on()
    changes.check()


def test_who_is_cut_off_from_etcd_leads_no_more(three: Three) -> None:
    wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)
    leader = three.leader()
    assert leader is not None
    cluster = ClusterUnderFaults(three.data_directory, *load_existing(three.data_directory))
    with Changes(three) as changes:
        network.partition(cluster, (leader,), "both")
        wait_until("another leads", lambda: three.leader() not in (None, leader), timeout_s=BACK_S)
        changes.go_on()
        network.whole(cluster)
        wait_until("the cluster is whole", three.is_whole, timeout_s=BACK_S)
    cut_off = int(leader[1:]) - 1  # its gateway had no lease, so nobody has waited for it
    wait_until("it knows what it has missed", lambda: changes.are_known(cut_off), timeout_s=BACK_S)
    changes.check()


def test_a_machine_joins_and_is_removed(three: Three, run_directory: Path) -> None:
    fourth, member = (
        Machine(run_directory / f"joined-{uuid.uuid4().hex[:8]}", 4),
        Machine(three.data_directory.parent, 1),
    )
    member.data = three.data_directory
    address, token = join_words(member)
    try:
        fourth.done("join", address, *fourth.listen, "--token", token)
        fourth.start()
        fourth.ask("CREATE TABLE by_the_fourth (a int)")
        assert member_names(three) == ["n1", "n2", "n3", "n4"]
        fourth.done("remove", "n4")
        assert fourth.process is not None and fourth.process.wait(WAIT_S) == 2
        assert member_names(three) == ["n1", "n2", "n3"]
    finally:
        sweep(fourth.data)
    with three.connect(0) as connection:
        assert connection.execute("SELECT * FROM by_the_fourth").fetchall() == []


def member_names(three: Three) -> list[str]:
    with three.connect(2) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM hanse.nodes ORDER BY name")]


def test_without_two_of_etcds_servers_rows_go_on_and_schemas_wait(three: Three, etcd: Etcd) -> None:
    with three.connect(0) as connection:
        connection.execute("CREATE TABLE kept (a int)")
    etcd.kill(0, 1)
    try:
        for number in range(3):
            rows_go_on(three, number, number + 1)
        wait_until("nobody leads", lambda: three.leader() is None, timeout_s=BACK_S)
        for number in range(3):
            with three.connect(number) as connection:
                began = time.monotonic()
                with pytest.raises(psycopg.Error) as caught:
                    connection.execute("CREATE TABLE impossible (a int)")
                # 08007: proposed to who led until then, of whom etcd's last server has not said what became of it
                assert caught.value.sqlstate in ("57P03", "08007"), caught.value
                assert time.monotonic() - began < 30
            rows_go_on(three, number, number + 4)
    finally:
        etcd.start(0, 1)
    with Changes(three) as changes:
        changes.go_on()
    changes.check()


def rows_go_on(three: Three, number: int, count: int) -> None:
    """In a session that begins now."""
    with three.connect(number) as connection:
        connection.execute("INSERT INTO kept VALUES (%s)", (number,))
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (count,)
