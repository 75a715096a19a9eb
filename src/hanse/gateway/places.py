"""The backends of one statement: branches of the session's transaction, or its own for as long as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..catalog.model import Kind
from ..config import WORKSPACE_PLACE
from ..core.ids import quote_qualified
from ..engines.postgres.backend import Backend
from ..executor.request import Query
from ..planner.plan import Planned
from ..transactions.commit import new_global_id, prepare_sql
from . import snapshots
from .ending import commit_transaction, rollback_transaction
from .interruption import check
from .retrying import Try
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session


class StatementPlaces:
    """`async with`: on success what the statement began is committed, on failure rolled back; backends go home."""

    def __init__(self, session: Session, planned: Planned, attempt: Try | None = None) -> None:
        self.session = session
        self.planned = planned
        self._attempt = attempt
        self._own: dict[str, Backend] = {}
        self._began = False
        self.used: dict[str, Backend] = {}  # every backend that the statement was given

    async def __aenter__(self) -> StatementPlaces:
        if self.session.transaction is not None:
            self.session.transaction.touched[id(self.planned)] = self.planned
        return self

    async def begin(self, reads: Sequence[str] = ()) -> None:
        """Several places will be written: one transaction around the statement, unless there is one already."""
        if self.session.transaction is not None:
            return
        at_one_moment = len(reads) > 1 and not snapshots.reads_fast(self.session)
        transaction = self._begin(at_one_moment)
        if self._attempt is not None and self._attempt.locks_first:
            await self._lock(reads)
        if at_one_moment:
            await snapshots.take(self.session, transaction, reads)

    def _begin(self, at_one_moment: bool) -> Transaction:
        session = self.session
        assert not self._own, "the transaction comes before the first backend()"
        transaction = Transaction("", session.state, explicit=False)
        if at_one_moment and not transaction.keeps_snapshot:
            transaction = Transaction("ISOLATION LEVEL REPEATABLE READ", session.state, explicit=False)
        transaction.touched[id(self.planned)] = self.planned
        if self._attempt is not None:
            transaction.started = self._attempt.since
        session.transaction = transaction
        self._began = True
        return transaction

    async def _lock(self, groups: Sequence[str]) -> None:
        """Before the snapshot, so that nobody can change what it sees: in the global order, or two would wait for each other."""
        snapshot = self.session.plans.snapshot
        relations = (snapshot.relation_by_identity.get(identity) for identity in sorted(self.planned.relations))
        tables = [quote_qualified(*found.identity) for found in relations if found and found.kind is Kind.SHARDED]
        for group in snapshot.group_names:
            if tables and group in groups:
                backend = await self.backend(group)  # among what runs: it may have to be cancelled
                await backend.query(f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE")

    async def snapshot(self, groups: Sequence[str]) -> None:
        """The statement reads in these groups, and is to see them at one moment. Comes before the first `backend()`.

        A transaction at REPEATABLE READ has its own snapshot already.
        """
        session = self.session
        if len(groups) < 2 or session.transaction is not None or snapshots.reads_fast(session):
            return
        await snapshots.take(session, self._begin(True), groups)

    def binds(self, groups: Sequence[str]) -> bool:
        """In a transaction at READ COMMITTED the branches stay as they are; each statement has a snapshot of its own."""
        session = self.session
        transaction = session.transaction
        return (
            len(groups) > 1
            and transaction is not None
            and not self._began
            and not transaction.keeps_snapshot
            and not snapshots.reads_fast(session)
        )

    async def bind(self, queries: Sequence[Query]) -> None:
        backends = {query.place: await self.backend(query.place) for query in queries}
        await snapshots.bind(self.session, backends, queries)

    def prepare_early(self, places: Sequence[str]) -> str | None:
        """The statement is all that the transaction does: of two places the first may prepare in the same breath.

        Gives the SQL to send behind the first one's statement, whose success `prepared` is told; None: not so.
        """
        transaction = self.session.transaction
        if not self._began or transaction is None or len(places) != 2 or set(transaction.branches) != set(places):
            return None
        if self.session.gateway.snapshot.has_deferrable:
            return None
        transaction.identity = new_global_id(places[-1])
        return prepare_sql(transaction.identity)

    def prepared(self, place: str) -> None:
        assert self.session.transaction is not None
        self.session.transaction.prepared.add(place)

    async def backend(self, place: str) -> Backend:
        session = self.session
        check(session)
        if session.transaction is not None and not self._beside(session.transaction, place):
            branch = await session.branch(place)
            branch.wrote |= self.planned.writes
            session.running[place] = self.used[place] = branch.backend
            return branch.backend
        backend = self._own.get(place)
        if backend is None:
            backend = self._own[place] = self.used[place] = await session.acquire(place)
            session.running[place] = backend
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
        session = self.session
        for place, backend in self._own.items():
            if backend.answering:
                await session.settle(backend)
            session.running.pop(place, None)
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
                await commit_transaction(session)
            else:
                await rollback_transaction(session)
