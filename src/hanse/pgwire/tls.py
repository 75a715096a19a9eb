"""TLS of client connections, without I/O: `TlsStream` turns bytes of the network into bytes of the client, and back.

    stream = TlsStream(server_tls.context)
    plain = stream.receive(chunk)            # raises ssl.SSLError; then what is to be sent ends with the alert
    transport.write(stream.data_to_send())   # after every receive and send: handshake, alerts, records
    if stream.established: …                 # the handshake is over

An `ssl.SSLObject` between two memory buffers does the work, which is what event loops do inside. It is done here because
of direct negotiation (PostgreSQL 17's sslnegotiation=direct): there TLS begins with the connection's first byte, and an
event loop cannot be given bytes that it has already delivered.

`load` makes the settings of a server from its certificate and key as PostgreSQL would take them: TLS 1.2 or newer, no
renegotiation, no session tickets, no compression; a key that others can read is refused.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

from hanse.core.errors import UserMistake

ALPN = "postgresql"  # IANA's registry of TLS ALPN protocol ids
_READ_BYTES = 1 << 16
_WRITE_BYTES = 1 << 18  # encrypted at a time: what is sent in one piece may have a gigabyte


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How a server speaks TLS. `end_point`: RFC 5929 tls-server-end-point of its certificate, if that has one."""

    context: ssl.SSLContext = field(repr=False)
    end_point: bytes | None


class TlsStream:
    """The server's end of one TLS connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False
        self.ended = False  # the other side has said that nothing more comes

    @property
    def alpn(self) -> str | None:
        return self._object.selected_alpn_protocol()

    def receive(self, data: bytes) -> bytes:
        """What the client says in these bytes. Raises ssl.SSLError when they are no TLS, or not by this protocol."""
        self._incoming.write(data)
        if not self.established and not self._shake_hands():
            return b""
        parts = []
        try:
            while self._incoming.pending or self._object.pending():
                part = self._object.read(_READ_BYTES)
                if not part:
                    self.ended = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _shake_hands(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.established = True
        return True

    def encrypt(self, data: bytes) -> list[bytes]:
        """The records of `data`, in pieces of bounded size."""
        if len(data) <= _WRITE_BYTES:
            self._object.write(data)
            return [self._outgoing.read()]
        pieces, view = [], memoryview(data)
        for start in range(0, len(data), _WRITE_BYTES):
            self._object.write(view[start : start + _WRITE_BYTES])
            pieces.append(self._outgoing.read())
        return pieces

    def end(self) -> None:
        """Says that nothing more comes (close_notify). No answer is waited for."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):  # it always wants to read the answer; before the handshake nothing is said
            return

    def data_to_send(self) -> bytes:
        return self._outgoing.read() if self._outgoing.pending else b""


# --- a server's certificate and key


def load(certificate: Path, key: Path) -> ServerTls:
    """Raises UserMistake, one sentence that tells what is wrong with which file."""
    _check_key(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # of TLS 1.3: a session of ours is never resumed
    context.set_alpn_protocols([ALPN])
    end_point = _end_point_of_file(certificate)

    def refuse_passphrase() -> str:
        raise UserMistake(f"the TLS key {key} is protected by a passphrase; give one without")

    try:
        context.load_cert_chain(certificate, key, refuse_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UserMistake(f"the TLS key {key} does not belong to the certificate {certificate}") from None
        raise UserMistake(f"the TLS key {key} is no private key in PEM form, or of a kind that is refused") from None
    except OSError as error:
        raise UserMistake(f"the TLS certificate {certificate} cannot be read: {error.strerror}") from None
    return ServerTls(context, end_point)


def _check_key(key: Path) -> None:
    """PostgreSQL's rule (be-secure-common.c): 0600 for a key of ours, 0640 for one of root's."""
    try:
        status = key.stat()
        key.open("rb").close()
    except OSError as error:
        raise UserMistake(f"the TLS key {key} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserMistake(f"the TLS key {key} is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise UserMistake(f"the TLS key {key} must be owned by the user who runs hanse, or by root")
    forbidden = 0o037 if status.st_uid == 0 else 0o077
    if status.st_mode & forbidden:
        mode = "u=rw,g=r (0640)" if status.st_uid == 0 else "u=rw (0600)"
        raise UserMistake(f"the TLS key {key} has group or world access; it must have permissions {mode} or less")


def _end_point_of_file(certificate: Path) -> bytes | None:
    try:
        text = certificate.read_text("ascii", "replace")
    except OSError as error:
        raise UserMistake(f"the TLS certificate {certificate} cannot be read: {error.strerror}") from None
    begin = text.find(ssl.PEM_HEADER)
    end = text.find(ssl.PEM_FOOTER, begin)
    if begin < 0 or end < 0:
        raise UserMistake(f"the TLS certificate {certificate} holds no certificate in PEM form")
    try:
        return end_point(ssl.PEM_cert_to_DER_cert(text[begin : end + len(ssl.PEM_FOOTER)]))
    except ValueError:
        raise UserMistake(f"the TLS certificate {certificate} is damaged") from None


def end_point(certificate: bytes) -> bytes | None:
    """RFC 5929, section 4.1: the hash of the DER certificate by its signature's hash function; SHA-256 for MD5 and SHA-1.

    None for a signature without a hash function (Ed25519): channel binding is undefined then, and is not offered.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name.replace("-", "_")
    return hashlib.new(name, certificate).digest() if name in hashlib.algorithms_available else None
