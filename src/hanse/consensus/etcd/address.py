"""Where an etcd is, as people write it::

    etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379
    etcds://hanse:secret@etcd.example.org:2379?ca=/etc/etcd/ca.crt&cert=/etc/etcd/client.crt&key=/etc/etcd/client.key

`etcds` is TLS. Without `ca` the machine's authorities are believed. Files must be on every node, under the same names.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from ...core.errors import UserMistake

FILES = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Of one etcd; any of them answers for all."""

    addresses: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = field(default="", repr=False)
    encrypted: bool = False
    files: dict[str, str] = field(default_factory=dict)

    def tls(self) -> ssl.SSLContext | None:
        """Reads the files. Raises UserMistake for those that cannot be used."""
        if not self.encrypted:
            return None
        try:
            context = ssl.create_default_context(cafile=self.files.get("ca"))
            if "cert" in self.files:
                context.load_cert_chain(self.files["cert"], self.files.get("key"))
        except (OSError, ssl.SSLError) as error:
            raise UserMistake(f"the files for etcd's TLS cannot be used: {error}") from error
        return context


def parse(url: str) -> Servers:
    """Raises UserMistake, which does not show the password."""
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise _mistake("cannot be read") from None
    if parts.scheme not in ("etcd", "etcds") or parts.path not in ("", "/") or parts.fragment:
        raise _mistake("is written etcd://HOST:PORT[,HOST:PORT…], or etcds:// for TLS")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    if bool(user) != bool(password):
        raise _mistake("needs user and password, or neither")
    if unknown := sorted(set(query) - set(FILES)):
        raise _mistake(f"has an option {unknown[0]!r}; there are {', '.join(FILES)}")
    if query and parts.scheme == "etcd":
        raise _mistake("has files for TLS: then it begins with etcds://")
    return Servers(
        addresses=tuple(_address(each) for each in hosts.split(",")),
        user=unquote(user),
        password=unquote(password),
        encrypted=parts.scheme == "etcds",
        files={name: values[0] for name, values in query.items()},
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise _mistake(f"has no host and port in {text!r}")
    return host.strip("[]"), int(port)


def _mistake(what: str) -> UserMistake:
    return UserMistake(f"the address of the control plane {what}")
