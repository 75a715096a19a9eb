"""Several gateways as clients and balancers see them: connection strings with several hosts, HTTP, HAProxy."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.processes import free_ports, wait_until
from support.servers import Cluster, Server, binary, hanse

HAPROXY = shutil.which("haproxy")
READ_WRITE = ("any", "read-write", "primary", "prefer-standby")
READ_ONLY = ("read-only", "standby")


def hosts(cluster: Cluster, *before: int, **more: str) -> str:
    """A connection string with all gateways, after ports where nobody listens."""
    ports = [*before, *(gateway.port for gateway in cluster.gateways)]
    return cluster.server.dsn_for(host=",".join("127.0.0.1" for _ in ports), port=",".join(map(str, ports)), **more)


def port_of(dsn: str) -> int:
    with psycopg.connect(dsn, connect_timeout=20) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        return connection.info.port


def test_a_host_where_nobody_listens_is_passed_over(cluster: Cluster) -> None:
    assert port_of(hosts(cluster, free_ports(1))) == cluster.gateways[0].port


def test_hosts_at_random(cluster: Cluster) -> None:
    dsn, wanted = hosts(cluster, load_balance_hosts="random"), {gateway.port for gateway in cluster.gateways}
    seen: set[int] = set()
    for _ in range(200):  # that one of two is not among so many has a probability of 1e-60
        seen.add(port_of(dsn))
        if seen == wanted:
            return
    raise AssertionError(seen)


@pytest.mark.parametrize("attributes", READ_WRITE + READ_ONLY)
def test_target_session_attrs(cluster: Cluster, attributes: str) -> None:
    dsn = hosts(cluster, target_session_attrs=attributes)
    if attributes in READ_WRITE:
        assert port_of(dsn) == cluster.gateways[0].port
    else:
        with pytest.raises(psycopg.OperationalError, match="hot standby|read-only"):
            port_of(dsn)


@pytest.mark.parametrize("attributes", READ_WRITE + READ_ONLY)
def test_target_session_attrs_of_psql(cluster: Cluster, attributes: str) -> None:
    dsn = hosts(cluster, target_session_attrs=attributes, load_balance_hosts="random")
    done = subprocess.run([binary("psql"), dsn, "-XAtc", "SELECT 42"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == ((0, "42\n") if attributes in READ_WRITE else (2, "")), done.stderr


@pytest.mark.parametrize("by", ["options", "role"])
def test_a_session_that_is_read_only_is_known_as_such(cluster: Cluster, by: str) -> None:
    role, settings = f"reader_{uuid.uuid4().hex[:8]}", {"options": "-c default_transaction_read_only=on"}
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")  # type: ignore[call-overload]
        if by == "role":
            connection.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")  # type: ignore[call-overload]
            settings = {}
    try:
        for attributes, fits in (("read-only", True), ("any", True), ("primary", True), ("read-write", False)):
            dsn = psycopg.conninfo.make_conninfo(
                hosts(cluster, target_session_attrs=attributes, **settings), user=role, password="x"
            )
            with contextlib.nullcontext() if fits else pytest.raises(psycopg.OperationalError, match="read-only"):
                assert port_of(dsn) == cluster.gateways[0].port
    finally:
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            connection.execute(f"DROP ROLE {role}")  # type: ignore[call-overload]


# --- HTTP --------------------------------------------------------------------------------------------------------


def get(port: int, path: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_endpoints_of_each_node(cluster: Cluster) -> None:
    status = cluster.status()
    for node in status["nodes"]:
        assert get(node["http_port"], "/health") == (200, {"node": node["name"], "state": "ready"})
        assert get(node["http_port"], "/ready")[0] == 200
        for group in status["groups"]:
            here = any(each["node"] == node["name"] for each in group["instances"])
            expected = (
                {"node": node["name"], "group": group["name"], "leader": True} if here else {"error": "Not Found"}
            )
            assert get(node["http_port"], f"/leader/{group['name']}") == (200 if here else 404, expected)


# --- HAProxy -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def haproxy(configuration: str, directory: Path) -> Iterator[Path]:
    """Runs it; gives its statistics socket."""
    assert HAPROXY is not None
    file, statistics = directory / "haproxy.cfg", directory / "statistics.cfg"
    file.write_text(configuration)
    statistics.write_text(f"global\n    stats socket {directory / 's'} mode 600\n")
    subprocess.run([HAPROXY, "-c", "-f", file, "-f", statistics], check=True, capture_output=True, timeout=60)
    process = subprocess.Popen([HAPROXY, "-db", "-f", file, "-f", statistics])
    try:
        yield directory / "s"
    finally:
        process.terminate()
        process.wait(30)


def states(statistics: Path) -> dict[str, str]:
    """UP or DOWN by server."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(statistics))
        connection.sendall(b"show stat\n")
        text = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line.startswith("hanse,")]
        return {row[1]: row[17] for row in rows}
    return {}


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (on Debian and Ubuntu: apt install haproxy)")
def test_haproxy_sends_clients_to_nodes_that_are_ready(cluster: Cluster, tmp_path: Path) -> None:
    port = free_ports(1)
    given = hanse(
        *("balancer-config", "haproxy", "--data", str(cluster.data_directory), "--listen", f"127.0.0.1:{port}")
    )
    second = cluster.status()["nodes"][1]["http_port"]
    through = Server(**{**cluster.server.url_parts, "port": port})
    for configuration, expected in (
        (given, {"n1": "UP", "n2": "UP"}),
        (given.replace(f"port {second}", f"port {free_ports(1)}"), {"n1": "UP", "n2": "DOWN"}),
    ):
        with haproxy(configuration, tmp_path) as statistics:
            wait_until("checks", lambda: expected.items() <= states(statistics).items(), timeout_s=60)  # noqa: B023
            for _ in range(4):
                with psycopg.connect(through.dsn_for(sslmode="require"), autocommit=True) as connection:
                    assert connection.execute("SELECT %s::int + 1", (41,)).fetchone() == (42,)
