"""Starts one server of a test run, waits for the run's end, stops the server: `python -m support.keeper RUN_DIR NAME KIND`.

See `processes.py` for why it is a process of its own. What it started is told in `RUN_DIR/NAME.json`: the server's
address, or `{"error": …}`. Tests talk to it through `ensure()` and `dismiss()`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from support import servers
from support.processes import is_alive, stop, sweep

START_TIMEOUT_S = 120.0
OWNER_POLL_S = 0.25


def ensure(run_directory: Path, name: str, kind: str) -> dict[str, Any]:
    """The address of server `name`, which is started if no process of this run has asked for it before."""
    told = run_directory / f"{name}.json"
    with _locked(run_directory / f"{name}.lock"):
        if not told.exists():
            keeper = _spawn(run_directory, name, kind)
            _wait_for(told, keeper)
    info: dict[str, Any] = json.loads(told.read_text())
    if "error" in info:
        raise RuntimeError(f"the server {name!r} did not start:\n{info['error']}")
    return info


def dismiss(run_directory: Path, name: str, *, timeout_s: float = 30.0) -> None:
    """Stops server `name`; nothing of it is left afterwards."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        stop(int((run_directory / f"{name}.pid").read_text()), timeout_s=timeout_s)
    sweep(run_directory / name)


def names(run_directory: Path) -> list[str]:
    return sorted(path.stem for path in run_directory.glob("*.pid"))


def _spawn(run_directory: Path, name: str, kind: str) -> subprocess.Popen[bytes]:
    with (run_directory / f"{name}.keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "support.keeper", str(run_directory), name, kind],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in pytest's terminal must not reach it before pytest's own end
        )
    (run_directory / f"{name}.pid").write_text(str(keeper.pid))
    return keeper


def _wait_for(told: Path, keeper: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not told.exists():
        if keeper.poll() is not None and not told.exists():
            log = told.with_suffix(".keeper.log").read_text()
            raise RuntimeError(f"the keeper of {told.stem!r} ended with {keeper.returncode}:\n{log}")
        if time.monotonic() > deadline:
            stop(keeper.pid, timeout_s=10)
            raise RuntimeError(f"the server {told.stem!r} did not start within {START_TIMEOUT_S:g} s")
        time.sleep(0.05)
    keeper.returncode = 0  # it outlives this object on purpose; without this, Popen would warn of it


@contextlib.contextmanager
def _locked(path: Path):  # type: ignore[no-untyped-def]
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Dismissed(BaseException):
    """SIGTERM came."""


def _on_sigterm(_signal: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Dismissed


def main(run_directory: Path, name: str, kind: str) -> None:
    signal.signal(signal.SIGTERM, _on_sigterm)
    owner_pid, owner_created = (int(part) for part in run_directory.name.split("-")[2:4])
    directory = run_directory / name
    directory.mkdir()
    try:
        _publish(run_directory / f"{name}.json", servers.STARTERS[kind](directory))
        while is_alive(owner_pid, owner_created):
            time.sleep(OWNER_POLL_S)
    except _Dismissed:
        pass
    except Exception:
        _publish(run_directory / f"{name}.json", {"error": traceback.format_exc()})
    finally:
        with contextlib.suppress(Exception):
            servers.STOPPERS[kind](directory)
        sweep(directory)
        if not is_alive(owner_pid, owner_created):
            _remove(run_directory, directory)


def _remove(run_directory: Path, directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if not any(path.is_dir() for path in run_directory.iterdir()):  # the last keeper closes the door
        shutil.rmtree(run_directory, ignore_errors=True)


def _publish(path: Path, info: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(info))
    os.replace(partial, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
