"""A client's connection: login, then bytes to and from its `Session`.

Authentication is SCRAM-SHA-256 against the role's verifier in the schema-complete database (all instances have the same
one). A successful proof leaves us the client's key, with which every backend session logs in *as this user*: rights and
row-level security are PostgreSQL's own (findings-gateway 16).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from ..core.errors import FatalError, PgError
from ..core.ids import quote_literal
from ..core.limits import AUTHENTICATION_TIMEOUT_S, CLIENT_BUFFER_BYTES_MAX, CLIENTS_MAX, CLOSING_S_MAX
from ..pgwire import backend as server_messages
from ..pgwire.diagnostics import error_response
from ..pgwire.packets import startup_settings
from ..pgwire.scram import ScramKeys
from ..pgwire.server_handshake import (
    Authenticated,
    CancelRequested,
    NeedVerifier,
    Refused,
    ServerEvent,
    ServerHandshake,
    StartTls,
)
from . import durability, roles
from .encoding import canonical
from .holding import first_answer
from .modes import DEFAULTS, STANDARD, with_defaults
from .role_slots import Slot
from .session import Session
from .settings import with_role_modes
from .tls import TlsLayer

if TYPE_CHECKING:
    from .gateway import Gateway

_GREETING = (
    f"SELECT {', '.join(f'pg_catalog.current_setting({quote_literal(name)})' for name in ('search_path', *DEFAULTS))}"
)
_NOT_OURS_TO_SET = frozenset(("replication", "user", "database", "options"))


def _bug(error: Exception) -> FatalError:
    return FatalError("XX000", "internal error of the gateway", detail=f"{type(error).__name__}: {error}")


def _too_many() -> FatalError:
    return FatalError("53300", "sorry, too many clients already")


class Client(asyncio.Protocol):
    """The socket's side of a session (`Output`)."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._handshake: ServerHandshake | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._early = bytearray()  # came while the login was being finished
        self._gone = False
        self._slot: Slot | None = None  # of a role with CONNECTION LIMIT
        self._role: roles.Role | None = None  # as it was when the login began

    # --- asyncio -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        self.gateway.clients += 1
        self._handshake = self._new_handshake(transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(AUTHENTICATION_TIMEOUT_S, transport.abort)
        if not self.gateway.doorway.enter(self):
            self._handle(self._handshake.refuse(_too_many()))

    def _new_handshake(self, transport: asyncio.Transport) -> ServerHandshake:
        gateway = self.gateway
        certificates = gateway.certificates
        address = None
        if certificates is not None and certificates.required:
            peer = transport.get_extra_info("peername")
            address = str(peer[0]) if peer else ""
        return ServerHandshake(
            random_bytes=os.urandom,
            mock_secret=gateway.mock_secret,
            tls=certificates is not None and certificates.current is not None,
            tls_only_for=address,
        )

    def data_received(self, data: bytes) -> None:
        session = self.session
        if session is not None:
            session.feed(data)
        elif self._handshake is not None:
            self._handle(self._handshake.receive(data))
        else:
            self._early += data
            if len(self._early) > CLIENT_BUFFER_BYTES_MAX:
                self.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self.gateway.clients -= 1
        self.gateway.doorway.leave(self)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.session is not None:
            self.session.close()
        self._leave_slot()

    def _leave_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self.gateway.spawn(self.gateway.role_slots.give_back(slot))

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()
        if self.session is not None:
            self.session.set_blocked(True)

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
        if self.session is not None:
            self.session.set_blocked(False)

    # --- Output ------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._gone:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is None or self._gone:
            return
        self._transport.close()
        if self._transport.get_write_buffer_size():  # a client who does not read cannot keep his connection for ever
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = asyncio.get_running_loop().call_later(CLOSING_S_MAX, self._transport.abort)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._gone:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._gone:
            self._transport.resume_reading()

    async def drain(self) -> None:
        if self._drained is not None:
            await self._drained

    # --- Comer ---------------------------------------------------------------------------------------------------

    @property
    def idles(self) -> bool:
        return self._handshake is not None

    def show_out(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- login -------------------------------------------------------------------------------------------------

    def _handle(self, events: list[ServerEvent]) -> None:
        handshake = self._handshake
        assert handshake is not None
        for event in events:
            match event:
                case StartTls():
                    self._start_tls(handshake, event)
                    return
                case NeedVerifier():
                    self.gateway.spawn(self._look_up(handshake, event))
                case CancelRequested():
                    self.gateway.spawn(self._cancel(event.pid, event.secret))
                case Authenticated():
                    self._handshake = None
                    self._early += handshake.trailing_data
                    self.gateway.spawn(self._log_in(event))
                case Refused():
                    self.write(handshake.data_to_send())
                    self.close()
                    return
        self.write(handshake.data_to_send())

    def _start_tls(self, handshake: ServerHandshake, event: StartTls) -> None:
        """From here on, without a moment between, what comes is taken for TLS."""
        certificates, transport = self.gateway.certificates, self._transport
        assert certificates is not None and certificates.current is not None and transport is not None
        self.write(handshake.data_to_send())
        layer = TlsLayer(self, transport, certificates.current)
        transport.set_protocol(layer)
        self._transport = layer
        if event.early:
            layer.data_received(event.early)

    def tls_started(self, end_point: bytes | None, alpn: str | None) -> None:
        if self._handshake is not None:
            self._handle(self._handshake.tls_started(end_point, alpn))

    async def _look_up(self, handshake: ServerHandshake, event: NeedVerifier) -> None:
        try:
            if self.gateway.clients > CLIENTS_MAX:
                raise _too_many()
            self._role = await roles.look_up(self.gateway, event.user)
            events = handshake.provide_verifier(None if self._role is None else self._role.usable_verifier)
        except PgError as error:
            events = handshake.refuse(error)
        except Exception as error:  # a bug of ours: the client gets an answer
            self.gateway.report_bug(error)
            events = handshake.refuse(_bug(error))
        if not self._gone:
            self._handle(events)

    async def _cancel(self, pid: int, secret: int) -> None:
        try:
            await self.gateway.cancel(pid, secret)
        finally:
            self.close()

    async def _log_in(self, event: Authenticated) -> None:
        """The proof was right. What else may stand against the login, `roles.admit` says, or PostgreSQL at the first backend."""
        gateway = self.gateway
        session: Session | None = None
        try:
            role = await roles.admit(gateway, event.user, self._role)
            if event.database != gateway.snapshot.database:
                raise FatalError("3D000", f'database "{event.database}" does not exist')
            if role.limit is not None:
                self._slot = await gateway.role_slots.take(gateway, event.user, role.limit)
            keys = ScramKeys(event.client_key, event.server_key)
            login = roles.Login(role.oid, role.standing, keys, role.version)
            gateway.logins.note(gateway, event.user, login)
            session = Session(gateway, self, event.user, event.database, login)
            settings = {
                name: value
                for name, value in startup_settings(event.parameters).items()
                if name not in _NOT_OURS_TO_SET
            }
            given = {name.lower(): value for name, value in settings.items()}
            encoding = canonical(given.pop("client_encoding", "UTF8"))
            if encoding != "UTF8":
                given["client_encoding"] = encoding
            durability.check_options(session, given)
            session.begin_with(tuple(given.items()))
            await self._greet(session)
        except PgError as error:
            fatal = FatalError(error.sqlstate, error.message, detail=error.detail, hint=error.hint)
            if session is not None:
                session.closed = True
            self.write(error_response(fatal))
            self.close()
            return
        except Exception as error:  # a bug of ours: the client gets an answer
            gateway.report_bug(error)
            self.write(error_response(_bug(error)))
            self.close()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        if self._gone:
            session.close()
            self._leave_slot()
            return
        self.session = session
        gateway.doorway.leave(self)
        early, self._early = bytes(self._early), bytearray()
        self.resume_reading()
        if early:
            session.feed(early)

    async def _greet(self, session: Session) -> None:
        gateway = self.gateway
        backend, (search_path, *modes) = await first_answer(session, gateway.snapshot.home_group, _GREETING)
        try:
            session.default_search_path = search_path or ""
            given = with_defaults(STANDARD, {name: value or "" for name, value in zip(DEFAULTS, modes, strict=True)})
            session.base_state = session.state = backend.state = with_role_modes(session.state, given)
            session.refresh_context()
            session.pid, session.secret = gateway.register(session)
            session.report_parameters(backend)
        finally:
            session.give_back(backend)
        self.write(server_messages.backend_key_data(session.pid, session.secret))
        session.write_ready()
