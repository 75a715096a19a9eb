"""Typed settings: the file a node is started from, and where its parts lie on disk.

A data directory holds the nodes of one machine: a local cluster (`hanse up`), or one node of a larger one (`hanse join`)::

    hanse-data/
      cluster.json       ClusterConfig: topology, ports, format version; what `hanse up` decided
      secrets.json       mode 0600: Secrets
      tls/               certificate authorities, and the certificate of the gateways (agent/certificates.py)
      run/, log/         of `hanse up` itself, as a node's
      control/           catalog.sqlite.adopted: the catalog from before it was replicated, where there was one
      <node>/node.json   NodeConfig of that node, derived from cluster.json at every start
      <node>/run/        one JSON file per live process: its pid, start time, ports and state
      <node>/log/        what its processes print
      <node>/control/    on nodes of the control plane: its log (consensus/raft/storage.py), or how far etcd's was seen
      <node>/tls/        the node's certificate among nodes
      <node>/socket/     its instances' Unix sockets, where the path is short enough
      <node>/<group>/    data directory of an instance, or a link to it (see engines/postgres/reach.py)
      <node>/workspace/  data directory of the workspace
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from .core.errors import UserMistake
from .core.node_tls import NodeTls, node_tls

T = TypeVar("T")

SYSTEM_ROLE = "hanse_system"  # superuser on every instance; only Hanse's own processes know its password
DEFAULT_USER = "hanse"
DEFAULT_DATABASE = "hanse"
WORKSPACE_PLACE = "workspace"  # pseudo-group: the schema-complete database beside a gateway

CLUSTER_FILE = "cluster.json"
SECRETS_FILE = "secrets.json"
NODE_FILE = "node.json"
CLUSTER_FORMAT = 2  # raised when an older Hanse could not use the data directory any more
UNREPLICATED_FORMAT = 1  # its catalog was one file of the first node; `hanse up` brings it to today's


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Passwords, and the SCRAM verifiers made of them, computed once, so that they are equal on all instances; and what else
    nobody else may read.
    """

    system_password: str
    user_password: str
    system_verifier: str = ""
    user_verifier: str = ""
    control_plane: str = ""  # an etcd's URL, which may have a password; empty: the nodes' own Raft


class MemberConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An instance of a group as the others know it."""

    name: str
    host: str
    port: int
    peer_port: int  # of its agent, for this instance
    node: str = ""


class InstanceConfig(msgspec.Struct, frozen=True, kw_only=True):
    group: str  # or WORKSPACE_PLACE
    name: str  # 'g1.1'
    port: int
    # 'leader' and 'follower' when the group is founded; 'joiner', 'enrolled' (agent/members.py); 'founder' (agent/founding.py)
    role: str = "leader"
    peer_port: int = 0
    members: tuple[MemberConfig, ...] = ()  # of a group of several, itself among them


class ControlNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node with a vote in the control plane, as every node knows it."""

    name: str
    host: str
    port: int  # of its control service
    raft_port: int


Address = tuple[str, str, int]  # of a control service: its node's name, host, port


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    data_dir: str  # this node's directory
    secrets_file: str
    host: str = "127.0.0.1"
    gateway_port: int = 5432
    gateway_workers: int = 1
    http_port: int = 0  # of its agent, for balancers; 0: none, in a cluster that was made without
    control: tuple[ControlNode, ...] = ()
    control_dir: str | None = None  # set on nodes that may have a vote: their log
    founders: tuple[str, ...] = ()  # who had votes when the cluster was made; empty: the node has joined later
    former_catalog: str | None = None  # set on the first: the directory of a catalog from before it was replicated
    postgres_bindir: str | None = None  # None: the server inside the wheel
    postgres_user: str | None = None  # the operating system's user that runs PostgreSQL; None: whoever we are
    socket_directory: str | None = None
    elsewhere_dir: str | None = None  # for data directories when PostgreSQL's user cannot reach data_dir
    cluster_file: str | None = None  # on nodes of `control`: the topology that they tell the catalog
    cluster_id: str = ""
    instances: tuple[InstanceConfig, ...] = ()
    labels: dict[str, str] = {}  # of a cluster's first nodes when it was made; today's are in the catalog
    database: str = DEFAULT_DATABASE
    tls: str = "off"  # off, on, or require: clients without TLS are refused
    tls_cert: str | None = None  # files in PEM form; gateways notice when they change
    tls_key: str | None = None
    authority: str = ""  # file: certificates of nodes are signed by it
    node_cert: str = ""
    node_key: str = ""

    @property
    def control_addresses(self) -> tuple[Address, ...]:
        return tuple((each.name, each.host, each.port) for each in self.control)

    def tls_among_nodes(self) -> NodeTls:
        """Raises UserMistake for files that cannot be used."""
        return node_tls(Path(self.authority), Path(self.node_cert), Path(self.node_key))


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    gateway_port: int
    control_port: int = 0  # of its control service, and of its Raft; 0 where it has no vote
    raft_port: int = 0
    http_port: int = 0
    labels: dict[str, str] = {}  # see NodeConfig
    instances: tuple[InstanceConfig, ...] = ()  # the workspace is one of them


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes of one machine: a local cluster as `hanse up` made it, or a node of a larger one.

    Holds no absolute path inside the data directory, which may be moved.
    """

    format: int = CLUSTER_FORMAT
    cluster_id: str
    host: str = "127.0.0.1"
    database: str = DEFAULT_DATABASE
    gateway_workers: int = 1
    control_port: int = 0  # format 1: of the one control service
    postgres_bindir: str | None = None
    postgres_user: str | None = None
    elsewhere_dir: str | None = None
    tls: str = "on"  # see NodeConfig
    tls_cert: str | None = None  # None: the self-made one
    tls_key: str | None = None
    joined: bool = False  # the cluster was made elsewhere, and these nodes have joined it
    elsewhere: tuple[ControlNode, ...] = ()  # the control plane's nodes on other machines, when these joined
    nodes: tuple[ClusterNode, ...]

    @property
    def control(self) -> tuple[ControlNode, ...]:
        here = tuple(
            ControlNode(name=node.name, host=self.host, port=node.control_port, raft_port=node.raft_port)
            for node in self.nodes
            if node.control_port
        )
        return here + self.elsewhere

    @property
    def control_addresses(self) -> tuple[Address, ...]:
        return tuple((each.name, each.host, each.port) for each in self.control)


def load_cluster_config(path: Path) -> ClusterConfig:
    cluster = _load(path, ClusterConfig)
    if cluster.format not in (CLUSTER_FORMAT, UNREPLICATED_FORMAT):
        raise UserMistake(f"{path} was written by another version of Hanse (format {cluster.format})")
    return cluster


def save(path: Path, value: msgspec.Struct, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, durably, with no moment at which others could read a secret."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    text = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def load_node_config(path: Path) -> NodeConfig:
    return _load(path, NodeConfig)


def load_secrets(path: Path) -> Secrets:
    return _load(path, Secrets)


def _load(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise UserMistake(f"{path} does not exist") from None
    except PermissionError:
        raise UserMistake(f"{path} may not be read by this user") from None
    except IsADirectoryError:
        raise UserMistake(f"{path} is a directory") from None
    except msgspec.DecodeError as error:
        raise UserMistake(f"{path} is damaged or of another version: {error}") from None
