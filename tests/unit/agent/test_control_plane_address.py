"""Where the address of an etcd is kept, and when it may change."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hanse.agent.cluster_dir import prepare, released
from hanse.agent.topology import Request
from hanse.config import load_secrets
from hanse.consensus.etcd import reach
from hanse.core.errors import UserMistake
from support.processes import free_ports


def test_it_is_a_secret_and_may_be_another_etcd_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "check", lambda *_, **__: None)  # both answer
    data, port = tmp_path / "data", free_ports(1)
    first, second = "etcd://hanse:s3cret@127.0.0.1:1", "etcd://hanse:0ther@127.0.0.1:2"
    for url in (first, second):
        released(prepare(data, Request(nodes=1, groups=1, port=port, control_plane=url)))
        released(prepare(data, Request()))
        secrets = data / "secrets.json"
        assert load_secrets(secrets).control_plane == url
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
        others = [path for path in data.rglob("*") if path.is_file() and path != secrets]
        assert others and not any(url.encode() in path.read_bytes() for path in others)


def test_nodes_that_have_the_control_plane_keep_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    released(prepare(data, Request(nodes=1, groups=1, port=free_ports(1))))
    with pytest.raises(UserMistake, match="cannot change"):
        prepare(data, Request(control_plane="etcd://127.0.0.1:1"))
    assert load_secrets(data / "secrets.json").control_plane == ""
