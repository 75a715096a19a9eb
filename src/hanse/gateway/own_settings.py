"""Hanse's own settings of a session, which PostgreSQL keeps as custom ones and cannot judge.

==================== ========================== =============================================================
name                 values                     meaning
==================== ========================== =============================================================
`read_consistency`   snapshot, fast             of a query over several groups (`snapshots.py`)
`read_from`          leader, follower, nearest  who answers queries of their own (`follower_reads.py`)
`max_staleness`      a time                     how old what a follower shows may be
`guarantee`          read only                  what the last query's result had
==================== ========================== =============================================================
"""

from __future__ import annotations

import re

from ..core.errors import PgError

READ_CONSISTENCY = "hanse.read_consistency"
READ_FROM = "hanse.read_from"
MAX_STALENESS = "hanse.max_staleness"
GUARANTEE = "hanse.guarantee"

_VALUES = {READ_CONSISTENCY: ("snapshot", "fast"), READ_FROM: ("leader", "follower", "nearest")}
DEFAULTS = {READ_CONSISTENCY: "snapshot", READ_FROM: "leader", MAX_STALENESS: "5s", GUARANTEE: "leader"}
MAX_STALENESS_S = 5.0

_TIME = re.compile(r"\s*(\d+(?:\.\d*)?)\s*(us|ms|s|min|h|d)?\s*\Z").match
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def check(name: str, value: str | None) -> None:
    """Raises 22023 for what one of these cannot be, and 55P02 for one that cannot be set."""
    if name == GUARANTEE:
        raise PgError("55P02", f'parameter "{GUARANTEE}" cannot be changed')
    values = _VALUES.get(name)
    if values is not None and value not in values:
        raise _invalid(name, value, f"Available values: {', '.join(values)}.")
    if name == MAX_STALENESS and seconds(value) is None:
        raise _invalid(name, value, "A number, of milliseconds or with a unit: us, ms, s, min, h, d.")


def _invalid(name: str, value: str | None, hint: str) -> PgError:
    return PgError("22023", f'invalid value for parameter "{name}": "{value}"', hint=hint)


def seconds(value: str | None) -> float | None:
    """A time as PostgreSQL's settings have it; milliseconds where no unit is given. None: it is none."""
    match = _TIME(value or "")
    return None if match is None else float(match[1]) * _UNITS_S[match[2] or "ms"]
