"""Progress of a start: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.status import Status


class Display:
    """`show` may be called often; it prints what is new."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._last: dict[str, str] = {}
        self._status: Status | None = None
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status(f"{verb} …")
            self._status.start()

    def show(self, states: dict[str, str]) -> None:
        """`states`: node → what it is doing."""
        if self._status is not None:
            self._status.update(f"{self._verb}: " + ", ".join(f"{node} {state}" for node, state in states.items()))
            return
        for node, state in states.items():
            if self._last.get(node) != state:
                click.echo(f"{node}: {state}", err=True)
        self._last = dict(states)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
