"""The address of a cluster as libpq writes it."""

from __future__ import annotations

from urllib.parse import quote

from ..config import DEFAULT_USER, ClusterConfig, Secrets


def cluster_dsn(cluster: ClusterConfig, secrets: Secrets) -> str:
    """With every node's gateway: a client that cannot reach the first goes to the next (manual 34.1.1.3)."""
    hosts = ",".join(f"{cluster.host}:{node.gateway_port}" for node in cluster.nodes)
    return f"postgresql://{DEFAULT_USER}:{quote(secrets.user_password, safe='')}@{hosts}/{cluster.database}"
