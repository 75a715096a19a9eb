"""Logging in to a backend, and cancelling what it does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ...core.errors import PgError
from ...core.limits import CONNECT_TIMEOUT_S
from ...pgwire import frontend
from ...pgwire.client_handshake import ClientHandshake, Ready
from ...pgwire.scram import Password, ScramKeys
from .backend import Backend


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    socket_directory: str | None = None  # set where the server's Unix socket can be used instead

    @property
    def socket_path(self) -> str | None:
        return None if self.socket_directory is None else f"{self.socket_directory}/.s.PGSQL.{self.port}"


class _Login(asyncio.Protocol):
    """Drives the handshake, then hands its transport to the Backend."""

    def __init__(self, backend: Backend, handshake: ClientHandshake) -> None:
        self.backend = backend
        self.handshake = handshake
        self.finished: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self.transport = transport
        transport.write(self.handshake.data_to_send())

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        try:
            ready = self.handshake.receive(data)
        except PgError as error:
            self.transport.close()
            if not self.finished.done():
                self.finished.set_exception(error)
            return
        self.transport.write(self.handshake.data_to_send())
        if ready is not None:
            self.transport.set_protocol(self.backend)
            self.backend.attach(self.transport, self.handshake.trailing_data)
            if not self.finished.done():
                self.finished.set_result(ready)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(
                PgError("08006", f"the server of {self.backend.place} closed the connection while we logged in")
            )


async def connect_backend(
    address: Address,
    place: str,
    user: str,
    database: str,
    credentials: Password | ScramKeys | None,
    parameters: Mapping[str, str] | None = None,
) -> Backend:
    """A new session of `user` at `place`, with settings of its own as `parameters`.

    Raises the server's error, or 08001 when it cannot be reached.
    """
    backend = Backend(place, user, database)
    backend.address = address.socket_path or (address.host, address.port)
    handshake = ClientHandshake(
        user=user, database=database, credentials=credentials, random_bytes=os.urandom, parameters=parameters
    )
    login: _Login | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            login = await _open(address, backend, handshake)
            ready = await login.finished
    except (OSError, TimeoutError) as error:
        raise unreachable(place, error) from error
    except BaseException:
        if login is not None and login.transport is not None:
            login.transport.abort()
        raise
    backend.parameters.update(ready.parameters)
    backend.pid, backend.secret = ready.pid, ready.secret
    return backend


async def _open(address: Address, backend: Backend, handshake: ClientHandshake) -> _Login:
    loop = asyncio.get_running_loop()
    path = address.socket_path
    if path is not None and os.path.exists(path):
        _, login = await loop.create_unix_connection(lambda: _Login(backend, handshake), path)
    else:
        backend.address = (address.host, address.port)
        _, login = await loop.create_connection(lambda: _Login(backend, handshake), address.host, address.port)
    return login


def unreachable(place: str, error: BaseException) -> PgError:
    reason = str(error) or type(error).__name__
    return PgError("08001", f"{place} cannot be reached", detail=reason, hint="hanse status shows what runs.")


async def cancel(backend: Backend) -> None:
    """Asks the server to cancel what the backend does. Returns when the server has closed the cancel connection.

    Until then the backend must not serve anybody else: the signal could hit his statement (findings-gateway 24).
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if isinstance(backend.address, str):
                reader, writer = await asyncio.open_unix_connection(backend.address)
            else:
                reader, writer = await asyncio.open_connection(*backend.address)
            try:
                writer.write(frontend.cancel_request(backend.pid, backend.secret))
                await reader.read(1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return  # nothing there to cancel
