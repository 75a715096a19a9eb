"""Faults on purpose, for tests of recovery.

The environment variable HANSE_FAULT names a file; `{worker}` in it is the worker's number. A gateway worker that reaches the
point which the file names takes the file away and does what it says, once::

    after_prepare kill     ends itself with SIGKILL when every branch is prepared, before the decision
    after_decide kill      when the decision was answered, before any branch is told of it
    after_prepare stop     stops itself (SIGSTOP), until somebody lets it go on (SIGCONT)

Points are `before_` and `after_` with the stages of the commit protocol: constraints, prepare, decide, resolve, finish, undo;
and `after_group`, when one group has run a statement that goes from group to group (jobs.py).
Without the variable, which is read when the worker starts, nothing is ever looked at.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

Fault = Callable[[str], None]
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def no_fault(point: str) -> None:
    """Nothing goes wrong."""


def fault_of(environment: Mapping[str, str], worker: int) -> Fault:
    """What the commit driver calls at each point."""
    name = environment.get("HANSE_FAULT")
    if not name:
        return no_fault
    file = Path(name.replace("{worker}", str(worker)))

    def fault(point: str) -> None:
        try:
            wanted, action = file.read_text().split()
        except (OSError, ValueError):
            return
        if wanted == point and action in _SIGNALS:
            file.unlink()
            os.kill(os.getpid(), _SIGNALS[action])

    return fault
