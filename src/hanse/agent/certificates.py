"""TLS of a local cluster: what `hanse up` was asked for, and a certificate of its own where none was given.

    <data>/tls/ca.crt        what clients trust: sslmode=verify-full sslrootcert=<data>/tls/ca.crt
    <data>/tls/ca.key        mode 0600: signs the next certificate, when names are missing or the end comes near
    <data>/tls/server.crt    for localhost, the machine's name, the loopback addresses and the address listened on
    <data>/tls/server.key    mode 0600
    <data>/tls/nodes/ca.crt, ca.key         an authority for nodes alone: the key of the other one may be kept elsewhere
    <data>/<node>/tls/node.crt, node.key    of a node among nodes (consensus/raft/transport.py): its DNS name is the node's

The authority is made once. The certificate is checked at every `hanse up` and made anew when it does not serve any more;
clients that trust the authority need not be told. Gateways notice new files by themselves.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ClusterConfig
from ..core.errors import UserMistake
from ..core.node_tls import NodeTls, node_tls
from ..pgwire import tls

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

Names = tuple[frozenset[str], frozenset[str]]  # (DNS names, IP addresses) that a certificate is good for

MODES = ("off", "on", "require")
SELF_MADE = "self-made"  # as --tls-cert: back from a certificate that was given to our own
DIRECTORY = "tls"
NODES = "nodes"
DAYS_VALID = 3650
DAYS_LEFT_MIN = 365  # a cluster may run for long, and only `hanse up` looks


def check_options(mode: str | None, certificate: str | None, key: str | None) -> None:
    """Raises UserMistake for files that cannot be used, before anything is made of them."""
    if mode not in (None, *MODES):
        raise UserMistake(f"--tls must be off, on or require, not {mode}")
    if certificate == SELF_MADE:
        if key is not None:
            raise UserMistake(f"--tls-cert {SELF_MADE} has a key of its own: leave out --tls-key")
        return
    if (certificate is None) != (key is None):
        raise UserMistake("--tls-cert and --tls-key belong together")
    if certificate is not None and key is not None:
        if mode == "off":
            raise UserMistake("--tls off needs no certificate")
        tls.load(Path(certificate), Path(key))


def files_of(cluster: ClusterConfig, data_dir: Path) -> tuple[Path, Path]:
    """(certificate, key) that the gateways use."""
    if cluster.tls_cert is not None and cluster.tls_key is not None:
        return Path(cluster.tls_cert), Path(cluster.tls_key)
    return data_dir / DIRECTORY / "server.crt", data_dir / DIRECTORY / "server.key"


def provide(cluster: ClusterConfig, data_dir: Path) -> None:
    """Makes the certificate where it is ours to make, and checks it where it was given. Raises UserMistake."""
    if cluster.tls == "off":
        return
    certificate, key = files_of(cluster, data_dir)
    names = names_of_gateways(cluster.host)
    if cluster.tls_cert is None and not _serves(certificate, key, names, data_dir / DIRECTORY / "ca.crt"):
        _make(data_dir / DIRECTORY, names, certificate, key)
    tls.load(certificate, key)


def authority_file(data_dir: Path) -> Path:
    """Of nodes."""
    return data_dir / DIRECTORY / NODES / "ca.crt"


def node_files(data_dir: Path, node: str) -> tuple[Path, Path]:
    """(certificate, key) of a node among nodes."""
    directory = data_dir / node / DIRECTORY
    return directory / "node.crt", directory / "node.key"


def tls_of_a_node(cluster: ClusterConfig, data_dir: Path) -> NodeTls:
    """For commands: as the first node that is here. Raises UserMistake for files that cannot be used."""
    return node_tls(authority_file(data_dir), *node_files(data_dir, cluster.nodes[0].name))


def provide_for_nodes(cluster: ClusterConfig, data_dir: Path) -> None:
    """The nodes' own certificates, whatever clients are shown. Raises UserMistake."""
    authority = authority_file(data_dir)
    for node in cluster.nodes:
        names = frozenset({node.name}), frozenset[str]()
        certificate, key = node_files(data_dir, node.name)
        if not _serves(certificate, key, names, authority):
            _make(authority.parent, names, certificate, key)


def sign(directory: Path, request: bytes, names: Names) -> bytes:
    """A certificate of the authority in `directory`, for the key of a request. Raises ValueError or UserMistake."""
    from cryptography import x509

    asked = x509.load_pem_x509_csr(request)
    if not asked.is_signature_valid:
        raise ValueError("whoever asks for a certificate does not have its key")
    return _pem(_certificate(names, *_authority(directory), asked.public_key()))


