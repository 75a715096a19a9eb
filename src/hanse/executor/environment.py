"""What a plan's run asks of the session beyond backends: values from PostgreSQL, the workspace, statements inside statements."""

from __future__ import annotations

from typing import Protocol

from ..catalog.model import Snapshot
from ..engines.postgres.backend import Backend
from ..engines.postgres.slots import Slot
from ..pgwire.framing import Message
from ..planner.plan import Identity, Planned, TwoPhase
from .request import Places, Request, Sink


class Environment(Protocol):
    """The session, as the executor sees it."""

    async def evaluate(self, sql: str) -> list[tuple[str | None, ...]]:
        """Rows of a query of ours, as the user, with his settings, in his transaction."""

    async def sequence_values(self, sequence: Identity, count: int) -> list[int]:
        """The next values of a sequence, in the order they were drawn."""

    async def acquire_slot(self) -> Slot:
        """A private workspace database at the snapshot's version."""

    async def slot_backend(self, slot: Slot) -> Backend:
        """The user's own connection to the slot's database, in the session's state."""

    async def release_slot(self, slot: Slot, backend: Backend | None) -> None: ...

    async def partial_columns(self, plan: TwoPhase, partial: bytes) -> tuple[tuple[str, str], ...]:
        """The columns of the partial rows with their types, asked of PostgreSQL where the plan does not know them."""

    def plan_inner(self, sql: str) -> Planned: ...

    def plan_gather(self, sql: str) -> Planned:
        """A plan that answers any query: everything is pulled."""

    async def run_unmerged(self, request: Request, places: Places, sink: Sink) -> bytes:
        """The statement again, by a plan that leaves the sorting to PostgreSQL."""

    async def resolve(self, planned: Planned, sql: str, places: Places) -> str:
        """The place of a Forward plan."""

    async def run_inner(self, text: bytes, sink: Sink) -> bytes:
        """A statement inside this one, through the planner, in the same transaction."""

    async def make_shards(self, relation: Identity) -> Snapshot:
        """Makes the default shards of a HASH table that has none yet; gives the catalog after that."""

    async def system_copy_backend(self, place: str, owner: str) -> Backend:
        """A connection of Hanse's own in `place`, acting as `owner`, for tables that a view reads with its owner's rights."""

    def end_system_backend(self, backend: Backend) -> None: ...

    def start_copy_input(self) -> None:
        """From now on the client's messages are COPY data, until `stop_copy_input`."""

    def stop_copy_input(self) -> None: ...

    async def next_copy_message(self) -> Message: ...

    def write_to_client(self, data: bytes) -> None: ...

    async def drain_client(self) -> None: ...
