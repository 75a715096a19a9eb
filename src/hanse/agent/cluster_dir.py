"""The data directory of a local cluster: made, checked, and prepared for a start.

Everything that can be refused is refused before anything is written. With `cluster.json` the cluster exists;
node.json files follow from it at every start. The whole is done under the lock `run/up.lock`, which the supervisor
keeps for as long as it lives.
"""

from __future__ import annotations

import os
import secrets as random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..config import (
    CLUSTER_FILE,
    SECRETS_FILE,
    UNREPLICATED_FORMAT,
    ClusterConfig,
    ClusterNode,
    NodeConfig,
    Secrets,
    load_cluster_config,
    load_node_config,
    load_secrets,
    save,
)
from ..consensus.etcd import address as etcd
from ..consensus.etcd import reach
from ..consensus.etcd.seen import read_seen
from ..core.errors import UserMistake
from ..engines.postgres.binaries import find_binaries
from ..engines.postgres.initdb import DISK_FREE_BYTES_MIN, check_disk
from ..engines.postgres.osuser import can_reach, choose_user, user_name
from ..engines.postgres.postmaster import find_postmaster
from ..engines.postgres.reach import make_socket_directory, state_directory
from ..pgwire.verifier import make_verifier
from . import certificates
from .ports import check_port, choose_free_ports, is_free
from .presence import AlreadyRunning, living, read_record, take_lock
from .topology import (
    DEFAULT_HOST,
    Request,
    change_cluster,
    check_request,
    node_configs,
    node_file,
    plan_cluster,
    replace_ports,
    with_control_heard,
    with_instances_of,
    with_replicated_control,
)
from .workers import living_workers

OWN_NAMES = (
    SECRETS_FILE,
    f".{SECRETS_FILE}.",
    f".{CLUSTER_FILE}.",
    "run",
    certificates.DIRECTORY,
)  # left where a first start was cut off
UP = "up"
AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A cluster that may be started. `lock` is the descriptor of the lock, which is ours."""

    data_dir: Path
    cluster: ClusterConfig
    secrets: Secrets
    configs: tuple[NodeConfig, ...]
    fresh: bool
    lock: int


def prepare(data_dir: Path, request: Request, *, ask_etcd: bool = True) -> Prepared:
    """Raises UserMistake; then nothing has changed, except that an empty directory may have been made.

    `ask_etcd`: where an etcd keeps the catalog, it must answer.
    """
    check_request(request)
    data_dir = data_dir.absolute()
    fresh = not cluster_exists(data_dir)
    if fresh:
        _check_new(data_dir, request)
        if request.control_plane is not None:
            reach.check(etcd.parse(request.control_plane), cluster="", seen=0)
        _make_directory(data_dir)
    check_owner(data_dir)
    lock = _lock(data_dir)
    try:
        return _prepare_locked(data_dir, request, lock, ask_etcd=ask_etcd)
    except BaseException:
        os.close(lock)
        raise


def _prepare_locked(data_dir: Path, request: Request, lock: int, *, ask_etcd: bool) -> Prepared:
    fresh = not cluster_exists(data_dir)
    cluster = _plan_new(data_dir, request) if fresh else _plan_existing(data_dir, request)
    secrets = _make_secrets(request) if fresh else _existing_secrets(data_dir, request)
    for node in cluster.nodes:
        make_open_directory(data_dir / node.name)
    configs = node_configs(cluster, data_dir, _socket_chooser(data_dir, cluster))
    _check_running(data_dir, configs)
    if ask_etcd and secrets.control_plane and not fresh:
        _check_etcd(cluster, configs, secrets)
    if fresh or secrets != load_secrets(data_dir / SECRETS_FILE):
        save(data_dir / SECRETS_FILE, secrets, mode=0o600)
    certificates.provide(cluster, data_dir)
    certificates.provide_for_nodes(cluster, data_dir)
    save(data_dir / CLUSTER_FILE, cluster)
    for config in configs:
        save(node_file(data_dir, config.name), config)
    return Prepared(data_dir, cluster, secrets, configs, fresh, lock)


def released(prepared: Prepared) -> ClusterConfig:
    """Of a cluster that is started by others."""
    os.close(prepared.lock)
    return prepared.cluster


def load_existing(data_dir: Path) -> tuple[ClusterConfig, Secrets]:
    """For commands that need a cluster. Raises UserMistake where there is none, or it is somebody else's."""
    if not cluster_exists(data_dir):
        raise UserMistake(f"there is no cluster in {data_dir}; `hanse up` makes one")
    check_owner(data_dir)
    cluster = with_control_heard(with_instances_of(load_cluster_config(data_dir / CLUSTER_FILE), data_dir), data_dir)
    return cluster, load_secrets(data_dir / SECRETS_FILE)


