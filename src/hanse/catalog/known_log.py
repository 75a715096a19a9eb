"""The newest part of the log of schema changes, as it came with the versions: what a gateway need not ask for.

A workspace follows the log when it is used next. By then the control plane may be lost, and its node would serve nobody:
therefore a client that has a version has what led to it, too.
"""

from __future__ import annotations

from collections import deque

from ..core.limits import DDL_LOG_KEPT_MAX
from .commands import DdlEntry
from .protocol import LogPart


class KnownLog:
    """Holds all schema changes after one version and up to `known`; -1: none."""

    def __init__(self) -> None:
        self.known = -1
        self._since = 0
        self._entries: deque[DdlEntry] = deque()

    def add(self, part: LogPart, version: int) -> None:
        """What came with `version`. A part that does not join on takes the place of all."""
        if part.since > self.known:
            self._entries.clear()
            self._since = part.since
        self._entries.extend(entry for entry in part.entries if entry.version > self.known)
        self.known = version
        while len(self._entries) > DDL_LOG_KEPT_MAX:
            self._since = self._entries.popleft().version

    def after(self, version: int) -> tuple[DdlEntry, ...] | None:
        """All schema changes after `version` that are known; None: it does not reach so far back."""
        if self.known < 0 or version < self._since:
            return None
        return tuple(entry for entry in self._entries if entry.version > version)
