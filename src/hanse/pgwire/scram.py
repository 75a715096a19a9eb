"""SCRAM-SHA-256, both sides (RFC 5802, RFC 7677; PostgreSQL's auth-scram.c and fe-auth-scram.c).

Both sides prove that they know something of the password without sending it:

    client                                              server, which has salt, StoredKey, ServerKey
    n,,n=,r=<cnonce>                  ->
                                      <-                r=<cnonce><snonce>,s=<salt>,i=<iterations>
    c=biws,r=<cnonce><snonce>,p=<ClientProof>   ->
                                      <-                v=<ServerSignature>

    SaltedPassword  = PBKDF2(password, salt, i)
    ClientKey       = HMAC(SaltedPassword, "Client Key")        StoredKey = SHA-256(ClientKey)
    ClientProof     = ClientKey XOR HMAC(StoredKey, the messages)
    ServerSignature = HMAC(ServerKey, the messages)

**Passing a login through.** A server that checks a proof computes ClientKey = ClientProof XOR HMAC(StoredKey, …). With
it, and with nothing else, one can make proofs against any server that has the same verifier (same salt and
iterations, hence same StoredKey), as PgBouncer does. So the gateway never learns the password, and yet each of its
backend connections is logged in as the real user. A ClientKey is as secret as a password: it lives in memory only.

**Channel binding** (`…-PLUS`, RFC 5929 tls-server-end-point) is on where a certificate's hash is given. It excludes
passing through by a third party, not by us: each hop binds to its own certificate.

**Unknown users** run the same exchange against a mock verifier and fail at its end in the same words.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

from hanse.core.errors import FatalError, PgError

from .primitives import violation
from .verifier import (
    ITERATIONS_MAX,
    KEY_BYTES,
    MECHANISM,
    MECHANISM_PLUS,
    Verifier,
    from_base64,
    hmac_sha256,
    make_verifier,
    mock_verifier,
    parse_verifier,
    salted_password,
    sha256,
    xor,
)

__all__ = [
    "ClientScram",
    "MECHANISM",
    "MECHANISM_PLUS",
    "NONCE_BYTES",
    "Password",
    "ScramKeys",
    "ServerScram",
    "Verifier",
    "make_verifier",
    "mock_verifier",
    "parse_verifier",
    "password_failed",
]

NONCE_BYTES = 18  # random bytes of a nonce, before base64
_END_POINT = b"p=tls-server-end-point,,"


@dataclass(frozen=True, slots=True)
class Password:
    """Log in by a password."""

    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """Log in by what a client's successful login left with us. Without `server_key` the server is not verified."""

    client_key: bytes = field(repr=False)
    server_key: bytes | None = field(default=None, repr=False)


def password_failed(user: str) -> FatalError:
    return FatalError("28P01", f'password authentication failed for user "{user}"')


