"""TLS between a client and its `Client`: a layer that is the socket's protocol on one side, and the client's transport on
the other. Clients without TLS never meet it.

`Certificates` holds the context for new connections, and looks every TLS_FILES_PERIOD_S whether the files have changed
(a renewed certificate). While they cannot be used, because only one of the two is there yet, the old ones stay.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..config import NodeConfig
from ..core.errors import UserMistake
from ..core.limits import TLS_FILES_PERIOD_S
from ..pgwire.tls import ServerTls, TlsStream, load

if TYPE_CHECKING:
    from .client import Client

log = logging.getLogger(__name__)


class TlsLayer(asyncio.Protocol, asyncio.Transport):
    """Between the socket and the client, from the first byte of the TLS handshake on."""

    def __init__(self, client: Client, transport: asyncio.Transport, tls: ServerTls) -> None:
        super().__init__()
        self._client = client
        self._transport = transport
        self._end_point = tls.end_point
        self._stream = TlsStream(tls.context)
        self._closing = False

    # --- the socket's protocol ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        stream = self._stream
        greeted = stream.established
        try:
            plain = stream.receive(data)
        except ssl.SSLError:  # no TLS, another version, an alert: a client that does not trust our certificate
            self._send(stream.data_to_send())
            self._closing = True
            self._transport.close()
            return
        self._send(stream.data_to_send())
        if not greeted and stream.established:
            self._client.tls_started(self._end_point, stream.alpn)
        if plain and not self._closing:
            self._client.data_received(plain)
        if stream.ended:
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._client.connection_lost(exc)

    def pause_writing(self) -> None:
        self._client.pause_writing()

    def resume_writing(self) -> None:
        self._client.resume_writing()

    # --- the client's transport --------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self._closing:
            try:
                pieces = self._stream.encrypt(cast(bytes, data))
            except ssl.SSLError:  # the connection has failed, and its end is on the way
                self.abort()
                return
            for piece in pieces:
                self._transport.write(piece)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._stream.end()
            self._send(self._stream.data_to_send())
            self._transport.close()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def _send(self, data: bytes) -> None:
        if data:
            self._transport.write(data)


class Certificates:
    """The gateway's certificate and key, as their files are now. `current` None: TLS is off."""

    def __init__(self, config: NodeConfig) -> None:
        """Raises UserMistake when TLS is wanted and the files cannot be used."""
        self.current: ServerTls | None = None
        self.required = config.tls == "require"
        self._files: tuple[Path, Path] | None = None
        self._seen: object = None
        if config.tls == "off":
            return
        if config.tls_cert is None or config.tls_key is None:
            raise UserMistake(
                f"node {config.name} is to speak TLS, and its configuration names no tls_cert and tls_key"
            )
        self._files = (Path(config.tls_cert), Path(config.tls_key))
        self._seen = _signature(self._files)
        self.current = load(*self._files)

    async def follow(self) -> None:
        """For ever: takes over changed files."""
        while self._files is not None:
            await asyncio.sleep(TLS_FILES_PERIOD_S)
            self.look()

    def look(self) -> None:
        if self._files is None:
            return
        seen = _signature(self._files)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.current = load(*self._files)
        except UserMistake as mistake:
            log.warning("the TLS certificate stays as it was: %s", mistake)
        else:
            log.info("the TLS certificate %s was read again", self._files[0])


def _signature(files: tuple[Path, Path]) -> object:
    """Differs when a file was written or replaced, its links' targets included."""
    found: list[object] = []
    for file in files:
        try:
            status = file.stat()
            found.append((status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
        except OSError:
            found.append(None)
    return found