def cluster_exists(data_dir: Path) -> bool:
    try:
        return (data_dir / CLUSTER_FILE).exists()
    except PermissionError:
        raise UserMistake(f"{data_dir} may not be entered by user {user_name(os.geteuid())}") from None


def check_owner(data_dir: Path) -> None:
    """One user's cluster is not another's, not even root's: with files of two owners, neither could start it."""
    file = data_dir / CLUSTER_FILE
    try:
        owner = file.stat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid():
        raise UserMistake(
            f"the cluster in {data_dir} belongs to user {user_name(owner)}; run hanse as that user, "
            f"not as {user_name(os.geteuid())}"
        )


# --- a new cluster


def _check_new(data_dir: Path, request: Request) -> None:
    existing = check_new_directory(data_dir)
    find_binaries(request.postgres_bindir)
    draft = plan_cluster(request, cluster_id="", choose_ports=lambda count: [0] * count)
    option = "--port" if request.node is None else "--listen"  # of `hanse up`, of `hanse init`
    for node in draft.nodes:
        check_port(draft.host, node.gateway_port, f"the gateway of node {node.name}", option=option)
    check_disk(existing, DISK_FREE_BYTES_MIN * sum(len(node.instances) for node in draft.nodes))


def check_new_directory(data_dir: Path) -> Path:
    """The directory that exists already, in which the others are made. Raises UserMistake."""
    if cluster_exists(data_dir):
        raise UserMistake(f"there is a cluster in {data_dir} already")
    if data_dir.exists():
        _check_empty(data_dir)
    existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not existing.is_dir():
        raise UserMistake(f"{existing} is not a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserMistake(
            f"{existing} may not be written by user {user_name(os.geteuid())}; choose another with --data"
        )
    return existing


def _check_empty(data_dir: Path) -> None:
    try:
        foreign = sorted(name for name in os.listdir(data_dir) if not name.startswith(OWN_NAMES))
    except NotADirectoryError:
        raise UserMistake(f"{data_dir} is not a directory") from None
    except PermissionError:
        raise UserMistake(f"{data_dir} may not be entered by user {user_name(os.geteuid())}") from None
    foreign = [name for name in foreign if not _is_hollow(data_dir / name)]
    if foreign:
        raise UserMistake(f"{data_dir} holds other files ({foreign[0]}) and no cluster; choose another with --data")


def _is_hollow(path: Path) -> bool:
    """A directory that holds no file at any depth."""
    return path.is_dir() and all(inner.is_dir() for inner in path.rglob("*"))


def _make_directory(data_dir: Path) -> None:
    if not data_dir.exists():
        make_open_directory(data_dir)


