"""The command line as a person uses it, on a cluster of a test's own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg

from support.processes import free_ports, wait_until

STAND_IN = Path(__file__).parent / "stand_in"
HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]


def environment() -> dict[str, str]:
    """HANSE_TEST_STAND_IN=1 puts a relay in the gateway's place: for work on processes while the gateway is broken."""
    if importlib.util.find_spec("hanse.gateway.server") is not None and not os.environ.get("HANSE_TEST_STAND_IN"):
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": str(STAND_IN)}


class LocalCluster:
    """A data directory and the commands on it. `nodes`, `groups`: as small as the test allows."""

    def __init__(self, data: Path, *, nodes: int = 1, groups: int = 1) -> None:
        self.data = data
        self.nodes = nodes
        self.port = free_ports(nodes)
        self.shape = ("--nodes", str(nodes), "--groups", str(groups), "--port", str(self.port))

    def run(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [*HANSE, arguments[0], "--data", str(self.data), *arguments[1:]]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=100, check=False, env=environment(), **more
        )

    def up(self, *options: str) -> None:
        done = self.run("up", "--detach", *self.shape, *options)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.logs()}"

    def foreground(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*HANSE, "up", "--data", str(self.data), *self.shape],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def refused(self, *arguments: str) -> str:
        """The one sentence of a command that is refused."""
        done = self.run(*arguments)
        assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        sentence = done.stderr.strip().splitlines()[-1]
        assert sentence.startswith("hanse: ")
        return sentence

    def down(self) -> None:
        done = self.run("down")
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def connect(self, node: int = 0) -> psycopg.Connection[Any]:
        password = json.loads((self.data / "secrets.json").read_text())["user_password"]
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port + node,
            user="hanse",
            password=password,
            dbname="hanse",
            connect_timeout=5,
            autocommit=True,
        )

    def ask(self, query: str, *, node: int = 0) -> Any:
        with self.connect(node) as connection:
            row = connection.execute(query).fetchone()
            assert row is not None
            return row[0]

    def tell(self, statement: str) -> None:
        with self.connect() as connection:
            connection.execute(statement)

    def answers(self) -> bool:
        try:
            return self.ask("SELECT 1") == 1
        except psycopg.Error:
            return False

    def wait_answers(self) -> None:
        wait_until("an answer", self.answers, timeout_s=20)

    def pids(self) -> dict[str, int]:
        """Of everything that runs: 'up', 'agent n1', 'gateway n1', 'g1.1', 'workspace n1'."""
        status = self.status()
        found: dict[str, int | None] = {"up": supervisor_pid(self.data)}
        for node in status["nodes"]:
            found[f"agent {node['name']}"] = node["pid"]
            found[f"workspace {node['name']}"] = node["workspace"]["pid"]
        found |= {f"gateway {each['node']}": each["pid"] for each in status["gateways"]}
        found |= {each["name"]: each["pid"] for group in status["groups"] for each in group["instances"]}
        return {name: pid for name, pid in found.items() if pid is not None}

    def processes(self) -> list[psutil.Process]:
        """Every process that has to do with the data directory, Hanse's and PostgreSQL's."""
        return [process for process in psutil.process_iter() if _belongs(process, str(self.data.resolve()))]

    def logs(self) -> str:
        parts = [f"--- {path}\n{path.read_text(errors='replace')[-4000:]}" for path in self.data.rglob("*.log")]
        return "\n".join(parts)


def supervisor_pid(data: Path) -> int | None:
    try:
        return int(json.loads((data / "run" / "up.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def _belongs(process: psutil.Process, data: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return process.status() != psutil.STATUS_ZOMBIE and (
            any(data in word for word in process.cmdline()) or process.cwd().startswith(data)
        )
    except (psutil.Error, OSError):
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def changed(read: Callable[[], dict[str, int]], name: str, old: int) -> Callable[[], bool]:
    """A condition: the process of this name has another pid now."""
    return lambda: read().get(name, old) != old
