"""Who may begin something in the schema-complete database, while somebody wants to copy it.

A database can be copied only while nobody else is in it. Sessions that are used all the time would never leave it together:
so newcomers wait here, for MAIN_HOLD_S_MAX at most, while those inside end their statements and the idle ones are closed. Was
that in vain (a transaction with a schema change is open, say), they are let in, and the next attempt comes after a pause
that grows.

The gate knows the statements of this worker only. Other workers of the node are waited for, as far as they are ever idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from ...core.limits import MAIN_HOLD_S_MAX


class MainGate:
    def __init__(self) -> None:
        self._free = asyncio.Event()
        self._free.set()
        self.close_idle: Callable[[], None] = lambda: None  # ends this worker's idle sessions in main

    async def passed(self) -> None:
        """Returns when something may begin in main."""
        await self._free.wait()

    @contextlib.contextmanager
    def attempts(self) -> Iterator[Attempts]:
        """For who wants main for himself: the gate is closed while he tries, and open in between and in the end."""
        try:
            yield Attempts(self)
        finally:
            self.open()

    def close(self) -> None:
        self._free.clear()
        self.close_idle()

    def open(self) -> None:
        self._free.set()


class Attempts:
    def __init__(self, gate: MainGate) -> None:
        self._gate = gate
        self._pause_s = MAIN_HOLD_S_MAX
        self._until = 0.0

    def begin(self) -> None:
        """Before each look whether main is free."""
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + MAIN_HOLD_S_MAX
        self._gate.close()

    async def wait(self, briefly_s: float) -> None:
        """It was not free."""
        if asyncio.get_running_loop().time() < self._until:
            await asyncio.sleep(briefly_s)
            return
        self._gate.open()
        await asyncio.sleep(self._pause_s)
        self._pause_s *= 2
        self._until = 0.0
