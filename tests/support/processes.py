"""Processes that a test run starts must end with it, however it ends.

Every server of a run lives below one *run directory* and is started by a *keeper* (`keeper.py`), a small process in a
session of its own that waits for one thing: the end of the test run's owner (pytest, or xdist's controller). It
then stops the server in order and kills whatever is left. So a pytest that is killed with SIGKILL leaves nothing.

What is left is found by place, not by parentage: a process belongs to a run if its command line or its working directory
lies in the run directory (PostgreSQL's processes work in their data directory).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from hanse.agent.ports import INTERNAL_PORTS

PREFIX = "hanse-tests-"


def processes_under(directory: Path) -> list[psutil.Process]:
    """Every process, except ourselves and our ancestors, whose command line or working directory is in `directory`."""
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    return [p for p in psutil.process_iter() if p.pid not in own and _lies_in(p, str(directory))]


def _lies_in(process: psutil.Process, directory: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        if any(directory in argument for argument in process.cmdline()):
            return True
    with contextlib.suppress(psutil.Error, OSError):
        cwd = process.cwd()
        return cwd == directory or cwd.startswith(directory + os.sep)
    return False


def sweep(directory: Path, *, spare: frozenset[int] = frozenset()) -> list[str]:
    """Kills what still lies in `directory`; returns the command lines of what had to be killed."""
    killed = []
    for _ in range(
        5
    ):  # a killed postmaster's children may need a moment, and a supervisor may have started a new child
        left = [p for p in processes_under(directory) if p.pid not in spare]
        if not left:
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                killed.append(" ".join(process.cmdline())[:120] or str(process.pid))
                process.kill()
        psutil.wait_procs(left, timeout=3)
    return killed


def new_run_directory() -> Path:
    """A directory that names its owner, so that a later run can tell whether it is still in use."""
    owner = psutil.Process()
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owner.pid}-{int(owner.create_time())}-"))
    path.chmod(0o755)  # PostgreSQL may run as another user than we do
    return path


def abandoned_run_directories() -> Iterator[Path]:
    """Directories of runs whose owner and keeper were both killed."""
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        pid, created = path.name.removeprefix(PREFIX).split("-")[:2]
        if not is_alive(int(pid), int(created)):
            yield path


def is_alive(pid: int, created: int) -> bool:
    try:
        return abs(int(psutil.Process(pid).create_time()) - created) <= 1
    except psutil.Error:
        return False


def _of_this_worker(ports: range) -> range:
    """A port is free when it is chosen, and taken a second later: xdist's workers choose among their own."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = len(ports) // count
    return ports[number * share : (number + 1) * share]


PORTS = _of_this_worker(
    range(10_000, 20_000)
)  # below those that outgoing connections take, and those that Hanse chooses
_OF_HANSE = _of_this_worker(INTERNAL_PORTS)
os.environ["HANSE_PORTS"] = f"{_OF_HANSE[0]}-{_OF_HANSE[-1]}"


def free_ports(count: int) -> int:
    """The first of `count` consecutive TCP ports that are free on 127.0.0.1 at this moment."""
    while True:
        first = random.choice(PORTS)
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def stop(pid: int, *, timeout_s: float) -> None:
    """SIGTERM, then SIGKILL after `timeout_s`."""
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        process = psutil.Process(pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout_s)
        except psutil.TimeoutExpired:
            process.kill()


def wait_until(what: str, condition, *, timeout_s: float = 10.0, every_s: float = 0.05):  # type: ignore[no-untyped-def]
    """Polls `condition` until it is true and returns its value; fails with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last: {value!r})")
        time.sleep(every_s)