class ServerScram:
    """The server's side: `first`, then `final`; afterwards `client_key` is known.

    `verifier` None dooms the exchange. `nonce`: NONCE_BYTES random bytes, never used twice. `certificate_hash` is what
    tls-server-end-point says of our certificate; None without TLS.
    """

    def __init__(
        self,
        *,
        user: str,
        verifier: Verifier | None,
        mock_secret: bytes,
        nonce: bytes,
        certificate_hash: bytes | None = None,
    ) -> None:
        self.client_key: bytes | None = None
        self._user = user
        self._doomed = verifier is None
        self._verifier = verifier or mock_verifier(user, mock_secret)
        self._server_nonce = b64encode(nonce)
        self._certificate_hash = certificate_hash
        self._plus = False
        self._header = b""
        self._client_first_bare = b""
        self._server_first = b""
        self._nonce = b""

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What to offer, best first."""
        return (MECHANISM,) if self._certificate_hash is None else (MECHANISM_PLUS, MECHANISM)

    @property
    def server_key(self) -> bytes:
        return self._verifier.server_key

    def first(self, mechanism: str, message: bytes) -> bytes:
        """client-first-message → server-first-message."""
        if mechanism not in self.mechanisms:
            raise violation("client selected an invalid SASL authentication mechanism")
        self._plus = mechanism == MECHANISM_PLUS
        _check_text(message)
        self._header, bare = self._split_header(message)
        if bare.startswith(b"m"):
            raise PgError("0A000", "client requires an unsupported SCRAM extension")
        attributes = _Attributes(bare)
        attributes.read("n")  # the user's name is the startup packet's; libpq leaves this one empty
        client_nonce = attributes.read("r")
        if not all(0x21 <= c <= 0x7E for c in client_nonce):
            raise violation("non-printable characters in SCRAM nonce")
        attributes.skip_rest()
        self._client_first_bare = bare
        self._nonce = client_nonce + self._server_nonce
        salt = b64encode(self._verifier.salt)
        self._server_first = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._verifier.iterations)
        return self._server_first

    def final(self, message: bytes) -> bytes:
        """client-final-message → server-final-message. Raises 28P01 if the proof is not right."""
        _check_text(message)
        attributes = _Attributes(message)
        self._check_binding(attributes.read("c"))
        nonce = attributes.read("r")
        without_proof, proof = attributes.read_proof()
        if not hmac.compare_digest(nonce, self._nonce):
            raise violation("invalid SCRAM response", detail="Nonce does not match.")
        transcript = b",".join((self._client_first_bare, self._server_first, without_proof))
        client_key = xor(proof, hmac_sha256(self._verifier.stored_key, transcript))
        matches = hmac.compare_digest(sha256(client_key), self._verifier.stored_key)
        if self._doomed or not matches:
            raise password_failed(self._user)
        self.client_key = client_key
        return b"v=" + b64encode(hmac_sha256(self._verifier.server_key, transcript))

    def _split_header(self, message: bytes) -> tuple[bytes, bytes]:
        """(gs2-header, the rest), after checking that the channel binding flag fits."""
        flag = message[:1]
        if flag in (b"n", b"y"):
            self._check_unbound(flag)
            after_flag = message[1:]
            if not after_flag.startswith(b","):
                raise _malformed(f'Comma expected, but found character "{_shown(after_flag)}".')
            after_flag = after_flag[1:]
        elif flag == b"p":
            after_flag = self._bound(message)
        else:
            raise _malformed(f'Unexpected channel-binding flag "{_shown(message)}".')
        if after_flag.startswith(b"a"):
            raise PgError("0A000", "client uses authorization identity, but it is not supported")
        if not after_flag.startswith(b","):
            raise _malformed(f'Unexpected attribute "{_shown(after_flag)}" in client-first-message.')
        bare = after_flag[1:]
        return message[: len(message) - len(bare)], bare

    def _check_unbound(self, flag: bytes) -> None:
        if self._plus:
            raise _malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data."
            )
        if flag == b"y" and self._certificate_hash is not None:
            raise PgError(
                "28000",
                "SCRAM channel binding negotiation error",
                detail="The client supports SCRAM channel binding but thinks the server does not.  "
                "However, this server does support channel binding.",
            )

    def _bound(self, message: bytes) -> bytes:
        if not self._plus:
            raise _malformed(
                "The client selected SCRAM-SHA-256 without channel binding, "
                "but the SCRAM message includes channel binding data."
            )
        attributes = _Attributes(message)
        binding = attributes.read("p")
        if binding != b"tls-server-end-point":
            name = "".join(chr(c) if 0x21 <= c <= 0x7E else "?" for c in binding[:30])
            raise violation(f'unsupported SCRAM channel-binding type "{name}"')
        return attributes.rest

    def _check_binding(self, value: bytes) -> None:
        expected = b64encode(self._header + ((self._certificate_hash or b"") if self._plus else b""))
        if hmac.compare_digest(value, expected):
            return
        if self._plus:
            raise PgError("28000", "SCRAM channel binding check failed")
        raise violation("unexpected SCRAM channel-binding attribute in client-final-message")


class ClientScram:
    """The client's side: `first`, `final`, then `verify` must pass before the server may be believed.

    `nonce`: NONCE_BYTES random bytes, never used twice.
    """

    def __init__(
        self, credentials: Password | ScramKeys, *, nonce: bytes, certificate_hash: bytes | None = None
    ) -> None:
        self._credentials = credentials
        self._nonce = b64encode(nonce)
        self._certificate_hash = certificate_hash
        self._header = b"n,,"
        self._binding = b""
        self._first_bare = b"n=,r=" + self._nonce
        self._transcript = b""
        self._server_key: bytes | None = None

    def first(self, mechanisms: Sequence[str]) -> tuple[str, bytes]:
        """(mechanism chosen, client-first-message). Raises 0A000 if the server offers nothing we speak."""
        chosen = MECHANISM
        if self._certificate_hash is not None and MECHANISM_PLUS in mechanisms:
            chosen = MECHANISM_PLUS
            self._header, self._binding = _END_POINT, self._certificate_hash
        elif self._certificate_hash is not None:
            self._header = b"y,,"  # tells a server that did offer it that somebody between took the offer away
        if chosen not in mechanisms:
            raise PgError("0A000", "none of the server's SASL authentication mechanisms are supported")
        return chosen, self._header + self._first_bare

    def final(self, server_first: bytes) -> bytes:
        """server-first-message → client-final-message. Once: a second proof would only serve an impostor."""
        if self._transcript:
            raise violation("SASL message from the server out of order")
        _check_text(server_first)
        attributes = _Attributes(server_first)
        nonce = attributes.read("r")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise violation("invalid SCRAM response", detail="Nonce does not match.")
        salt = _decoded(attributes.read("s"), "Malformed salt in server-first-message.")
        iterations = attributes.read("i")
        if not iterations.isdigit() or len(iterations) > 10 or not 0 < int(iterations) <= ITERATIONS_MAX:
            raise _malformed("Invalid iteration count in server-first-message.")
        client_key, self._server_key = self._keys(salt, int(iterations))
        without_proof = b"c=" + b64encode(self._header + self._binding) + b",r=" + nonce
        self._transcript = b",".join((self._first_bare, server_first, without_proof))
        proof = xor(client_key, hmac_sha256(sha256(client_key), self._transcript))
        return without_proof + b",p=" + b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """Raises 28P01 unless the server, too, has proved to know the password's verifier."""
        if not self._transcript:  # it never saw our proof
            raise violation("SASL message from the server out of order")
        _check_text(server_final)
        if server_final.startswith(b"e="):
            reason = server_final[2:].decode("ascii", "backslashreplace")
            raise PgError("28P01", f"SCRAM authentication failed: {reason}")
        signature = _decoded(_Attributes(server_final).read("v"), "Malformed server signature.")
        if self._server_key is None:
            return
        if not hmac.compare_digest(signature, hmac_sha256(self._server_key, self._transcript)):
            raise PgError("28P01", "incorrect server signature")

    def _keys(self, salt: bytes, iterations: int) -> tuple[bytes, bytes | None]:
        if isinstance(self._credentials, ScramKeys):
            return self._credentials.client_key, self._credentials.server_key
        salted = salted_password(self._credentials.password, salt, iterations)
        return hmac_sha256(salted, b"Client Key"), hmac_sha256(salted, b"Server Key")


