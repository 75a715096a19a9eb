from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hanse.agent.dsn import cluster_dsn
from hanse.agent.topology import (
    Request,
    change_cluster,
    check_request,
    initial_snapshot,
    node_configs,
    plan_cluster,
    replace_ports,
)
from hanse.config import ClusterConfig, Secrets
from hanse.core.errors import UserMistake


def plan(**wishes: int) -> ClusterConfig:
    return plan_cluster(Request(**wishes), cluster_id="c", choose_ports=lambda count: list(range(100, 100 + count)))


def test_groups_go_round_the_nodes_and_every_node_has_a_workspace() -> None:
    cluster = plan(nodes=3, groups=4, port=6000)
    assert [[i.name for i in node.instances] for node in cluster.nodes] == [
        ["g1.1", "g4.1", "n1.workspace"],
        ["g2.1", "n2.workspace"],
        ["g3.1", "n3.workspace"],
    ]
    assert [node.gateway_port for node in cluster.nodes] == [6000, 6001, 6002]
    ports = [cluster.control_port, *(i.port for node in cluster.nodes for i in node.instances)]
    assert sorted(ports) == list(range(100, 108))


def test_defaults() -> None:
    cluster = plan()
    assert (len(cluster.nodes), cluster.nodes[0].gateway_port, cluster.gateway_workers) == (3, 5432, 1)
    groups = {i.group for node in cluster.nodes for i in node.instances}
    assert groups == {"g1", "g2", "workspace"}


@pytest.mark.parametrize(
    "wish",
    [
        {"nodes": 0},
        {"nodes": 65},
        {"groups": 0},
        {"groups": 100},
        {"replicas": 3},
        {"replicas": 0},
        {"workers": 0},
        {"port": 0},
        {"port": 65_535},
        {"password": ""},
        {"password": "a\0b"},
    ],
)
def test_impossible_wishes(wish: dict[str, int]) -> None:
    with pytest.raises(UserMistake):
        check_request(dataclasses.replace(Request(), **wish))


def test_possible_wishes() -> None:
    check_request(Request())
    check_request(Request(nodes=1, groups=64, replicas=1, port=65_535, workers=64, password="x"))


def test_ports_and_workers_may_change_later_and_the_shape_may_not() -> None:
    cluster = plan(nodes=2, groups=2)
    changed = change_cluster(cluster, Request(port=7000, workers=3, nodes=2, groups=2))
    assert ([node.gateway_port for node in changed.nodes], changed.gateway_workers) == ([7000, 7001], 3)
    assert change_cluster(cluster, Request()) == cluster
    with pytest.raises(UserMistake, match="has 2 nodes"):
        change_cluster(cluster, Request(nodes=3))
    with pytest.raises(UserMistake, match="has 2 groups"):
        change_cluster(cluster, Request(groups=1))


def test_replaced_ports_reach_instances_and_control() -> None:
    cluster = plan(nodes=1, groups=1)
    assert [i.port for i in cluster.nodes[0].instances] == [101, 102]
    moved = replace_ports(cluster, {100: 200, 102: 202})
    assert (moved.control_port, [i.port for i in moved.nodes[0].instances]) == (200, [101, 202])


def test_the_catalog_is_told_of_groups_and_not_of_workspaces() -> None:
    cluster = plan(nodes=2, groups=2)
    configs = node_configs(cluster, Path("/data"), lambda node: f"/s/{node.name}")
    assert [config.control_dir for config in configs] == ["/data/control", None]
    snapshot = initial_snapshot(cluster, configs)
    assert [(g.name, g.leader.node, g.leader.socket_directory) for g in snapshot.groups] == [
        ("g1", "n1", "/s/n1"),
        ("g2", "n2", "/s/n2"),
    ]
    assert [node.name for node in snapshot.nodes] == ["n1", "n2"]
    assert snapshot.home_group == "g1"


def test_the_dsn_names_every_gateway_and_quotes_the_password() -> None:
    secrets = Secrets(system_password="s", user_password="a/b@c é", control_token="t")
    assert cluster_dsn(plan(nodes=2, port=6000), secrets) == (
        "postgresql://hanse:a%2Fb%40c%20%C3%A9@127.0.0.1:6000,127.0.0.1:6001/hanse"
    )
