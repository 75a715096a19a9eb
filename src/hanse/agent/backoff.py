"""How long to wait before something that ended is started again: longer each time, never for ever."""

from __future__ import annotations

from ..core.limits import HEALTHY_AFTER_S, RESTART_PAUSE_S_MAX, RESTART_PAUSE_S_MIN, RESTARTS_IN_A_ROW_MAX


class Backoff:
    """Pauses of 0.1, 0.2, 0.4 … seconds. A part that lived for HEALTHY_AFTER_S starts from the beginning again."""

    def __init__(self) -> None:
        self.failures = 0
        self._started_at: float | None = None

    def started(self, now: float) -> None:
        self._started_at = now

    def ended(self, now: float) -> float:
        """Note an end (or a start that failed); the pause in seconds before the next start."""
        if self._started_at is not None and now - self._started_at >= HEALTHY_AFTER_S:
            self.failures = 0
        self._started_at = None
        self.failures = min(self.failures + 1, RESTARTS_IN_A_ROW_MAX)
        return min(RESTART_PAUSE_S_MIN * 2.0 ** (self.failures - 1), RESTART_PAUSE_S_MAX)
