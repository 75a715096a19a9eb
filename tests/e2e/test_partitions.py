"""Nodes in networks of their own, which a router cuts: PostgreSQL's replication and gateways' connections with them.

The side without a majority answers nothing that is wrong, the other goes on, and when the network is whole so is the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.bank import BACK_S, WRITERS, Bank
from support.namespaces import Network, missing, three_networks
from support.processes import wait_until
from support.servers import Cluster

MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

NODES = (1, 2, 3)


@pytest.fixture(scope="module")
def parted(run_directory: Path) -> Iterator[tuple[Cluster, Network]]:
    with three_networks(run_directory) as made:
        yield made


def _groups(cluster: Cluster) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = cluster.status()["groups"]
    return groups


def _leaders(cluster: Cluster, group: str) -> list[str]:
    """The nodes whose server of the group runs and would take writes."""
    found = next(each for each in _groups(cluster) if each["name"] == group)
    return [each["node"] for each in found["instances"] if (each["role"], each["state"]) == ("leader", "running")]


def _whole(cluster: Cluster) -> bool:
    roles = [sorted((each["role"], each["state"]) for each in group["instances"]) for group in _groups(cluster)]
    whole = [("follower", "running"), ("follower", "running"), ("leader", "running")]
    return all(found == whole for found in roles)


@pytest.mark.parametrize("direction", ["both", "from", "to"])
def test_a_leader_is_cut_off(parted: tuple[Cluster, Network], direction: str) -> None:
    cluster, network = parted
    wait_until("the cluster is whole", lambda: _whole(cluster), timeout_s=BACK_S, every_s=0.3)
    bank = network.within(lambda: Bank(cluster))
    (led,) = _leaders(cluster, "g1")
    cut = int(led.removeprefix("n"))
    others = [node for node in NODES if node != cut]
    with bank.working(readers=(0, 1, 2), initializer=network.enter) as go_on:
        go_on()
        for other in others:
            if direction in ("both", "from"):
                network.cut(cut, other)
            if direction in ("both", "to"):
                network.cut(other, cut)
        wait_until("another leads", lambda: set(_leaders(cluster, "g1")) - {led}, timeout_s=BACK_S, every_s=0.3)
        wait_until("the former has stopped", lambda: led not in _leaders(cluster, "g1"), timeout_s=BACK_S, every_s=0.3)
        go_on(tuple(number for number in range(WRITERS) if number % 3 + 1 in others))
        network.heal()
        wait_until("the cluster is whole", lambda: _whole(cluster), timeout_s=BACK_S, every_s=0.3)
        go_on()