def make_open_directory(path: Path) -> None:
    """0711 for root, whose PostgreSQL runs as another user and must pass through; 0700 for everybody else."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise UserMistake(f"directory {path} cannot be made: {error.strerror}") from None


def _plan_new(data_dir: Path, request: Request) -> ClusterConfig:
    host = request.host or DEFAULT_HOST
    cluster = plan_cluster(
        request, cluster_id=random.token_hex(5), choose_ports=lambda count: choose_free_ports(host, count)
    )
    return placed_for(data_dir, cluster, request)


def placed_for(data_dir: Path, cluster: ClusterConfig, request: Request) -> ClusterConfig:
    """With whoever runs PostgreSQL, and where that user can reach its data."""
    user = choose_user(request.postgres_user)
    reachable = user is None or can_reach(user, data_dir)
    return msgspec.structs.replace(
        cluster,
        postgres_bindir=request.postgres_bindir,
        postgres_user=None if user is None else user.name,
        elsewhere_dir=None if reachable else str(state_directory() / "data" / cluster.cluster_id),
    )


def _make_secrets(request: Request) -> Secrets:
    system_password = random.token_urlsafe(24)
    user_password = request.password or random.token_urlsafe(12)
    return Secrets(
        system_password=system_password,
        user_password=user_password,
        system_verifier=make_verifier(system_password),
        user_verifier=make_verifier(user_password),
        control_plane=request.control_plane or "",
    )


# --- a cluster that is there


def _plan_existing(data_dir: Path, request: Request) -> ClusterConfig:
    cluster = load_cluster_config(data_dir / CLUSTER_FILE)
    if cluster.format == UNREPLICATED_FORMAT:
        cluster = with_replicated_control(cluster, lambda count: choose_free_ports(cluster.host, count))
    cluster = change_cluster(with_control_heard(with_instances_of(cluster, data_dir), data_dir), request)
    if request.postgres_bindir is not None:
        cluster = msgspec.structs.replace(cluster, postgres_bindir=request.postgres_bindir)
    if request.postgres_user not in (None, cluster.postgres_user):
        raise UserMistake(
            f"the data of this cluster belong to user {cluster.postgres_user}, and that cannot be changed"
        )
    if request.password not in (None, load_secrets(data_dir / SECRETS_FILE).user_password):
        raise UserMistake("this cluster has another password, and --password cannot change it: use ALTER ROLE")
    choose_user(cluster.postgres_user)
    _check_versions(data_dir, cluster)
    _check_gateway_ports(data_dir, cluster)
    return _free_internal_ports(data_dir, cluster)


def _existing_secrets(data_dir: Path, request: Request) -> Secrets:
    """An etcd may be found elsewhere than before."""
    secrets = load_secrets(data_dir / SECRETS_FILE)
    if request.control_plane in (None, secrets.control_plane):
        return secrets
    if not secrets.control_plane:
        raise UserMistake(
            "this cluster's nodes have the control plane themselves, and --control-plane cannot change that"
        )
    return msgspec.structs.replace(secrets, control_plane=request.control_plane)


def _check_etcd(cluster: ClusterConfig, configs: tuple[NodeConfig, ...], secrets: Secrets) -> None:
    lengths = [read_seen(Path(each.control_dir)) for each in configs if each.control_dir is not None]
    reach.check(etcd.parse(secrets.control_plane), cluster=cluster.cluster_id, seen=max(lengths, default=0))


def _check_versions(data_dir: Path, cluster: ClusterConfig) -> None:
    binaries = find_binaries(cluster.postgres_bindir)
    for node in cluster.nodes:
        for instance in node.instances:
            try:
                found = (data_dir / node.name / instance.group / "PG_VERSION").read_text().strip()
            except OSError:
                continue  # not made yet; what else is wrong with it, the instance itself will say
            if found != str(binaries.major):
                raise UserMistake(
                    f"the data of instance {instance.name} belong to PostgreSQL {found}, "
                    f"and the server in {binaries.bindir} is PostgreSQL {binaries.version}"
                )


def _check_gateway_ports(data_dir: Path, cluster: ClusterConfig) -> None:
    for node in cluster.nodes:
        ours = {record.port for _, record in living_workers(data_dir / node.name / "run")}
        if node.gateway_port not in ours:
            check_port(cluster.host, node.gateway_port, f"the gateway of node {node.name}")


def _free_internal_ports(data_dir: Path, cluster: ClusterConfig) -> ClusterConfig:
    """Exchange the ports that somebody else has taken since the last start."""
    ports = [
        instance.port
        for node in cluster.nodes
        for instance in node.instances
        if find_postmaster((data_dir / node.name / instance.group).resolve()) is None
    ]
    for node in cluster.nodes:
        if living(data_dir / node.name / "run", AGENT) is None:
            ports += [port for port in (node.control_port, node.raft_port) if port]
            ports += [instance.peer_port for instance in node.instances if instance.peer_port]
            ports += [node.http_port] if node.http_port else []
    taken = [port for port in ports if not is_free(cluster.host, port)]
    known_elsewhere = {
        port for node in cluster.nodes if cluster.elsewhere for port in (node.control_port, node.raft_port)
    }
    if lost := sorted(known_elsewhere & set(taken)):
        raise UserMistake(f"port {lost[0]} on {cluster.host}, at which other nodes find the control plane, is taken")
    fresh = choose_free_ports(cluster.host, len(taken), avoid=ports)
    return replace_ports(cluster, dict(zip(taken, fresh, strict=True)))


def _check_running(data_dir: Path, configs: tuple[NodeConfig, ...]) -> None:
    for config in configs:
        if living(data_dir / config.name / "run", AGENT) is None:
            continue
        saved = load_node_config(node_file(data_dir, config.name))
        if _without_control(config) != _without_control(saved):
            raise UserMistake("this cluster still runs, with other settings: run `hanse down` first")


def _without_control(config: NodeConfig) -> NodeConfig:
    """Who is in the control plane changes while it runs."""
    return msgspec.structs.replace(config, control=(), founders=(), former_catalog=None)


# --- shared


def _lock(data_dir: Path) -> int:
    try:
        return take_lock(data_dir / "run", UP)
    except AlreadyRunning:
        record = read_record(data_dir / "run", UP)
        who = f" (process {record.pid})" if record is not None else ""
        raise UserMistake(f"the cluster in {data_dir} is running already{who}; `hanse down` stops it") from None
    except OSError as error:
        raise UserMistake(f"{data_dir} cannot be used: {error.strerror}") from None


def _socket_chooser(data_dir: Path, cluster: ClusterConfig) -> Callable[[ClusterNode], str | None]:
    user = choose_user(cluster.postgres_user)

    def choose(node: ClusterNode) -> str | None:
        candidates = [data_dir / node.name / "socket", Path("/tmp") / f"hanse-{cluster.cluster_id}-{node.name}"]
        chosen = make_socket_directory(candidates, user)
        return None if chosen is None else str(chosen)

    return choose


def instance_directories(data_dir: Path, cluster: ClusterConfig) -> list[Path]:
    """The real data directories of all instances, links followed."""
    return [(data_dir / node.name / instance.group).resolve() for node in cluster.nodes for instance in node.instances]
