"""TLS between Hanse's own processes: each side shows a certificate of the cluster's authority, by TLS 1.3.

A certificate's DNS name is its node's name. A caller knows which node it calls, and checks that this is who answers; who is
called knows the caller's name. So nobody without a key of the cluster can speak, read or stand in between. `agent/certificates.py`
makes the files. Connections to PostgreSQL are another matter: see docs/guide/security.md.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from .errors import UserMistake


@dataclass(frozen=True, slots=True)
class NodeTls:
    server: ssl.SSLContext = field(repr=False)
    door: ssl.SSLContext = field(repr=False)  # a server's, to whom may come who has no certificate yet
    client: ssl.SSLContext = field(repr=False)


def node_tls(authority: Path, certificate: Path, key: Path) -> NodeTls:
    """TLS 1.3, both sides with a certificate of `authority`. Raises UserMistake for files that cannot be used."""
    server, door = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        for context in (server, door, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_verify_locations(authority)
            context.load_cert_chain(certificate, key)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise UserMistake(f"the node's certificate {certificate} cannot be used: {error}") from error
    door.verify_mode = ssl.CERT_OPTIONAL
    return NodeTls(server, door, client)


def certified_names(writer: asyncio.StreamWriter) -> frozenset[str]:
    """The node on the other side, as its certificate says; nothing where it has shown none."""
    certificate = writer.get_extra_info("peercert") or {}
    return frozenset(value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")
