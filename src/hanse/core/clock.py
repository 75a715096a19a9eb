"""A clock that never goes back and counts the time that a machine sleeps: whoever was suspended must not believe in a lease."""

from __future__ import annotations

import time

# Linux's CLOCK_MONOTONIC stands still while the machine sleeps; that of macOS, which has no other, does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """In seconds, since some moment."""
    return time.clock_gettime(_CLOCK)
