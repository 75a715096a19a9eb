"""The two handshakes, against each other and against input that no good client or server sends."""

from __future__ import annotations

import pytest

from hanse.core.errors import PgError
from hanse.pgwire import backend, frontend
from hanse.pgwire.framing import Framer
from hanse.pgwire.primitives import frame
from hanse.pgwire.scram import MECHANISM, make_verifier
from hanse.pgwire.startup import (
    Authenticated,
    CancelRequested,
    ClientHandshake,
    NeedVerifier,
    Password,
    Ready,
    Refused,
    ScramKeys,
    ServerHandshake,
    StartTls,
    parse_options,
    startup_settings,
)

VERIFIER = make_verifier("pencil", b"salt", 16)
STARTUP = frontend.startup({"user": "joe", "database": "db", "application_name": "x"})


def fixed(count: int) -> bytes:
    return b"n" * count


def new_server(*, tls: bool = False) -> ServerHandshake:
    return ServerHandshake(random_bytes=fixed, mock_secret=b"m", tls=tls)


def new_client(credentials: Password | ScramKeys | None = None, **more: object) -> ClientHandshake:
    return ClientHandshake(user="joe", database="db", credentials=credentials, random_bytes=fixed, **more)  # type: ignore[arg-type]


def sent_errors(data: bytes) -> list[PgError]:
    framer = Framer()
    return [backend.parse_error(m.raw) for m in framer.feed_all(data) if m.kind == backend.ERROR_RESPONSE]


def converse(client: ClientHandshake, server: ServerHandshake, verifier: str | None = VERIFIER) -> Authenticated:
    """Moves bytes to and fro until the server is content; the client gets AuthenticationOk."""
    while True:
        for event in server.receive(client.data_to_send()):
            if isinstance(event, NeedVerifier):
                assert (event.user, event.database) == ("joe", "db")
                server.provide_verifier(verifier)
            elif isinstance(event, Refused):
                raise event.error
            elif isinstance(event, Authenticated):
                client.receive(server.data_to_send())
                return event
        client.receive(server.data_to_send())


def test_login() -> None:
    client, server = new_client(Password("pencil")), new_server()
    done = converse(client, server)
    assert (done.user, done.database, dict(done.parameters)) == ("joe", "db", {})
    keys = ScramKeys(done.client_key, done.server_key)
    assert converse(new_client(keys), new_server()).client_key == done.client_key
    ending = backend.parameter_status("a", "b") + backend.backend_key_data(5, 6) + backend.ready_for_query(b"I")
    assert client.receive(ending + b"behind") == Ready({"a": "b"}, 5, 6)
    assert client.trailing_data == b"behind"


def test_wrong_password_is_told_as_postgresql_does() -> None:
    for verifier in (VERIFIER, None):
        with pytest.raises(PgError) as caught:
            converse(new_client(Password("wrong")), new_server(), verifier)
        assert caught.value.sqlstate == "28P01"


def test_secrets_are_not_shown() -> None:
    done = converse(new_client(Password("pencil")), new_server())
    for value in (done, Password("pencil"), ScramKeys(b"key"), CancelRequested(1, 4242), Ready({}, 1, 4242)):
        assert not any(secret in repr(value) for secret in ("pencil", "key=", "4242"))


# --- the server's side -------------------------------------------------------------------------------------------


def test_ssl_and_gss_requests_are_declined_once_each() -> None:
    server = new_server()
    assert server.receive(frontend.ssl_request()) == []
    assert server.receive(frontend.gss_request()) == []
    assert server.data_to_send() == b"NN"
    (refused,) = server.receive(frontend.ssl_request())
    assert isinstance(refused, Refused)
    assert refused.error.message == "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.0"


def test_tls() -> None:
    server = new_server(tls=True)
    assert server.receive(frontend.ssl_request()) == [StartTls()]
    assert server.data_to_send() == b"S"
    assert server.tls_started(b"h" * 32) == []
    client = new_client(Password("pencil"), certificate_hash=b"h" * 32)
    assert b"p=tls-server-end-point" in converse_recording(client, server)


