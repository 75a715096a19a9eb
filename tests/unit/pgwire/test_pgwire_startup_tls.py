"""The server's handshake where TLS is on, direct, demanded, or interfered with."""

from __future__ import annotations

import pytest

from hanse.core.errors import PgError
from hanse.pgwire import backend, frontend
from hanse.pgwire.framing import Framer
from hanse.pgwire.startup import CancelRequested, NeedVerifier, Refused, ServerHandshake, StartTls

STARTUP = frontend.startup({"user": "joe", "database": "db"})
HELLO = b"\x16\x03\x01\x02\x00\x01\x00"  # how a TLS ClientHello begins
INJECTED = "received unencrypted data after SSL request"


def new_server(**options: object) -> ServerHandshake:
    return ServerHandshake(random_bytes=lambda n: b"n" * n, mock_secret=b"m", **{"tls": True, **options})  # type: ignore[arg-type]


def only_error(server: ServerHandshake) -> PgError:
    (error,) = [backend.parse_error(m.raw) for m in Framer().feed_all(server.data_to_send())]
    return error


def login_begins(events: object) -> bool:
    return isinstance(events, list) and len(events) == 1 and isinstance(events[0], NeedVerifier)


@pytest.mark.parametrize("together", [True, False])
def test_bytes_that_come_around_tls_end_the_connection(together: bool) -> None:
    server = new_server()
    if together:
        events = server.receive(frontend.ssl_request() + STARTUP)
    else:
        assert server.receive(frontend.ssl_request()) == [StartTls()]
        assert server.data_to_send() == b"S"
        events = server.receive(STARTUP)
    (refused,) = events
    assert isinstance(refused, Refused) and refused.error.sqlstate == "08P01"
    assert only_error(server).message == INJECTED
    assert server.tls_started(b"h") == [] and server.receive(STARTUP) == []
    assert server.data_to_send() == b""


def test_a_cancel_request_inside_tls() -> None:
    server = new_server(tls_only_for="10.0.0.1")
    server.receive(frontend.ssl_request())
    server.tls_started(b"h")
    assert server.receive(frontend.cancel_request(7, 9)) == [CancelRequested(7, 9)]


def test_direct_tls() -> None:
    server = new_server(tls_only_for="10.0.0.1")
    assert server.receive(HELLO) == [StartTls(HELLO)]
    assert server.data_to_send() == b""  # nothing is said in the clear
    assert server.tls_started(b"h", "postgresql") == []
    assert login_begins(server.receive(STARTUP))


@pytest.mark.parametrize("alpn", [None, "http/1.1", "h2"])
def test_direct_tls_must_say_that_it_means_us(alpn: str | None) -> None:
    server = new_server()
    server.receive(HELLO)
    (refused,) = server.tls_started(b"h", alpn)
    assert isinstance(refused, Refused)
    assert only_error(server).message.startswith("received direct SSL connection request without ALPN")


def test_tls_after_an_ssl_request_needs_no_alpn() -> None:
    server = new_server()
    server.receive(frontend.ssl_request())
    server.tls_started(b"h", None)
    assert login_begins(server.receive(STARTUP))


def test_direct_tls_only_as_the_very_first_byte() -> None:
    server = new_server()
    server.receive(frontend.gss_request())
    assert server.data_to_send() == b"N"
    (refused,) = server.receive(HELLO + bytes(10))
    assert isinstance(refused, Refused)
    without = new_server(tls=False)
    (refused,) = without.receive(HELLO)
    assert isinstance(refused, Refused) and without.data_to_send() == b""


def test_no_second_tls_inside_tls() -> None:
    for begin, alpn in ((frontend.ssl_request(), None), (HELLO, "postgresql")):
        server = new_server()
        server.receive(begin)
        server.data_to_send()
        server.tls_started(b"h", alpn)
        (refused,) = server.receive(frontend.ssl_request())
        assert isinstance(refused, Refused) and "unsupported frontend protocol" in refused.error.message


def test_without_tls_where_it_is_demanded() -> None:
    for first in (b"", frontend.gss_request()):
        server = new_server(tls_only_for="10.0.0.1")
        server.receive(first)
        server.data_to_send()
        (refused,) = server.receive(STARTUP)
        assert isinstance(refused, Refused)
        error = only_error(server)
        assert (error.sqlstate, error.severity) == ("28000", "FATAL")
        assert error.message == ('no pg_hba.conf entry for host "10.0.0.1", user "joe", database "db", no encryption')
    cancelling = new_server(tls_only_for="10.0.0.1")
    assert cancelling.receive(frontend.cancel_request(1, 2)) == [CancelRequested(1, 2)]  # as PostgreSQL allows
