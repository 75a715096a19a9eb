"""Certificates for tests, made in a moment: one that signs itself, with any key and hash."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


def make_certificate(
    directory: Path,
    name: str = "server",
    *,
    key: str = "ec",
    digest: hashes.HashAlgorithm | None = None,
    passphrase: bytes | None = None,
) -> tuple[Path, Path]:
    """(certificate, key) files of mode 0600, for localhost and 127.0.0.1. `key`: ec, rsa, or ed25519."""
    secret: Any = {
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[key]()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(subject, subject, secret.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, None if key == "ed25519" else digest or hashes.SHA256())
    )
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    files = directory / f"{name}.crt", directory / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    files[1].chmod(0o600)
    return files


def der(certificate: Path) -> bytes:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)


def make_node_certificates(directory: Path, *names: str) -> Path:
    """`ca.crt`, and `<name>.crt`, `<name>.key` for each node, whose DNS name is its own; gives `ca.crt`."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test cluster")])
    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(authority, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    signed = builder(authority, authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    (directory / "ca.crt").write_bytes(signed.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        (directory / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / f"{name}.key").write_bytes(secret)
    return directory / "ca.crt"
