from __future__ import annotations

from pathlib import Path

import pytest

from hanse.engines.postgres.postmaster import (
    PortTaken,
    StillBusy,
    clear_stale_locks,
    explain_failure,
    find_postmaster,
    read_pid_file,
)


def write_pid_file(directory: Path, *lines: object) -> None:
    (directory / "postmaster.pid").write_text("".join(f"{line}\n" for line in lines))


def test_a_whole_pid_file(tmp_path: Path) -> None:
    write_pid_file(tmp_path, 4711, tmp_path, 1_700_000_000, 5432, "/s", "127.0.0.1", "1 2", "ready   ")
    file = read_pid_file(tmp_path)
    assert file is not None
    assert (file.pid, file.start_time, file.port, file.status) == (4711, 1_700_000_000.0, 5432, "ready")


def test_a_pid_file_that_is_being_written(tmp_path: Path) -> None:
    write_pid_file(tmp_path, 4711, tmp_path, 1_700_000_000)
    file = read_pid_file(tmp_path)
    assert file is not None
    assert (file.port, file.status) == (None, "")
    write_pid_file(tmp_path, 4711)
    assert read_pid_file(tmp_path) is None


def test_another_process_with_that_pid_is_not_the_server(tmp_path: Path) -> None:
    write_pid_file(tmp_path, 1, tmp_path, 1_700_000_000, 5432)
    assert find_postmaster(tmp_path) is None


def test_stale_locks_go_and_others_stay(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    write_pid_file(data, 1, data, 1_700_000_000, 5432)
    ours, foreign = tmp_path / ".s.PGSQL.1.lock", tmp_path / ".s.PGSQL.2.lock"
    ours.write_text(f"1\n{data}\n")
    foreign.write_text(f"1\n{other}\n")
    clear_stale_locks(data, ours)
    assert not ours.exists()
    assert not (data / "postmaster.pid").exists()
    clear_stale_locks(data, foreign)
    assert foreign.exists()


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ('LOG:  could not bind IPv4 address "127.0.0.1": Address already in use', PortTaken, "port 5432"),
        ('FATAL:  lock file "/s/.s.PGSQL.5432.lock" already exists', PortTaken, "port 5432"),
        ("FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use", StillBusy, "earlier run"),
        ("FATAL:  could not write lock file: No space left on device", Exception, "no disk space"),
        ("FATAL:  could not map anonymous shared memory: Cannot allocate memory", Exception, "not enough memory"),
        ("FATAL:  something new", Exception, "did not start: something new"),
    ],
)
def test_failures_are_one_sentence(tmp_path: Path, line: str, kind: type[Exception], words: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"FATAL:  of an earlier start\n2026-01-01 UTC [1] {line}\nLOG:  database system is shut down\n")
    mistake = explain_failure("g1.1", 5432, log, offset=len("FATAL:  of an earlier start\n"))
    assert isinstance(mistake, kind)
    assert words in str(mistake)
    assert "\n" not in str(mistake)
