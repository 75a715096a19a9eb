"""The shape of a local cluster: which node has which instances, and what the catalog is told of it.

Group `g<i>` begins on node `n<1 + (i - 1) mod nodes>`; its followers are on the nodes after that. Every node has a workspace.
With 3 nodes, 2 groups and 2 replicas::

    n1: g1.1, n1.workspace      n2: g1.2, g2.1, n2.workspace      n3: g2.2, n3.workspace

The first nodes, an odd number of them, have votes in the control plane; where an etcd has the votes, the first few can lead it.

Ports come from a function that is given.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..catalog.model import Group, Instance, Node, Snapshot
from ..catalog.told import newest
from ..config import (
    CLUSTER_FILE,
    CLUSTER_FORMAT,
    NODE_FILE,
    SECRETS_FILE,
    WORKSPACE_PLACE,
    ClusterConfig,
    ClusterNode,
    ControlNode,
    InstanceConfig,
    MemberConfig,
    NodeConfig,
    load_node_config,
)
from ..consensus.etcd import address as etcd
from ..core.errors import UserMistake
from ..core.limits import CONTROL_VOTERS_MAX, GATEWAY_WORKERS_MAX, GROUPS_MAX, INSTANCES_PER_GROUP_MAX, NODES_MAX
from .certificates import SELF_MADE, authority_file, check_options, files_of, node_files

ChoosePorts = Callable[[int], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks of `hanse up`; None: not said."""

    nodes: int | None = None
    groups: int | None = None
    replicas: int | None = None
    port: int | None = None
    workers: int | None = None
    password: str | None = None
    postgres_bindir: str | None = None
    postgres_user: str | None = None
    tls: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    host: str | None = None
    node: str | None = None  # the name of the only node
    control_plane: str | None = None  # an etcd's URL
    labels: Mapping[str, str] = field(default_factory=dict)  # of the only node


DEFAULT_NODES = 3
DEFAULT_GROUPS = 2
DEFAULT_REPLICAS = 3  # where there are as many nodes, else 1: of two, none may lead when the other is away
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5432
DEFAULT_WORKERS = 1
DEFAULT_TLS = "on"


def check_request(request: Request) -> None:
    """Raise UserMistake for a shape that cannot be."""
    _check_range("--nodes", request.nodes, NODES_MAX)
    _check_range("--groups", request.groups, GROUPS_MAX)
    _check_range("--workers", request.workers, GATEWAY_WORKERS_MAX)
    _check_range("--replicas", request.replicas, INSTANCES_PER_GROUP_MAX)
    nodes = DEFAULT_NODES if request.nodes is None else request.nodes
    if (request.replicas or 1) > nodes:
        raise UserMistake(f"--replicas {request.replicas} needs as many nodes, and there are {nodes}: see --nodes")
    port = DEFAULT_PORT if request.port is None else request.port
    if not 1 <= port <= 65_536 - nodes:
        raise UserMistake(f"--port must be between 1 and {65_536 - nodes}, because {nodes} nodes need a port each")
    if request.password is not None and (not request.password or "\0" in request.password):
        raise UserMistake("--password must not be empty")
    check_options(request.tls, request.tls_cert, request.tls_key)
    if request.control_plane is not None:
        etcd.parse(request.control_plane).tls()


def _check_range(option: str, value: int | None, most: int) -> None:
    if value is not None and not 1 <= value <= most:
        raise UserMistake(f"{option} must be between 1 and {most}, not {value}")


def plan_cluster(request: Request, *, cluster_id: str, choose_ports: ChoosePorts) -> ClusterConfig:
    """A new cluster. `request` was checked."""
    node_count = request.nodes or DEFAULT_NODES
    group_count = request.groups or DEFAULT_GROUPS
    replicas = request.replicas or (DEFAULT_REPLICAS if node_count >= DEFAULT_REPLICAS else 1)
    first_port = request.port or DEFAULT_PORT
    ports_of_instance = 1 if replicas == 1 else 2
    by_etcd = request.control_plane is not None
    voters = min(node_count, CONTROL_VOTERS_MAX) if by_etcd else control_nodes_of(node_count)
    ports = iter(choose_ports(2 * voters + group_count * replicas * ports_of_instance + 2 * node_count))
    controls = [
        (next(ports), 0 if by_etcd else next(ports)) if number < voters else (0, 0) for number in range(node_count)
    ]
    names = [request.node] if request.node else [f"n{number + 1}" for number in range(node_count)]
    placed: list[list[InstanceConfig]] = [[] for _ in range(node_count)]
    for number, replica in itertools.product(range(1, group_count + 1), range(replicas)):
        instance = InstanceConfig(
            group=f"g{number}",
            name=f"g{number}.{replica + 1}",
            port=next(ports),
            role="leader" if replica == 0 else "follower",
            peer_port=0 if replicas == 1 else next(ports),
        )
        placed[(number - 1 + replica) % node_count].append(instance)
    for number, instances in enumerate(placed, start=1):
        name = f"{names[number - 1]}.{WORKSPACE_PLACE}"
        instances.append(InstanceConfig(group=WORKSPACE_PLACE, name=name, port=next(ports)))
    nodes = tuple(
        ClusterNode(
            name=names[number - 1],
            gateway_port=first_port + number - 1,
            control_port=control_port,
            raft_port=raft_port,
            http_port=next(ports),
            labels=dict(request.labels),
            instances=tuple(instances),
        )
        for number, (instances, (control_port, raft_port)) in enumerate(zip(placed, controls, strict=True), start=1)
    )
    return ClusterConfig(
        cluster_id=cluster_id,
        host=request.host or DEFAULT_HOST,
        gateway_workers=request.workers or DEFAULT_WORKERS,
        tls=request.tls or DEFAULT_TLS,
        tls_cert=None if request.tls_cert == SELF_MADE else request.tls_cert,
        tls_key=request.tls_key,
        nodes=nodes,
    )