def converse_recording(client: ClientHandshake, server: ServerHandshake) -> bytes:
    """All that the client sent until it was let in."""
    sent = b""
    while True:
        data = client.data_to_send()
        sent += data
        events = server.receive(data)
        if any(isinstance(event, NeedVerifier) for event in events):
            server.provide_verifier(VERIFIER)
        client.receive(server.data_to_send())
        if any(isinstance(event, Authenticated) for event in events):
            return sent


def test_bytes_injected_before_tls_are_refused() -> None:
    server = new_server(tls=True)
    (refused,) = server.receive(frontend.ssl_request() + STARTUP)
    assert isinstance(refused, Refused)
    (error,) = sent_errors(server.data_to_send())
    assert (error.message, error.severity) == ("received unencrypted data after SSL request", "FATAL")


def test_cancel_request() -> None:
    server = new_server()
    assert server.receive(frontend.cancel_request(7, 2**32 - 1)) == [CancelRequested(7, 2**32 - 1)]
    assert server.data_to_send() == b""
    assert server.receive(STARTUP) == []  # nothing more is heard


@pytest.mark.parametrize(
    "packet",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\7",
        b"\0\0\x27\x15" + bytes(10),
        b"\0\0\0\x0c\x04\xd2\x16\x2e" + bytes(4),
    ],
)
def test_what_is_no_startup_packet_gets_no_answer(packet: bytes) -> None:
    server = new_server()
    (refused,) = server.receive(packet)
    assert isinstance(refused, Refused) and refused.error.message == "invalid length of startup packet"
    assert server.data_to_send() == b""


def packet(body: bytes, version: int = 3 << 16) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + version.to_bytes(4, "big") + body


NO_TERMINATOR = ("08P01", "invalid startup packet layout: expected terminator as last byte")
BAD_PACKETS = [
    (packet(b"\0"), ("28000", "no PostgreSQL user name specified in startup packet")),
    (packet(b"user\0\0\0"), ("28000", "no PostgreSQL user name specified in startup packet")),
    (packet(b"user\0joe\0"), NO_TERMINATOR),
    (packet(b"user\0joe"), NO_TERMINATOR),
    (packet(b"user"), NO_TERMINATOR),
    (packet(b""), NO_TERMINATOR),
    (packet(b"user\0joe\0\0x"), NO_TERMINATOR),
    (packet(b"\0", 4 << 16), ("0A000", "unsupported frontend protocol 4.0: server supports 3.0 to 3.0")),
    (packet(b"user\0joe\0replication\0maybe\0\0"), ("22023", 'invalid value for parameter "replication": "maybe"')),
    (packet(b"user\0joe\0replication\0database\0\0"), ("0A000", "replication connections are not supported")),
    (packet(b"user\0joe\0replication\0TR\0\0"), ("0A000", "replication connections are not supported")),
]


@pytest.mark.parametrize(("data", "expected"), BAD_PACKETS)
def test_bad_startup_packets(data: bytes, expected: tuple[str, str]) -> None:
    server = new_server()
    (refused,) = server.receive(data)
    (error,) = sent_errors(server.data_to_send())
    assert isinstance(refused, Refused)
    assert (error.sqlstate, error.message) == (refused.error.sqlstate, refused.error.message) == expected
    assert error.severity == "FATAL"


def test_protocol_2_is_refused_in_protocol_2() -> None:
    server = new_server()
    (refused,) = server.receive(packet(b"\0" * 288, 2 << 16))
    assert isinstance(refused, Refused) and refused.error.sqlstate == "0A000"
    expected = b"EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.0\n\0"
    assert server.data_to_send() == expected


def test_database_defaults_to_the_user_and_names_are_cut() -> None:
    (event,) = new_server().receive(frontend.startup({"user": "ü" * 40, "replication": "off"}))
    assert isinstance(event, NeedVerifier)
    assert event.user == event.database == "ü" * 31 + "\udcc3"  # 63 bytes, as PostgreSQL 16 cuts


def test_the_last_of_equal_parameters_counts() -> None:
    (event,) = new_server().receive(packet(b"user\0a\0x\x001\0user\0joe\0x\x002\0\0"))
    assert isinstance(event, NeedVerifier)
    assert (event.user, dict(event.parameters)) == ("joe", {"x": "2"})


