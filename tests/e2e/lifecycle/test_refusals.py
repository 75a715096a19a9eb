"""Mistakes of a person: one sentence, exit code 2, nothing half done."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from lifecycle_tools import LocalCluster

from hanse.config import CLUSTER_FORMAT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--nodes", "0"), "--nodes must be between 1 and"),
        (("--groups", "100"), "--groups must be between 1 and"),
        (("--nodes", "2", "--replicas", "3"), "needs as many nodes, and there are 2"),
        (("--port", "65535"), "--port must be between 1 and"),
        (("--workers", "-1"), "--workers must be between 1 and"),
        (("--password", ""), "--password must not be empty"),
        (("--control-plane", "http://127.0.0.1:2379"), "the address of the control plane is written etcd://HOST:PORT"),
        (("--control-plane", "etcd://127.0.0.1:1,localhost:1"), "etcd does not answer: localhost:1: "),
        (("--postgres", "/nonexistent/bin"), "there is no program postgres in /nonexistent/bin"),
    ],
)
def test_impossible_wishes(local: LocalCluster, options: tuple[str, ...], words: str) -> None:
    assert words in local.refused("up", *options)
    assert not local.data.exists()


def test_a_taken_gateway_port(local: LocalCluster) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", local.port))
        squatter.listen()
        sentence = local.refused("up", *local.shape)
    assert f"port {local.port} on 127.0.0.1, for the gateway of node n1, is already taken" in sentence
    assert f"(process {os.getpid()})" in sentence
    assert not local.data.exists()


def test_a_directory_that_cannot_be_made_or_holds_something_else(local: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    local.data = file
    assert "is not a directory" in local.refused("up", *local.shape)
    local.data = file / "below"
    assert "is not a directory" in local.refused("up", *local.shape)
    local.data = tmp_path
    assert "holds other files (file) and no cluster" in local.refused("up", *local.shape)
    assert os.listdir(tmp_path) == ["file"]


def test_commands_without_a_cluster(local: LocalCluster) -> None:
    for command in ("down", "status", "sql"):
        assert "there is no cluster in" in local.refused(command)


def test_a_second_up_and_a_changed_shape(local: LocalCluster) -> None:
    local.up()
    pids = local.pids()
    assert f"is running already (process {pids['up']})" in local.refused("up", "--detach")
    assert "has no instance on node" in local.refused("switchover", "g1", "n9")
    local.down()
    assert "start the cluster with `hanse up`" in local.refused("drain", "n1")
    assert "does not run; `hanse up` starts it" in local.refused("chaos", "heal")
    assert "this cluster has 1 nodes" in local.refused("up", "--nodes", "2")
    assert "has another password" in local.refused("up", "--password", "other")
    assert "and --control-plane cannot change that" in local.refused("up", "--control-plane", "etcd://127.0.0.1:2379")


def test_data_of_another_version_or_format(local: LocalCluster) -> None:
    local.up()
    local.down()
    version = local.data / "n1" / "g1" / "PG_VERSION"
    version.write_text("15\n")
    sentence = local.refused("up")
    assert "the data of instance g1.1 belong to PostgreSQL 15, and the server in" in sentence
    assert local.processes() == []
    cluster = local.data / "cluster.json"
    cluster.write_text(cluster.read_text().replace(f'"format": {CLUSTER_FORMAT}', '"format": 99'))
    assert "another version of Hanse (format 99)" in local.refused("up")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_cluster(local: LocalCluster) -> None:
    local.up()
    local.down()
    os.chown(local.data / "cluster.json", 65534, -1)
    for command in ("up", "down", "status"):
        assert "belongs to user nobody; run hanse as that user" in local.refused(command)
