"""Whether a leading server can write: its agent has it write something, again and again.

A server that is stopped, or whose disk hangs, does not answer. How long that is borne follows from how regularly it answered
before, as for heartbeats (`replication/suspicion.py`). One whose disk is full says so itself, twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..core.errors import PgError
from ..core.limits import PROBE_S, PROBE_SILENCE_S_MIN, SUSPICION_S_MAX
from ..engines.postgres.streaming import Member
from ..replication.suspicion import Detector
from .tasks import end

WATCH_S = 0.05
LATE_S = 1.0  # of a loop that pauses for WATCH_S: this process did not run
REFUSALS_MAX = 2  # one after another
_CANNOT_WRITE = ("53100", "58030", "08006")  # the disk is full, or fails; the connection breaks


async def cannot_write(
    server: Member, leads: Callable[[], bool], now: Callable[[], float] = time.monotonic
) -> str | None:
    """Returns why it cannot, as soon as that is known; None when it does not lead any more."""
    answers = Detector(now(), PROBE_SILENCE_S_MIN, SUSPICION_S_MAX)
    refusals = 0
    while leads():
        probe = asyncio.create_task(server.probe())
        try:
            if not await _answered(probe, answers, now):
                return f"it has not answered for {now() - answers.since:.1f} s"
        finally:
            await end(probe)
        error = probe.exception()
        if isinstance(error, PgError) and error.sqlstate in _CANNOT_WRITE:
            refusals += 1
            if refusals == REFUSALS_MAX:
                return str(error)
        elif error is None or isinstance(error, PgError):
            refusals = 0
            answers.heard(server.instance.spec.name, now())
        else:
            raise error
        await asyncio.sleep(PROBE_S)
    return None


async def _answered(probe: asyncio.Task[None], answers: Detector, now: Callable[[], float]) -> bool:
    while True:
        began = now()
        await asyncio.wait((probe,), timeout=WATCH_S)
        if probe.done():
            return True
        if now() - began > LATE_S:
            answers.excuse(now())
        elif answers.suspects(now(), 0):
            return False
