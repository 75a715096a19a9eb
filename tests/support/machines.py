"""Nodes on machines of their own: each has a data directory and a loopback address, and is started by `hanse node`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from click.testing import CliRunner, Result

from hanse.cli.main import main
from support.processes import free_ports, sweep, wait_until

WAIT_S = 120.0  # machines are slow where tests run
HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]


class Machine:
    def __init__(self, directory: Path, number: int) -> None:
        self.name = f"n{number}"
        self.data = directory / self.name
        self.host = f"127.0.0.{number}"
        self.port = free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None

    def hanse(self, command: str, *arguments: str) -> Result:
        return CliRunner().invoke(main, [command, *arguments, "--data", str(self.data)])

    def done(self, command: str, *arguments: str) -> str:
        result = self.hanse(command, *arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    def refused(self, command: str, *arguments: str) -> str:
        result = self.hanse(command, *arguments)
        assert result.exit_code == 2, (result.output, result.exception)
        return result.output.splitlines()[-1]

    @property
    def listen(self) -> tuple[str, str]:
        return "--listen", f"{self.host}:{self.port}"

    @property
    def files(self) -> dict[str, Any]:
        """What the node is started from, as its agent has it now."""
        found: dict[str, Any] = json.loads((self.data / self.name / "node.json").read_text())
        return found

    def start(self) -> None:
        """As a service manager would."""
        config = self.data / self.name / "node.json"
        with open(self.data / "node.log", "ab") as log:
            self.process = subprocess.Popen([*HANSE, "node", "--config", str(config)], stdout=log, stderr=log)
        wait_until(f"{self.name} serves", self.answers, timeout_s=WAIT_S)

    def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.data / "node.log").read_text()
        try:
            return self.ask("SELECT 1") == [(1,)]
        except psycopg.Error:
            return False

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=self.host,
            port=self.port,
            user="hanse",
            password="secret",
            dbname="hanse",
            autocommit=True,
            connect_timeout=60,
        ) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def can(self, sql: str) -> bool:
        """What takes too long on a slow machine, or meets a change of leaders, may be said again."""
        try:
            self.ask(sql)
        except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.OperationalError):
            return False
        return True

    def die(self) -> None:
        """The machine is gone, with everything on it."""
        sweep(self.data)
        assert self.process is not None
        self.process.wait(WAIT_S)


def join_words(member: Machine, *options: str) -> tuple[str, str]:
    """(address, token) of the command that `hanse token` prints."""
    words = member.done("token", *options).split()
    assert words[:2] == ["hanse", "join"]
    return words[2], words[words.index("--token") + 1]
