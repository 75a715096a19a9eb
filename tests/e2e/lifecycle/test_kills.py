"""kill -9 of each process: what must go on, what must come back, what the next `up` or `down` must find."""

from __future__ import annotations

import shutil

import psutil
import pytest
from lifecycle_tools import LocalCluster, changed, kill

from support.processes import wait_until

EVERYTHING = ("up", "agent n1", "gateway n1", "g1.1", "workspace n1")


def test_what_is_killed_comes_back_and_the_rest_is_left_alone(local: LocalCluster) -> None:
    local.up()
    local.tell("CREATE TABLE kept AS SELECT 7 AS x")
    for name in ("gateway n1", "workspace n1", "g1.1", "agent n1"):
        before = local.pids()
        kill(before[name])
        wait_until(f"a new {name}", changed(local.pids, name, before[name]), timeout_s=20)
        local.wait_answers()
        after = local.pids()
        assert {key: pid for key, pid in after.items() if key != name} == {
            key: pid for key, pid in before.items() if key != name
        }, name
    wait_until("the catalog", lambda: local.status()["tables"] is not None, timeout_s=20)
    assert local.ask("SELECT x FROM kept") == 7
    local.down()
    assert local.processes() == []


def test_the_next_up_adopts_what_a_killed_one_left(local: LocalCluster) -> None:
    local.up()
    before = local.pids()
    assert set(before) == set(EVERYTHING)
    kill(before["up"])
    assert local.answers()
    local.up()
    after = local.pids()
    assert after.pop("up") != before.pop("up")
    assert after == before
    kill(after["agent n1"])  # the new supervisor watches the adopted agent
    wait_until("a new agent", changed(local.pids, "agent n1", after["agent n1"]), timeout_s=20)
    local.down()
    assert local.processes() == []


@pytest.mark.parametrize("victims", [("up",), ("up", "agent n1"), ("up", "agent n1", "gateway n1", "g1.1")])
def test_down_ends_what_killed_processes_left(local: LocalCluster, victims: tuple[str, ...]) -> None:
    local.up()
    pids = local.pids()
    for victim in victims:
        kill(pids[victim])
    local.down()
    assert local.processes() == []


def test_up_after_everything_was_killed(local: LocalCluster) -> None:
    local.up()
    local.tell("CREATE TABLE kept AS SELECT 7 AS x")
    for pid in local.pids().values():
        kill(pid)
    local.up()
    assert local.ask("SELECT x FROM kept") == 7
    local.down()


def test_other_settings_are_refused_while_an_agent_still_runs(local: LocalCluster) -> None:
    local.up()
    kill(local.pids()["up"])
    assert "hanse down" in local.refused("up", "--detach", "--workers", "2")
    local.down()
    assert local.processes() == []


def test_everything_ends_when_the_data_directory_is_removed(local: LocalCluster) -> None:
    local.up()
    pids = local.pids()
    shutil.rmtree(local.data)
    wait_until("the end of everything", lambda: not any(psutil.pid_exists(p) for p in pids.values()), timeout_s=30)
