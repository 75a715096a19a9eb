from __future__ import annotations

import pytest

from hanse.consensus.etcd.address import Servers, parse
from hanse.core.errors import UserMistake


def test_one_server_or_several() -> None:
    assert parse("etcd://127.0.0.1:2379") == Servers(addresses=(("127.0.0.1", 2379),))
    several = parse("etcd://a:1,b:2,[::1]:3/")
    assert several.addresses == (("a", 1), ("b", 2), ("::1", 3)) and several.tls() is None


def test_users_and_files() -> None:
    servers = parse("etcds://han%2Fse:s%40cret@a:1,b:2?ca=/x/ca.crt&cert=/x/c.crt&key=/x/c.key")
    assert (servers.user, servers.password) == ("han/se", "s@cret")
    assert servers.files == {"ca": "/x/ca.crt", "cert": "/x/c.crt", "key": "/x/c.key"}
    assert "s@cret" not in repr(servers)
    with pytest.raises(UserMistake, match="cannot be used"):
        servers.tls()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://a:1",
        "etcd://",
        "etcd://a",
        "etcd://a:0",
        "etcd://a:99999",
        "etcd://a:1,",
        "etcd://a:1/prefix",
        "etcd://secret@a:1",
        "etcd://:secret@a:1",
        "etcd://u:secret@a:x",
        "etcd://u:secret@[::1:2",
        "etcd://u:secret@a:1?ca=/x",
        "etcds://u:secret@a:1?other=secret",
        "etcds://u:secret@a:1?ca",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UserMistake, match="the address of the control plane") as caught:
        parse(url)
    assert "secret" not in str(caught.value)
