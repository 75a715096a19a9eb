"""As root: PostgreSQL runs as somebody else, also where that user may enter neither the data nor the installation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from lifecycle_tools import LocalCluster

from hanse.engines.postgres.binaries import bundled_bindir
from support.processes import sweep

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_postgresql_runs_as_an_ordinary_user(local: LocalCluster) -> None:
    local.up()
    pids = local.pids()
    assert psutil.Process(pids["g1.1"]).uids().real != 0
    assert psutil.Process(pids["agent n1"]).uids().real == 0
    assert local.status()["elsewhere"] is None
    assert not (local.data / "n1" / "g1").is_symlink()
    local.down()


@pytest.fixture
def state_directory(run_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = run_directory / "state"
    monkeypatch.setenv("HANSE_STATE_DIR", str(path))
    return path


def hidden_installation(directory: Path) -> Path:
    """The wheel's layout below a directory that only root may enter; its bin directory."""
    install = bundled_bindir().parent
    package = directory / "site" / install.parent.name
    package.mkdir(parents=True)
    (package / install.name).symlink_to(install)
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.exists():
        (package.parent / libraries.name).symlink_to(libraries)
    return package / install.name / "bin"


def test_data_and_installation_that_only_root_may_enter(
    make_cluster: Callable[..., LocalCluster], state_directory: Path
) -> None:
    cluster = make_cluster()
    closed = cluster.data.parent
    closed.chmod(0o700)
    cluster.up("--postgres", str(hidden_installation(closed)))
    try:
        assert cluster.ask("SELECT 1") == 1
        status = cluster.status()
        assert Path(status["elsewhere"]).parent == state_directory / "data"
        link = cluster.data / "n1" / "g1"
        assert link.is_symlink()
        assert link.resolve() == Path(status["groups"][0]["instances"][0]["directory"])
        assert link.resolve().is_relative_to(status["elsewhere"])
        program = Path(psutil.Process(cluster.pids()["g1.1"]).exe())
        assert program.is_relative_to(state_directory / "postgresql")
        assert "cannot reach them there" in cluster.run("status").stdout
        cluster.tell("CREATE TABLE kept AS SELECT 7 AS x")
        cluster.down()
        assert cluster.status()["state"] == "stopped"
        cluster.up()
        assert cluster.ask("SELECT x FROM kept") == 7
        cluster.down()
        assert cluster.processes() == []
    finally:
        sweep(state_directory)
