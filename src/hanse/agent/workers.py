"""The gateway workers of a node, as parts that the agent keeps alive. Each is a process with a presence of its own."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from pathlib import Path

import psutil

from ..config import NodeConfig
from ..core.errors import UserMistake
from ..core.limits import GATEWAY_STOP_S
from .children import end_all, is_alive, last_line, spawn
from .presence import Record, find_process, forget_record, living, read_record

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 30.0  # for a new process to listen
POLL_S = 0.05


def worker_name(worker: int) -> str:
    return f"gateway-{worker}"


class GatewayPart:
    """One gateway worker. `start` returns when it listens; a living one is adopted. After `begin` its process makes itself
    ready beside what it needs, and waits for that.
    """

    def __init__(self, config: NodeConfig, config_file: Path, worker: int) -> None:
        self.name = worker_name(worker)
        self._config_file = config_file
        self._worker = worker
        self._run = Path(config.data_dir) / "run"
        self._log_file = Path(config.data_dir) / "log" / f"{self.name}.log"
        self._process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._begun = False

    def is_alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and is_alive(self._process)

    def begin(self) -> None:
        self._begun = True
        found = find_process(read_record(self._run, self.name))
        if found is not None:
            self._process, self._child = found, None
            log.info("adopted %s, process %d", self.name, found.pid)
        else:
            self._spawn()

    async def start(self) -> None:
        if not self._begun:
            self.begin()
        self._begun = False
        await self._wait_ready()

    def _spawn(self) -> None:
        forget_record(self._run, self.name)
        arguments = ("gateway-worker", "--config", str(self._config_file), "--worker", str(self._worker))
        self._child = spawn(arguments, self._log_file)
        self._process = psutil.Process(self._child.pid)
        log.info("started %s, process %d", self.name, self._child.pid)

    async def _wait_ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while True:
            record = read_record(self._run, self.name)
            if record is not None and record.state == "ready":
                return
            if not self.is_alive():
                raise self._explain_end()
            if asyncio.get_running_loop().time() > deadline:
                raise UserMistake(f"{self.name} does not listen (its log is {self._log_file})")
            await asyncio.sleep(POLL_S)

    def _explain_end(self) -> UserMistake:
        record = read_record(self._run, self.name)
        if record is not None and record.state == "failed":
            return UserMistake(record.note)
        return UserMistake(f"{self.name} ended: {last_line(self._log_file)} (its log is {self._log_file})")

    async def stop(self) -> None:
        process = self._process or find_process(read_record(self._run, self.name))
        if process is not None:
            await asyncio.to_thread(end_all, [process], timeout_s=GATEWAY_STOP_S)
            log.info("stopped %s", self.name)
        if self._child is not None:
            self._child.poll()
        forget_record(self._run, self.name)


def end_surplus(config: NodeConfig) -> None:
    """End gateway workers of an earlier start that this configuration does not have, or has on another port."""
    run = Path(config.data_dir) / "run"
    for name, record in living_workers(run):
        wanted = record.worker is not None and record.worker < config.gateway_workers
        if not (wanted and record.port == config.gateway_port and record.host == config.host):
            process = find_process(record)
            end_all([process] if process else [], timeout_s=GATEWAY_STOP_S)
            forget_record(run, name)


def living_workers(run_directory: Path) -> list[tuple[str, Record]]:
    """The gateway workers that run now, by name."""
    found = ((path.stem, living(run_directory, path.stem)) for path in sorted(run_directory.glob("gateway-*.json")))
    return [(name, record) for name, record in found if record is not None]
