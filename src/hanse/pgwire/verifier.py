"""What a server keeps of a password: a SCRAM verifier, in the form of pg_authid.rolpassword.

``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``, the last three in base64 (RFC 5803 and PostgreSQL
manual, 53.8 "pg_authid"). PostgreSQL accepts it literally in `ALTER ROLE … PASSWORD '…'`, which is how all groups get
the same one. From it one can check a login and prove to be the server, but not log in; logging in needs the ClientKey,
whose hash the StoredKey is.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import secrets
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from .saslprep import saslprep

MECHANISM: Final = "SCRAM-SHA-256"
MECHANISM_PLUS: Final = "SCRAM-SHA-256-PLUS"
KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
ITERATIONS_DEFAULT: Final = 4096  # PostgreSQL's scram_iterations
ITERATIONS_MAX: Final = 10_000_000  # a server may not make us compute for more than a few seconds

_VERIFIER = re.compile(r"SCRAM-SHA-256\$([0-9]{1,10}):([A-Za-z0-9+/=]*)\$([A-Za-z0-9+/=]*):([A-Za-z0-9+/=]*)")


@dataclass(frozen=True, slots=True)
class Verifier:
    salt: bytes
    iterations: int
    stored_key: bytes  # SHA-256 of the ClientKey
    server_key: bytes

    def __str__(self) -> str:
        salt, stored, server = (b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key))
        return f"{MECHANISM}${self.iterations}:{salt}${stored}:{server}"

    def __repr__(self) -> str:
        return f"Verifier(iterations={self.iterations})"  # keys do not belong in logs


def make_verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS_DEFAULT) -> str:
    """The verifier of a password; `salt` is random unless given."""
    used_salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    salted = salted_password(password, used_salt, iterations)
    client_key = hmac_sha256(salted, b"Client Key")
    return str(Verifier(used_salt, iterations, sha256(client_key), hmac_sha256(salted, b"Server Key")))


def parse_verifier(text: str) -> Verifier | None:
    """None for what is no SCRAM-SHA-256 verifier: an md5 hash, a plain password, a damaged one."""
    match = _VERIFIER.fullmatch(text)
    if match is None:
        return None
    iterations = int(match[1])
    try:
        salt, stored_key, server_key = (from_base64(part.encode()) for part in match.group(2, 3, 4))
    except ValueError:
        return None
    if len(stored_key) != KEY_BYTES or len(server_key) != KEY_BYTES or not 0 < iterations <= 0x7FFFFFFF:
        return None
    return Verifier(salt, iterations, stored_key, server_key)


def mock_verifier(user: str, secret: bytes) -> Verifier:
    """For a user that does not exist, or has no password: looks as real, always the same, and no password fits.

    The salt comes from the name and a secret of the cluster, as PostgreSQL's scram_mock_salt() makes it; the keys are
    never compared with success, as the exchange is doomed.
    """
    salt = hashlib.sha256(user.encode("utf-8", "surrogatepass") + secret).digest()[:SALT_BYTES]
    return Verifier(salt, ITERATIONS_DEFAULT, bytes(KEY_BYTES), bytes(KEY_BYTES))


def salted_password(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", saslprep(password), salt, iterations)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def from_base64(data: bytes) -> bytes:
    """Strict: no line breaks, no missing or extra padding. Raises ValueError."""
    return binascii.a2b_base64(data, strict_mode=True)
