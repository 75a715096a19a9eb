"""The configuration of a load balancer in front of a cluster's gateways."""

from __future__ import annotations

from collections.abc import Sequence

from ..catalog.model import Node
from ..core.errors import UserMistake

_HAPROXY = """\
# HAProxy (2.2 or later) in front of Hanse: clients connect here, and each goes to a node that is ready, to the one with the
# fewest clients. Written by `hanse balancer-config haproxy`; write it again when nodes or ports have changed.
defaults
    mode tcp
    timeout connect 5s
    timeout check 2s
    # Sessions may be idle for as long as they like; a peer that is gone is noticed by keep-alive packets.
    timeout client 24h
    timeout server 24h
    option clitcpka
    option srvtcpka

listen hanse
    bind {listen}
    balance leastconn
    # The gateway itself speaks TLS and asks for passwords; a node's agent tells whether clients can be sent there.
    option httpchk
    http-check send meth GET uri /ready ver HTTP/1.1 hdr Host hanse
    http-check expect status 200
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def haproxy(nodes: Sequence[Node], listen: str) -> str:
    """The text of haproxy.cfg. `listen`: an address as HAProxy's `bind` takes it, '127.0.0.1:6432'.

    Raises UserMistake for what would not be one, and for nodes that have no HTTP endpoint.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or not 1 <= int(port) <= 65_535 or any(each.isspace() for each in host):
        raise UserMistake(f"{listen!r} is no address to listen on; it looks like 127.0.0.1:6432, or *:6432")
    silent = [node.name for node in nodes if not node.http_port]
    if silent:
        raise UserMistake(
            f"node {silent[0]} has not told the catalog of its HTTP endpoint, which a balancer needs; start it once more"
        )
    servers = "\n".join(
        f"    server {node.name} {node.host}:{node.gateway_port} check addr {node.host} port {node.http_port}"
        for node in nodes
    )
    return _HAPROXY.format(listen=listen, servers=servers)
