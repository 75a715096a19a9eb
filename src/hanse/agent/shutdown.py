"""Ending a local cluster from outside: whatever of it is found running, in the order in which it would end itself."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from ..config import ClusterConfig
from ..core.limits import AGENT_STOP_S, GATEWAY_STOP_S
from ..engines.postgres.instance import STOP_TIMEOUT_S
from ..engines.postgres.postmaster import end_postmaster, find_postmaster
from .children import end_all
from .cluster_dir import AGENT, UP, instance_directories
from .presence import find_process, forget_record, read_record
from .workers import living_workers

SUPERVISOR_STOP_S = AGENT_STOP_S + 10.0


def end_cluster(data_dir: Path, cluster: ClusterConfig) -> int:
    """End everything, supervisor first, because it would start the rest again. How many processes were ended by us."""
    supervisor = _processes([data_dir / "run"], UP)
    end_all(supervisor, timeout_s=SUPERVISOR_STOP_S)
    forget_record(data_dir / "run", UP)
    return len(supervisor) + end_nodes(data_dir, cluster)


def end_nodes(data_dir: Path, cluster: ClusterConfig) -> int:
    """Agents end what is theirs; what they leave behind, or what had no agent any more, is ended here."""
    runs = [data_dir / node.name / "run" for node in cluster.nodes]
    agents = _processes(runs, AGENT)
    end_all(agents, timeout_s=AGENT_STOP_S)
    gateways = [process for run in runs for name, _ in living_workers(run) for process in _processes([run], name)]
    end_all(gateways, timeout_s=GATEWAY_STOP_S)
    servers = [found for path in instance_directories(data_dir, cluster) if (found := find_postmaster(path))]
    _end_servers(servers)
    for run in runs:
        for record in run.glob("*.json"):
            record.unlink(missing_ok=True)
    return len(agents) + len(gateways) + len(servers)


def _end_servers(servers: list[psutil.Process]) -> None:
    with ThreadPoolExecutor(max_workers=len(servers) or 1) as threads:
        for server in servers:
            threads.submit(end_postmaster, server, signal.SIGINT, timeout_s=STOP_TIMEOUT_S)


def _processes(runs: list[Path], name: str) -> list[psutil.Process]:
    return [process for run in runs if (process := find_process(read_record(run, name)))]
