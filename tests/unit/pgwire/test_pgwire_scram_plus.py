"""SCRAM-SHA-256-PLUS byte by byte: every message is computed here again, from RFC 5802, 5929 and 7677 alone."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import pytest

from hanse.core.errors import PgError
from hanse.pgwire.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    ClientScram,
    Password,
    ServerScram,
    make_verifier,
    parse_verifier,
)

SALT, ITERATIONS = bytes(range(16)), 4096
CERTIFICATE_HASH = hashlib.sha256(b"a certificate").digest()
CLIENT_NONCE, SERVER_NONCE = b64encode(b"c" * 18), b64encode(b"s" * 18)
SALTED = hashlib.pbkdf2_hmac("sha256", b"pencil", SALT, ITERATIONS)
CLIENT_KEY = hmac.digest(SALTED, b"Client Key", "sha256")
SERVER_KEY = hmac.digest(SALTED, b"Server Key", "sha256")

CLIENT_FIRST = b"p=tls-server-end-point,,n=,r=" + CLIENT_NONCE
SERVER_FIRST = b"r=" + CLIENT_NONCE + SERVER_NONCE + b",s=" + b64encode(SALT) + b",i=4096"
BINDING = b"c=" + b64encode(b"p=tls-server-end-point,," + CERTIFICATE_HASH)
WITHOUT_PROOF = BINDING + b",r=" + CLIENT_NONCE + SERVER_NONCE


def auth_message(without_proof: bytes) -> bytes:
    return b"n=,r=" + CLIENT_NONCE + b"," + SERVER_FIRST + b"," + without_proof


def client_final(without_proof: bytes) -> bytes:
    signature = hmac.digest(hashlib.sha256(CLIENT_KEY).digest(), auth_message(without_proof), "sha256")
    return without_proof + b",p=" + b64encode(bytes(a ^ b for a, b in zip(CLIENT_KEY, signature, strict=True)))


SERVER_FINAL = b"v=" + b64encode(hmac.digest(SERVER_KEY, auth_message(WITHOUT_PROOF), "sha256"))


def server(certificate_hash: bytes | None = CERTIFICATE_HASH) -> ServerScram:
    verifier = parse_verifier(make_verifier("pencil", SALT, ITERATIONS))
    return ServerScram(
        user="joe", verifier=verifier, mock_secret=b"m", nonce=b"s" * 18, certificate_hash=certificate_hash
    )


def test_each_message_is_these_bytes() -> None:
    ours = ClientScram(Password("pencil"), nonce=b"c" * 18, certificate_hash=CERTIFICATE_HASH)
    theirs = server()
    assert theirs.mechanisms == (MECHANISM_PLUS, MECHANISM)
    assert ours.first(theirs.mechanisms) == (MECHANISM_PLUS, CLIENT_FIRST)
    assert theirs.first(MECHANISM_PLUS, CLIENT_FIRST) == SERVER_FIRST
    assert ours.final(SERVER_FIRST) == client_final(WITHOUT_PROOF)
    assert theirs.final(client_final(WITHOUT_PROOF)) == SERVER_FINAL
    ours.verify(SERVER_FINAL)
    assert theirs.client_key == CLIENT_KEY


def test_the_offer_that_somebody_took_away_is_noticed() -> None:
    """The client speaks channel binding and was not offered it ('y'); we did offer it."""
    with pytest.raises(PgError) as caught:
        server().first(MECHANISM, b"y,,n=,r=" + CLIENT_NONCE)
    assert (caught.value.sqlstate, caught.value.message) == ("28000", "SCRAM channel binding negotiation error")
    assert server(None).first(MECHANISM, b"y,,n=,r=" + CLIENT_NONCE) == SERVER_FIRST
    assert server().first(MECHANISM, b"n,,n=,r=" + CLIENT_NONCE) == SERVER_FIRST  # it does not speak it: asyncpg


@pytest.mark.parametrize(
    "binding",
    [
        b"p=tls-server-end-point,," + hashlib.sha256(b"another certificate").digest(),
        b"p=tls-server-end-point,,",
        b"p=tls-server-end-point,," + CERTIFICATE_HASH + b"x",
        b"n,,",
        b"y,,",
    ],
    ids=["another certificate", "no hash", "longer", "unbound", "unbound, knowing"],
)
def test_another_binding_is_refused_though_the_proof_is_right(binding: bytes) -> None:
    theirs = server()
    theirs.first(MECHANISM_PLUS, CLIENT_FIRST)
    with pytest.raises(PgError) as caught:
        theirs.final(client_final(b"c=" + b64encode(binding) + b",r=" + CLIENT_NONCE + SERVER_NONCE))
    assert (caught.value.sqlstate, caught.value.message) == ("28000", "SCRAM channel binding check failed")
    assert theirs.client_key is None


@pytest.mark.parametrize(
    ("mechanism", "first"),
    [
        (MECHANISM_PLUS, b"n,,n=,r=x"),
        (MECHANISM_PLUS, b"y,,n=,r=x"),
        (MECHANISM_PLUS, b"p=tls-unique,,n=,r=x"),
        (MECHANISM_PLUS, b"p=tls-exporter,,n=,r=x"),
        (MECHANISM, b"p=tls-server-end-point,,n=,r=x"),
    ],
)
def test_a_flag_that_does_not_fit_the_mechanism(mechanism: str, first: bytes) -> None:
    with pytest.raises(PgError) as caught:
        server().first(mechanism, first)
    assert caught.value.sqlstate == "08P01"