def request_certificate() -> tuple[bytes, bytes]:
    """(key, request) of somebody who has no authority's key; the names are said beside it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(_name("hanse")).sign(key, hashes.SHA256())
    return _pem_of_key(key), request.public_bytes(Encoding.PEM)


def names_of_gateways(host: str) -> Names:
    """(DNS names, IP addresses) by which clients may call the gateways."""
    names = {"localhost", socket.gethostname().lower()}
    addresses = {"127.0.0.1", "::1"}
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        names.add(host.lower())
    else:
        addresses |= _own_addresses() if address.is_unspecified else {str(address)}
    fitting = {name for name in names if name.isascii() and 0 < len(name) <= 253 and " " not in name}
    return frozenset(fitting), frozenset(addresses)


def _own_addresses() -> set[str]:
    import psutil

    found = (a for each in psutil.net_if_addrs().values() for a in each)
    return {a.address.partition("%")[0] for a in found if a.family in (socket.AF_INET, socket.AF_INET6)}


def _serves(certificate: Path, key: Path, names: Names, authority_at: Path) -> bool:
    """Whether the certificate that is there will do."""
    from cryptography import x509

    if not certificate.exists() or not key.exists():
        return False
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        authority = x509.load_pem_x509_certificate(authority_at.read_bytes())
        found.verify_directly_issued_by(authority)
        alternative = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # unreadable, damaged, of another authority: whatever it is, a new one is the remedy
        return False
    if found.not_valid_after_utc < _now() + datetime.timedelta(days=DAYS_LEFT_MIN):
        return False
    dns = set(alternative.get_values_for_type(x509.DNSName))
    addresses = {str(address) for address in alternative.get_values_for_type(x509.IPAddress)}
    return dns >= names[0] and addresses >= names[1]


def _make(directory: Path, names: Names, certificate_at: Path, key_at: Path) -> None:
    """`directory` is the authority's."""
    from cryptography.hazmat.primitives.asymmetric import ec

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700 if os.geteuid() != 0 else 0o711)  # clients of other users may read ca.crt
    authority, authority_key = _authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(names, authority, authority_key, key.public_key())
    key_at.parent.mkdir(mode=0o700, exist_ok=True)
    write(key_at, _pem_of_key(key), 0o600)
    write(certificate_at, _pem(certificate), 0o644)


def _authority(directory: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """The authority that is there, or a new one. Raises UserMistake where only its certificate is there."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        found = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        if found.public_key() == certificate.public_key() and certificate.not_valid_after_utc > _now():
            return certificate, found
    except FileNotFoundError:
        if directory.name == NODES and (directory / "ca.crt").exists():
            raise UserMistake(
                f"{directory / 'ca.key'} is not on this machine, and a node's certificate is missing or too old"
            ) from None
    except (ValueError, TypeError, AssertionError, OSError):
        raise UserMistake(f"the files of the certificate authority in {directory} are damaged; remove them") from None
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _authority_certificate(key)
    write(directory / "ca.key", _pem_of_key(key), 0o600)
    write(directory / "ca.crt", _pem(certificate), 0o644)
    return certificate, key


def _authority_certificate(key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = _name(f"Hanse on {socket.gethostname()}, {_now():%Y-%m-%d}")
    public = key.public_key()
    return (
        _builder(name, name, public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    names: Names,
    authority: x509.Certificate,
    authority_key: EllipticCurvePrivateKey,
    public: object,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    for_clients = bool(names[1])  # a node's has no address: nodes call each other by name, and show it when they call
    common, uses = ("localhost", [server]) if for_clients else (min(names[0]), [server, client])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(names[0])]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(names[1])]
    return (
        _builder(_name(common), authority.subject, public)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)  # type: ignore[arg-type]
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(subject: x509.Name, issuer: x509.Name, public: object) -> x509.CertificateBuilder:
    from cryptography import x509

    begin = _now() - datetime.timedelta(days=1)  # clients' clocks may be behind
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=DAYS_VALID))
    )


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _pem_of_key(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def keep(path: Path, certificate: bytes) -> None:
    """One that was made elsewhere."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700 if os.geteuid() != 0 else 0o711)
    write(path, certificate, 0o644)


def write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