def control_nodes_of(node_count: int) -> int:
    """How many of the first nodes have a vote in the control plane: as many as are odd, since one more would have to be up,
    too, and would let no more be lost. So of two nodes only the first has one.
    """
    return min(node_count - (node_count + 1) % 2, CONTROL_VOTERS_MAX)


def with_replicated_control(cluster: ClusterConfig, choose_ports: ChoosePorts) -> ClusterConfig:
    """A cluster of format 1, whose only control service was the first node's, in today's format."""
    voters = control_nodes_of(len(cluster.nodes))
    ports = iter(choose_ports(2 * voters))
    nodes = tuple(
        msgspec.structs.replace(node, control_port=next(ports), raft_port=next(ports)) if number < voters else node
        for number, node in enumerate(cluster.nodes)
    )
    return msgspec.structs.replace(cluster, format=CLUSTER_FORMAT, control_port=0, nodes=nodes)


def change_cluster(cluster: ClusterConfig, request: Request) -> ClusterConfig:
    """An existing cluster with what may change at a start: gateway ports, workers, TLS. Raises UserMistake for the rest."""
    groups = [
        instance.group for node in cluster.nodes for instance in node.instances if instance.group != WORKSPACE_PLACE
    ]
    there_are = (
        ("nodes", request.nodes, len(cluster.nodes)),
        ("groups", request.groups, len(set(groups))),
        ("replicas", request.replicas, len(groups) // max(1, len(set(groups)))),  # a node that has joined may have none
    )
    for option, asked, there in there_are:
        if asked is not None and asked != there:
            raise UserMistake(f"this cluster has {there} {option}, and --{option} cannot change that")
    nodes = cluster.nodes
    if request.port is not None:
        nodes = tuple(
            msgspec.structs.replace(node, gateway_port=request.port + position) for position, node in enumerate(nodes)
        )
    workers = cluster.gateway_workers if request.workers is None else request.workers
    if request.tls_cert is not None:
        given = request.tls_cert != SELF_MADE
        cluster = msgspec.structs.replace(
            cluster, tls_cert=request.tls_cert if given else None, tls_key=request.tls_key if given else None
        )
    tls = cluster.tls if request.tls is None else request.tls
    return msgspec.structs.replace(cluster, nodes=nodes, gateway_workers=workers, tls=tls)


def replace_ports(cluster: ClusterConfig, new: dict[int, int]) -> ClusterConfig:
    """The cluster with internal ports exchanged: old port → new port."""
    nodes = tuple(
        msgspec.structs.replace(
            node,
            control_port=new.get(node.control_port, node.control_port),
            raft_port=new.get(node.raft_port, node.raft_port),
            http_port=new.get(node.http_port, node.http_port),
            instances=tuple(
                msgspec.structs.replace(i, port=new.get(i.port, i.port), peer_port=new.get(i.peer_port, i.peer_port))
                for i in node.instances
            ),
        )
        for node in cluster.nodes
    )
    return msgspec.structs.replace(cluster, nodes=nodes)


def node_configs(
    cluster: ClusterConfig, data_dir: Path, socket_directory: Callable[[ClusterNode], str | None]
) -> tuple[NodeConfig, ...]:
    """What each node is started from."""
    certificate, key = files_of(cluster, data_dir)
    members = _members(cluster)
    founders = () if cluster.joined else tuple(node.name for node in cluster.nodes if node.control_port)
    return tuple(
        NodeConfig(
            name=node.name,
            data_dir=str(data_dir / node.name),
            secrets_file=str(data_dir / SECRETS_FILE),
            host=cluster.host,
            gateway_port=node.gateway_port,
            gateway_workers=cluster.gateway_workers,
            http_port=node.http_port,
            control=cluster.control,
            control_dir=str(data_dir / node.name / "control") if node.control_port else None,
            founders=founders,
            former_catalog=str(data_dir / "control") if node is cluster.nodes[0] and not cluster.joined else None,
            postgres_bindir=cluster.postgres_bindir,
            postgres_user=cluster.postgres_user,
            socket_directory=socket_directory(node),
            elsewhere_dir=str(Path(cluster.elsewhere_dir) / node.name) if cluster.elsewhere_dir else None,
            cluster_file=str(data_dir / CLUSTER_FILE) if node.control_port else None,
            cluster_id=cluster.cluster_id,
            instances=tuple(msgspec.structs.replace(i, members=members.get(i.group, ())) for i in node.instances),
            labels=node.labels,
            database=cluster.database,
            tls=cluster.tls,
            tls_cert=None if cluster.tls == "off" else str(certificate),
            tls_key=None if cluster.tls == "off" else str(key),
            authority=str(authority_file(data_dir)),
            node_cert=str(node_files(data_dir, node.name)[0]),
            node_key=str(node_files(data_dir, node.name)[1]),
        )
        for node in cluster.nodes
    )


def _members(cluster: ClusterConfig) -> dict[str, tuple[MemberConfig, ...]]:
    """Of each group of several instances."""
    found: dict[str, list[MemberConfig]] = {}
    for node in cluster.nodes:
        for each in node.instances:
            if each.peer_port:
                member = MemberConfig(
                    name=each.name, host=cluster.host, port=each.port, peer_port=each.peer_port, node=node.name
                )
                found.setdefault(each.group, []).append(member)
    return {group: tuple(sorted(members, key=lambda each: each.name)) for group, members in found.items()}


def with_instances_of(cluster: ClusterConfig, data_dir: Path) -> ClusterConfig:
    """With the instances that each node has by its own file: agents write there what the catalog has changed."""
    return msgspec.structs.replace(cluster, nodes=tuple(_own_instances(node, data_dir) for node in cluster.nodes))


def _own_instances(node: ClusterNode, data_dir: Path) -> ClusterNode:
    try:
        config = load_node_config(node_file(data_dir, node.name))
    except UserMistake:  # it is made anew
        return node
    instances = tuple(msgspec.structs.replace(each, members=()) for each in config.instances)
    return msgspec.structs.replace(node, instances=instances)


def with_control_heard(cluster: ClusterConfig, data_dir: Path) -> ClusterConfig:
    """With the control plane's nodes on other machines as the nodes here have last heard of them."""
    heard = [
        told for node in cluster.nodes if (told := newest(data_dir / node.name / "run")) is not None and told.nodes
    ]
    if not heard:
        return cluster
    here = {node.name for node in cluster.nodes}
    elsewhere = tuple(
        ControlNode(name=node.name, host=node.host, port=node.control_port, raft_port=node.raft_port)
        for node in max(heard, key=lambda told: told.version).nodes
        if node.control_port and node.name not in here
    )
    return msgspec.structs.replace(cluster, elsewhere=elsewhere)


def node_file(data_dir: Path, node_name: str) -> Path:
    return data_dir / node_name / NODE_FILE


def initial_snapshot(cluster: ClusterConfig, configs: tuple[NodeConfig, ...]) -> Snapshot:
    """The catalog's first version: nodes and groups, no relations."""
    nodes = tuple(map(catalog_node, configs))
    members: dict[str, list[Instance]] = {}
    for config in configs:
        for instance in config.instances:
            if instance.group != WORKSPACE_PLACE:
                members.setdefault(instance.group, []).append(catalog_instance(config, instance))
    groups = tuple(Group(name=name, instances=tuple(found)) for name, found in sorted(members.items()))
    return Snapshot(database=cluster.database, home_group="g1", nodes=nodes, groups=groups)


def catalog_node(config: NodeConfig) -> Node:
    own = next((each for each in config.control if each.name == config.name), None)
    return Node(
        name=config.name,
        host=config.host,
        gateway_port=config.gateway_port,
        labels=config.labels,
        control_port=0 if own is None else own.port,
        raft_port=0 if own is None else own.raft_port,
        http_port=config.http_port,
    )


def catalog_instance(config: NodeConfig, instance: InstanceConfig) -> Instance:
    return Instance(
        name=instance.name,
        node=config.name,
        host=config.host,
        port=instance.port,
        role=instance.role,
        socket_directory=config.socket_directory,
        peer_port=instance.peer_port,
    )
