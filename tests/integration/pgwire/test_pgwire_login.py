"""Logins to a real PostgreSQL with SCRAM, from our client; and of real clients, to our server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import asyncpg
import psycopg
import pytest

from hanse.core.errors import PgError
from hanse.pgwire import backend, frontend
from hanse.pgwire.framing import Framer
from hanse.pgwire.scram import ServerScram, make_verifier, parse_verifier
from hanse.pgwire.startup import (
    Authenticated,
    CancelRequested,
    ClientHandshake,
    NeedVerifier,
    Password,
    Ready,
    Refused,
    ScramKeys,
    ServerEvent,
    ServerHandshake,
    StartTls,
)
from support.servers import Server

PASSWORDS = [
    "plain",
    "with space '\\ quote",
    "\u2168 \u00aa\u00a0x",
    "ſ\u00adharp",
    "a\u200bb",
    "\u0627\u0031",
    "\u0221x",
]


@contextmanager
def role(server: Server, password: str) -> Iterator[str]:
    """A role whose password is set by this text: a password or a verifier."""
    name = f"pgwire_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(
            psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(psycopg.sql.Identifier(name), password)
        )
        try:
            yield name
        finally:
            admin.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(name)))


def stored_verifier(server: Server, name: str) -> str:
    with psycopg.connect(server.dsn) as admin:
        row = admin.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (name,)).fetchone()
        assert row is not None
        return str(row[0])


def log_in(
    server: Server,
    user: str,
    credentials: Password | ScramKeys | None,
    database: str | None = None,
    options: dict[str, str] | None = None,
) -> Ready:
    handshake = ClientHandshake(
        user=user,
        database=database or server.database,
        credentials=credentials,
        random_bytes=os.urandom,
        parameters=options,
    )
    with closing(socket.create_connection((server.host, server.port), 20)) as connection:
        while True:
            connection.sendall(handshake.data_to_send())
            data = connection.recv(65_536)
            assert data, "the server closed the connection"
            ready = handshake.receive(data)
            if ready is not None:
                connection.sendall(frontend.terminate())
                return ready


@pytest.mark.parametrize("password", PASSWORDS)
def test_passwords_that_postgresql_hashed(plain_postgres: Server, password: str) -> None:
    """Our SASLprep agrees with PostgreSQL's: same verifier for the same salt, and logins pass."""
    with role(plain_postgres, password) as name:
        theirs = parse_verifier(stored_verifier(plain_postgres, name))
        assert theirs is not None
        assert make_verifier(password, theirs.salt, theirs.iterations) == str(theirs)
        ready = log_in(plain_postgres, name, Password(password))
        assert ready.parameters["session_authorization"] == name
        assert ready.pid > 0


@pytest.mark.parametrize("password", PASSWORDS)
def test_our_verifier_is_accepted_literally(plain_postgres: Server, password: str) -> None:
    verifier = make_verifier(password)
    with role(plain_postgres, verifier) as name:
        assert stored_verifier(plain_postgres, name) == verifier
        log_in(plain_postgres, name, Password(password))
        with psycopg.connect(plain_postgres.dsn_for(user=name, password=password)) as theirs:  # libpq agrees
            assert theirs.execute("SELECT current_user").fetchone() == (name,)


def client_key(verifier: str, password: str) -> ScramKeys:
    """What a gateway learns when this client logs in to it."""
    ours = ServerHandshake(random_bytes=os.urandom, mock_secret=b"m")
    client = ClientHandshake(user="u", database="d", credentials=Password(password), random_bytes=os.urandom)
    while True:
        for event in ours.receive(client.data_to_send()):
            if isinstance(event, NeedVerifier):
                ours.provide_verifier(verifier)
            elif isinstance(event, Authenticated):
                return ScramKeys(event.client_key, event.server_key)
        client.receive(ours.data_to_send())


def test_login_by_the_client_key_alone(plain_postgres: Server) -> None:
    verifier = make_verifier("pencil")
    with role(plain_postgres, verifier) as name:
        keys = client_key(verifier, "pencil")
        assert log_in(plain_postgres, name, keys).parameters["session_authorization"] == name
        log_in(plain_postgres, name, ScramKeys(keys.client_key))
        with pytest.raises(PgError, match="incorrect server signature"):
            log_in(plain_postgres, name, ScramKeys(keys.client_key, bytes(32)))
        with pytest.raises(PgError, match=f'password authentication failed for user "{name}"'):
            log_in(plain_postgres, name, ScramKeys(bytes(32), keys.server_key))


def test_errors_of_the_server_come_whole(plain_postgres: Server) -> None:
    user = plain_postgres.user
    for name, credentials, database, expected in [
        (user, Password("wrong"), None, ("28P01", f'password authentication failed for user "{user}"')),
        ("pgwire_nobody", Password("x"), None, ("28P01", 'password authentication failed for user "pgwire_nobody"')),
        (user, Password(plain_postgres.password), "pgwire_no", ("3D000", 'database "pgwire_no" does not exist')),
    ]:
        with pytest.raises(PgError) as caught:
            log_in(plain_postgres, name, credentials, database)
        error = caught.value
        assert (error.sqlstate, error.message, error.severity) == (*expected, "FATAL")
        assert error.fields["R"]  # not one of ours


def test_our_own_refusal_of_a_wrong_password_equals_the_servers(plain_postgres: Server) -> None:
    with pytest.raises(PgError) as theirs:
        log_in(plain_postgres, plain_postgres.user, Password("wrong"))
    ours = ServerScram(user=plain_postgres.user, verifier=None, mock_secret=b"", nonce=b"n" * 18)
    ours.first("SCRAM-SHA-256", b"n,,n=,r=a")
    with pytest.raises(PgError) as caught:
        proof = b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
        ours.final(b"c=biws,r=a" + b"bm5u" * 6 + b",p=" + proof)
    for field in ("sqlstate", "message", "severity", "detail", "hint"):
        assert getattr(caught.value, field) == getattr(theirs.value, field)


