"""The backends of one statement: branches of the session's transaction, or its own for as long as it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..catalog.model import Kind
from ..config import WORKSPACE_PLACE
from ..core.errors import NotTogether, PgError, ShortcutFailed, StalePlan, of_shortcut
from ..core.ids import quote_qualified
from ..engines.postgres.backend import Backend
from ..executor.request import Copy, Query, Request, Source
from ..planner.plan import Planned
from ..transactions.commit import new_global_id, prepare_sql
from . import durability, gating, snapshots, versions
from .ending import commit_transaction, rollback_transaction
from .follower_reads import Choice
from .interruption import check
from .retrying import Try
from .shared_commits import Trip
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session


class StatementPlaces:
    """`async with`: on success what the statement began is committed, on failure rolled back; backends go home."""

    def __init__(
        self, session: Session, planned: Planned, attempt: Try | None = None, choice: Choice | None = None
    ) -> None:
        self.session = session
        self.planned = planned
        self._attempt = attempt
        self._choice = choice
        self._own: dict[str, Backend] = {}
        self._began = False
        self._shortcut = False
        self._version = session.plans.snapshot.schema_version
        self._trip: Trip | None = None
        self.used: dict[str, Backend] = {}  # every backend that the statement was given

    async def __aenter__(self) -> StatementPlaces:
        if self.session.transaction is not None:
            self.session.transaction.touched[id(self.planned)] = self.planned
        return self

    async def begin(self, reads: Sequence[str] = ()) -> None:
        """Several places will be written: one transaction around the statement, unless there is one already."""
        session = self.session
        if session.transaction is not None:
            return
        if len(reads) < 2 or snapshots.reads_fast(session):
            self._begin(self._implicit())
            return
        transaction = self._begin(self._at_one_level())
        locks_first = self._attempt is not None and self._attempt.locks_first
        await self._lock(reads, "SHARE ROW EXCLUSIVE" if locks_first else "ACCESS SHARE")
        await snapshots.take(session, transaction, reads)

    def _implicit(self, modes: str = "") -> Transaction:
        return Transaction(modes, self.session.state, explicit=False)

    def _at_one_level(self) -> Transaction:
        """At a level where one snapshot is for all that the statement reads."""
        transaction = self._implicit()
        return transaction if transaction.keeps_snapshot else self._implicit("ISOLATION LEVEL REPEATABLE READ")

    def _begin(self, transaction: Transaction) -> Transaction:
        assert not self._own, "the transaction comes before the first backend()"
        transaction.touched[id(self.planned)] = self.planned
        if self._attempt is not None:
            transaction.started = self._attempt.since
        self.session.transaction = transaction
        self._began = True
        return transaction

    async def _lock(self, groups: Sequence[str], mode: str) -> None:
        """Before the snapshot, so that nobody can change what it sees: in the global order, or two would wait for each other.

        ACCESS SHARE is against those who would rewrite a table; who may read only some of its columns goes without.
        """
        snapshot = self.session.plans.snapshot
        relations = (snapshot.relation_by_identity.get(identity) for identity in sorted(self.planned.relations))
        tables = [quote_qualified(*found.identity) for found in relations if found and found.kind is Kind.SHARDED]
        for group in snapshot.group_names:
            if tables and group in groups:
                backend = await self.backend(group)  # among what runs: it may have to be cancelled
                try:
                    await backend.query(f"SAVEPOINT hanse_lock; LOCK TABLE {', '.join(tables)} IN {mode} MODE")
                except PgError as error:
                    if error.sqlstate != "42501" or mode != "ACCESS SHARE":
                        raise
                    await backend.query("ROLLBACK TO hanse_lock")

    async def snapshot(self, groups: Sequence[str]) -> None:
        """The statement reads in these groups, and is to see them at one moment. Comes before the first `backend()`.

        A transaction at REPEATABLE READ has its own snapshot already.
        """
        session = self.session
        if len(groups) < 2 or session.transaction is not None or snapshots.reads_fast(session):
            return
        await snapshots.take(session, self._begin(self._at_one_level()), groups)

    def binds(self, groups: Sequence[str]) -> bool:
        """At READ COMMITTED each statement has a snapshot of its own, which is taken when its tables are locked."""
        session = self.session
        if len(groups) < 2 or snapshots.reads_fast(session):
            return False
        return not (session.transaction or self._implicit()).keeps_snapshot

    async def bind(self, sources: Sequence[Source]) -> None:
        await snapshots.bind(self.session, sources)

    async def start(self, queries: Sequence[Query]) -> list[Backend]:
        backends = await self._backends(queries)
        await snapshots.start(self.session, backends, queries)
        return list(backends.values())

    async def start_copies(self, queries: Sequence[Query], sql: str) -> list[tuple[Backend, bytes]]:
        backends = await self._backends(queries)
        return await snapshots.start_copies(self.session, backends, queries, sql)

    async def _backends(self, queries: Sequence[Query]) -> dict[str, Backend]:
        if self.session.transaction is None:
            self._begin(self._implicit())
        return {query.place: await self.backend(query.place) for query in queries}

    async def alone(self, place: str, message: list[bytes]) -> list[bytes]:
        """Where it commits by itself it takes the group's gate."""
        session = self.session
        if self._unassured():
            await self._begin_unassured()
            return message
        if session.transaction is None and self.planned.leaves and durability.in_doubt(session, self.planned):
            await self.begin()
            return message
        if not gating.due_alone(session, self.planned, place):
            return message
        if gating.needs_transaction(session, self.planned):
            await self.begin()
            return message
        return gating.behind_unprepared(message)

    def prepare_early(self, places: Sequence[str]) -> str | None:
        """The statement is all that the transaction does: of two places the first may prepare in the same breath.

        Gives the SQL to send behind the first one's statement, whose success `prepared` is told; None: not so.
        """
        transaction = self.session.transaction
        if not self._began or transaction is None or len(places) != 2 or set(transaction.branches) != set(places):
            return None
        if self.session.gateway.snapshot.has_deferrable or gating.impatient(self.session):
            return None
        transaction.identity = new_global_id(places[-1])
        return prepare_sql(transaction.identity)

    def prepared(self, place: str) -> None:
        assert self.session.transaction is not None
        self.session.transaction.prepared.add(place)

    def begins(self) -> bool:
        return self.session.transaction is None

    async def share(self, request: Request, copies: Mapping[str, Copy]) -> Mapping[str, Copy] | None:
        session, planned = self.session, self.planned
        if request.alone or session.pinned or session.reads:
            return copies
        if any(request.snapshot.relation_by_identity[each].has_deferrable for each in planned.relations):
            return copies
        if not planned.neutral or planned.leaves or planned.draws is not None:
            return copies
        if gating.impatient(session) or session.state.get("statement_timeout"):
            return copies
        sql = next(iter(copies.values())).sql
        key = (session.user, session.database, session.state, request.snapshot.version, sql)
        self._trip = await session.gateway.shared_commits.join(session, key, copies)
        if self._trip is None:
            return None
        check_current(session, planned, request)
        return self._trip.copies

    def hold(self, place: str, copy: Copy) -> None:
        assert self.session.transaction is not None
        self._shortcut = True
        self.session.transaction.branches[place].held = copy

    def _unassured(self) -> bool:
        """A statement of its own without a lease: whether its catalog is the newest, each group says in a transaction."""
        session = self.session
        checked = session.transaction is not None or self.planned.verb not in versions.IN_TRANSACTION
        return not checked and not session.gateway.control.assured

    async def _begin_unassured(self) -> None:
        if self._own:
            raise versions.refusal("Its lease ended while the statement ran.")
        await self.begin()

    def _asks_version(self, place: str) -> bool:
        """Once, before anything of the statement is there."""
        session = self.session
        known = place in self.used or place == WORKSPACE_PLACE or session.changes_schema
        return not known and not session.gateway.control.assured

    async def backend(self, place: str) -> Backend:
        session = self.session
        check(session)
        backend = self._own.get(place)
        if backend is not None:
            return backend
        if self._unassured():
            await self._begin_unassured()
        if self._choice is not None and not self._began:
            backend = await self._choice.backend(place)
        if backend is None and session.transaction is not None and not self._beside(session.transaction, place):
            branch = await session.branch(place)
            if self._asks_version(place):
                await versions.confirm(session, branch.backend, self._version)
            branch.wrote |= self.planned.writes
            session.running[place] = self.used[place] = branch.backend
            return branch.backend
        if backend is None:
            backend = await session.acquire(place)
        if place != WORKSPACE_PLACE and self._unassured():  # the lease has ended while it was waited for
            session.give_back(backend)
            return await self.backend(place)
        self._own[place] = self.used[place] = backend
        session.running[backend.place] = backend
        return backend

    def _beside(self, transaction: Transaction, place: str) -> bool:
        """A question to the catalog need not be part of the transaction, if that has no snapshot to keep and nothing set.

        It must not be where it can: an open transaction in the schema-complete database keeps everybody, this session too,
        from making a workspace of the newest schema. Drivers ask the catalog first, and then leave the transaction open.
        """
        return (
            place == WORKSPACE_PLACE
            and place not in transaction.branches
            and transaction.change is None
            and not transaction.local
            and not self.planned.writes
            and self.planned.neutral
            and not transaction.keeps_snapshot
        )

    def wrote(self, place: str) -> None:
        transaction = self.session.transaction
        if transaction is not None and place in transaction.branches:
            transaction.branches[place].wrote = True

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        transaction = self.session.transaction
        try:
            await self._end(error)
        except BaseException as failure:
            self._arrive(transaction, failure)
            raise
        self._arrive(transaction, error)

    def _arrive(self, transaction: Transaction | None, error: BaseException | None) -> None:
        if self._trip is None:
            return
        self._trip.end(transaction, error)
        if self._trip.others and isinstance(error, ShortcutFailed):
            raise NotTogether from None

    async def _end(self, error: BaseException | None) -> None:
        session = self.session
        for backend in self._own.values():
            if backend.answering:
                await session.settle(backend)
            session.running.pop(backend.place, None)
            if not self.planned.neutral:
                backend.state = None
            session.give_back(backend)
        transaction = session.transaction
        if transaction is not None:
            for place, branch in transaction.branches.items():
                if branch.backend.answering:
                    await session.settle(branch.backend)
                session.running.pop(place, None)
        if self._began and transaction is not None:
            if error is None:
                await self._commit()
            else:
                await rollback_transaction(session)

    async def _commit(self) -> None:
        try:
            await commit_transaction(self.session)
        except PgError as error:
            raise (of_shortcut(error) if self._shortcut else error) from None


def check_current(session: Session, planned: Planned, request: Request) -> None:
    """Raises StalePlan where something was waited for (a snapshot, a pause before another try) since it was planned, and a
    table is frozen now, or there is another group.
    """
    gateway = session.gateway
    if gateway.frozen and planned.relations & (gateway.frozen - session.exempt):
        raise StalePlan
    now = session.plans.snapshot
    if request.snapshot.group_names != now.group_names:
        raise StalePlan
    if not gateway.control.assured and request.snapshot.schema_version != now.schema_version:
        raise StalePlan
