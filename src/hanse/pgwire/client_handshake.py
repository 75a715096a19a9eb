"""We log in to a backend: from the startup packet to the first ReadyForQuery, without I/O.

    keys = ScramKeys(client_key, server_key)
    handshake = ClientHandshake(user="u", database="d", credentials=keys, random_bytes=os.urandom)
    transport.write(handshake.data_to_send())
    ready = handshake.receive(chunk)                # None: more is needed; raises PgError: close the connection
    transport.write(handshake.data_to_send())       # after each receive

With `credentials` None only a server that trusts us lets us in. A server that asks for a cleartext or md5 password is
refused: both would show it what opens other doors, and a ClientKey could not answer.

TLS is the driver's: it sends `frontend.ssl_request()`, reads one byte, wraps the connection, and gives the hash of the
certificate to the constructor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hanse.core.errors import PgError
from hanse.core.limits import AUTH_MESSAGE_BYTES_MAX

from . import backend, frontend
from .framing import Message, take_message
from .primitives import BODY, decode, unpack_uint32, violation
from .scram import NONCE_BYTES, ClientScram, Password, ScramKeys

# An 'E' with a "length" outside of this is the bare text that a postmaster sends when it cannot even start a process.
_ERROR_BYTES_MIN, _ERROR_BYTES_MAX = 8, 30_000
_NOTICES_MAX = 100

_REFUSED_METHODS = {2: "Kerberos 5", 3: "cleartext password", 5: "md5 password", 7: "GSSAPI", 9: "SSPI"}


@dataclass(frozen=True, slots=True)
class Ready:
    parameters: Mapping[str, str]  # as the server reported them: server_version, TimeZone, …
    pid: int
    secret: int = field(repr=False)  # with pid: for a CancelRequest
    notices: tuple[bytes, ...] = ()  # NoticeResponses that came on the way, whole


class ClientHandshake:
    """See the module. `parameters`: settings for the startup packet, such as application_name."""

    def __init__(
        self,
        *,
        user: str,
        database: str,
        credentials: Password | ScramKeys | None,
        random_bytes: Callable[[int], bytes],
        parameters: Mapping[str, str] | None = None,
        certificate_hash: bytes | None = None,
    ) -> None:
        self._credentials = credentials
        self._random_bytes = random_bytes
        self._certificate_hash = certificate_hash
        self._unread = bytearray()
        self._output = bytearray(frontend.startup({"user": user, "database": database, **(parameters or {})}))
        self._scram: ClientScram | None = None
        self._server_proved = False
        self._authenticated = False
        self._statuses: dict[str, str] = {}
        self._notices: list[bytes] = []
        self._key = (0, 0)
        self._ready: Ready | None = None
        self._handlers: dict[int, Callable[[bytes], None]] = {
            backend.AUTHENTICATION: self._on_authentication,
            backend.PARAMETER_STATUS: self._on_parameter_status,
            backend.BACKEND_KEY_DATA: self._on_key,
            backend.NOTICE_RESPONSE: self._on_notice,
            backend.NEGOTIATE_PROTOCOL_VERSION: self._on_negotiation,
            backend.ERROR_RESPONSE: self._on_error,
            backend.READY_FOR_QUERY: self._on_ready,
        }

    def data_to_send(self) -> bytes:
        """Takes what is to be written to the server."""
        data = bytes(self._output)
        self._output.clear()
        return data

    @property
    def trailing_data(self) -> bytes:
        """After `Ready`: what came behind ReadyForQuery (a NotificationResponse, say)."""
        return bytes(self._unread)

    def receive(self, data: bytes | bytearray | memoryview) -> Ready | None:
        """`Ready` once the server is. Raises the server's own error whole; 08P01, 28000, 28P01 for what we refuse."""
        self._unread += data
        while self._ready is None and (message := self._next()) is not None:
            handler = self._handlers.get(message.kind)
            if handler is None or (not self._authenticated and message.kind not in b"RENv"):
                raise violation(f"unexpected message type 0x{message.kind:02X} during startup")
            handler(message.raw)
        return self._ready

    def _next(self) -> Message | None:
        if len(self._unread) >= BODY and self._unread[0] == backend.ERROR_RESPONSE:
            length = unpack_uint32(self._unread, 1)[0]
            if not _ERROR_BYTES_MIN <= length <= _ERROR_BYTES_MAX:
                self._raise_bare_error()
                return None
        return take_message(self._unread, AUTH_MESSAGE_BYTES_MAX)

    def _raise_bare_error(self) -> None:
        """Raises it once its end is there."""
        end = self._unread.find(0, 1)
        if end < 0 and len(self._unread) <= _ERROR_BYTES_MAX:
            return
        text = bytes(self._unread[1:end] if end >= 0 else self._unread[1:_ERROR_BYTES_MAX])
        raise PgError("08006", decode(text).strip())

    def _on_authentication(self, raw: bytes) -> None:
        code, payload = backend.parse_authentication(raw)
        if self._authenticated:
            raise violation("authentication request after authentication")
        if code == backend.AUTH_OK:
            self._on_authentication_ok(payload)
        elif code == backend.AUTH_SASL:
            self._on_sasl(payload)
        elif code == backend.AUTH_SASL_CONTINUE and self._scram is not None and not self._server_proved:
            self._output += frontend.sasl_response(self._scram.final(payload))
        elif code == backend.AUTH_SASL_FINAL and self._scram is not None and not self._server_proved:
            self._scram.verify(payload)
            self._server_proved = True
        elif code in (backend.AUTH_SASL_CONTINUE, backend.AUTH_SASL_FINAL):
            raise violation("SASL message from the server out of order")
        else:
            raise _method_refused(code)

    def _on_authentication_ok(self, payload: bytes) -> None:
        if payload:
            raise violation("invalid message format")
        if self._scram is not None and not self._server_proved:
            raise violation("the server ended SCRAM authentication before it was complete")
        self._authenticated = True

    def _on_sasl(self, payload: bytes) -> None:
        if self._scram is not None:
            raise violation("SASL message from the server out of order")
        mechanisms = backend.parse_sasl_mechanisms(payload)
        if self._credentials is None:
            raise PgError("28000", "the server asks for a password, and none is known")
        self._scram = ClientScram(
            self._credentials, nonce=self._random_bytes(NONCE_BYTES), certificate_hash=self._certificate_hash
        )
        self._output += frontend.sasl_initial_response(*self._scram.first(mechanisms))

    def _on_parameter_status(self, raw: bytes) -> None:
        name, value = backend.parse_parameter_status(raw)
        self._statuses[name] = value

    def _on_key(self, raw: bytes) -> None:
        self._key = backend.parse_backend_key_data(raw)

    def _on_notice(self, raw: bytes) -> None:
        if len(self._notices) < _NOTICES_MAX:
            self._notices.append(raw)

    def _on_negotiation(self, raw: bytes) -> None:
        """We ask for 3.0 and no options, so nothing can be refused; the server may still say what it speaks."""
        backend.parse_negotiate_protocol_version(raw)

    def _on_error(self, raw: bytes) -> None:
        raise backend.parse_error(raw)

    def _on_ready(self, raw: bytes) -> None:
        backend.parse_ready_for_query(raw)
        self._ready = Ready(dict(self._statuses), *self._key, tuple(self._notices))


def _method_refused(code: int) -> PgError:
    method = _REFUSED_METHODS.get(code, f"authentication method {code}")
    return PgError(
        "28000",
        f"the server asks for authentication by {method}, only SCRAM-SHA-256 is supported",
        hint="Set password_encryption to scram-sha-256, then the role's password anew, and use it in pg_hba.conf.",
    )
