"""TLS without a network: the stream against Python's own client, and what certificates and keys are refused for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from hanse.core.errors import UserMistake
from hanse.pgwire.tls import TlsStream, end_point, load
from support.certificates import der, make_certificate


class Peer:
    """A client of the standard library between two buffers."""

    def __init__(self, certificate: Path, *, alpn: str | None = None, version: ssl.TLSVersion | None = None) -> None:
        context = ssl.create_default_context(cafile=str(certificate))
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        if version is not None:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = version
            context.set_ciphers("ALL:@SECLEVEL=0")
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.established = False

    def turn(self, data: bytes) -> bytes:
        """Takes what the server sent, gives what is to be sent to it."""
        self.incoming.write(data)
        if not self.established:
            try:
                self.tls.do_handshake()
                self.established = True
            except ssl.SSLWantReadError:
                pass
        return self.outgoing.read()

    def say(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    def hear(self, data: bytes, size: int) -> bytes:
        self.incoming.write(data)
        found = b""
        while len(found) < size:
            found += self.tls.read(1 << 20)
        return found


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path)


def connected(files: tuple[Path, Path], *, alpn: str | None = None) -> tuple[Peer, TlsStream]:
    peer, stream = Peer(files[0], alpn=alpn), TlsStream(load(*files).context)
    data = b""
    while not (peer.established and stream.established):
        assert stream.receive(peer.turn(data)) == b""
        data = stream.data_to_send()
    return peer, stream


def test_what_is_said_arrives_in_both_directions(files: tuple[Path, Path]) -> None:
    peer, stream = connected(files)
    assert peer.tls.version() == "TLSv1.3"
    assert stream.receive(peer.say(b"question")) == b"question"
    assert peer.hear(b"".join(stream.encrypt(b"answer")), 6) == b"answer"
    large = os.urandom(3_000_000)
    assert stream.receive(peer.say(large)) == large
    pieces = stream.encrypt(large)
    assert peer.hear(b"".join(pieces), len(large)) == large
    assert len(pieces) > 1 and max(map(len, pieces)) < 300_000  # bounded, however large the message is


def test_every_cut_of_the_input_gives_the_same(files: tuple[Path, Path]) -> None:
    peer, stream = connected(files)
    said = peer.say(b"one") + peer.say(b"two")
    assert b"".join(stream.receive(said[i : i + 1]) for i in range(len(said))) == b"onetwo"
    assert not stream.ended


def test_alpn_is_told(files: tuple[Path, Path]) -> None:
    assert connected(files, alpn="postgresql")[1].alpn == "postgresql"
    assert connected(files)[1].alpn is None
    assert connected(files, alpn="http/1.1")[1].alpn is None


def test_an_end_is_noticed_and_said(files: tuple[Path, Path]) -> None:
    peer, stream = connected(files)
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    assert stream.receive(peer.outgoing.read()) == b""
    assert stream.ended
    peer, stream = connected(files)
    stream.end()
    peer.incoming.write(stream.data_to_send())
    assert peer.tls.read(1) == b""  # the end; without it, it would want more


def test_what_is_no_tls_is_answered_by_an_alert(files: tuple[Path, Path]) -> None:
    stream = TlsStream(load(*files).context)
    with pytest.raises(ssl.SSLError):
        stream.receive(b"\x00\x00\x00\x08\x04\xd2\x16\x2f" * 4)
    assert not stream.established


def test_damaged_input_raises_nothing_else(files: tuple[Path, Path]) -> None:
    """Whatever comes, the stream goes on or raises ssl.SSLError."""
    context, chance = load(*files).context, random.Random(7)
    hello = Peer(files[0]).turn(b"")
    for _ in range(300):
        data = bytearray(hello)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        del data[chance.randrange(1, len(data)) :]
        stream = TlsStream(context)
        with contextlib.suppress(ssl.SSLError):
            assert stream.receive(bytes(data)) == b""
            assert stream.receive(chance.randbytes(100)) == b""
        stream.end()
        assert not stream.established


def test_old_versions_are_refused(files: tuple[Path, Path]) -> None:
    with pytest.warns(DeprecationWarning):
        peer = Peer(files[0], version=ssl.TLSVersion.TLSv1_1)
    stream = TlsStream(load(*files).context)
    try:
        hello = peer.turn(b"")
    except ssl.SSLError:
        return  # the library on this machine cannot even ask
    with pytest.raises(ssl.SSLError):
        stream.receive(hello)


def test_sessions_are_not_resumed_or_renegotiated(files: tuple[Path, Path]) -> None:
    context = load(*files).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2 and context.num_tickets == 0
    assert context.options & ssl.OP_NO_RENEGOTIATION and context.options & ssl.OP_NO_COMPRESSION


# --- tls-server-end-point (RFC 5929, 4.1)


@pytest.mark.parametrize(
    ("key", "digest", "expected"),
    [
        ("ec", hashes.SHA256(), "sha256"),
        ("ec", hashes.SHA384(), "sha384"),
        ("rsa", hashes.SHA512(), "sha512"),
        ("rsa", hashes.SHA224(), "sha224"),
    ],
)
def test_the_end_point_is_hashed_as_the_signature_is(
    tmp_path: Path, key: str, digest: hashes.HashAlgorithm, expected: str
) -> None:
    files = make_certificate(tmp_path, key=key, digest=digest)
    content = der(files[0])
    assert end_point(content) == hashlib.new(expected, content).digest()
    assert load(*files).end_point == end_point(content)


def test_a_signature_without_a_hash_gives_no_end_point(tmp_path: Path) -> None:
    assert load(*make_certificate(tmp_path, key="ed25519")).end_point is None


# --- files that are refused


def refused(certificate: Path, key: Path) -> str:
    with pytest.raises(UserMistake) as caught:
        load(certificate, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_certificate_or_key(tmp_path: Path, files: tuple[Path, Path]) -> None:
    certificate, key = files
    missing, empty, text = tmp_path / "missing", tmp_path / "empty", tmp_path / "text"
    empty.touch(0o600)
    text.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    text.chmod(0o600)
    assert refused(missing, key) == f"the TLS certificate {missing} cannot be read: No such file or directory"
    assert refused(certificate, missing) == f"the TLS key {missing} cannot be read: No such file or directory"
    assert refused(empty, key) == f"the TLS certificate {empty} holds no certificate in PEM form"
    assert refused(text, key) == f"the TLS certificate {text} is damaged"
    assert refused(certificate, empty).startswith(f"the TLS key {empty} is no private key in PEM form")
    assert refused(certificate, tmp_path).startswith(f"the TLS key {tmp_path} ")


def test_a_key_of_another_certificate(tmp_path: Path, files: tuple[Path, Path]) -> None:
    _, other = make_certificate(tmp_path, "other")
    assert refused(files[0], other) == f"the TLS key {other} does not belong to the certificate {files[0]}"


def test_a_key_that_others_can_read(files: tuple[Path, Path]) -> None:
    certificate, key = files
    key.chmod(0o644)
    assert "has group or world access" in refused(certificate, key)
    key.chmod(0o400)
    load(certificate, key)
    key.chmod(0o640)
    if os.geteuid() == 0:  # root's keys may be read by a group, as distributions keep them
        load(certificate, key)
    else:
        assert "permissions u=rw (0600) or less" in refused(certificate, key)


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, passphrase=b"secret")
    assert "is protected by a passphrase" in refused(certificate, key)
