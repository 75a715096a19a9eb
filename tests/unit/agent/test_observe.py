from __future__ import annotations

from pathlib import Path

import msgspec

from hanse.agent.observe import observe_processes, table_statuses, with_snapshot
from hanse.agent.topology import Request, plan_cluster
from hanse.catalog.model import Bound, Group, Instance, Kind, Node, Relation, Shard, Snapshot
from hanse.config import Secrets

SECRETS = Secrets(system_password="s", user_password="p")


def test_a_cluster_of_which_nothing_runs(tmp_path: Path) -> None:
    cluster = plan_cluster(Request(nodes=2), cluster_id="c", choose_ports=lambda count: list(range(100, 100 + count)))
    status = observe_processes(tmp_path, cluster, SECRETS)
    assert status.state == "stopped"
    assert {node.state for node in status.nodes} == {"stopped"}
    assert [(g.name, g.leader, [i.pid for i in g.instances]) for g in status.groups] == [
        ("g1", "g1.1", [None]),
        ("g2", "g2.1", [None]),
    ]
    assert (status.control.leader, status.control.term) == (None, 0)
    assert [(each.name, each.state) for each in status.control.nodes] == [("n1", "away")]
    shape = msgspec.json.decode(msgspec.json.encode(status))
    assert set(shape) == {"dsn", "state", "data", "elsewhere", "control", "nodes", "groups", "gateways", "tables"}
    assert set(shape["gateways"][0]) == {"node", "worker", "host", "port", "pid", "state"}
    assert {"name", "node", "host", "port", "pid", "role", "state"} <= set(shape["groups"][0]["instances"][0])
    assert {"name", "host", "gateway_port", "state"} <= set(shape["nodes"][0])


def test_what_the_catalog_knows_of_other_machines(tmp_path: Path) -> None:
    ports = range(100, 200)
    cluster = plan_cluster(Request(nodes=1, groups=1), cluster_id="c", choose_ports=lambda count: list(ports[:count]))
    here = observe_processes(tmp_path, cluster, SECRETS)
    g1 = (
        Instance(name="g1.1", node="n1", host="a", port=1, role="follower", peer_port=2),
        Instance(name="g1.2", node="n2", host="b", port=3, role="leader", peer_port=4),
    )
    g2 = (Instance(name="g2.1", node="n2", host="b", port=5, role="leader"),)
    status = with_snapshot(
        here,
        Snapshot(
            nodes=(Node(name="n1", host="a", gateway_port=6), Node(name="n2", host="b", gateway_port=7)),
            groups=(Group(name="g1", instances=g1, durability="all"), Group(name="g2", instances=g2)),
        ),
    )
    assert status.state == here.state and status.nodes[0] == here.nodes[0]
    (other,) = status.nodes[1:]
    assert (other.name, other.host, other.gateway_port, other.state) == ("n2", "b", 7, "unknown")
    shown = [(g.name, g.leader, g.durability, [(i.name, i.state) for i in g.instances]) for g in status.groups]
    assert shown == [
        ("g1", "g1.2", "all", [("g1.1", "stopped"), ("g1.2", "unknown")]),
        ("g2", "g2.1", "quorum", [("g2.1", "unknown")]),
    ]


def test_tables_are_shown_by_kind_and_their_partitions_as_shards() -> None:
    shard = Shard(schema="public", name="t_0", group="g2", bound=Bound(modulus=1, remainder=0))
    relations = (
        Relation(schema="public", name="t", kind=Kind.SHARDED, key=("a", "b"), shards=(shard,)),
        Relation(schema="public", name="t_0", kind=Kind.PARTITION, group="g2"),
        Relation(schema="My schema", name="r", kind=Kind.REFERENCE),
        Relation(schema="public", name="s", kind=Kind.SINGLE, group="g1"),
        Relation(schema="public", name="v", kind=Kind.VIEW),
    )
    shown = [
        (t.name, t.kind, t.key, [(s.name, s.group) for s in t.shards], t.group)
        for t in table_statuses(Snapshot(relations=relations))
    ]
    assert shown == [
        ("public.t", "sharded", ["a", "b"], [("public.t_0", "g2")], None),
        ('"My schema".r', "reference", [], [], None),
        ("public.s", "single", [], [], "g1"),
    ]
