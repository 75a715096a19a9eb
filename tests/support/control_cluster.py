"""A cluster of three nodes whose control plane is disturbed, and schema changes that go on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import psycopg

from hanse.agent.cluster_dir import load_existing
from hanse.agent.observe import observe_processes, with_catalog
from support.processes import free_ports, sweep, wait_until
from support.servers import Cluster, Server

HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]
BACK_S = 90.0  # for a cluster on a slow machine to be whole again
# What a schema change may meet when its leader, its gateway or a group's server dies; None: the connection broke.
TRUTHFUL = ("08000", "08001", "08003", "08006", "08007", "40001", "55P03", "57P01", "57P02", "57P03", None)


class Three(Cluster):
    """`options`: further ones of its first start."""

    def __init__(self, data: Path, port: int, *options: str) -> None:
        super().__init__(data, Server("127.0.0.1", port, "hanse", "secret", "hanse"))
        self.ports = [port, port + 1, port + 2]
        self._options = options

    def up(self) -> None:
        shape = [
            "--port",
            str(self.ports[0]),
            "--nodes",
            "3",
            "--groups",
            "1",
            "--replicas",
            "1",
            "--password",
            "secret",
        ]
        self.hanse("up", "--detach", *shape, *self._options, timeout_s=150)

    def hanse(self, command: str, *options: str, timeout_s: float = 90) -> None:
        subprocess.run([*HANSE, command, "--data", str(self.data_directory), *options], check=True, timeout=timeout_s)

    def connect(self, number: int) -> psycopg.Connection:
        return psycopg.connect(self.dsn, port=self.ports[number], autocommit=True, connect_timeout=20)

    def status(self) -> dict[str, Any]:
        """As `hanse status --json`, without a process for each question."""
        cluster, secrets = load_existing(self.data_directory)
        status = observe_processes(self.data_directory, cluster, secrets)
        found: dict[str, Any] = msgspec.to_builtins(asyncio.run(with_catalog(status, cluster)))
        return found

    def leader(self) -> str | None:
        found: str | None = self.status()["control"]["leader"]
        return found

    def agent(self, node: str) -> int:
        found: int = next(each["pid"] for each in self.status()["nodes"] if each["name"] == node)
        return found

    def is_whole(self) -> bool:
        status = self.status()
        states = [each["state"] for each in status["control"]["nodes"]]
        return sorted(states) == ["follower", "follower", "leader"] and status["state"] == "running"

    def pids_of(self, node: str) -> list[int]:
        status = self.status()
        found = [next(each for each in status["nodes"] if each["name"] == node)]
        found += [each["workspace"] for each in found]
        found += [each for each in status["gateways"] if each["node"] == node]
        found += [each for group in status["groups"] for each in group["instances"] if each["node"] == node]
        return [each["pid"] for each in found if each["pid"] is not None]


@contextlib.contextmanager
def running_three(run_directory: Path, *options: str) -> Iterator[Three]:
    directory = run_directory / f"control-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    cluster = Three(directory / "data", free_ports(3), *options)
    try:
        cluster.up()
        yield cluster
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            cluster.hanse("down")
        sweep(directory)


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


class Changes:
    """One schema change after another, through one gateway after another."""

    def __init__(self, cluster: Three) -> None:
        self.cluster = cluster
        self.prefix = f"c{uuid.uuid4().hex[:6]}"
        self.made: list[str] = []  # acknowledged
        self.stop = threading.Event()
        self.wrong: list[psycopg.Error] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Changes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            table = f"{self.prefix}_{number}"
            try:
                with self.cluster.connect(number % 3) as connection:
                    connection.execute(f"CREATE TABLE {table} (a int)")  # type: ignore[call-overload]
                self.made.append(table)
            except psycopg.Error as error:
                if error.sqlstate not in TRUTHFUL:
                    self.wrong.append(error)
            self.stop.wait(0.4)

    def go_on(self) -> None:
        """Until two more are acknowledged, of which one began later."""
        before = len(self.made)
        wait_until("schema changes", lambda: len(self.made) >= before + 2, timeout_s=BACK_S)

    def check(self) -> None:
        """Every node shows what was acknowledged, and the workspace and the groups have it."""
        assert self.wrong == []
        assert self.made
        for number in range(3):
            assert self.are_known(number)
            with self.cluster.connect(number) as connection:
                rows = " UNION ALL ".join(f"SELECT a FROM {table}" for table in self.made)
                assert connection.execute(rows).fetchall() == []  # type: ignore[call-overload]
        wait_until("no branch is left prepared", self._nothing_prepared, timeout_s=BACK_S)

    def are_known(self, number: int) -> bool:
        """At that node's gateway."""
        query = f"SELECT relname FROM pg_class WHERE relname LIKE '{self.prefix}%'"
        with self.cluster.connect(number) as connection:
            return set(self.made) <= {row[0] for row in connection.execute(query)}  # type: ignore[call-overload]

    def _nothing_prepared(self) -> bool:
        with self.cluster.connect(0) as connection:
            return connection.execute("SELECT count(*) FROM hanse.transactions").fetchone() == (0,)
