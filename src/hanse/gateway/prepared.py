"""What a client has prepared: statements by name, and portals (bound statements that are being executed)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..executor.buffer import ResultBuffer
from ..pgwire import frontend
from ..pgwire.backend import Field
from ..planner.values import Parameters
from .settings import SessionState


@dataclass(frozen=True, slots=True)
class Analysis:
    """What PostgreSQL says of a statement when it parses it: parameter types, and the result's columns (None: no rows)."""

    parameter_types: tuple[int, ...]
    fields: tuple[Field, ...] | None
    lasting: bool = True  # False: it depends on the session's cursors or prepared statements of this moment


@dataclass(slots=True)
class Statement:
    """A prepared statement of the extended protocol. Its plan is looked up by text at every execution."""

    text: bytes
    declared_types: tuple[int, ...]
    number: int  # names it on backends; the same for equal text, types and settings
    state: SessionState | None = None  # the settings that `number` stands for
    analysis: Analysis | None = None
    shown: bytes = b""  # the whole PREPARE or DECLARE, of SQL's
    made: float = field(default_factory=time.time)


@dataclass(slots=True)
class Portal:
    """A bound statement. `buffer` holds its rows when it is read in pieces; then `tag` is its command tag."""

    statement: Statement
    parameters: Parameters | None = None
    result_formats: tuple[int, ...] = ()
    description: bytes = b""
    buffer: ResultBuffer | None = None
    tag: bytes = b""
    hold: bool = False
    fields: tuple[Field, ...] = field(default=())
    complete: bool = False
    position: int = 0  # rows of `buffer` that were sent
    bound: frontend.Bind | None = None  # the Bind message, for plans that need its values in their text

    def forget_values(self) -> None:
        """It has run, and never runs again; its values may be large."""
        self.parameters = self.bound = None

    def close(self) -> None:
        if self.buffer is not None:
            self.buffer.close()
            self.buffer = None
