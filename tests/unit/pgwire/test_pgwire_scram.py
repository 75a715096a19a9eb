"""SCRAM-SHA-256: the RFC's own example, logins of all kinds, and the words for what is refused."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest

from hanse.core.errors import PgError
from hanse.pgwire.saslprep import saslprep
from hanse.pgwire.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    ClientScram,
    Password,
    ScramKeys,
    ServerScram,
    make_verifier,
    mock_verifier,
    parse_verifier,
)

SALT = bytes(range(16))
VERIFIER = make_verifier("pencil", SALT, 64)
HASH = b"h" * 32


def server(verifier: str | None = VERIFIER, *, certificate_hash: bytes | None = None) -> ServerScram:
    return ServerScram(
        user="joe",
        verifier=None if verifier is None else parse_verifier(verifier),
        mock_secret=b"secret",
        nonce=b"s" * 18,
        certificate_hash=certificate_hash,
    )


def client(credentials: Password | ScramKeys, *, certificate_hash: bytes | None = None) -> ClientScram:
    return ClientScram(credentials, nonce=b"c" * 18, certificate_hash=certificate_hash)


def log_in(a: ClientScram, b: ServerScram) -> str:
    """The whole exchange; the mechanism it ran with."""
    mechanism, first = a.first(b.mechanisms)
    a.verify(b.final(a.final(b.first(mechanism, first))))
    return mechanism


def test_the_example_of_rfc_7677() -> None:
    salt, nonce = "W22ZaJ0SNY7soEsUEjb6gQ==", b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    server_first = b"r=" + nonce + b",s=" + salt.encode() + b",i=4096"
    client_final = b"c=biws,r=" + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    server_final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    ours = server(make_verifier("pencil", b64decode(salt), 4096))
    ours._server_nonce = nonce[20:]
    assert ours.first(MECHANISM, b"n,,n=user,r=" + nonce[:20]) == server_first
    assert ours.final(client_final) == server_final

    theirs = client(Password("pencil"))
    theirs._nonce, theirs._first_bare = nonce[:20], b"n=user,r=" + nonce[:20]
    assert theirs.final(server_first) == client_final
    theirs.verify(server_final)


def test_login_by_password_gives_keys_that_log_in() -> None:
    first = server()
    assert log_in(client(Password("pencil")), first) == MECHANISM
    assert first.client_key is not None and len(first.client_key) == 32
    for server_key in (first.server_key, None):
        second = server()
        log_in(client(ScramKeys(first.client_key, server_key)), second)
        assert second.client_key == first.client_key


def test_keys_do_not_fit_another_verifier() -> None:
    first = server()
    log_in(client(Password("pencil")), first)
    assert first.client_key is not None
    other_salt = server(make_verifier("pencil", b"other salt", 64))
    with pytest.raises(PgError, match='password authentication failed for user "joe"'):
        log_in(client(ScramKeys(first.client_key)), other_salt)


@pytest.mark.parametrize("verifier", [VERIFIER, None, "md5abc", "SCRAM-SHA-256$1:x$y:z"])
def test_wrong_password_and_unknown_user_fail_alike(verifier: str | None) -> None:
    ours = server(verifier)
    with pytest.raises(PgError) as caught:
        log_in(client(Password("pencil2")), ours)
    error = caught.value
    assert (error.sqlstate, error.severity, error.detail) == ("28P01", "FATAL", None)
    assert error.message == 'password authentication failed for user "joe"'
    assert ours.client_key is None


def test_a_doomed_exchange_fails_even_with_a_right_proof() -> None:
    ours = server(None)
    ours._verifier = parse_verifier(VERIFIER) or ours._verifier  # as if someone had guessed the mock's keys
    with pytest.raises(PgError, match="password authentication failed"):
        log_in(client(Password("pencil")), ours)
    assert ours.client_key is None


def test_mock_salt_is_stable_and_differs_by_user_and_secret() -> None:
    salts = {mock_verifier(user, secret).salt for user in ("a", "b") for secret in (b"1", b"2")}
    assert len(salts) == 4
    assert mock_verifier("a", b"1") == mock_verifier("a", b"1")
    assert all(len(salt) == 16 for salt in salts)


def test_channel_binding() -> None:
    assert log_in(client(Password("pencil"), certificate_hash=HASH), server(certificate_hash=HASH)) == MECHANISM_PLUS
    # A client without TLS knowledge, and a server without a certificate's hash
    assert log_in(client(Password("pencil")), server(certificate_hash=HASH)) == MECHANISM
    assert log_in(client(Password("pencil"), certificate_hash=HASH), server()) == MECHANISM


def test_another_certificate_in_between_is_noticed() -> None:
    with pytest.raises(PgError, match="SCRAM channel binding check failed") as caught:
        log_in(client(Password("pencil"), certificate_hash=b"x" * 32), server(certificate_hash=HASH))
    assert caught.value.sqlstate == "28000"


def test_a_removed_offer_of_channel_binding_is_noticed() -> None:
    _, first = client(Password("pencil"), certificate_hash=HASH).first([MECHANISM])
    with pytest.raises(PgError, match="SCRAM channel binding negotiation error"):
        server(certificate_hash=HASH).first(MECHANISM, first)


FIRST = [
    (b"", "malformed SCRAM message", "The message is empty."),
    (b"n,,n=,r=a\0", "malformed SCRAM message", "Message length does not match input length."),
    (b"x,,n=,r=a", "malformed SCRAM message", "Unexpected channel-binding flag \"'x'\"."),
    (b"n", "malformed SCRAM message", 'Comma expected, but found character "0x00".'),
    (b"y;", "malformed SCRAM message", "Comma expected, but found character \"';'\"."),
    (b"n,x", "malformed SCRAM message", "Unexpected attribute \"'x'\" in client-first-message."),
    (b"n,a=joe,n=,r=a", "client uses authorization identity, but it is not supported", None),
    (b"n,,m=x,n=,r=a", "client requires an unsupported SCRAM extension", None),
    (b"n,,r=a", "malformed SCRAM message", 'Expected attribute "n" but found "\'r\'".'),
    (b"n,,n,r=a", "malformed SCRAM message", 'Expected character "=" for attribute "n".'),
    (b"n,,n=", "malformed SCRAM message", 'Expected attribute "r" but found "0x00".'),
    (b"n,,n=,r=a\x7f", "non-printable characters in SCRAM nonce", None),
    (b"n,,n=,r=a,1=x", "malformed SCRAM message", "Attribute expected, but found invalid character \"'1'\"."),
    (
        b"p=tls-server-end-point,,n=,r=a",
        "malformed SCRAM message",
        "The client selected SCRAM-SHA-256 without channel binding, "
        "but the SCRAM message includes channel binding data.",
    ),
]


@pytest.mark.parametrize(("message", "words", "detail"), FIRST)
def test_malformed_first_message(message: bytes, words: str, detail: str | None) -> None:
    with pytest.raises(PgError) as caught:
        server().first(MECHANISM, message)
    assert (caught.value.message, caught.value.detail) == (words, detail)
    assert caught.value.sqlstate == ("0A000" if "support" in words else "08P01")


def test_malformed_first_message_with_channel_binding() -> None:
    with pytest.raises(PgError) as caught:
        server(certificate_hash=HASH).first(MECHANISM_PLUS, b"n,,n=,r=a")
    assert "does not include channel binding data" in str(caught.value.detail)
    with pytest.raises(PgError, match='unsupported SCRAM channel-binding type "tls-unique"'):
        server(certificate_hash=HASH).first(MECHANISM_PLUS, b"p=tls-unique,,n=,r=a")
    with pytest.raises(PgError, match="client selected an invalid SASL authentication mechanism"):
        server().first(MECHANISM_PLUS, b"p=tls-server-end-point,,n=,r=a")


NONCE = b"a" + b64encode(b"s" * 18)
PROOF = b64encode(bytes(32))
FINAL = [
    (b"r=x", "malformed SCRAM message", 'Expected attribute "c" but found "\'r\'".'),
    (b"c=eSws,r=" + NONCE, "unexpected SCRAM channel-binding attribute in client-final-message", None),
    (b"c=biws,r=" + NONCE, "malformed SCRAM message", "Attribute expected, but found end of string."),
    (b"c=biws,r=x,p=" + PROOF, "invalid SCRAM response", "Nonce does not match."),
    (b"c=biws,r=" + NONCE + b",p=AAAA", "malformed SCRAM message", "Malformed proof in client-final-message."),
    (b"c=biws,r=" + NONCE + b",p=%", "malformed SCRAM message", "Malformed proof in client-final-message."),
    (
        b"c=biws,r=" + NONCE + b",p=" + PROOF + b",x=1",
        "malformed SCRAM message",
        "Garbage found at the end of client-final-message.",
    ),
    (b"c=biws,r=" + NONCE + b",p=" + PROOF, 'password authentication failed for user "joe"', None),
    (b"c=biws,r=" + NONCE + b",x=1,p=" + PROOF, 'password authentication failed for user "joe"', None),
]


@pytest.mark.parametrize(("message", "words", "detail"), FINAL)
def test_malformed_final_message(message: bytes, words: str, detail: str | None) -> None:
    ours = server()
    ours.first(MECHANISM, b"n,,n=,r=a,x=ignored")
    with pytest.raises(PgError) as caught:
        ours.final(message)
    assert (caught.value.message, caught.value.detail) == (words, detail)


def started() -> tuple[ClientScram, bytes]:
    theirs = client(Password("pencil"))
    theirs.first([MECHANISM])
    return theirs, b64encode(b"c" * 18)


@pytest.mark.parametrize(
    "rest", [b",s=AAAA,i=64", b"x,s=%,i=64", b"x,s=AAAA,i=0", b"x,s=AAAA,i=x", b"x,s=AAAA,i=99999999", b"x,i=64"]
)
def test_client_refuses_a_bad_server_first_message(rest: bytes) -> None:
    theirs, nonce = started()
    with pytest.raises(PgError) as caught:
        theirs.final(b"r=" + nonce + rest)
    assert caught.value.sqlstate == "08P01"


def test_client_refuses_a_foreign_nonce() -> None:
    theirs, _ = started()
    with pytest.raises(PgError, match="invalid SCRAM response"):
        theirs.final(b"r=somethingelse,s=AAAA,i=64")


@pytest.mark.parametrize("final", [b"v=" + PROOF, b"e=invalid-proof", b"v=%", b"x"])
def test_client_refuses_a_server_that_proves_nothing(final: bytes) -> None:
    theirs, nonce = started()
    theirs.final(b"r=" + nonce + b"x,s=AAAA,i=64")
    with pytest.raises(PgError):
        theirs.verify(final)


def test_client_cannot_be_led_around_its_proof() -> None:
    theirs, nonce = started()
    with pytest.raises(PgError, match="out of order"):
        theirs.verify(b"v=" + PROOF)
    theirs.final(b"r=" + nonce + b"x,s=AAAA,i=64")
    with pytest.raises(PgError, match="out of order"):
        theirs.final(b"r=" + nonce + b"y,s=AAAA,i=64")


def test_client_needs_a_mechanism_it_speaks() -> None:
    with pytest.raises(PgError, match="none of the server's SASL authentication mechanisms are supported"):
        client(Password("x")).first(["OAUTHBEARER"])


def test_verifier_text() -> None:
    parsed = parse_verifier(VERIFIER)
    assert parsed is not None
    assert (str(parsed), parsed.salt, parsed.iterations) == (VERIFIER, SALT, 64)
    assert make_verifier("a") != make_verifier("a")
    assert "==" not in repr(parsed)  # no key in a log


@pytest.mark.parametrize("damage", [("SCRAM", "SCRUM"), ("$64:", "$0:"), ("$64:", "$x:"), (":", ""), ("=", "")])
def test_damaged_verifier_is_none(damage: tuple[str, str]) -> None:
    assert parse_verifier(VERIFIER.replace(*damage)) is None
    assert parse_verifier(VERIFIER + "\n") is None


# RFC 4013, section 3, then PostgreSQL's exceptions
PREPARED = {
    "I\u00adX": b"IX",
    "user": b"user",
    "USER": b"USER",
    "\u00aa": b"a",
    "\u2168": b"IX",
    "\u0007": b"\x07",  # prohibited, but ASCII is never touched
    "\u0627\u0031": "\u0627\u0031".encode(),  # wrong directions: raw
    "\u0627\u0031\u0628": "\u0627\u0031\u0628".encode(),
    "a\u0627": "a\u0627".encode(),
    "\u00ad": "\u00ad".encode(),  # nothing left: raw
    "\u00a0x": b" x",
    "\u200bx": b" x",  # in both tables; PostgreSQL looks for spaces first
    "\u0080\u00aa": "\u0080\u00aa".encode(),  # prohibited: all raw
    "\u0221\u00aa": "\u0221\u00aa".encode(),  # unassigned in Unicode 3.2: raw
    "\udcff\u00aa": b"\xff\xc2\xaa",  # no UTF-8: raw
}


@pytest.mark.parametrize("password", PREPARED)
def test_saslprep(password: str) -> None:
    assert saslprep(password) == PREPARED[password]
