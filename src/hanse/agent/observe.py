"""What a cluster looks like from outside: the answer to `hanse status`.

Of the nodes in this data directory everything is seen. That there are others, on other machines, the catalog says, and how their
instances are, the groups' leaders; what nobody says is `unknown`.

`ClusterStatus` is the documented, stable shape of `hanse status --json`: fields are added, never renamed or removed.
States are `running`, `starting`, `stopping`, `failed`, `stopped` and `unknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from ..catalog.client_link import NotLeading, open_link
from ..catalog.model import Group, Kind, Node, Relation, Snapshot
from ..catalog.protocol import ProtocolViolation, Welcome
from ..config import SYSTEM_ROLE, WORKSPACE_PLACE, ClusterConfig, ClusterNode, ControlNode, InstanceConfig, Secrets
from ..core.errors import PgError
from ..core.ids import quote_qualified
from ..core.limits import GROUP_STATE_S_MAX
from ..core.node_tls import NodeTls
from ..engines.postgres.group_files import STANDBY_SIGNAL
from ..engines.postgres.group_state import QUESTION, decode
from ..engines.postgres.postmaster import find_postmaster, read_pid_file
from ..engines.postgres.streaming import Access
from . import certificates
from .cluster_dir import AGENT
from .dsn import cluster_dsn
from .presence import find_process, living, read_record
from .workers import worker_name

CATALOG_TIMEOUT_S = 3.0
UNKNOWN = "unknown"
SHOWN_KINDS = (Kind.SHARDED, Kind.REFERENCE, Kind.SINGLE)


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    node: str
    host: str
    port: int
    pid: int | None
    role: str
    state: str
    directory: str  # where its data really lie; '' on another machine
    replication: str | None = None  # of a group's member: leads, streaming, catchup …, away, lost; None: nobody says
    member: bool | None = None  # whether the group's rule counts it
    lag_bytes: int | None = None  # of the leader's WAL, not replayed here yet
    lag_s: float | None = None


class GroupStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    leader: str | None  # an instance's name
    instances: list[InstanceStatus]
    term: int | None = None  # this and the next two: of a group whose leader answers and was made of several
    members: list[str] | None = None
    k: int | None = None  # followers that a commit waits for
    durability: str | None = None  # as the catalog has it


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True):
    node: str
    worker: int
    host: str
    port: int
    pid: int | None
    state: str


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    host: str
    gateway_port: int
    http_port: int  # of its agent: /health, /ready, /leader/<group>; 0: none, or on another machine
    pid: int | None  # of its agent
    state: str
    note: str  # what it is doing, or why it failed
    workspace: InstanceStatus | None
    labels: dict[str, str] = {}  # empty also where the catalog does not answer


class ShardStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    group: str


class TableStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # 'schema.table', each part quoted as SQL needs it
    kind: str  # sharded, reference, single
    key: list[str]
    shards: list[ShardStatus]
    group: str | None  # of a single table


class ControlNodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    host: str
    port: int
    state: str  # leader, follower, or away: it does not answer, or its agent is not up


class ControlStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The control plane, as its nodes say themselves."""

    leader: str | None  # a node's name; None: nobody answers as the leader
    term: int  # the highest that a node knows; 0: none answers
    nodes: list[ControlNodeStatus]  # those with a vote


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    dsn: str
    state: str  # running: every part on this machine is; stopped: none is; partial: anything between
    data: str
    elsewhere: str | None  # the instances' data lie here, because PostgreSQL's user may not enter `data`
    control: ControlStatus
    nodes: list[NodeStatus]
    groups: list[GroupStatus]
    gateways: list[GatewayStatus]
    tables: list[TableStatus] | None  # None: the catalog does not answer


def observe_processes(data_dir: Path, cluster: ClusterConfig, secrets: Secrets) -> ClusterStatus:
    """Everything but what must be asked of the control plane."""
    nodes = [_node_status(data_dir, cluster, node) for node in cluster.nodes]
    gateways = [
        _gateway_status(data_dir, cluster, node, worker)
        for node in cluster.nodes
        for worker in range(cluster.gateway_workers)
    ]
    groups = _group_statuses(data_dir, cluster)
    states = [node.state for node in nodes] + [gateway.state for gateway in gateways]
    states += [instance.state for group in groups for instance in group.instances]
    states += [node.workspace.state for node in nodes if node.workspace is not None]
    return ClusterStatus(
        dsn=cluster_dsn(cluster, secrets),
        state=states[0] if len(set(states)) == 1 else "partial",
        data=str(data_dir),
        elsewhere=cluster.elsewhere_dir,
        control=_control_status(cluster, {}),
        nodes=nodes,
        groups=groups,
        gateways=gateways,
        tables=None,
    )


