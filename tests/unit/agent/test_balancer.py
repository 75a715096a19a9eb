"""The configuration that `hanse balancer-config` writes; Debian's haproxy reads it in tests/e2e/test_balancing.py."""

from __future__ import annotations

import msgspec
import pytest

from hanse.agent.balancer import haproxy
from hanse.agent.topology import Request, plan_cluster
from hanse.config import ClusterConfig
from hanse.core.errors import UserMistake

CLUSTER = plan_cluster(
    Request(nodes=2, port=6000), cluster_id="c", choose_ports=lambda count: list(range(100, 100 + count))
)


def test_each_node_is_asked_whether_it_is_ready() -> None:
    lines = haproxy(CLUSTER, "*:6432").splitlines()
    first, second = (node.http_port for node in CLUSTER.nodes)
    assert [line.strip() for line in lines if line.startswith("    server ")] == [
        f"server n1 127.0.0.1:6000 check addr 127.0.0.1 port {first}",
        f"server n2 127.0.0.1:6001 check addr 127.0.0.1 port {second}",
    ]
    assert "    bind *:6432" in lines
    assert "    http-check send meth GET uri /ready ver HTTP/1.1 hdr Host hanse" in lines
    assert len({first, second, CLUSTER.control_port}) == 3


@pytest.mark.parametrize("listen", ["6432", "localhost:", ":0", "a b:1", "a\nb:1", "x:65536", "x:y"])
def test_what_is_no_address(listen: str) -> None:
    with pytest.raises(UserMistake):
        haproxy(CLUSTER, "" if listen == "6432" else listen)


def test_a_cluster_without_endpoints() -> None:
    nodes = tuple(msgspec.structs.replace(node, http_port=0) for node in CLUSTER.nodes)
    older: ClusterConfig = msgspec.structs.replace(CLUSTER, nodes=nodes)
    with pytest.raises(UserMistake, match="HTTP"):
        haproxy(older, "*:6432")
