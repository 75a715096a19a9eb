from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from hanse.agent.dsn import cluster_dsn
from hanse.agent.topology import (
    Request,
    catalog_instance,
    catalog_node,
    change_cluster,
    check_request,
    initial_snapshot,
    node_configs,
    plan_cluster,
    replace_ports,
    with_replicated_control,
)
from hanse.catalog.commands import ChangeGroup, SetLeader, apply
from hanse.catalog.model import Snapshot
from hanse.catalog.node_commands import PlaceNode
from hanse.config import ClusterConfig, Secrets
from hanse.core.errors import PgError, UserMistake


def plan(**wishes: int) -> ClusterConfig:
    return plan_cluster(Request(**wishes), cluster_id="c", choose_ports=lambda count: list(range(100, 100 + count)))


def test_groups_go_round_the_nodes_and_every_node_has_a_workspace() -> None:
    cluster = plan(nodes=3, groups=4, replicas=1, port=6000)
    assert [[i.name for i in node.instances] for node in cluster.nodes] == [
        ["g1.1", "g4.1", "n1.workspace"],
        ["g2.1", "n2.workspace"],
        ["g3.1", "n3.workspace"],
    ]
    assert [node.gateway_port for node in cluster.nodes] == [6000, 6001, 6002]
    ports = [i.port for node in cluster.nodes for i in node.instances]
    ports += [port for node in cluster.nodes for port in (node.control_port, node.raft_port, node.http_port)]
    assert sorted(ports) == list(range(100, 116))


def test_three_replicas_where_there_are_nodes_for_them() -> None:
    assert [len(plan(nodes=nodes, groups=1).nodes[-1].instances) for nodes in (1, 2, 3)] == [2, 1, 2]
    assert len([i for node in plan(nodes=4, groups=1).nodes for i in node.instances if i.group == "g1"]) == 3
    assert len([i for node in plan(nodes=2, groups=1).nodes for i in node.instances if i.group == "g1"]) == 1


@pytest.mark.parametrize(("nodes", "leaders"), [(1, 1), (2, 2), (3, 3), (9, 5)])
def test_with_an_etcd_no_node_has_a_vote_and_the_first_can_lead(nodes: int, leaders: int) -> None:
    request = Request(nodes=nodes, groups=1, control_plane="etcd://a:1")
    cluster = plan_cluster(request, cluster_id="c", choose_ports=lambda count: list(range(100, 100 + count)))
    assert [bool(node.control_port) for node in cluster.nodes] == [number < leaders for number in range(nodes)]
    assert not any(node.raft_port for node in cluster.nodes)


@pytest.mark.parametrize(("nodes", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)])
def test_an_odd_number_of_nodes_has_votes_in_the_control_plane(nodes: int, voters: int) -> None:
    cluster = plan(nodes=nodes, groups=1)
    assert [each.name for each in cluster.control] == [f"n{number}" for number in range(1, voters + 1)]
    configs = node_configs(cluster, Path("/data"), lambda node: None)
    assert {config.control_addresses for config in configs} == {cluster.control_addresses}
    assert [config.control_dir is not None for config in configs] == [number < voters for number in range(nodes)]


def test_a_cluster_of_an_older_version_gets_a_replicated_control_plane() -> None:
    today = plan(nodes=3, groups=1)
    nodes = tuple(msgspec.structs.replace(node, control_port=0, raft_port=0) for node in today.nodes)
    former = msgspec.structs.replace(today, format=1, control_port=50, nodes=nodes)
    changed = with_replicated_control(former, lambda count: list(range(200, 200 + count)))
    assert [(each.port, each.raft_port) for each in changed.control] == [(200, 201), (202, 203), (204, 205)]
    assert (changed.format, changed.control_port) == (2, 0)
    assert [node.instances for node in changed.nodes] == [node.instances for node in today.nodes]


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
        {"replicas": 0},
        {"replicas": 4},
        {"replicas": 2, "nodes": 1},
        {"replicas": 8, "nodes": 9},
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
    with pytest.raises(UserMistake, match="has 1 replicas"):
        change_cluster(cluster, Request(replicas=3))


