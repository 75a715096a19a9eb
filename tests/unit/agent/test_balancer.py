"""The configuration that `hanse balancer-config` writes; Debian's haproxy reads it in tests/e2e/test_balancing.py."""

from __future__ import annotations

import msgspec
import pytest

from hanse.agent.balancer import haproxy
from hanse.catalog.model import Node
from hanse.core.errors import UserMistake

NODES = (
    Node(name="n1", host="127.0.0.1", gateway_port=6000, http_port=101),
    Node(name="n2", host="10.0.0.2", gateway_port=6001, http_port=102),
)


def test_each_node_is_asked_whether_it_is_ready() -> None:
    lines = haproxy(NODES, "*:6432").splitlines()
    assert [line.strip() for line in lines if line.startswith("    server ")] == [
        "server n1 127.0.0.1:6000 check addr 127.0.0.1 port 101",
        "server n2 10.0.0.2:6001 check addr 10.0.0.2 port 102",
    ]
    assert "    bind *:6432" in lines
    assert "    http-check send meth GET uri /ready ver HTTP/1.1 hdr Host hanse" in lines


@pytest.mark.parametrize("listen", ["6432", "localhost:", ":0", "a b:1", "a\nb:1", "x:65536", "x:y"])
def test_what_is_no_address(listen: str) -> None:
    with pytest.raises(UserMistake):
        haproxy(NODES, "" if listen == "6432" else listen)


def test_a_node_without_an_endpoint() -> None:
    silent = msgspec.structs.replace(NODES[1], http_port=0)
    with pytest.raises(UserMistake, match="n2 has not told"):
        haproxy((NODES[0], silent), "*:6432")
