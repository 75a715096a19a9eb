"""Hanse's own processes, started and ended: `hanse node`, `hanse gateway-worker`, `hanse supervise`.

Each is a session of its own. So Ctrl-C at a terminal reaches only the process that the person started, which ends the
others in their order, and each outlives its parent when that is killed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from ..core.limits import LOG_FILE_BYTES_MAX

POLL_S = 0.02


def spawn(arguments: Sequence[str], log_file: Path, *, keep: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start `hanse` with these arguments; what it prints goes to the log. `keep`: descriptors that it inherits."""
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    put_aside(log_file)
    with open(log_file, "ab") as log:
        return subprocess.Popen(
            # -P: a directory named "hanse" where the person happens to be is not this program
            [sys.executable, "-P", "-m", "hanse.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            pass_fds=tuple(keep),
        )


def put_aside(log_file: Path) -> None:
    """Keep a log from growing for ever; one predecessor is kept."""
    try:
        if log_file.stat().st_size > LOG_FILE_BYTES_MAX:
            log_file.replace(log_file.with_name(log_file.name + ".1"))
    except OSError:
        pass


def last_line(log_file: Path) -> str:
    """What a process said last, for a message about its end."""
    try:
        with open(log_file, "rb") as file:
            file.seek(max(0, log_file.stat().st_size - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1] if lines else ""


def end_all(processes: Sequence[psutil.Process], *, timeout_s: float) -> None:
    """SIGTERM to all; SIGKILL to those that are still there after `timeout_s`. All are gone afterwards."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    left = _wait(processes, timeout_s)
    for process in left:
        _signal(process, signal.SIGKILL)
    _wait(left, 5.0)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass


def _wait(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout_s
    left = list(processes)
    while left := [process for process in left if is_alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return left
