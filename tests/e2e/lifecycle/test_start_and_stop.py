"""Starting and stopping in order."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable

from lifecycle_tools import LocalCluster

from hanse.config import load_cluster_config


def test_a_cluster_starts_answers_everywhere_and_stops(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(nodes=2, groups=2)
    cluster.up("--password", "it's a secret")
    assert [cluster.ask("SELECT 40 + 2", node=node) for node in (0, 1)] == [42, 42]
    status = cluster.status()
    first, second = cluster.port, cluster.port + 1
    assert status["dsn"] == f"postgresql://hanse:it%27s%20a%20secret@127.0.0.1:{first},127.0.0.1:{second}/hanse"
    assert status["state"] == "running"
    assert [(n["name"], n["host"], n["gateway_port"], n["state"]) for n in status["nodes"]] == [
        ("n1", "127.0.0.1", first, "running"),
        ("n2", "127.0.0.1", second, "running"),
    ]
    assert [(g["name"], g["leader"], g["instances"][0]["node"]) for g in status["groups"]] == [
        ("g1", "g1.1", "n1"),
        ("g2", "g2.1", "n2"),
    ]
    assert [(g["node"], g["worker"], g["port"], g["state"]) for g in status["gateways"]] == [
        ("n1", 0, first, "running"),
        ("n2", 0, second, "running"),
    ]
    assert status["tables"] == []
    cluster.down()
    assert cluster.processes() == []
    assert cluster.status()["state"] == "stopped"
    assert {i["pid"] for g in cluster.status()["groups"] for i in g["instances"]} == {None}
    assert "It was not running" in cluster.run("down").stdout


def test_data_and_shape_survive_a_restart_even_with_an_internal_port_taken(local: LocalCluster) -> None:
    local.up()
    local.tell("CREATE TABLE kept AS SELECT 7 AS x")
    local.down()
    cluster = load_cluster_config(local.data / "cluster.json")
    taken = cluster.nodes[0].instances[0].port
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", taken))
        squatter.listen()
        done = local.run("up", "--detach")  # without options: as it was
        assert done.returncode == 0, done.stderr
    assert local.ask("SELECT x FROM kept") == 7
    assert load_cluster_config(local.data / "cluster.json").nodes[0].instances[0].port != taken
    local.down()


def test_ctrl_c_ends_everything_in_order(local: LocalCluster) -> None:
    with local.foreground() as up:
        assert up.stdout is not None
        while (line := up.stdout.readline()) and "Ctrl-C" not in line:
            pass
        assert local.answers()
        up.send_signal(signal.SIGINT)
        out, err = up.communicate(timeout=60)
        assert up.returncode == 0, err
        assert out.strip().endswith("Stopped.")
    assert local.processes() == []
    said = (local.data / "n1" / "log" / "agent.log").read_text()
    assert said.index("stopped gateway-0") < said.index("stopped g1.1")
    assert "database system is shut down" in (local.data / "n1" / "log" / "g1.1.log").read_text()
    assert not (local.data / "n1" / "g1" / "postmaster.pid").exists()


def test_ctrl_c_during_the_first_start_leaves_nothing_running(local: LocalCluster) -> None:
    for moment in ("n1: starting", "n1: starting PostgreSQL"):  # before an agent has said that it is there, and after
        with local.foreground() as up:
            assert up.stderr is not None
            while (line := up.stderr.readline()) and moment not in line:
                pass
            up.send_signal(signal.SIGINT)
            up.communicate(timeout=60)
        assert local.processes() == []
    local.up()  # and the next start goes on from there
    assert local.answers()
    local.down()


def test_workers_share_a_port_and_may_become_fewer(local: LocalCluster) -> None:
    local.up("--workers", "2")
    assert [g["worker"] for g in local.status()["gateways"]] == [0, 1]
    local.down()
    local.up("--workers", "1")
    assert [g["worker"] for g in local.status()["gateways"]] == [0]
    assert local.answers()
    local.down()


def test_sql_runs_statements_with_psql(local: LocalCluster) -> None:
    local.up()
    done = local.run("sql", "-c", "SELECT 'via ' || current_user", "--", "-At")
    assert (done.returncode, done.stdout.strip()) == (0, "via hanse"), done.stderr
    secret = json.loads((local.data / "secrets.json").read_text())
    assert (local.data / "secrets.json").stat().st_mode & 0o077 == 0
    assert not any(secret["user_password"] in " ".join(p.cmdline()) for p in local.processes())
    local.down()
    assert "hanse up" in local.refused("sql", "-c", "SELECT 1")
