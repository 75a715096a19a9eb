"""The self-made certificate: made once, kept while it serves, made anew when it does not; its authority stays."""

from __future__ import annotations

import datetime
import ipaddress
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from msgspec.structs import replace

from hanse.agent import certificates
from hanse.agent.topology import Request, change_cluster, plan_cluster
from hanse.config import ClusterConfig
from hanse.core.errors import UserMistake
from hanse.core.node_tls import node_tls
from support.certificates import make_certificate


def cluster(**wishes: str) -> ClusterConfig:
    return plan_cluster(Request(**wishes), cluster_id="c", choose_ports=lambda count: list(range(count)))  # type: ignore[arg-type]


def contents(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data / "tls").iterdir()}


def test_it_is_made_once(tmp_path: Path) -> None:
    certificates.provide(cluster(), tmp_path)
    first = contents(tmp_path)
    assert set(first) == {"ca.crt", "ca.key", "server.crt", "server.key"}
    for name in first:
        mode = stat.S_IMODE((tmp_path / "tls" / name).stat().st_mode)
        assert mode == (0o600 if name.endswith(".key") else 0o644)
    certificates.provide(cluster(), tmp_path)
    assert contents(tmp_path) == first


def test_its_names(tmp_path: Path) -> None:
    certificates.provide(replace(cluster(), host="192.0.2.7"), tmp_path)
    found = x509.load_pem_x509_certificate((tmp_path / "tls" / "server.crt").read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", os.uname().nodename.lower()} <= set(names.get_values_for_type(x509.DNSName))
    addresses = set(names.get_values_for_type(x509.IPAddress))
    assert addresses == {ipaddress.ip_address(each) for each in ("127.0.0.1", "::1", "192.0.2.7")}


def test_a_new_address_makes_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    certificates.provide(cluster(), tmp_path)
    before = contents(tmp_path)
    certificates.provide(replace(cluster(), host="192.0.2.7"), tmp_path)
    after = contents(tmp_path)
    assert before["ca.crt"] == after["ca.crt"] and before["server.crt"] != after["server.crt"]


def test_the_end_that_comes_near_makes_a_new_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates.provide(cluster(), tmp_path)
    before = contents(tmp_path)
    late = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=certificates.DAYS_VALID - 100)
    monkeypatch.setattr(certificates, "_now", lambda: late)
    certificates.provide(cluster(), tmp_path)
    assert contents(tmp_path)["server.crt"] != before["server.crt"]


def test_what_was_damaged_is_made_anew(tmp_path: Path) -> None:
    certificates.provide(cluster(), tmp_path)
    (tmp_path / "tls" / "server.crt").write_text("nonsense")
    certificates.provide(cluster(), tmp_path)
    (tmp_path / "tls" / "server.key").unlink()
    certificates.provide(cluster(), tmp_path)
    (tmp_path / "tls" / "ca.key").write_text("nonsense")
    (tmp_path / "tls" / "server.key").unlink()
    with pytest.raises(UserMistake, match="are damaged; remove them"):
        certificates.provide(cluster(), tmp_path)


def test_without_tls_nothing_is_made(tmp_path: Path) -> None:
    certificates.provide(cluster(tls="off"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_options(tmp_path: Path) -> None:
    certificate, key = map(str, make_certificate(tmp_path))
    certificates.check_options("require", certificate, key)
    for mode, given, given_key, words in (
        ("yes", None, None, "--tls must be off, on or require, not yes"),
        ("on", certificate, None, "belong together"),
        (None, None, key, "belong together"),
        ("off", certificate, key, "needs no certificate"),
        (None, "self-made", key, "has a key of its own"),
        (None, key, key, "holds no certificate"),
    ):
        with pytest.raises(UserMistake, match=words):
            certificates.check_options(mode, given, given_key)


def test_a_later_start_keeps_or_changes_what_is_said(tmp_path: Path) -> None:
    certificate, key = map(str, make_certificate(tmp_path))
    given = change_cluster(cluster(), Request(tls="require", tls_cert=certificate, tls_key=key))
    assert (given.tls, given.tls_cert, given.tls_key) == ("require", certificate, key)
    assert change_cluster(given, Request()) == given
    back = change_cluster(given, Request(tls_cert="self-made"))
    assert (back.tls, back.tls_cert, back.tls_key) == ("require", None, None)


def test_nodes_have_certificates_whatever_clients_are_shown(tmp_path: Path) -> None:
    for node in cluster(tls="off").nodes:
        (tmp_path / node.name).mkdir()
    certificates.provide_for_nodes(cluster(tls="off"), tmp_path)
    authority = certificates.authority_file(tmp_path)
    made = {path: path.read_bytes() for path in tmp_path.rglob("node.*")}
    assert len(made) == 6
    for name in ("n1", "n2", "n3"):
        certificate, key = certificates.node_files(tmp_path, name)
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        node_tls(authority, certificate, key)
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name]
    certificates.provide_for_nodes(cluster(tls="off"), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("node.*")} == made
    authority.unlink()
    authority.with_name("ca.key").unlink()
    certificates.provide_for_nodes(cluster(tls="off"), tmp_path)  # all of the new authority
    assert not any(path.read_bytes() == content for path, content in made.items())
