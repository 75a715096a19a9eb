"""`hanse sql`: psql on the first gateway that answers."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import click

from ..core.errors import UserMistake
from .options import data_option

CONNECT_TIMEOUT_S = 2.0


@click.command("sql", context_settings={"ignore_unknown_options": True})
@data_option
@click.option("-c", "statements", metavar="SQL", multiple=True, help="Run this and exit; may be repeated.")
@click.argument("psql_arguments", nargs=-1, type=click.UNPROCESSED)
def command(data_dir: Path, statements: tuple[str, ...], psql_arguments: tuple[str, ...]) -> None:
    """Open a shell (psql) on the cluster.

    Further arguments go to psql: hanse sql -- -At -f script.sql
    """
    from ..agent.cluster_dir import load_existing
    from ..config import DEFAULT_USER

    cluster, secrets = load_existing(data_dir.absolute())
    program = find_psql(cluster.postgres_bindir, tls=cluster.tls == "require")
    port = _first_living(cluster.host, [node.gateway_port for node in cluster.nodes])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment["PGPASSWORD"] = secrets.user_password  # not an argument: those can be seen by every user
    arguments = ["-h", cluster.host, "-p", str(port), "-U", DEFAULT_USER, "-d", cluster.database]
    for statement in statements:
        arguments += ["-c", statement]
    os.execve(program, [program, *arguments, *psql_arguments], environment)


def _first_living(host: str, ports: list[int]) -> int:
    for port in ports:
        try:
            with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
                return port
        except OSError:
            continue
    raise UserMistake("no gateway answers: start the cluster with `hanse up`")


def find_psql(bindir: str | None, *, tls: bool = False) -> str:
    """The system's psql where it is new enough (its line editing fits the terminal), else the one beside the server.

    `tls`: it must be able to; the wheel's is not.
    """
    from ..engines.postgres.binaries import find_binaries

    binaries = find_binaries(bindir)
    beside = binaries.path("psql")
    installed = shutil.which("psql")
    found = [installed] if installed is not None else []
    if beside.exists():
        found.insert(int(installed is not None and _major(installed) >= binaries.major), str(beside))
    for program in found:
        if not tls or _speaks_tls(program):
            return program
    if found:
        raise UserMistake("this cluster takes TLS connections only, and psql here cannot make them: install another")
    raise UserMistake("psql is not installed here; connect with any PostgreSQL client to the DSN of `hanse status`")


def _speaks_tls(program: str) -> bool:
    """A psql without TLS says so before it looks at the address."""
    arguments = [program, "-X", "host=127.0.0.1 port=1 connect_timeout=1 sslmode=require", "-c", ""]
    return "not compiled in" not in subprocess.run(arguments, capture_output=True, text=True, check=False).stderr


def _major(program: str) -> int:
    result = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\(PostgreSQL\) (\d+)", result.stdout)
    return int(match[1]) if match else 0
