"""The configuration of a load balancer in front of a cluster's gateways."""

from __future__ import annotations

from ..config import ClusterConfig
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


def haproxy(cluster: ClusterConfig, listen: str) -> str:
    """The text of haproxy.cfg. `listen`: an address as HAProxy's `bind` takes it, '127.0.0.1:6432'.

    Raises UserMistake for what would not be one, and for clusters whose nodes have no HTTP endpoint.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or not 1 <= int(port) <= 65_535 or any(each.isspace() for each in host):
        raise UserMistake(f"{listen!r} is no address to listen on; it looks like 127.0.0.1:6432, or *:6432")
    if not all(node.http_port for node in cluster.nodes):
        raise UserMistake("this cluster was made before nodes had an HTTP endpoint, which a balancer needs")
    servers = "\n".join(
        f"    server {node.name} {cluster.host}:{node.gateway_port} check addr {cluster.host} port {node.http_port}"
        for node in cluster.nodes
    )
    return _HAPROXY.format(listen=listen, servers=servers)
