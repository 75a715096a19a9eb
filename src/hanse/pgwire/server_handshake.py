"""A client logs in to us: from the first byte to AuthenticationOk, without I/O.

    handshake = ServerHandshake(random_bytes=os.urandom, mock_secret=secret)
    for event in handshake.receive(chunk):          # one or more events; then
        ...                                         # (a) act on them, see below
    transport.write(handshake.data_to_send())       # (b) write what is to be sent — always, and before TLS starts

================= ============================================================================================
event             what the driver does
================= ============================================================================================
`StartTls`        writes (b), starts TLS on the connection, beginning with the bytes `early` that have come already, then
                  calls `tls_started(certificate_hash, alpn)`
`NeedVerifier`    looks the role up, then calls `provide_verifier` or `refuse`, and handles *their* events
`CancelRequested` cancels if the secret fits, closes; a client is never told whether it did
`Authenticated`   writes (b), which ends with AuthenticationOk; then sends ParameterStatus, BackendKeyData,
                  ReadyForQuery, and feeds `trailing_data` to its framer
`Refused`         writes (b), which holds the error if PostgreSQL would tell it, and closes
================= ============================================================================================

    START --SSLRequest--> TLS --tls_started--> START        START --CancelRequest--> CLOSED        any --error--> CLOSED
    START --StartupMessage--> VERIFIER --provide_verifier--> SASL_INITIAL --> SASL_RESPONSE --> DONE

Bytes that came early are kept: while a verifier is looked up, up to a limit; after `Authenticated`, for the driver.
What came unencrypted behind an SSLRequest that we accept is refused, as PostgreSQL does (CVE-2021-23214); behind one
that we decline it is harmless and read on, where PostgreSQL closes.

TLS may also begin with the very first byte, without SSLRequest (PostgreSQL 17's sslnegotiation=direct). The client must
then say by ALPN that it means this protocol: its first bytes could be meant for another server (the ALPACA attack).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from hanse.core.errors import FatalError, PgError
from hanse.core.limits import AUTH_MESSAGE_BYTES_MAX, STARTUP_BYTES_MAX

from . import backend
from .framing import Message, take_message
from .frontend import CANCEL_CODE, GSS_CODE, PASSWORD, PROTOCOL_3_0, SSL_CODE, parse_sasl_initial_response
from .packets import StartupPacket, parse_startup
from .primitives import text_cstring, unpack_uint32
from .scram import NONCE_BYTES, ServerScram, parse_verifier
from .tls import ALPN

_TLS_HANDSHAKE = b"\x16"  # first byte of a TLS ClientHello; a startup packet's is zero, as its length is small


@dataclass(frozen=True, slots=True)
class StartTls:
    early: bytes = b""  # of the client's TLS handshake, where it came without an SSLRequest


@dataclass(frozen=True, slots=True)
class CancelRequested:
    pid: int
    secret: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class NeedVerifier:
    user: str
    database: str
    parameters: Mapping[str, str]  # `packets.startup_settings` makes settings of it


@dataclass(frozen=True, slots=True)
class Authenticated:
    user: str
    database: str
    parameters: Mapping[str, str]
    client_key: bytes = field(repr=False)  # logs in to every backend that has the same verifier: `scram.ScramKeys`
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    error: PgError


ServerEvent = StartTls | CancelRequested | NeedVerifier | Authenticated | Refused


class _State(Enum):
    START = auto()
    TLS = auto()  # the driver is starting it
    VERIFIER = auto()  # the driver is looking it up
    SASL_INITIAL = auto()
    SASL_FIRST = auto()  # the initial response was left out and comes by itself
    SASL_RESPONSE = auto()
    DONE = auto()
    CLOSED = auto()


class ServerHandshake:
    """See the module. `random_bytes(n)` must be fit for secrets; `mock_secret` is one of the whole cluster.

    `tls_only_for`: the client's address, where clients without TLS are refused; it is shown to them.
    """

    def __init__(
        self,
        *,
        random_bytes: Callable[[int], bytes],
        mock_secret: bytes,
        tls: bool = False,
        tls_only_for: str | None = None,
    ) -> None:
        self._random_bytes = random_bytes
        self._mock_secret = mock_secret
        self._tls_offered = tls
        self._tls_only_for = tls_only_for
        self._tls_direct = False
        self._encrypted = False
        self._ssl_done = False
        self._gss_done = False
        self._certificate_hash: bytes | None = None
        self._state = _State.START
        self._unread = bytearray()
        self._output = bytearray()
        self._events: list[ServerEvent] = []
        self._packet: StartupPacket | None = None
        self._scram: ServerScram | None = None
        self._mechanism = ""
        # A step returns whether it got anywhere; states that are not here wait for the driver, or for nothing.
        self._steps: dict[_State, Callable[[], bool]] = {
            _State.START: self._read_packet,
            _State.SASL_INITIAL: self._read_sasl,
            _State.SASL_FIRST: self._read_sasl,
            _State.SASL_RESPONSE: self._read_sasl,
        }

    def receive(self, data: bytes | bytearray | memoryview) -> list[ServerEvent]:
        """What follows from these bytes. Input after the end is ignored (CLOSED) or kept as `trailing_data` (DONE)."""
        if self._state is _State.TLS:  # what the driver gives us now has come around TLS
            return self.refuse(_unencrypted())
        if self._state is not _State.CLOSED:
            self._unread += data
        return self._advance()

    def tls_started(self, certificate_hash: bytes | None, alpn: str | None = None) -> list[ServerEvent]:
        """TLS is up. `certificate_hash`: RFC 5929 tls-server-end-point of our certificate; None: no channel binding."""
        if self._state is _State.CLOSED:
            return []
        assert self._state is _State.TLS and not self._unread
        if self._tls_direct and alpn != ALPN:
            return self.refuse(
                FatalError(
                    "08P01",
                    "received direct SSL connection request without ALPN protocol negotiation extension",
                )
            )
        self._certificate_hash = certificate_hash
        self._encrypted = True
        self._state = _State.START
        return self._advance()

    def provide_verifier(self, verifier: str | None) -> list[ServerEvent]:
        """pg_authid.rolpassword of the user. None, or what is no SCRAM verifier: the login will fail, but not yet."""
        if self._state is _State.CLOSED:  # the client misbehaved while the driver looked it up
            return []
        assert self._state is _State.VERIFIER and self._packet is not None
        self._scram = ServerScram(
            user=self._packet.user,
            verifier=None if verifier is None else parse_verifier(verifier),
            mock_secret=self._mock_secret,
            nonce=self._random_bytes(NONCE_BYTES),
            certificate_hash=self._certificate_hash,
        )
        self._output += backend.authentication_sasl(self._scram.mechanisms)
        self._state = _State.SASL_INITIAL
        return self._advance()

    def refuse(self, error: PgError) -> list[ServerEvent]:
        """Ends the handshake with this error, sent as FATAL. At any time before the end."""
        if self._state is not _State.CLOSED:
            self._close(error)
        return self._take_events()

    def data_to_send(self) -> bytes:
        """Takes what is to be written to the client."""
        data = bytes(self._output)
        self._output.clear()
        return data

    @property
    def trailing_data(self) -> bytes:
        """After `Authenticated`: what the client had already sent behind its login."""
        return bytes(self._unread)

    def _advance(self) -> list[ServerEvent]:
        try:
            while (step := self._steps.get(self._state)) is not None and step():
                pass
            if self._state is _State.VERIFIER and len(self._unread) > AUTH_MESSAGE_BYTES_MAX:
                raise FatalError("08P01", "too much data before authentication")
        except PgError as error:
            self._close(error)
        return self._take_events()

    def _take_events(self) -> list[ServerEvent]:
        events, self._events = self._events, []
        return events

    # --- before authentication -----------------------------------------------------------------------------------

    def _read_packet(self) -> bool:
        if self._unread[:1] == _TLS_HANDSHAKE and self._tls_offered and not (self._ssl_done or self._gss_done):
            return self._begin_direct_tls()
        if len(self._unread) < 4:
            return False
        length = unpack_uint32(self._unread)[0]
        if not 8 <= length <= STARTUP_BYTES_MAX + 4:
            return self._hang_up()
        if len(self._unread) < length:
            return False
        body = bytes(memoryview(self._unread)[4:length])
        del self._unread[:length]
        code = unpack_uint32(body)[0]
        if code == CANCEL_CODE:
            return self._cancel(body)
        if code == SSL_CODE and not self._ssl_done:
            return self._negotiate_tls()
        if code == GSS_CODE and not self._gss_done:
            self._gss_done = True
            self._output += b"N"
            return True
        if code >> 16 < PROTOCOL_3_0 >> 16:
            return self._refuse_old(body)
        return self._start(parse_startup(body))

    def _negotiate_tls(self) -> bool:
        self._ssl_done = True
        if not self._tls_offered:
            self._output += b"N"
            return True
        if self._unread:
            raise _unencrypted()
        self._gss_done = True
        self._output += b"S"
        self._state = _State.TLS
        self._events.append(StartTls())
        return True

    def _begin_direct_tls(self) -> bool:
        self._tls_direct = self._ssl_done = self._gss_done = True
        self._state = _State.TLS
        self._events.append(StartTls(bytes(self._unread)))
        self._unread.clear()
        return True

    def _cancel(self, body: bytes) -> bool:
        if len(body) != 12:
            return self._hang_up()
        self._events.append(CancelRequested(unpack_uint32(body, 4)[0], unpack_uint32(body, 8)[0]))
        self._end()
        return False

    def _refuse_old(self, body: bytes) -> bool:
        """A client of protocol 1 or 2 reads errors in that protocol's form only: a text that ends in a zero byte."""
        try:
            parse_startup(body)
        except PgError as error:
            self._output += b"E" + text_cstring(f"FATAL:  {error.message}\n")
            self._events.append(Refused(error))
        self._end()
        return False

    def _start(self, packet: StartupPacket) -> bool:
        if self._tls_only_for is not None and not self._encrypted:
            raise _tls_only(self._tls_only_for, packet)
        self._packet = packet
        if packet.needs_negotiation:
            self._output += backend.negotiate_protocol_version(PROTOCOL_3_0, packet.unknown_options)
        self._state = _State.VERIFIER
        self._events.append(NeedVerifier(packet.user, packet.database, packet.parameters))
        return True

    # --- SASL ----------------------------------------------------------------------------------------------------

    def _read_sasl(self) -> bool:
        if self._unread and self._unread[0] != PASSWORD:
            raise FatalError("08P01", f"expected SASL response, got message type {self._unread[0]}")
        message = take_message(self._unread, AUTH_MESSAGE_BYTES_MAX)
        if message is None:
            return False
        if self._state is _State.SASL_INITIAL:
            self._sasl_initial(message)
        elif self._state is _State.SASL_FIRST:
            self._sasl_first(self._mechanism, message.body)
        else:
            self._sasl_final(message.body)
        return True

    def _sasl_initial(self, message: Message) -> None:
        assert self._scram is not None
        mechanism, response = parse_sasl_initial_response(message.raw)
        if mechanism not in self._scram.mechanisms:
            raise FatalError("08P01", "client selected an invalid SASL authentication mechanism")
        if response is not None:
            self._sasl_first(mechanism, response)
            return
        self._mechanism = mechanism
        self._output += backend.authentication_sasl_continue(b"")
        self._state = _State.SASL_FIRST

    def _sasl_first(self, mechanism: str, response: bytes) -> None:
        assert self._scram is not None
        self._output += backend.authentication_sasl_continue(self._scram.first(mechanism, response))
        self._state = _State.SASL_RESPONSE

    def _sasl_final(self, response: bytes) -> None:
        assert self._scram is not None and self._packet is not None
        self._output += backend.authentication_sasl_final(self._scram.final(response))
        self._output += backend.authentication_ok()
        self._state = _State.DONE
        packet, client_key = self._packet, self._scram.client_key
        assert client_key is not None
        self._events.append(
            Authenticated(packet.user, packet.database, packet.parameters, client_key, self._scram.server_key)
        )

    # --- ends ----------------------------------------------------------------------------------------------------

    def _close(self, error: PgError) -> None:
        fatal = PgError(
            error.sqlstate,
            error.message,
            detail=error.detail,
            hint=error.hint,
            severity="FATAL",
            fields={code: value for code, value in error.fields.items() if code != "S"},
        )
        self._output += backend.error_response(fatal)
        self._events.append(Refused(fatal))
        self._end()

    def _hang_up(self) -> bool:
        """For what is not our protocol at all (a port scanner, HTTP): PostgreSQL logs this and sends nothing."""
        self._events.append(Refused(FatalError("08P01", "invalid length of startup packet")))
        self._end()
        return False

    def _end(self) -> None:
        self._state = _State.CLOSED
        self._unread.clear()


def _unencrypted() -> FatalError:
    return FatalError(
        "08P01",
        "received unencrypted data after SSL request",
        detail="This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
    )


def _tls_only(address: str, packet: StartupPacket) -> FatalError:
    """In the words of a PostgreSQL whose pg_hba.conf has hostssl lines only; clients look for them."""
    return FatalError(
        "28000",
        f'no pg_hba.conf entry for host "{address}", user "{packet.user}", database "{packet.database}", no encryption',
        detail="This server takes connections with TLS only.",
        hint="Connect with sslmode=require, or better verify-full.",
    )
