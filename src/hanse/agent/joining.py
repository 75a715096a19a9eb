"""How a machine becomes a node of a cluster that is elsewhere: `admission.py` is the other side.

Nobody is believed before the authority is known: its certificate is fetched first, and must have the fingerprint that the token
carries. Only then, over a connection to somebody with a certificate of that authority, the token's secret is shown. Keys are made
here and stay here. What comes is written as a data directory of one node, from which `hanse up` and `hanse node` start it.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from contextlib import suppress
from pathlib import Path

from ..catalog import protocol as p
from ..config import CLUSTER_FILE, SECRETS_FILE, WORKSPACE_PLACE, ClusterConfig, ClusterNode, InstanceConfig, save
from ..core.errors import UserMistake
from ..core.limits import AUTH_MESSAGE_BYTES_MAX, CONTROL_HANDSHAKE_S_MAX, JOIN_S_MAX
from ..engines.postgres.binaries import find_binaries
from . import certificates
from .cluster_dir import check_new_directory, make_open_directory, placed_for, prepare, released
from .ports import check_port, choose_free_ports
from .tokens import Token, fingerprint_of
from .topology import Request


def join(data_dir: Path, address: str, token: Token, request: Request) -> ClusterConfig:
    """`request` says host, port, node's name, labels, PostgreSQL. Raises UserMistake; then this machine is no node."""
    data_dir = data_dir.absolute()
    host, port = request.host or "", request.port or 0
    check_new_directory(data_dir)
    find_binaries(request.postgres_bindir)
    check_port(host, port, "the gateway", option="--listen")
    offered = choose_free_ports(host, 4, avoid=(port,))
    key, asked = certificates.request_certificate()
    gateway_key, gateway_asked = certificates.request_certificate()
    names, addresses = certificates.names_of_gateways(host)
    question = p.Join(
        format=p.FORMAT,
        secret=token.secret,
        name=request.node,
        host=host,
        gateway_port=port,
        control_port=offered[0],
        raft_port=offered[1],
        request=asked,
        gateway_request=gateway_asked,
        gateway_names=tuple(sorted(names)),
        gateway_addresses=tuple(sorted(addresses)),
        labels=dict(request.labels),
    )
    authority, joined = asyncio.run(_ask_to_join(address, token, question))
    make_open_directory(data_dir)
    make_open_directory(data_dir / joined.name)
    certificates.keep(certificates.authority_file(data_dir), authority)
    certificate_at, key_at = certificates.node_files(data_dir, joined.name)
    certificates.keep(certificate_at, joined.certificate)
    certificates.write(key_at, key, 0o600)
    save(data_dir / SECRETS_FILE, joined.secrets, mode=0o600)
    cluster = placed_for(data_dir, _plan(joined, request, offered), request)
    if joined.gateway_authority is not None and joined.gateway_certificate is not None:
        files = certificates.files_of(cluster, data_dir)
        certificates.keep(data_dir / certificates.DIRECTORY / "ca.crt", joined.gateway_authority)
        certificates.keep(files[0], joined.gateway_certificate)
        certificates.write(files[1], gateway_key, 0o600)
    save(data_dir / CLUSTER_FILE, cluster)
    return released(prepare(data_dir, Request(), ask_etcd=False))  # it has joined; its start needs the etcd


def _plan(joined: p.Joined, request: Request, offered: list[int]) -> ClusterConfig:
    assert request.host is not None and request.port is not None
    control_port, raft_port, http_port, workspace_port = offered
    workspace = InstanceConfig(group=WORKSPACE_PLACE, name=f"{joined.name}.{WORKSPACE_PLACE}", port=workspace_port)
    node = ClusterNode(
        name=joined.name,
        gateway_port=request.port,
        control_port=control_port if joined.may_vote else 0,
        raft_port=0 if not joined.may_vote or joined.secrets.control_plane else raft_port,
        http_port=http_port,
        instances=(workspace,),
    )
    return ClusterConfig(
        cluster_id=joined.cluster_id,
        host=request.host,
        database=joined.database,
        gateway_workers=request.workers or 1,
        tls=joined.tls,
        joined=True,
        elsewhere=joined.control,
        nodes=(node,),
    )


async def _ask_to_join(address: str, token: Token, question: p.Join) -> tuple[bytes, p.Joined]:
    """(the authority's certificate, what the cluster says). Raises UserMistake."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    found = await _ask(address, anybody, p.AskAuthority())
    if not isinstance(found, p.Authority):
        raise UserMistake(f"what answers at {address} is no node of a cluster that can be joined")
    fingerprint = b""
    with suppress(ValueError):
        fingerprint = fingerprint_of(found.certificate)
    if not hmac.compare_digest(fingerprint, token.fingerprint):
        raise UserMistake(f"what answers at {address} is not of the cluster that the token is from")
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted.minimum_version = ssl.TLSVersion.TLSv1_3
    trusted.check_hostname = False  # any node of the cluster may be behind the address
    trusted.load_verify_locations(cadata=found.certificate.decode("ascii"))
    answer = await _ask(address, trusted, question)
    if isinstance(answer, p.Refused):
        raise UserMistake(f"the cluster refuses: {answer.message}")
    if not isinstance(answer, p.Joined):
        raise UserMistake(f"what answers at {address} is of another version of Hanse")
    return found.certificate, answer


async def _ask(address: str, tls: ssl.SSLContext, question: p.ClientMessage) -> p.ServiceMessage:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(JOIN_S_MAX):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=tls, server_hostname="", ssl_handshake_timeout=CONTROL_HANDSHAKE_S_MAX
            )
            try:
                writer.write(p.encode(question, AUTH_MESSAGE_BYTES_MAX))
                length = await p.read_length(reader, AUTH_MESSAGE_BYTES_MAX)
                return p.decode_from_service(await reader.readexactly(length))
            finally:
                writer.transport.abort()
    except (OSError, EOFError, TimeoutError, p.ProtocolViolation) as error:
        raise UserMistake(f"{address} does not answer as a cluster: {error or type(error).__name__}") from None
