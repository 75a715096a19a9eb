"""Transaction modes as a value: what a session's defaults, BEGIN, SET TRANSACTION and a chain make of them together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

ISOLATION, READ_ONLY = "default_transaction_isolation", "default_transaction_read_only"
DEFERRABLE = "default_transaction_deferrable"
DEFAULTS = (ISOLATION, READ_ONLY, DEFERRABLE)  # the settings, in the order of `Modes`
_LEVELS = "READ UNCOMMITTED|READ COMMITTED|REPEATABLE READ|SERIALIZABLE"
_MODE = re.compile(rf"ISOLATION LEVEL ({_LEVELS})|READ (ONLY|WRITE)|(NOT )?DEFERRABLE")
_ON = ("on", "true", "yes", "1")  # PostgreSQL's own word is "on"; a startup packet may have the others
_DEFERRABLE = re.compile(r"(?<!NOT )DEFERRABLE")


@dataclass(frozen=True, slots=True)
class Modes:
    isolation: str = "READ COMMITTED"
    read_only: bool = False
    deferrable: bool = False

    @property
    def sql(self) -> str:
        """For BEGIN. A safe snapshot is waited for, and nobody may wait for transactions under a barrier (findings A7)."""
        return f"ISOLATION LEVEL {self.isolation} {'READ ONLY' if self.read_only else 'READ WRITE'} NOT DEFERRABLE"

    @property
    def serializable(self) -> bool:
        return self.isolation == "SERIALIZABLE"

    @property
    def keeps_snapshot(self) -> bool:
        return self.isolation in ("REPEATABLE READ", "SERIALIZABLE")


STANDARD = Modes()


@lru_cache(1_000)
def after(modes: Modes, text: str) -> Modes:
    """The modes when those of `text`, in `planner.utility.transaction_modes`' words, have been set one after another."""
    for found in _MODE.finditer(text):
        isolation, access, negated = found.groups()
        if isolation:
            modes = replace(modes, isolation=isolation)
        elif access:
            modes = replace(modes, read_only=access == "ONLY")
        else:
            modes = replace(modes, deferrable=not negated)
    return modes


def with_defaults(modes: Modes, settings: Mapping[str, str]) -> Modes:
    """The modes that transactions begin with where some of `DEFAULTS` are set; `STANDARD` itself where they are that."""
    found = Modes(
        settings.get(ISOLATION, modes.isolation).upper(),
        settings[READ_ONLY].lower() in _ON if READ_ONLY in settings else modes.read_only,
        settings[DEFERRABLE].lower() in _ON if DEFERRABLE in settings else modes.deferrable,
    )
    return STANDARD if found == STANDARD else found


def without_waiting(text: str) -> str:
    """The modes of a SET TRANSACTION with NOT DEFERRABLE for DEFERRABLE, which comes too late when that does."""
    return _DEFERRABLE.sub("NOT DEFERRABLE", text)