def test_newer_minor_version_and_unknown_options_are_negotiated() -> None:
    server = new_server()
    parameters = {"user": "joe", "_pq_.shiny": "1", "x": "y"}
    (event,) = server.receive(frontend.startup(parameters, protocol=3 << 16 | 2))
    assert isinstance(event, NeedVerifier) and dict(event.parameters) == {"x": "y"}
    assert server.data_to_send() == backend.negotiate_protocol_version(3 << 16, ["_pq_.shiny"])


def test_refuse() -> None:
    server = new_server()
    server.receive(STARTUP)
    server.data_to_send()
    (event,) = server.refuse(PgError("53300", "sorry, too many clients already", fields={"R": "x"}))
    (error,) = sent_errors(server.data_to_send())
    assert isinstance(event, Refused)
    assert (error.sqlstate, error.severity, error.fields) == ("53300", "FATAL", {"R": "x"})
    assert server.refuse(PgError("XX000", "again")) == []
    assert server.provide_verifier(VERIFIER) == []  # the driver's lookup ends later
    assert server.data_to_send() == b""


def test_nobody_may_make_us_hold_much_before_authentication() -> None:
    server = new_server()
    server.receive(STARTUP)
    (refused,) = server.receive(bytes(70_000))
    assert isinstance(refused, Refused)
    assert server.provide_verifier(VERIFIER) == []


def at_sasl() -> ServerHandshake:
    server = new_server()
    server.receive(STARTUP)
    server.provide_verifier(VERIFIER)
    assert server.data_to_send() == backend.authentication_sasl([MECHANISM])
    return server


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Q", "expected SASL response, got message type 81"),
        (b"p\0\1\0\0", "invalid message length"),
        (b"p\0\0\0\3", "invalid message length"),
        (frontend.password(b"pencil"), "client selected an invalid SASL authentication mechanism"),
        (
            frontend.sasl_initial_response(MECHANISM + "-PLUS", b""),
            "client selected an invalid SASL authentication mech",
        ),
        (frame(b"p", b"x"), "invalid string in message"),
        (frame(b"p", b"x\0\0"), "insufficient data left in message"),
        (frontend.sasl_initial_response(MECHANISM, b""), "malformed SCRAM message"),
    ],
)
def test_sasl_violations(data: bytes, words: str) -> None:
    server = at_sasl()
    if data == frontend.password(b"pencil"):
        data = frame(b"p", b"pencil\0\xff\xff\xff\xff")
    (refused,) = server.receive(data)
    (error,) = sent_errors(server.data_to_send())
    assert isinstance(refused, Refused) and error.message.startswith(words)
    assert (error.sqlstate, error.severity) == ("08P01", "FATAL")


def test_the_initial_response_may_come_by_itself() -> None:
    server = at_sasl()
    assert server.receive(frontend.sasl_initial_response(MECHANISM, None)) == []
    assert server.data_to_send() == backend.authentication_sasl_continue(b"")
    assert server.receive(frontend.sasl_response(b"n,,n=,r=abc")) == []
    assert server.data_to_send().startswith(b"R")


def test_what_comes_behind_the_login_is_kept() -> None:
    client, server = new_client(Password("pencil")), new_server()
    converse_until_final(client, server)
    (done,) = server.receive(client.data_to_send() + b"early")
    assert isinstance(done, Authenticated)
    assert server.receive(b" bird") == []
    assert server.trailing_data == b"early bird"


def converse_until_final(client: ClientHandshake, server: ServerHandshake) -> None:
    server.receive(client.data_to_send())
    server.provide_verifier(VERIFIER)
    client.receive(server.data_to_send())
    server.receive(client.data_to_send())
    client.receive(server.data_to_send())


# --- the client's side -------------------------------------------------------------------------------------------

SASL = backend.authentication_sasl([MECHANISM])
OK = backend.authentication_ok()


def test_trust_and_notices() -> None:
    client = new_client(parameters={"application_name": "gateway"})
    assert client.data_to_send() == frontend.startup({"user": "joe", "database": "db", "application_name": "gateway"})
    notice = backend.notice_response(PgError("01000", "hello", severity="WARNING"))
    negotiation = backend.negotiate_protocol_version(3 << 16, [])
    ready = client.receive(negotiation + OK + notice + backend.backend_key_data(1, 2) + backend.ready_for_query(b"I"))
    assert ready == Ready({}, 1, 2, (notice,))


