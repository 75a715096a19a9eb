"""Where pulled rows go, so that PostgreSQL can finish a statement over them: what the executor needs of such a place.

A workspace slot is one (`engines.postgres.slots`). A transaction that has changed the schema makes one of its own branch
in the schema-complete database, since nobody else sees the schema that its statements are written for (`gateway.rooms`).
"""

from __future__ import annotations

from typing import Protocol

from ..catalog.model import Relation


class Filling(Protocol):
    """A table being filled by binary COPY: `begin_source`, `write` …, `end_source` for each source, then `finish`."""

    @property
    def name(self) -> str:
        """What SQL in the room calls the table."""

    def begin_source(self) -> None: ...
    async def write(self, chunk: bytes) -> None: ...
    def end_source(self) -> None: ...
    async def finish(self) -> int: ...


class Room(Protocol):
    async def load(self, relation: Relation, columns: tuple[str, ...]) -> Filling:
        """Rows of a table of the cluster, with these columns; the others are NULL. One table at a time."""

    async def create_partial(self, columns: tuple[tuple[str, str], ...]) -> Filling:
        """Rows of a new table of these columns (name, type)."""

    async def ready(self) -> None:
        """All is loaded: from now on the connection that runs the statement sees it."""
