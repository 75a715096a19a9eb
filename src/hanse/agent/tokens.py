"""Tokens, by which a machine becomes a node: good once, for a time, and they say who must answer.

    hanse-data/tls/nodes/tokens/<SHA-256 of the secret>     when it ends, in seconds since 1970

A token is the secret and the SHA-256 of the authority's certificate, both in base64. The secret itself is kept nowhere. Files lie
beside the authority's key, since only who has that can let somebody in; taking a token is renaming its file, which succeeds once.
"""

from __future__ import annotations

import base64
import hashlib
import secrets as random
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import UserMistake

SECRET_BYTES = 18
_TAKEN = ".taken"


class TokenRefused(Exception):
    """The message is for whoever has shown the token."""


@dataclass(frozen=True, slots=True)
class Token:
    secret: str
    fingerprint: bytes  # of the authority

    def __str__(self) -> str:
        return f"{self.secret}.{base64.urlsafe_b64encode(self.fingerprint).decode().rstrip('=')}"

    @classmethod
    def parse(cls, text: str) -> Token:
        """Raises UserMistake."""
        secret, _, rest = text.strip().partition(".")
        try:
            fingerprint = base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4))
        except ValueError:
            fingerprint = b""
        if not secret or len(fingerprint) != hashlib.sha256().digest_size:
            raise UserMistake("this is no token; `hanse token` prints one, on a machine of the cluster")
        return cls(secret, fingerprint)


def fingerprint_of(certificate: bytes) -> bytes:
    """Of a certificate in PEM form. Raises ValueError."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))).digest()


def make_token(authority: Path, valid_s: float) -> Token:
    """`authority`: the directory of the nodes' authority. Raises UserMistake where its key is not here."""
    if not (authority / "ca.key").exists():
        raise UserMistake(f"the key of the cluster's authority is not on this machine ({authority / 'ca.key'})")
    secret = random.token_urlsafe(SECRET_BYTES)
    file = _file(authority, secret)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    _forget_old(file.parent)
    file.touch(mode=0o600)
    file.write_text(f"{time.time() + valid_s}\n")
    return Token(secret, fingerprint_of((authority / "ca.crt").read_bytes()))


def take_token(authority: Path, secret: str) -> Path:
    """From now on nobody else has it. What is given is for `give_back`. Raises TokenRefused."""
    file = _file(authority, secret)
    taken = file.with_suffix(_TAKEN)
    try:
        ends = float(file.read_text())
        file.rename(taken)
    except (FileNotFoundError, ValueError):
        raise TokenRefused("the token is wrong, or was used before") from None
    if ends <= time.time():
        taken.unlink()
        raise TokenRefused("the token is too old; `hanse token` makes another")
    return taken


def give_back(taken: Path) -> None:
    """Nobody came in by it."""
    taken.rename(taken.with_suffix(""))


def _file(authority: Path, secret: str) -> Path:
    return authority / "tokens" / hashlib.sha256(secret.encode()).hexdigest()


def _forget_old(directory: Path) -> None:
    for file in directory.iterdir():
        try:
            over = float(file.read_text()) < time.time()
        except (OSError, ValueError):
            continue
        if over:
            file.unlink(missing_ok=True)
