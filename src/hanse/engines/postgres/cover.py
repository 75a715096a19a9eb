"""Until when what a group's leader says may be believed: its lease, as its users know it.

A leader stops its server when its lease is over; but its agent may not run, and then the server goes on answering while another
leads already. So what arrives from it when the lease is not known to go on is held: until it is known again (nobody else has
served meanwhile, then), or the group has another leader and the connection is ended.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backend import Backend


class Cover:
    """Of one group, as long as it has this leader. `until`: by this process's monotonic clock."""

    __slots__ = ("_held", "_held_since", "until")

    def __init__(self) -> None:
        self.until = -math.inf
        self._held: set[Backend] = set()
        self._held_since = 0.0

    def hold(self, backend: Backend) -> None:
        if not self._held:
            self._held_since = time.monotonic()
        self._held.add(backend)

    def renew(self, until: float) -> None:
        self.until = max(until, self.until)
        if time.monotonic() < self.until:
            held, self._held = self._held, set()
            for backend in held:
                backend.believe()

    def give_up(self, after_s: float) -> None:
        """Ends the connections that have been held for so long: who waits there is told that nobody knows."""
        if self._held and time.monotonic() - self._held_since > after_s:
            held, self._held = self._held, set()
            for backend in held:
                backend.abort()
