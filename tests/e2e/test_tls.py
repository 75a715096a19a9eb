"""TLS as clients meet it: the cluster's own certificate, a given one, negotiation in every way, and interference."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
from cryptography.hazmat.primitives import hashes
from msgspec.structs import replace

from hanse.agent.cluster_dir import load_existing
from hanse.agent.probe import gateways_answer
from hanse.pgwire import backend, frontend
from hanse.pgwire.framing import Framer
from support.certificates import der, make_certificate
from support.processes import free_ports, wait_until
from support.servers import PASSWORD, UP_TIMEOUT_S, Cluster, Server, binary, hanse

SSL_REQUEST = frontend.ssl_request()


@pytest.fixture
def ca(cluster: Cluster) -> Path:
    return cluster.data_directory / "tls" / "ca.crt"


def ask(server: Server, **options: object) -> bool:
    """Whether the connection that these options of libpq make is encrypted; it must answer."""
    with psycopg.connect(server.dsn_for(**options), autocommit=True) as connection:
        assert connection.execute("SELECT 42").fetchone() == (42,)
        return bool(connection.pgconn.ssl_in_use)


def refusal(server: Server, **options: object) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        ask(server, **options)
    return str(caught.value)


# --- clients ---------------------------------------------------------------------------------------------------------


def test_every_sslmode_of_libpq(cluster: Cluster, ca: Path) -> None:
    for gateway in cluster.gateways:
        assert not ask(gateway, sslmode="disable")
        for mode in ("prefer", "require"):
            assert ask(gateway, sslmode=mode)
        for mode in ("verify-ca", "verify-full"):
            for host in ("127.0.0.1", "localhost"):
                assert ask(gateway, sslmode=mode, sslrootcert=ca, host=host)


def test_verify_full_does_verify(cluster: Cluster, ca: Path, tmp_path: Path) -> None:
    other, _ = make_certificate(tmp_path)
    assert "certificate verify failed" in refusal(cluster.server, sslmode="verify-full", sslrootcert=other)
    mismatch = refusal(
        cluster.server, sslmode="verify-full", sslrootcert=ca, host="elsewhere.test", hostaddr="127.0.0.1"
    )
    assert 'does not match host name "elsewhere.test"' in mismatch


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_channel_binding_and_direct_negotiation(cluster: Cluster, ca: Path, version: str, negotiation: str) -> None:
    if negotiation == "direct" and psycopg.pq.version() < 170000:
        pytest.skip("this libpq cannot")
    options = {
        "sslmode": "verify-full",
        "sslrootcert": ca,
        "channel_binding": "require",
        "ssl_min_protocol_version": version,
        "ssl_max_protocol_version": version,
    }
    if negotiation == "direct":
        options["sslnegotiation"] = "direct"
    assert ask(cluster.server, **options)
    assert "password authentication failed" in refusal(cluster.server, **options, password="wrong")


def test_channel_binding_needs_tls(cluster: Cluster) -> None:
    assert "channel binding required" in refusal(cluster.server, sslmode="disable", channel_binding="require")


async def test_asyncpg(cluster: Cluster, ca: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["postgresql"])
    for options in ({"ssl": context}, {"ssl": context, "direct_tls": True}, {"ssl": "prefer"}, {"ssl": False}):
        connection = await asyncpg.connect(**cluster.server.url_parts, **options)
        try:
            assert await connection.fetchval("SELECT length($1::text)", "x" * 300_000) == 300_000
        finally:
            await connection.close()


def test_psql(cluster: Cluster, ca: Path) -> None:
    program = shutil.which("psql")
    if program is None:
        pytest.skip("no psql of the system; the wheel's knows no TLS")
    environment = {**cluster.server.environment, "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(ca)}
    done = subprocess.run(
        [program, "-XAtc", "SELECT 42", "-c", r"\conninfo"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0 and done.stdout.startswith("42\n"), done.stderr
    assert "SSL connection" in done.stdout or "TLS" in done.stdout


def test_cancel_over_tls(cluster: Cluster) -> None:
    with psycopg.connect(cluster.server.dsn_for(sslmode="require"), autocommit=True) as connection:
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_large_values_copy_and_a_slow_reader(cluster: Cluster) -> None:
    with psycopg.connect(cluster.server.dsn_for(sslmode="require"), autocommit=True) as connection:
        text = "é" * 5_000_000
        assert connection.execute("SELECT %s::text || 'x'", [text]).fetchone() == (text + "x",)
        connection.execute("CREATE TEMPORARY TABLE sink (n bigint, t text)")
        with connection.cursor().copy("COPY sink FROM STDIN") as copy:
            for i in range(20_000):
                copy.write_row((i, "x" * 100))
        assert connection.execute("SELECT count(*), sum(n) FROM sink").fetchone() == (20_000, 199_990_000)
        with connection.cursor(name="slow") as cursor, connection.transaction():
            cursor.itersize = 1000
            cursor.execute("SELECT n, t FROM sink ORDER BY n")
            assert [n for n, _ in cursor] == list(range(20_000))


def test_the_examples_of_the_guide(cluster: Cluster, tmp_path: Path) -> None:
    """Every block of sh and python in security.md runs, on this cluster's port and password."""
    page = (Path(__file__).parent.parent.parent / "docs" / "guide" / "security.md").read_text()
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "python", "python"]
    (tmp_path / "hanse-data").symlink_to(cluster.data_directory)
    for kind, text in blocks:
        text = text.replace("5432", str(cluster.server.port))
        text = text.replace("=secret", f"='{PASSWORD}'").replace('"secret"', repr(PASSWORD))
        if kind == "sh" and shutil.which("psql") is None:
            continue
        program = ["sh", "-ec"] if kind == "sh" else [sys.executable, "-c"]
        done = subprocess.run([*program, text], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and "1" in done.stdout, done.stderr


# --- interference ----------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(cluster: Cluster) -> Iterator[socket.socket]:
    with socket.create_connection((cluster.server.host, cluster.server.port), timeout=10) as connection:
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            data = connection.recv(1 << 16)
        except ConnectionResetError:
            return found
        if not data:
            return found
        found += data


def test_bytes_behind_the_ssl_request_end_the_connection(cluster: Cluster, raw: socket.socket) -> None:
    """CVE-2021-23214: what somebody between put there would be taken for the client's, sent inside TLS."""
    raw.sendall(SSL_REQUEST + frontend.startup({"user": "hanse", "database": "hanse"}))
    (error,) = [backend.parse_error(message.raw) for message in Framer().feed_all(until_closed(raw))]
    assert (error.severity, error.message) == ("FATAL", "received unencrypted data after SSL request")
    assert ask(cluster.server)


def test_plain_bytes_in_the_place_of_tls_end_the_connection(cluster: Cluster, raw: socket.socket) -> None:
    raw.sendall(SSL_REQUEST)
    assert raw.recv(1) == b"S"
    raw.sendall(frontend.startup({"user": "hanse", "database": "hanse"}))
    answer = until_closed(raw)
    assert not answer.startswith((b"R", b"E"))  # an alert of TLS at most
    assert ask(cluster.server)


def test_direct_tls_without_alpn_is_refused(raw: socket.socket) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(raw, suppress_ragged_eofs=True) as encrypted:
        (error,) = [backend.parse_error(message.raw) for message in Framer().feed_all(until_closed(encrypted))]
    assert error.message.startswith("received direct SSL connection request without ALPN")


def test_a_client_that_goes_in_the_middle_of_the_handshake(cluster: Cluster) -> None:
    for part in (SSL_REQUEST, SSL_REQUEST[:5], b"\x16\x03\x01", b"\x16\x03\x01\x00\x05hello"):
        with socket.create_connection((cluster.server.host, cluster.server.port), timeout=10) as connection:
            connection.sendall(part)
    assert ask(cluster.server, sslmode="require")


def test_another_certificate_in_between_is_noticed(cluster: Cluster, tmp_path: Path) -> None:
    """A relay with a certificate of its own, which the client does not check: channel binding still tells."""
    with Relay(cluster.server, make_certificate(tmp_path)) as relay:
        between = Server("127.0.0.1", relay.port, cluster.server.user, cluster.server.password, "hanse")
        assert ask(between, sslmode="require", channel_binding="disable")
        words = refusal(between, sslmode="require", channel_binding="prefer")
    assert "SCRAM channel binding check failed" in words


class Relay:
    """Speaks TLS with the client and with the gateway, and passes everything on."""

    def __init__(self, target: Server, files: tuple[Path, Path]) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.settimeout(10)
        assert client.recv(8) == SSL_REQUEST
        client.sendall(b"S")
        with socket.create_connection((self._target.host, self._target.port), timeout=10) as plain:
            plain.sendall(SSL_REQUEST)
            assert plain.recv(1) == b"S"
            with self._context.wrap_socket(client, True) as left, context.wrap_socket(plain) as right:
                back = threading.Thread(target=_copy, args=(right, left))
                back.start()
                _copy(left, right)
                back.join()


def _copy(source: ssl.SSLSocket, target: ssl.SSLSocket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        return


# --- `hanse up` ------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    _, other = make_certificate(tmp_path, "other")
    data = tmp_path / "data"
    for options, words in (
        (("--tls-cert", certificate, "--tls-key", other), f"{other} does not belong to the certificate {certificate}"),
        (("--tls-cert", key, "--tls-key", key), "holds no certificate in PEM form"),
        (("--tls", "perhaps"), "--tls must be off, on or require"),
    ):
        with pytest.raises(RuntimeError) as caught:
            hanse("up", "--data", str(data), "--port", str(free_ports(1)), *map(str, options))
        (sentence,) = str(caught.value).strip().splitlines()[2:]
        assert sentence.startswith("hanse: ") and words in sentence
        assert not data.exists()


@pytest.fixture
def strict(run_directory: Path, tmp_path: Path) -> Iterator[tuple[Server, tuple[Path, Path], str]]:
    """A cluster that demands TLS, with an RSA certificate that was given to it; its hash is not SHA-256."""
    files = make_certificate(tmp_path, key="rsa", digest=hashes.SHA512())
    directory, port = run_directory / f"strict-{uuid.uuid4().hex[:8]}", free_ports(1)
    data = str(directory / "data")
    directory.mkdir()
    given = ("--tls", "require", "--tls-cert", str(files[0]), "--tls-key", str(files[1]))
    shape = ("--port", str(port), "--nodes", "1", "--groups", "1", "--password", PASSWORD)
    try:
        hanse("up", "--detach", "--data", data, *shape, *given, timeout_s=UP_TIMEOUT_S)
        yield Server("127.0.0.1", port, "hanse", PASSWORD, "hanse"), files, data
    finally:
        hanse("down", "--data", data)
        shutil.rmtree(directory, ignore_errors=True)


def served(server: Server) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"])
    with socket.create_connection((server.host, server.port), timeout=10) as plain:
        with context.wrap_socket(plain) as encrypted:
            shown = encrypted.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def test_a_cluster_that_demands_tls(strict: tuple[Server, tuple[Path, Path], str], tmp_path: Path) -> None:
    server, (certificate, key), data = strict
    words = refusal(server, sslmode="disable")
    assert 'no pg_hba.conf entry for host "127.0.0.1", user "hanse", database "hanse", no encryption' in words
    assert ask(server, sslmode="allow")  # which begins without
    trusting = {"sslmode": "verify-full", "sslrootcert": certificate, "channel_binding": "require"}
    assert ask(server, **trusting)
    without_tls = {**server.environment, "PGSSLMODE": "disable"}
    done = subprocess.run([binary("psql"), "-c", "SELECT 1"], env=without_tls, capture_output=True, text=True)
    assert done.returncode == 2 and "no encryption" in done.stderr

    # The certificate is renewed: sessions go on, new ones see the new one. A broken one in between changes nothing.
    with psycopg.connect(server.dsn_for(**trusting), autocommit=True) as before:
        old, (new_certificate, new_key) = der(certificate), make_certificate(tmp_path, "renewed")
        new_key.replace(key)
        assert served(server) == old
        new_certificate.replace(certificate)
        wait_until("the new certificate", lambda: served(server) == der(certificate), timeout_s=20)
        assert der(certificate) != old
        assert before.execute("SELECT 1").fetchone() == (1,)
    assert ask(server, **trusting)
    check_the_right_to_connect(server)
    check_the_commands(data)


def check_the_right_to_connect(server: Server) -> None:
    """Here because it is taken from everybody: other tests share their cluster."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        assert ask(server, user="guest", password="guest")
        admin.execute("REVOKE CONNECT ON DATABASE hanse FROM PUBLIC")
        words = refusal(server, user="guest", password="guest")
        assert 'permission denied for database "hanse"' in words and "CONNECT privilege" in words
        admin.execute("GRANT CONNECT ON DATABASE hanse TO guest")
        assert ask(server, user="guest", password="guest")


def check_the_commands(data: str) -> None:
    """`hanse sql` finds a psql that can, or says that there is none; a changed password of user hanse stops no start."""
    if shutil.which("psql") is not None:
        assert "42" in hanse("sql", "--data", data, "-c", "SELECT 42")
    assert json.loads(hanse("status", "--data", data, "--json"))["state"] == "running"
    known, secrets = load_existing(Path(data))
    assert asyncio.run(gateways_answer(known, secrets)) is None
    assert asyncio.run(gateways_answer(known, replace(secrets, user_password="that of last year"))) is None


def test_the_keys_of_the_cluster_are_its_own(cluster: Cluster) -> None:
    directory = cluster.data_directory / "tls"
    for name in ("ca.key", "server.key"):
        assert (directory / name).stat().st_mode & 0o777 == 0o600
        secret = "".join((directory / name).read_text().splitlines()[1:-1])
        assert secret[:40] not in cluster.log_tail()
    assert "sslmode" not in cluster.status()["dsn"]  # any client's defaults will do
    assert json.loads((cluster.data_directory / "cluster.json").read_text())["tls"] == "on"
