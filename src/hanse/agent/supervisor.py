"""The supervisor of a local cluster: one agent process for each node, kept alive, ended in order.

It does nothing that an agent could do. When it is killed the cluster goes on, and the next `hanse up` adopts the
agents.
"""

from __future__ import annotations

import logging
import subprocess
import time
from pathlib import Path

import psutil

from ..config import CLUSTER_FILE, NodeConfig, load_cluster_config
from ..core.errors import UserMistake
from ..core.limits import AGENT_STOP_S, START_FAILURES_MAX
from .backoff import Backoff
from .children import end_all, is_alive, last_line, spawn
from .cluster_dir import AGENT, Prepared
from .presence import Record, find_process, forget_record, read_record
from .shutdown import end_nodes
from .topology import node_file

log = logging.getLogger(__name__)


class _Agent:
    """One agent process, ours or adopted."""

    def __init__(self, data_dir: Path, config: NodeConfig) -> None:
        self.name = config.name
        self.run = Path(config.data_dir) / "run"
        self.log_file = Path(config.data_dir) / "log" / "agent.log"
        self._config_file = node_file(data_dir, config.name)
        self.process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self.backoff = Backoff()
        self.next_start = 0.0

    def start(self) -> None:
        self.process = find_process(read_record(self.run, AGENT))
        self._child = None
        if self.process is None:
            forget_record(self.run, AGENT)
            self._child = spawn(("node", "--config", str(self._config_file)), self.log_file)
            self.process = psutil.Process(self._child.pid)
        self.backoff.started(time.monotonic())

    def is_alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return self.process is not None and is_alive(self.process)

    def record(self) -> Record | None:
        return read_record(self.run, AGENT)


class Supervisor:
    """`start`, then `poll` or `keep_up` again and again, then `stop`. Single-threaded; no method waits except `stop`."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._agents = [_Agent(prepared.data_dir, config) for config in prepared.configs]
        self._was_ready = False

    def start(self) -> None:
        for agent in self._agents:
            agent.start()

    def poll(self) -> dict[str, str]:
        """`keep_up`; what each node is doing: 'ready', or what it starts."""
        self.keep_up()
        return {agent.name: _describe(agent.record()) for agent in self._agents}

    def keep_up(self) -> None:
        """Restart what has ended.

        Raises UserMistake with the agent's words when one cannot start, unless the cluster was ready before.
        """
        for agent in list(self._agents):
            if not agent.is_alive():
                self._restart(agent)

    def note_ready(self) -> None:
        self._was_ready = True

    def _restart(self, agent: _Agent) -> None:
        now = time.monotonic()
        if agent.next_start == 0.0:
            if self._was_removed(agent):
                self._agents.remove(agent)
                return
            self._raise_failure(agent)
            pause = agent.backoff.ended(now)
            agent.next_start = now + pause
            log.warning("the agent of node %s has ended; next start in %.1f s", agent.name, pause)
        elif now >= agent.next_start:
            agent.next_start = 0.0
            agent.start()

    def _was_removed(self, agent: _Agent) -> bool:
        cluster = load_cluster_config(self._prepared.data_dir / CLUSTER_FILE)
        return all(node.name != agent.name for node in cluster.nodes)

    def _raise_failure(self, agent: _Agent) -> None:
        if self._was_ready:
            return
        record = agent.record()
        if record is not None and record.state == "failed":
            raise UserMistake(f"node {agent.name}: {record.note}")
        if agent.backoff.failures + 1 >= START_FAILURES_MAX:
            raise UserMistake(f"node {agent.name} ended: {last_line(agent.log_file)} (its log is {agent.log_file})")

    def stop(self) -> None:
        # An agent that has just been started has not written its record yet: nobody else could find it.
        end_all([agent.process for agent in self._agents if agent.process is not None], timeout_s=AGENT_STOP_S)
        end_nodes(self._prepared.data_dir, self._prepared.cluster)


def _describe(record: Record | None) -> str:
    if record is None:
        return "starting"
    return record.state if record.state != "starting" or not record.note else f"starting {record.note}"
