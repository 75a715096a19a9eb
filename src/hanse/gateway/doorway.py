"""Connections that have not logged in: how many may stand in the doorway, and who goes when it is full.

A login takes milliseconds, a client that only opens connections takes a file and a little memory for the whole of
AUTHENTICATION_TIMEOUT_S. When the doorway is full, the one that has kept us waiting longest is shown out for a newcomer, so
such a client cannot shut out the others; where nobody has waited for long, there really are too many, and the newcomer is
refused.
"""

from __future__ import annotations

import time
from typing import Protocol

from ..core.limits import UNAUTHENTICATED_MAX, UNAUTHENTICATED_S_MIN


class Comer(Protocol):
    @property
    def idles(self) -> bool: ...  # it is the client's turn to send something

    def show_out(self) -> None: ...


class Doorway:
    def __init__(self, size_max: int = UNAUTHENTICATED_MAX) -> None:
        self._size_max = size_max
        self._since: dict[Comer, float] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._since)

    def enter(self, comer: Comer) -> bool:
        """False: there is no room, and he must be refused."""
        now = time.monotonic()
        if len(self._since) >= self._size_max and not self._make_room(now):
            return False
        self._since[comer] = now
        return True

    def leave(self, comer: Comer) -> None:
        """Logged in, or gone."""
        self._since.pop(comer, None)

    def _make_room(self, now: float) -> bool:
        for comer, since in self._since.items():
            if now - since < UNAUTHENTICATED_S_MIN:
                return False
            if comer.idles:
                del self._since[comer]
                comer.show_out()
                return True
        return False
