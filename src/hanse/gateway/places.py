"""The backends of one statement: branches of the session's transaction, or its own for as long as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config import WORKSPACE_PLACE
from ..engines.postgres.backend import Backend
from ..planner.plan import Planned
from ..transactions.commit import new_global_id, prepare_sql
from . import snapshots
from .ending import commit_transaction, rollback_transaction
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session


def _keeps_snapshot(modes: str) -> bool:
    return any(level in modes.upper() for level in ("REPEATABLE", "SERIALIZABLE"))


class StatementPlaces:
    """`async with`: on success what the statement began is committed, on failure rolled back; backends go home."""

    def __init__(self, session: Session, planned: Planned) -> None:
        self.session = session
        self.planned = planned
        self._own: dict[str, Backend] = {}
        self._began = False
        self._reopened: tuple[str, ...] = ()  # groups whose branches are for this statement only
        self.used: dict[str, Backend] = {}  # every backend that the statement was given

    async def __aenter__(self) -> StatementPlaces:
        if self.session.transaction is not None:
            self.session.transaction.touched[id(self.planned)] = self.planned
        return self

    async def begin(self) -> None:
        """Several places will be written: one transaction around the statement, unless there is one already."""
        session = self.session
        if session.transaction is None:
            assert not self._own, "begin() comes before the first backend()"
            session.transaction = Transaction("", session.state, explicit=False)
            session.transaction.touched[id(self.planned)] = self.planned
            self._began = True

    async def snapshot(self, groups: Sequence[str]) -> None:
        """The statement reads in these groups, and is to see them at one moment. Comes before the first `backend()`.

        A transaction at REPEATABLE READ has its own snapshot already.
        """
        session = self.session
        if len(groups) < 2 or self._began or self._reopened or snapshots.reads_fast(session):
            return
        assert not self._own, "snapshot() comes before the first backend()"
        transaction = session.transaction
        if transaction is None:
            transaction = Transaction("ISOLATION LEVEL REPEATABLE READ", session.state, explicit=False)
            transaction.touched[id(self.planned)] = self.planned
            session.transaction = transaction
            self._began = True
            await snapshots.take(session, transaction, groups)
        elif not self.planned.writes and snapshots.may_reopen(session, transaction, groups):
            self._reopened = tuple(groups)
            await snapshots.reopen(session, transaction, groups)

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
            and not _keeps_snapshot(transaction.options)
            and not _keeps_snapshot(self.session.state.get("default_transaction_isolation") or "")
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
        if self._reopened and transaction is not None and error is None:
            await snapshots.end(session, transaction, self._reopened)
        if self._began and transaction is not None:
            if error is None:
                await commit_transaction(session)
            else:
                await rollback_transaction(session)
