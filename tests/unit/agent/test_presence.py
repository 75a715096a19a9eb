from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from hanse.agent.presence import AlreadyRunning, Record, claim, find_process, living, read_record
from hanse.core.errors import UserMistake


def test_a_process_is_found_while_it_lives_and_nobody_else_may_be_it(tmp_path: Path) -> None:
    with claim(tmp_path, "agent", port=5) as presence:
        presence.update(state="ready")
        record = living(tmp_path, "agent")
        assert record is not None
        assert (record.pid, record.state, record.port) == (os.getpid(), "ready", 5)
        with pytest.raises(AlreadyRunning), claim(tmp_path, "agent"):
            pass
        assert living(tmp_path, "agent") == record  # the refused one has not touched it
    assert read_record(tmp_path, "agent") is None
    with claim(tmp_path, "agent"):
        pass


def test_a_mistake_is_left_for_who_waits(tmp_path: Path) -> None:
    with pytest.raises(UserMistake), claim(tmp_path, "agent"):
        raise UserMistake("the port is taken")
    record = read_record(tmp_path, "agent")
    assert record is not None
    assert (record.state, record.note) == ("failed", "the port is taken")


def test_a_pid_that_was_used_again_is_not_the_process(tmp_path: Path) -> None:
    with claim(tmp_path, "agent") as presence:
        earlier = msgspec.structs.replace(presence.record, create_time=presence.record.create_time - 60)
        assert find_process(earlier) is None
        assert find_process(presence.record) is not None
    assert find_process(Record(pid=2**22 + 1, create_time=0.0)) is None
    assert find_process(None) is None


def test_damaged_records_count_as_none(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text('{"pid": ')
    assert read_record(tmp_path, "agent") is None


def test_an_update_after_the_directory_is_gone_does_no_harm(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with claim(run, "agent") as presence:
        for file in run.iterdir():
            file.unlink()
        run.rmdir()
        presence.update(state="stopping")
    assert not run.exists()