def test_replaced_ports_reach_instances_and_control() -> None:
    cluster = plan(nodes=1, groups=1)
    assert [i.port for i in cluster.nodes[0].instances] == [102, 103]
    moved = replace_ports(cluster, {100: 200, 101: 201, 103: 203})
    (control,) = moved.control
    assert (control.port, control.raft_port, [i.port for i in moved.nodes[0].instances]) == (200, 201, [102, 203])


def test_replicas_lie_on_different_nodes_and_know_each_other() -> None:
    cluster = plan(nodes=3, groups=2, replicas=2)
    placed = [[each.name for each in node.instances if each.group != "workspace"] for node in cluster.nodes]
    assert placed == [["g1.1"], ["g1.2", "g2.1"], ["g2.2"]]
    ports = [port for node in cluster.nodes for each in node.instances for port in (each.port, each.peer_port) if port]
    assert len(set(ports)) == len(ports) == 4 * 2 + 3
    configs = node_configs(cluster, Path("/data"), lambda node: None)
    assert [each.name for each in configs[1].instances[0].members] == ["g1.1", "g1.2"]
    assert {
        each.name: each.role for group in initial_snapshot(cluster, configs).groups for each in group.instances
    } == {
        "g1.1": "leader",
        "g1.2": "follower",
        "g2.1": "leader",
        "g2.2": "follower",
    }
    moved = replace_ports(cluster, {ports[1]: 9999})
    assert moved.nodes[0].instances[0].peer_port == 9999


def told(known: Snapshot, cluster: ClusterConfig) -> Snapshot:
    """Each node's agent has said where it is."""
    for config in node_configs(cluster, Path("/data"), lambda node: None):
        here = tuple(catalog_instance(config, each) for each in config.instances if each.group != "workspace")
        known = apply(known, PlaceNode(node=catalog_node(config), instances=here))
    return known


def test_a_restart_keeps_the_leaders_that_the_catalog_knows() -> None:
    cluster = plan(nodes=3, groups=1, replicas=3)
    topology = initial_snapshot(cluster, node_configs(cluster, Path("/data"), lambda node: None))
    known = apply(topology, SetLeader(group="g1", leader="g1.3", term=4))
    (group,) = told(known, cluster).groups
    assert (group.leader.name, group.term) == ("g1.3", 4)
    (group,) = apply(known, SetLeader(group="g1", leader="g1.1", term=3)).groups
    assert group.leader.name == "g1.3", "what an earlier leader says late changes nothing"
    with pytest.raises(PgError, match="no instance"):
        apply(known, SetLeader(group="g1", leader="g1.9", term=5))


def test_the_catalog_is_told_of_groups_and_not_of_workspaces() -> None:
    cluster = plan(nodes=2, groups=2)
    configs = node_configs(cluster, Path("/data"), lambda node: f"/s/{node.name}")
    assert [config.control_dir for config in configs] == ["/data/n1/control", None]
    snapshot = initial_snapshot(cluster, configs)
    assert [(g.name, g.leader.node, g.leader.socket_directory) for g in snapshot.groups] == [
        ("g1", "n1", "/s/n1"),
        ("g2", "n2", "/s/n2"),
    ]
    assert [node.name for node in snapshot.nodes] == ["n1", "n2"]
    assert snapshot.home_group == "g1"


def test_the_dsn_names_every_gateway_and_quotes_the_password() -> None:
    secrets = Secrets(system_password="s", user_password="a/b@c é")
    assert cluster_dsn(plan(nodes=2, port=6000), secrets) == (
        "postgresql://hanse:a%2Fb%40c%20%C3%A9@127.0.0.1:6000,127.0.0.1:6001/hanse"
    )


def test_a_restart_keeps_the_groups_that_the_catalog_knows_at_the_addresses_of_today() -> None:
    cluster = plan(nodes=3, groups=1, replicas=2)
    topology = initial_snapshot(cluster, node_configs(cluster, Path("/data"), lambda node: None))
    known = apply(topology, ChangeGroup(group="g1", add=("n3",), remove=("g1.2",)))
    first = topology.groups[0].instances[0]
    moved = replace_ports(cluster, {first.port: 9999})
    (group,) = told(known, moved).groups
    assert [(each.name, each.leaving, each.is_placed) for each in group.instances] == [
        ("g1.1", False, True),
        ("g1.2", True, True),
        ("g1.3", False, False),
    ]
    assert group.instances[0].port == 9999
