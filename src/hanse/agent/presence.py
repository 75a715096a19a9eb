"""How Hanse's processes find each other again: a lock and a record for each, in a `run` directory.

    run/agent.lock   held (flock) by the process while it lives; the kernel lets go when it dies
    run/agent.json   its pid, start time, state and ports; written by the process itself before it does anything else

The lock makes sure that there is one process of a kind; the record tells others who it is. A record alone proves
nothing: it stays behind after kill -9, and its pid may be another process by then. So readers compare the start time
as well. Lock files are never deleted, because a deleted one could be locked twice.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from ..core.errors import UserMistake

CREATE_TIME_TOLERANCE_S = 2.0  # the system computes start times from the clock, which may be corrected in between


class Record(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    create_time: float
    state: str = "starting"  # starting, ready, stopping, failed
    note: str = ""  # what it is doing; in state failed: why, as a sentence
    worker: int | None = None
    host: str | None = None
    port: int | None = None


class AlreadyRunning(Exception):
    """Another process holds the lock."""


class Presence:
    """This process's own record."""

    def __init__(self, path: Path, record: Record) -> None:
        self.path = path
        self.record = record
        self._write()

    def update(self, **changes: Any) -> None:
        """Tell a change. Without effect when the directory was removed: nobody can read it there any more."""
        self.record = msgspec.structs.replace(self.record, **changes)
        with suppress(FileNotFoundError):
            self._write()

    def _write(self) -> None:
        unfinished = self.path.with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(self.record))
        unfinished.rename(self.path)


def take_lock(run_directory: Path, name: str) -> int:
    """The file descriptor of the lock; it is let go when the last copy of it is closed. Raises AlreadyRunning."""
    run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(run_directory / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning(name) from None
    return descriptor


@contextmanager
def claim(run_directory: Path, name: str, *, lock: int | None = None, **facts: Any) -> Iterator[Presence]:
    """Be process `name` of this directory while the block runs. `lock`: it is held already, by this descriptor.

    Raises AlreadyRunning. A UserMistake inside is left in the record, for whoever waits for this process.
    """
    descriptor = take_lock(run_directory, name) if lock is None else lock
    own = psutil.Process()
    try:
        record = Record(pid=own.pid, create_time=own.create_time(), **facts)
        presence = Presence(run_directory / f"{name}.json", record)
        try:
            yield presence
        except UserMistake as mistake:
            with suppress(OSError):
                presence.update(state="failed", note=str(mistake))
            raise
        except BaseException:
            presence.path.unlink(missing_ok=True)
            raise
        presence.path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def read_record(run_directory: Path, name: str) -> Record | None:
    try:
        return msgspec.json.decode((run_directory / f"{name}.json").read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def forget_record(run_directory: Path, name: str) -> None:
    (run_directory / f"{name}.json").unlink(missing_ok=True)


def find_process(record: Record | None) -> psutil.Process | None:
    """The living process that wrote the record."""
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.create_time) <= CREATE_TIME_TOLERANCE_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def living(run_directory: Path, name: str) -> Record | None:
    """The record of process `name`, if it lives."""
    record = read_record(run_directory, name)
    return record if find_process(record) is not None else None
