"""What `hanse chaos` leaves for a node's processes, and which disks it does not fill."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from hanse.agent.topology import Request, plan_cluster
from hanse.cli.chaos import disk, network
from hanse.cli.chaos.watching import Cluster
from hanse.config import Secrets
from hanse.core.errors import UserMistake


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    ports = itertools.count(20_000)
    config = plan_cluster(
        Request(nodes=3, groups=2, replicas=3),
        cluster_id="x",
        choose_ports=lambda count: [next(ports) for _ in range(count)],
    )
    for node in config.nodes:
        (tmp_path / node.name / "run").mkdir(parents=True)
    return Cluster(tmp_path, config, Secrets(system_password="", user_password=""))


def links(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Node → node that it calls → what happens to what is sent there and what comes back."""
    found: dict[str, dict[str, Any]] = {}
    for node in cluster.config.nodes:
        file = cluster.data_dir / node.name / "run" / "links.json"
        ways = json.loads(file.read_text()) if file.exists() else {}
        for other in cluster.config.nodes:
            ports = [
                other.control_port,
                other.raft_port,
                *(each.peer_port for each in other.instances if each.peer_port),
            ]
            said = [ways.pop(f"127.0.0.1:{port}", None) for port in ports]
            assert all(each == said[0] for each in said)
            if said[0] is not None:
                found.setdefault(node.name, {})[other.name] = said[0]
        assert not ways, "servers themselves are left alone"
    return found


@pytest.mark.parametrize(("direction", "there", "back"), [("both", None, None), ("from", None, 0), ("to", 0, None)])
def test_both_sides_know_of_a_partition(cluster: Cluster, direction: str, there: object, back: object) -> None:
    network.partition(cluster, ("n1",), direction)
    assert links(cluster) == {
        "n1": {"n2": [there, back], "n3": [there, back]},
        "n2": {"n1": [back, there]},
        "n3": {"n1": [back, there]},
    }
    network.whole(cluster)
    assert links(cluster) == {}


def test_who_is_cut_off_has_no_etcd(cluster: Cluster) -> None:
    cluster.secrets = Secrets(system_password="", user_password="", control_plane="etcd://a:1,[::1]:2")
    network.partition(cluster, ("n1",), "from")

    def ways(node: str) -> list[object]:
        found = json.loads((cluster.data_dir / node / "run" / "links.json").read_text())
        return [found.get(each) for each in ("a:1", "::1:2")]

    assert (ways("n1"), ways("n2")) == ([[None, 0], [None, 0]], [None, None])


def test_a_slow_link_beside_one_that_is_cut(cluster: Cluster) -> None:
    network.partition(cluster, ("n3",), "both")
    network.slow(cluster, network.pairs(cluster, ("n1", "n2")), 200)
    found = links(cluster)
    assert found["n1"] == {"n2": [200, 200], "n3": [None, None]} and found["n2"] == {
        "n1": [200, 200],
        "n3": [None, None],
    }
    assert [(a.name, b.name) for a, b in network.pairs(cluster, ("n2",))] == [("n2", "n1"), ("n2", "n3")]


def test_somebody_must_be_on_the_other_side(cluster: Cluster) -> None:
    with pytest.raises(UserMistake, match="other side"):
        network.partition(cluster, ("n1", "n2", "n3"), "both")


def test_large_disks_and_those_of_others_are_not_filled(cluster: Cluster) -> None:
    with pytest.raises(UserMistake, match="only small ones"):
        disk.check(cluster, "n2", 1)
    with pytest.raises(UserMistake, match="n1, n3 would be filled as well"):
        disk.check(cluster, "n2", 1 << 40)


def test_ballast_goes(cluster: Cluster) -> None:
    (cluster.data_dir / "n2" / disk.BALLAST_FILE).write_bytes(b"x")
    disk.empty(cluster)
    assert not (cluster.data_dir / "n2" / disk.BALLAST_FILE).exists()
