"""What a plan's run asks of the session beyond backends: values from PostgreSQL, the workspace, statements inside statements."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..catalog.model import Snapshot
from ..engines.postgres.backend import Backend
from ..pgwire.backend import Field
from ..pgwire.framing import Message
from ..planner.plan import Identity, Planned, TwoPhase
from .request import Places, Request, Sink
from .room import Room

Reading = AbstractAsyncContextManager[tuple[Backend, str]]


class Environment(Protocol):
    """The session, as the executor sees it."""

    async def evaluate(self, sql: str) -> list[tuple[str | None, ...]]:
        """Rows of a query of ours, as the user, with his settings, in his transaction."""

    async def sequence_values(self, sequence: Identity, count: int) -> list[int]:
        """The next values of a sequence, in the order they were drawn."""

    async def acquire_room(self) -> Room:
        """A place for pulled rows, with the schema as the session sees it."""

    async def room_backend(self, room: Room) -> Backend:
        """The user's own connection to the room, in the session's state."""

    async def release_room(self, room: Room) -> None: ...

    async def partial_columns(self, plan: TwoPhase, partial: bytes) -> tuple[tuple[str, str], ...]:
        """The columns of the partial rows with their types, asked of PostgreSQL where the plan does not know them."""

    async def type_names(self, types: tuple[int, ...]) -> list[str]:
        """The names of types as casts use them, without a length."""

    async def run_once(self, request: Request, sink: Sink) -> bytes:
        """As `run_inner`, for a text that will not come again, with its own formats of the result."""

    def plan_inner(self, sql: str) -> Planned: ...

    def plan_everywhere(self, sql: str) -> Planned:
        """A plan that does not hope that all values meet in one group."""

    def plan_gather(self, sql: str) -> Planned:
        """A plan that answers any query: everything is pulled."""

    async def run_unmerged(self, request: Request, places: Places, sink: Sink) -> bytes:
        """The statement again, by a plan that leaves the sorting to PostgreSQL."""

    async def resolve(self, planned: Planned, sql: str, places: Places) -> str | None:
        """The place of a Forward plan; None where the values do not meet in one."""

    async def field_type_names(self, fields: Sequence[Field]) -> list[str]:
        """The types of result columns, with their lengths, as CREATE TABLE writes them."""

    async def run_inner(self, text: bytes, sink: Sink) -> bytes:
        """A statement inside this one, through the planner, in the same transaction."""

    async def temporary_columns(self, name: str) -> tuple[tuple[str, str], ...]:
        """(name, type) of each column of a temporary table of the session's."""

    async def make_shards(self, relation: Identity) -> Snapshot:
        """Makes the default shards of a HASH table that has none yet; gives the catalog after that."""

    def owners_rows(self, places: Places, place: str, owner: str, select: str) -> Reading:
        """A backend in `place`, and a query for it with the rows of `select` as `owner` reads them: for tables that a
        view reads with its owner's rights.
        """

    def start_copy_input(self) -> None:
        """From now on the client's messages are COPY data, until `stop_copy_input`."""

    def stop_copy_input(self) -> None: ...

    async def next_copy_message(self) -> Message: ...

    async def hold(self, size: int) -> None:
        """So many bytes of long values are kept for this statement. Raises 53200 where there is no room."""

    def write_to_client(self, data: bytes) -> None: ...

    async def drain_client(self) -> None: ...