async def with_catalog(status: ClusterStatus, cluster: ClusterConfig) -> ClusterStatus:
    """The status with what the control plane says of itself and of tables, if it answers within CATALOG_TIMEOUT_S."""
    tls = certificates.tls_of_a_node(cluster, Path(status.data))
    answers = await asyncio.gather(*(_ask(each, tls) for each in cluster.control))
    found = {each.name: answer for each, answer in zip(cluster.control, answers, strict=True) if answer is not None}
    status = msgspec.structs.replace(status, control=_control_status(cluster, found))
    snapshots = [answer.snapshot for answer in found.values() if isinstance(answer, Welcome)]
    return with_snapshot(status, snapshots[0]) if snapshots else status


def with_snapshot(status: ClusterStatus, snapshot: Snapshot) -> ClusterStatus:
    """The status with the catalog's tables, nodes and groups; of nodes on other machines nobody has said yet how they are."""
    here = {node.name for node in status.nodes}
    groups = {group.name: group for group in status.groups}
    for group in snapshot.groups:
        known = groups.get(group.name, GroupStatus(name=group.name, leader=None, instances=[]))
        groups[group.name] = _with_instances_elsewhere(known, group, here)
    return msgspec.structs.replace(
        status,
        nodes=[
            *(_labelled(node, snapshot) for node in status.nodes),
            *(_node_elsewhere(node) for node in snapshot.nodes if node.name not in here),
        ],
        groups=sorted(groups.values(), key=lambda group: (len(group.name), group.name)),
        tables=table_statuses(snapshot),
    )


def _labelled(node: NodeStatus, snapshot: Snapshot) -> NodeStatus:
    known = snapshot.node_by_name.get(node.name)
    return node if known is None else msgspec.structs.replace(node, labels=known.labels)


def _node_elsewhere(node: Node) -> NodeStatus:
    return NodeStatus(
        name=node.name,
        host=node.host,
        gateway_port=node.gateway_port,
        http_port=node.http_port,
        pid=None,
        state=UNKNOWN,
        note="on another machine",
        workspace=None,
        labels=node.labels,
    )


def _with_instances_elsewhere(known: GroupStatus, group: Group, here: Collection[str]) -> GroupStatus:
    """Who leads here is seen; else the catalog says who leads."""
    elsewhere = [
        InstanceStatus(
            name=each.name,
            node=each.node,
            host=each.host,
            port=each.port,
            pid=None,
            role=each.role,
            state=UNKNOWN,
            directory="",
        )
        for each in group.instances
        if each.node not in here
    ]
    leads_here = any((each.role, each.state) == ("leader", "running") for each in known.instances)
    leader = known.leader if leads_here or not elsewhere else group.leader.name
    instances = [*known.instances, *elsewhere]
    return msgspec.structs.replace(known, leader=leader, instances=instances, durability=group.durability)


async def _ask(node: ControlNode, tls: NodeTls) -> Welcome | NotLeading | None:
    """None: it does not answer."""
    try:
        async with asyncio.timeout(CATALOG_TIMEOUT_S):
            link, welcome = await open_link((node.name, node.host, node.port), tls, "status")
            await link.goodbye()
            link.close()
            await link.closed()
            return welcome
    except NotLeading as answer:
        return answer
    except (PgError, OSError, EOFError, TimeoutError, ProtocolViolation):
        return None


def _control_status(cluster: ClusterConfig, answers: Mapping[str, Welcome | NotLeading]) -> ControlStatus:
    states = {name: "leader" if isinstance(answer, Welcome) else "follower" for name, answer in answers.items()}
    return ControlStatus(
        leader=next((name for name, state in states.items() if state == "leader"), None),
        term=max((answer.term for answer in answers.values()), default=0),
        nodes=[
            ControlNodeStatus(name=each.name, host=each.host, port=each.port, state=states.get(each.name, "away"))
            for each in cluster.control
        ],
    )


async def with_replication(status: ClusterStatus, cluster: ClusterConfig, secrets: Secrets) -> ClusterStatus:
    """The status with what the leaders tell of their groups. One that does not answer within GROUP_STATE_S_MAX is left out."""
    replicated = {each.name for node in cluster.nodes for each in node.instances if each.peer_port}
    groups = await asyncio.gather(*(_told(group, replicated, cluster, secrets) for group in status.groups))
    return msgspec.structs.replace(status, groups=list(groups))