def test_settings_in_the_startup_packet(plain_postgres: Server) -> None:
    options = {"options": "-c IntervalStyle=iso_8601 -c application_name=x", "application_name": "y"}
    ready = log_in(plain_postgres, plain_postgres.user, Password(plain_postgres.password), options=options)
    assert ready.parameters["IntervalStyle"] == "iso_8601"
    assert ready.parameters["application_name"] == "y"  # as packets.startup_settings decides, too


# --- real clients against our server -----------------------------------------------------------------------------


def tls_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def end_point_hash(certificate: Path) -> bytes:
    """RFC 5929: the hash function of the certificate's signature, here SHA-256, over its DER form."""
    text = certificate.read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])).digest()


class Desk(threading.Thread):
    """Serves logins, then answers every query by `SELECT 1`'s result, until it is closed."""

    def __init__(self, verifiers: dict[str, str], certificate: Path | None = None) -> None:
        super().__init__(daemon=True)
        self.certificate = certificate
        self.verifiers = verifiers
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.ends: list[ServerEvent] = []
        self.servers: list[threading.Thread] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(20)
            server = threading.Thread(target=self.serve_and_close, args=(connection,), daemon=True)
            self.servers.append(server)
            server.start()

    def serve_and_close(self, connection: socket.socket) -> None:
        with ExitStack() as stack:
            self.serve(stack.enter_context(connection), stack)

    def serve(self, connection: socket.socket, stack: ExitStack) -> None:
        handshake = ServerHandshake(random_bytes=os.urandom, mock_secret=b"m", tls=self.certificate is not None)
        while True:
            events = handshake.receive(connection.recv(65_536))
            for event in events:
                if isinstance(event, NeedVerifier):
                    events += handshake.provide_verifier(self.verifiers.get(event.user))
            connection.sendall(handshake.data_to_send())
            if StartTls() in events:
                assert self.certificate is not None
                context = tls_context(self.certificate)
                connection = stack.enter_context(context.wrap_socket(connection, server_side=True))
                assert handshake.tls_started(end_point_hash(self.certificate)) == []
            ends = [event for event in events if isinstance(event, Authenticated | Refused | CancelRequested)]
            if ends:
                self.ends += ends
                if isinstance(ends[0], Authenticated):
                    self.answer(connection, handshake.trailing_data)
                return

    def answer(self, connection: socket.socket, early: bytes) -> None:
        ready = backend.ready_for_query(b"I")
        greeting = [
            backend.parameter_status("server_version", "16.0"),
            backend.parameter_status("client_encoding", "UTF8"),
        ]
        connection.sendall(b"".join((*greeting, backend.backend_key_data(7, 4_000_000_000), ready)))
        row = backend.row_description([backend.Field("n", type_oid=23, type_size=4)]) + backend.data_row([b"1"])
        framer, data = Framer(), early
        while True:
            for message in framer.feed_all(data):
                if message.kind == frontend.TERMINATE:
                    return
                if message.kind == frontend.QUERY:
                    connection.sendall(row + backend.command_complete("SELECT 1") + ready)
            data = connection.recv(65_536)
            if not data:
                return


@contextmanager
def open_desk(certificate: Path | None = None) -> Iterator[Desk]:
    thread = Desk({"joe": make_verifier("pencil")}, certificate)
    thread.start()
    yield thread
    thread.listener.shutdown(socket.SHUT_RDWR)
    thread.listener.close()
    for each in (thread, *thread.servers):
        each.join(10)
        assert not each.is_alive()


@pytest.fixture
def desk() -> Iterator[Desk]:
    with open_desk() as thread:
        yield thread


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_libpq_binds_its_login_to_our_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-sha256", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    certificate.write_text(key.read_text() + certificate.read_text())
    with open_desk(certificate) as desk:
        place = f"host=127.0.0.1 port={desk.port} user=joe dbname=db sslmode=require"
        for binding in ("require", "disable"):
            dsn = f"{place} password=pencil channel_binding={binding}"
            with psycopg.connect(dsn, autocommit=True) as connection:
                assert connection.execute("SELECT 1").fetchall() == [(1,)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"{place} password=wrong channel_binding=require")


@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
def test_libpq_logs_in_to_us(desk: Desk, sslmode: str) -> None:
    dsn = f"host=127.0.0.1 port={desk.port} user=joe password=pencil dbname=db sslmode={sslmode}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
        assert connection.info.backend_pid == 7
        connection.cancel_safe(timeout=10)  # returns when the other side has closed
        assert desk.ends[-1] == CancelRequested(7, 4_000_000_000)


def test_libpq_is_told_of_a_wrong_password(desk: Desk) -> None:
    for user in ("joe", "nobody"):
        with pytest.raises(psycopg.OperationalError, match=f'FATAL:  password authentication failed for user "{user}"'):
            psycopg.connect(f"host=127.0.0.1 port={desk.port} user={user} password=x dbname=db")


def test_asyncpg_logs_in_to_us(desk: Desk) -> None:
    async def visit() -> str:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=desk.port, user="joe", password="pencil", database="db", ssl=False, timeout=20
        )
        try:
            return await connection.execute("SELECT 1")
        finally:
            await connection.close(timeout=10)

    assert asyncio.run(visit()) == "SELECT 1"
    (done,) = desk.ends
    assert isinstance(done, Authenticated) and (done.user, done.database) == ("joe", "db")
