"""Nodes as machines of their own: networks that a router cuts, PostgreSQL's connections with them, and a disk that is full.

What has no majority, or no room, answers nothing that is wrong; the others go on; and when all is mended the cluster is whole.

On demand, with HANSE_TEST_MACHINES=1: on a machine so busy that leases run out by themselves these tests tell nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hanse.agent.cluster_dir import load_existing
from hanse.agent.observe import GroupStatus, observe_processes
from hanse.cli.chaos import disk
from support.bank import BACK_S, TRUTHFUL, WRITERS, Bank
from support.namespaces import Network, missing, three_machines
from support.processes import wait_until
from support.servers import Cluster

MISSING = (
    missing() if os.environ.get("HANSE_TEST_MACHINES") else "on demand: set HANSE_TEST_MACHINES=1, as root on Linux"
)
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

NODES = (1, 2, 3)
DISK_FULL = "53100"  # until another leads


@pytest.fixture(scope="module")
def machines(run_directory: Path) -> Iterator[tuple[Cluster, Network]]:
    with three_machines(run_directory) as made:
        yield made


def _groups(cluster: Cluster) -> list[GroupStatus]:
    return observe_processes(cluster.data_directory, *load_existing(cluster.data_directory)).groups


def _leaders(cluster: Cluster, group: str) -> list[str]:
    """The nodes whose server of the group runs and would take writes."""
    found = next(each for each in _groups(cluster) if each.name == group)
    return [each.node for each in found.instances if (each.role, each.state) == ("leader", "running")]


def _whole(cluster: Cluster) -> bool:
    roles = [sorted((each.role, each.state) for each in group.instances) for group in _groups(cluster)]
    whole = [("follower", "running"), ("follower", "running"), ("leader", "running")]
    return all(found == whole for found in roles)


def _let_lead(cluster: Cluster, node: str) -> bool:
    """Whether it does. On a busy machine the next leader may come too late for the statement, or be another one."""
    if _leaders(cluster, "g1") != [node]:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(cluster.dsn, autocommit=True) as connection:
            connection.execute(f"ALTER TABLESPACE g1 SET (leader = '{node}')")  # type: ignore[call-overload]
    return _leaders(cluster, "g1") == [node]


@pytest.mark.parametrize("direction", ["both", "from"])
def test_a_leader_is_cut_off(machines: tuple[Cluster, Network], direction: str) -> None:
    cluster, network = machines
    wait_until("the cluster is whole", lambda: _whole(cluster), timeout_s=BACK_S)
    bank = network.within(lambda: Bank(cluster))
    (led,) = _leaders(cluster, "g1")
    cut = int(led.removeprefix("n"))
    others = [node for node in NODES if node != cut]
    with bank.working(readers=(cut - 1, cut), initializer=network.enter) as go_on:
        go_on()
        for other in others:
            network.cut(cut, other)
            if direction == "both":
                network.cut(other, cut)
        wait_until("another leads", lambda: set(_leaders(cluster, "g1")) - {led}, timeout_s=BACK_S)
        wait_until("the former has stopped", lambda: led not in _leaders(cluster, "g1"), timeout_s=BACK_S)
        go_on(tuple(number for number in range(WRITERS) if number % 3 + 1 in others))
        network.heal()
        wait_until("the cluster is whole", lambda: _whole(cluster), timeout_s=BACK_S)
        go_on()


def test_a_disk_is_full(machines: tuple[Cluster, Network]) -> None:
    """Of a node with the leader and a voter: another leads, and all are back when there is room."""
    cluster, network = machines
    wait_until("the cluster is whole", lambda: _whole(cluster), timeout_s=BACK_S)
    bank = network.within(lambda: Bank(cluster, truthful=(*TRUTHFUL, DISK_FULL)))
    network.within(lambda: wait_until("n2 leads", lambda: _let_lead(cluster, "n2"), timeout_s=BACK_S))
    wait_until("the cluster is whole", lambda: _whole(cluster), timeout_s=BACK_S)
    directory = cluster.data_directory / "n2"
    with bank.working(readers=(0, 2), initializer=network.enter) as go_on:
        go_on()
        disk.fill(directory)
        wait_until("another leads", lambda: set(_leaders(cluster, "g1")) - {"n2"}, timeout_s=BACK_S)
        go_on(tuple(number for number in range(WRITERS) if number % 3 != 1))
        (directory / disk.BALLAST_FILE).unlink()
        wait_until("the cluster is whole", lambda: _whole(cluster), timeout_s=BACK_S)
        go_on()