async def _told(group: GroupStatus, replicated: set[str], cluster: ClusterConfig, secrets: Secrets) -> GroupStatus:
    leader = next((each for each in group.instances if each.name == group.leader), None)
    if leader is None or leader.state not in ("running", UNKNOWN):
        return group
    if leader.name not in replicated and len(group.instances) == 1:
        return group
    access = Access(
        host=leader.host,
        port=leader.port,
        user=SYSTEM_ROLE,
        password=secrets.system_password,
        database=cluster.database,
    )
    try:
        async with asyncio.timeout(GROUP_STATE_S_MAX), access.connected() as connection:
            state = decode(await connection.fetchval(QUESTION))
    except (PgError, TimeoutError):
        return group
    instances = []
    for each in group.instances:
        found = state.member(each.name)
        instances.append(
            msgspec.structs.replace(
                each,
                state="running" if each.state == UNKNOWN and found.state in ("leads", "streaming") else each.state,
                replication=found.state,
                member=each.name in state.members,
                lag_bytes=found.lag_bytes,
                lag_s=found.lag_s,
            )
        )
    return msgspec.structs.replace(group, instances=instances, term=state.term, members=list(state.members), k=state.k)


def table_statuses(snapshot: Snapshot) -> list[TableStatus]:
    return [_table_status(relation) for relation in snapshot.relations if relation.kind in SHOWN_KINDS]


def _table_status(relation: Relation) -> TableStatus:
    shards = [
        ShardStatus(name=quote_qualified(shard.schema, shard.name), group=shard.group) for shard in relation.shards
    ]
    return TableStatus(
        name=quote_qualified(relation.schema, relation.name),
        kind=relation.kind.value,
        key=list(relation.key),
        shards=shards,
        group=relation.group if relation.kind is Kind.SINGLE else None,
    )


def _node_status(data_dir: Path, cluster: ClusterConfig, node: ClusterNode) -> NodeStatus:
    run = data_dir / node.name / "run"
    record = read_record(run, AGENT)
    alive = find_process(record) is not None
    workspaces = [instance for instance in node.instances if instance.group == WORKSPACE_PLACE]
    return NodeStatus(
        name=node.name,
        host=cluster.host,
        gateway_port=node.gateway_port,
        http_port=node.http_port,
        pid=record.pid if record is not None and alive else None,
        state=_state(record.state, alive) if record is not None else "stopped",
        note=record.note if record is not None else "",
        workspace=_instance_status(data_dir, cluster, node, workspaces[0]) if workspaces else None,
    )


def _state(recorded: str, alive: bool) -> str:
    if alive:
        return "running" if recorded == "ready" else recorded
    return "failed" if recorded == "failed" else "stopped"


def _gateway_status(data_dir: Path, cluster: ClusterConfig, node: ClusterNode, worker: int) -> GatewayStatus:
    record = living(data_dir / node.name / "run", worker_name(worker))
    return GatewayStatus(
        node=node.name,
        worker=worker,
        host=cluster.host,
        port=node.gateway_port,
        pid=None if record is None else record.pid,
        state="stopped" if record is None else _state(record.state, True),
    )


def _group_statuses(data_dir: Path, cluster: ClusterConfig) -> list[GroupStatus]:
    members: dict[str, list[InstanceStatus]] = {}
    for node in cluster.nodes:
        for instance in node.instances:
            if instance.group != WORKSPACE_PLACE:
                found = _instance_status(data_dir, cluster, node, instance)
                members.setdefault(instance.group, []).append(found)
    ordered = sorted(members.items(), key=lambda item: (len(item[0]), item[0]))
    return [GroupStatus(name=name, leader=_leader(found), instances=found) for name, found in ordered]


def _leader(instances: list[InstanceStatus]) -> str | None:
    """One that runs, before one that led when it ended."""
    leaders = sorted((each.state != "running", each.name) for each in instances if each.role == "leader")
    return leaders[0][1] if leaders else None


def _instance_status(
    data_dir: Path, cluster: ClusterConfig, node: ClusterNode, instance: InstanceConfig
) -> InstanceStatus:
    directory = (data_dir / node.name / instance.group).resolve()
    process = find_postmaster(directory)
    file = read_pid_file(directory)
    return InstanceStatus(
        name=instance.name,
        node=node.name,
        host=cluster.host,
        port=instance.port,
        pid=None if process is None else process.pid,
        role="follower" if (directory / STANDBY_SIGNAL).exists() else "leader",
        state="stopped" if process is None else _server_state("" if file is None else file.status),
        directory=str(directory),
    )


def _server_state(status: str) -> str:
    return {"ready": "running", "stopping": "stopping"}.get(status, "starting")
