"""A running server as seen from outside: its postmaster.pid, its process, and what it prints when it cannot start.

postmaster.pid (PostgreSQL's pidfile.h) has one value per line: 1 process id, 2 data directory, 3 start time in seconds
since the epoch, 4 port, 5 socket directory, 6 listen address, 7 shared memory key, 8 status ("ready", "starting", …).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from ...core.errors import UserMistake

PID_FILE = "postmaster.pid"
START_TIME_TOLERANCE_S = 10.0  # the file's clock is read after the process began; system clocks are set now and then
LOG_TAIL_BYTES = 16_384
HARSH_STOP_TIMEOUT_S = 5.0  # for an immediate shutdown
POLL_S = 0.003


class PortTaken(UserMistake):
    """Another process listens on the port; a start with another port may succeed."""


class StillBusy(UserMistake):
    """Backends of a killed predecessor are still alive; a start a moment later succeeds."""


@dataclass(frozen=True, slots=True)
class PidFile:
    pid: int
    start_time: float
    port: int | None  # None in the first moment of a start
    status: str


def read_pid_file(directory: Path) -> PidFile | None:
    """None where there is no file, or where it is not (yet) complete enough to name a process."""
    try:
        lines = (directory / PID_FILE).read_text(errors="replace").splitlines()
        pid, start_time = abs(int(lines[0])), float(lines[2])
    except (OSError, IndexError, ValueError):
        return None
    port = int(lines[3]) if len(lines) > 3 and lines[3].strip().isdigit() else None
    return PidFile(pid, start_time, port, lines[7].strip() if len(lines) > 7 else "")


def find_postmaster(directory: Path) -> psutil.Process | None:
    """The living server of a data directory: the file's process id, if it is that process and not a later one.

    Process ids are used again, after a restart of the machine quickly so. The start time must agree, and where the
    system tells a process's working directory it must be the data directory, which is where every server works.
    """
    file = read_pid_file(directory)
    if file is None:
        return None
    try:
        process = psutil.Process(file.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if abs(process.create_time() - file.start_time) > START_TIME_TOLERANCE_S:
            return None
        return process if _works_in(process, directory) else None
    except psutil.NoSuchProcess:
        return None


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return Path(process.cwd()).resolve() == directory.resolve()
    except (psutil.AccessDenied, OSError):
        return "postgres" in process.name()


def clear_stale_locks(directory: Path, socket_lock: Path | None) -> None:
    """Remove the lock files of a server that is gone, if nothing of it is left.

    PostgreSQL itself takes any living process with that id for the server, also a zombie that nobody reaps (usual in
    containers) or a stranger after a restart of the machine, and would never start again. It also looks at the file for
    a shared memory block that old backends still use; so the file stays as long as one of them works in the directory.
    """
    if find_postmaster(directory) is not None:
        return
    if socket_lock is not None and _names_directory(socket_lock, directory):
        socket_lock.unlink(missing_ok=True)
    if read_pid_file(directory) is None:
        return
    owner = directory.stat().st_uid
    for process in psutil.process_iter():
        try:
            if process.uids().effective == owner and is_running(process) and _works_in(process, directory):
                return
        except psutil.Error:
            continue
    (directory / PID_FILE).unlink(missing_ok=True)


def _names_directory(lock_file: Path, directory: Path) -> bool:
    """A socket's lock file has the form of postmaster.pid's first lines: process id, data directory, …"""
    try:
        lines = lock_file.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return len(lines) > 1 and Path(lines[1]).resolve() == directory.resolve()


def end_postmaster(process: psutil.Process, first_signal: int, *, timeout_s: float) -> None:
    """Ask a server to end; after `timeout_s` make it (SIGQUIT: as a crash), at last kill it with its backends."""
    for number, seconds in ((first_signal, timeout_s), (signal.SIGQUIT, HARSH_STOP_TIMEOUT_S)):
        _signal(process, number)
        if _wait_gone(process, seconds):
            return
    kill_server(process)


def kill_server(process: psutil.Process) -> None:
    """End a server that hears nothing any more, with its backends."""
    try:
        _kill(process, process.children())
    except psutil.NoSuchProcess:
        pass


def _kill(process: psutil.Process, backends: list[psutil.Process]) -> None:
    for each in (process, *backends):
        _signal(each, signal.SIGKILL)
    _wait_gone(process, HARSH_STOP_TIMEOUT_S)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)  # psutil checks that the id was not given to another process meanwhile
    except psutil.NoSuchProcess:
        pass


def _wait_gone(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def is_running(process: psutil.Process) -> bool:
    """Not ended; a zombie, which its parent has not asked about yet, has ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def log_size(log_file: Path) -> int:
    try:
        return log_file.stat().st_size
    except OSError:
        return 0


def read_log(log_file: Path, offset: int = 0) -> list[str]:
    """The last lines printed since `offset`."""
    try:
        with open(log_file, "rb") as file:
            file.seek(max(offset, log_size(log_file) - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def explain_failure(name: str, port: int, log_file: Path, offset: int) -> UserMistake:
    """One sentence for a server that ended instead of becoming ready."""
    lines = read_log(log_file, offset)
    for words, make in _REASONS:
        if any(words in line for line in lines):
            return make(name, port, log_file)
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
    reason = (fatal or lines or ["it printed nothing"])[-1].split(":  ", 1)[-1]
    return UserMistake(f"PostgreSQL instance {name} did not start: {reason} (its log is {log_file})")


def check_wal_is_there(name: str, log_file: Path, offset: int) -> None:
    """Raises UserMistake for a follower that can never become consistent: its leader has removed what it would begin with."""
    for line in read_log(log_file, offset):
        if "requested WAL segment" in line and line.endswith("has already been removed"):
            raise UserMistake(f"PostgreSQL instance {name} needs WAL that its leader does not have any more")


_Maker = Callable[[str, int, Path], UserMistake]


def _port_taken(name: str, port: int, log_file: Path) -> UserMistake:
    return PortTaken(f"port {port}, which PostgreSQL instance {name} needs, is taken by another process")


def _busy(name: str, port: int, log_file: Path) -> UserMistake:
    return StillBusy(f"processes of PostgreSQL instance {name} are left from an earlier run (its log is {log_file})")


def _no_space(name: str, port: int, log_file: Path) -> UserMistake:
    return UserMistake(f"no disk space: PostgreSQL instance {name} did not start (its log is {log_file})")


def _no_memory(name: str, port: int, log_file: Path) -> UserMistake:
    return UserMistake(f"not enough memory: PostgreSQL instance {name} did not start (its log is {log_file})")


def _other_version(name: str, port: int, log_file: Path) -> UserMistake:
    return UserMistake(f"the data of PostgreSQL instance {name} belong to another version (its log is {log_file})")


# The server's own words (lc_messages is C), first match wins.
_REASONS: tuple[tuple[str, _Maker], ...] = (
    ("No space left on device", _no_space),
    ("is still in use", _busy),  # pre-existing shared memory block
    ('lock file "postmaster.pid" already exists', _busy),
    ("Address already in use", _port_taken),
    ('.lock" already exists', _port_taken),  # a socket's
    ("could not map anonymous shared memory", _no_memory),
    ("database files are incompatible with server", _other_version),
)
