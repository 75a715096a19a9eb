"""`executor.environment.Environment`: what a plan's run asks of the session beyond backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..catalog.model import Snapshot
from ..config import WORKSPACE_PLACE
from ..core.ids import quote_literal, quote_qualified
from ..engines.postgres.backend import Backend
from ..executor.environment import Reading
from ..executor.request import Places, Request, Sink
from ..executor.room import Room
from ..pgwire.backend import Field
from ..pgwire.framing import Message
from ..planner.plan import Identity, Planned, TwoPhase
from ..sql.functions import FunctionClass, classes
from ..sql.parse import parse_one
from . import analysis, drawing, drawn, first_rows, rooms, statements, temporary, versions
from .interruption import check, interruptible
from .rooms import BranchRoom, SlotRoom

if TYPE_CHECKING:
    from .session import Session

_MAY_SET = frozenset((FunctionClass.SESSION, FunctionClass.USER))


class SessionEnvironment:
    """Of one session."""

    __slots__ = ("session",)

    def __init__(self, session: Session) -> None:
        self.session = session

    async def evaluate(self, sql: str) -> list[tuple[str | None, ...]]:
        backend = await self.home_backend()
        try:
            if "(" in sql:
                await drawing.begin_saving(self.session, backend)
            rows = await backend.query(sql)
            if classes(parse_one(sql).node, self.session.plans.snapshot) & _MAY_SET:
                backend.state = None
                if self.session.transaction is not None:
                    self.session.transaction.mixed = True
            if drawn.draws(sql.encode()):
                await drawn.note(self.session, sql.encode(), backend)
            return rows
        finally:
            self.session.end_statement_backend(backend)

    async def home_backend(self) -> Backend:
        """A backend in the home group, inside the transaction if there is one (a sequence may be new in it)."""
        home = self.session.gateway.snapshot.home_group
        if self.session.transaction is not None:
            return (await self.session.branch(home)).backend
        return await self.session.acquire(home)

    async def sequence_values(self, sequence: Identity, count: int) -> list[int]:
        """Drawn where the sequence lives, as the user; a value is never given twice, whatever becomes of it."""
        relation = self.session.plans.snapshot.relation_by_identity.get(sequence)
        place = (relation.group if relation is not None else None) or self.session.gateway.snapshot.home_group
        transaction = self.session.transaction
        backend = (
            (await self.session.branch(place)).backend if transaction is not None else await self.session.acquire(place)
        )
        name = quote_literal(quote_qualified(*sequence))
        try:
            await drawing.begin_saving(self.session, backend)
            rows = await versions.ask(
                self.session,
                backend,
                f"SELECT pg_catalog.nextval({name}::pg_catalog.regclass) FROM pg_catalog.generate_series(1, {count})",
            )
        finally:
            if transaction is None:
                self.session.give_back(backend)
        values = [int(row[0] or 0) for row in rows]
        self.session.drawn.note(sequence, values[-1])
        return values

    async def acquire_room(self) -> Room:
        """A slot of the workspace; the transaction's own branch there once it has changed the schema."""
        if self.session.transaction is not None and self.session.transaction.change is not None:
            return BranchRoom((await self.session.branch(WORKSPACE_PLACE)).backend, self.session.gateway.system_proof)
        slot = await interruptible(
            self.session, self.session.gateway.workspace.acquire(self.session.plans.snapshot.version)
        )
        return SlotRoom(self.session, slot)

    async def room_backend(self, room: Room) -> Backend:
        assert isinstance(room, BranchRoom | SlotRoom)
        check(self.session)
        backend = self.session.running[room.key] = await room.backend()
        return backend

    async def release_room(self, room: Room) -> None:
        assert isinstance(room, BranchRoom | SlotRoom)
        backend = self.session.running.pop(room.key, None)
        if backend is not None and backend.answering:
            await self.session.settle(backend)
        await room.close()

    async def partial_columns(self, plan: TwoPhase, partial: bytes) -> tuple[tuple[str, str], ...]:
        if all(kind for _, kind in plan.partial_columns):
            return plan.partial_columns
        found = await self.session.analyze(self.session.make_statement(partial, ()))
        names = await analysis.field_type_names(self.session, found.fields or ())
        return tuple(
            (name, kind or found_name) for (name, kind), found_name in zip(plan.partial_columns, names, strict=True)
        )

    def plan_inner(self, sql: str) -> Planned:
        return self.session.plans.make(parse_one(sql))

    def plan_everywhere(self, sql: str) -> Planned:
        return self.session.plans.make(parse_one(sql), self.session.plans.everywhere)

    def plan_gather(self, sql: str) -> Planned:
        return self.session.plans.make(parse_one(sql), self.session.plans.gathered)

    async def run_unmerged(self, request: Request, places: Places, sink: Sink) -> bytes:
        return await statements.run_unmerged(self.session, request, places, sink)

    async def resolve(self, planned: Planned, sql: str, places: Places) -> str | None:
        route = self.session.plans.route(planned)
        place, _ = route.resolve(parse_one(sql).parts[1::2])
        return self.session.gateway.snapshot.home_group if place is None and route.any_group else place

    async def type_names(self, types: tuple[int, ...]) -> list[str]:
        return await analysis.type_names(self.session, types)

    async def field_type_names(self, fields: Sequence[Field]) -> list[str]:
        return await analysis.field_type_names(self.session, tuple(fields))

    async def run_inner(self, text: bytes, sink: Sink) -> bytes:
        return await statements.execute_text(self.session, text, sink)

    async def run_once(self, request: Request, sink: Sink) -> bytes:
        return await statements.execute_once(self.session, request, sink)

    async def temporary_columns(self, name: str) -> tuple[tuple[str, str], ...]:
        return await temporary.columns_of(self.session, name)

    async def make_shards(self, relation: Identity) -> Snapshot:
        await first_rows.make_shards(self.session, relation)
        return self.session.plans.snapshot

    def owners_rows(self, places: Places, place: str, owner: str, select: str) -> Reading:
        return rooms.owners_rows(self.session, places, place, owner, select)

    def write_to_client(self, data: bytes) -> None:
        self.session.write(data)

    async def drain_client(self) -> None:
        self.session.flush()
        await self.session.output.drain()

    def start_copy_input(self) -> None:
        self.session.start_copy_input()

    def stop_copy_input(self) -> None:
        self.session.stop_copy_input()

    async def next_copy_message(self) -> Message:
        return await self.session.next_copy_message()

    async def hold(self, size: int) -> None:
        await self.session.hold(size)