def test_the_servers_error_comes_whole() -> None:
    error = PgError("3D000", 'database "db" does not exist', severity="FATAL", fields={"R": "InitPostgres"})
    with pytest.raises(PgError) as caught:
        new_client().receive(OK + backend.error_response(error))
    assert (caught.value.sqlstate, caught.value.severity, caught.value.fields) == ("3D000", "FATAL", error.fields)


def test_an_error_in_the_old_form() -> None:
    client = new_client()
    assert client.receive(b"Ecould not fork new process") is None
    with pytest.raises(PgError, match="could not fork new process for connection"):
        client.receive(b" for connection: x\n\0")
    with pytest.raises(PgError):
        new_client().receive(b"E" + b"x" * 40_000)


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "cleartext password"), (5, "md5 password"), (7, "GSSAPI"), (9, "SSPI"), (99, "authentication method 99")],
)
def test_other_methods_are_refused(code: int, words: str) -> None:
    with pytest.raises(PgError, match=words) as caught:
        new_client(Password("pencil")).receive(frame(b"R", code.to_bytes(4, "big") + b"salt"))
    assert caught.value.sqlstate == "28000"


@pytest.mark.parametrize(
    "data",
    [
        SASL + OK,  # never proved that it knows us
        SASL + SASL,
        SASL + backend.authentication_sasl_final(b"v=AAAA"),
        backend.authentication_sasl_continue(b"r=x"),
        backend.authentication_sasl_final(b"v=x"),
        OK + OK,
        OK + SASL,
        frame(b"R", b"\0\0\0\0x"),
        backend.ready_for_query(b"I"),
        backend.parameter_status("a", "b"),
        OK + backend.data_row([]),
        b"R\0\0\0\0",
    ],
)
def test_a_server_out_of_order_is_refused(data: bytes) -> None:
    with pytest.raises(PgError) as caught:
        new_client(Password("pencil")).receive(data)
    assert caught.value.sqlstate == "08P01"


def test_no_password_known() -> None:
    with pytest.raises(PgError, match="the server asks for a password, and none is known"):
        new_client(None).receive(SASL)


# --- options -----------------------------------------------------------------------------------------------------

OPTIONS = {
    "": (),
    "  ": (),
    "-c a=b": (("a", "b"),),
    "-ca=b": (("a", "b"),),
    "--work-mem=1MB": (("work_mem", "1MB"),),
    "-c search-path=a\\ b\\\\c": (("search_path", "a b\\c"),),
    "-c a= --b=x=y": (("a", ""), ("b", "x=y")),
    "\t-c\na=1\f-c  a=2 ": (("a", "1"), ("a", "2")),
    "-es": (("datestyle", "euro"), ("log_statement_stats", "true")),
    "-S 64 -fs -f h -tpl": (
        ("work_mem", "64"),
        ("enable_seqscan", "false"),
        ("enable_hashjoin", "false"),
        ("log_planner_stats", "true"),
    ),
    "-c a=b\\": (("a", "b"),),
    "-c a=b --": (("a", "b"),),
}


@pytest.mark.parametrize("text", OPTIONS)
def test_options(text: str) -> None:
    assert parse_options(text) == OPTIONS[text]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-c foo", "-c foo requires a value"),
        ("--foo", "--foo requires a value"),
        ("-c", "invalid command-line argument for server process: -c"),
        ("-q", "invalid command-line argument for server process: -q"),
        ("-fz", "invalid command-line argument for server process: -fz"),
        ("x", "invalid command-line argument for server process: x"),
        ("-", "invalid command-line argument for server process: -"),
        ("-- x", "invalid command-line argument for server process: x"),
    ],
)
def test_bad_options(text: str, words: str) -> None:
    with pytest.raises(PgError) as caught:
        parse_options(text)
    assert (caught.value.sqlstate, caught.value.severity, caught.value.message) == ("42601", "FATAL", words)


def test_parameters_win_over_options() -> None:
    parameters = {"work_mem": "2MB", "options": "-c work_mem=1MB -c geqo=off", "replication": "off"}
    assert startup_settings(parameters) == {"work_mem": "2MB", "geqo": "off"}
