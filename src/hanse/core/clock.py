"""A clock that never goes back and counts the time that a machine sleeps: whoever was suspended must not believe in a lease."""

from __future__ import annotations

import time

# Linux's CLOCK_MONOTONIC stands still while the machine sleeps; that of macOS, which has no other, does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """In seconds, since some moment."""
    return time.clock_gettime(_CLOCK)


def to_tick(period_s: float) -> float:
    """Seconds until the clock shows a multiple of the period. Loops that look at something so often, and sleep to there, wake
    together: a process that idles is woken that often, and not that often for each of them."""
    return period_s - clock() % period_s