class _Attributes:
    """Reads `a=value,b=value`."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.rest = text

    def read(self, expected: str) -> bytes:
        if self.rest[:1] != expected.encode():
            raise _malformed(f'Expected attribute "{expected}" but found "{_shown(self.rest)}".')
        return self._any()

    def skip_rest(self) -> None:
        while self.rest:
            self._any()

    def read_proof(self) -> tuple[bytes, bytes]:
        """(all that came before the proof, the proof), which must be the last attribute."""
        while True:
            start = len(self._text) - len(self.rest)
            attribute = self.rest[:1]
            value = self._any()
            if attribute == b"p":
                break
        proof = _decoded(value, "Malformed proof in client-final-message.")
        if len(proof) != KEY_BYTES:
            raise _malformed("Malformed proof in client-final-message.")
        if self.rest:
            raise _malformed("Garbage found at the end of client-final-message.")
        return self._text[: start - 1], proof

    def _any(self) -> bytes:
        attribute = self.rest[:1]
        if not attribute:
            raise _malformed("Attribute expected, but found end of string.")
        if not attribute.isalpha():
            raise _malformed(f'Attribute expected, but found invalid character "{_shown(self.rest)}".')
        if self.rest[1:2] != b"=":
            raise _malformed(f'Expected character "=" for attribute "{attribute.decode()}".')
        value, _, self.rest = self.rest[2:].partition(b",")
        return value


def _check_text(message: bytes) -> None:
    if not message:
        raise _malformed("The message is empty.")
    if 0 in message:
        raise _malformed("Message length does not match input length.")


def _decoded(value: bytes, complaint: str) -> bytes:
    try:
        return from_base64(value)
    except ValueError:
        raise _malformed(complaint) from None


def _malformed(detail: str) -> PgError:
    return violation("malformed SCRAM message", detail=detail)


def _shown(text: bytes) -> str:
    """The first character as PostgreSQL's sanitize_char() shows it."""
    code = text[0] if text else 0
    return f"'{chr(code)}'" if 0x21 <= code <= 0x7E else f"0x{code:02x}"
