"""Statements and transactions of a session that see several groups at one moment (`transactions.snapshots` says why that holds).

* A statement of its own that reads several groups: an implicit transaction at REPEATABLE READ around it, begun under a barrier
  over the groups it reads.
* The same inside a transaction at READ COMMITTED, where each statement sees the newest state. Branches that have only read are
  ended, for they hold nothing, and begun anew at REPEATABLE READ for this one statement. Where the transaction has written
  in one of the groups its branch there must stay; then the statement reads each group as it is when it is asked.
* A transaction at REPEATABLE READ or SERIALIZABLE: a snapshot in *every* group, at its first statement, because nobody knows yet
  what it will read. It costs a branch in each group; a transaction that wants one group only may say READ COMMITTED.
* `hanse.read_consistency = 'fast'`: neither; each group answers as it is when it is asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from .transaction import Branch, Transaction

if TYPE_CHECKING:
    from .session import Session

READ_CONSISTENCY = "hanse.read_consistency"
VALUES = ("snapshot", "fast")
# A safe snapshot (SERIALIZABLE READ ONLY DEFERRABLE) is waited for, and nobody may wait for transactions under a barrier.
_DEFERRABLE = re.compile(r",?\s*(?<!NOT )DEFERRABLE")


def check_value(value: str | None) -> None:
    """Raises 22023 for what `hanse.read_consistency` cannot be."""
    if value not in VALUES:
        raise PgError(
            "22023",
            f'invalid value for parameter "{READ_CONSISTENCY}": "{value}"',
            hint=f"Available values: {', '.join(VALUES)}.",
        )


def reads_fast(session: Session) -> bool:
    transaction = session.transaction
    if transaction is not None and transaction.read_consistency is not None:
        return transaction.read_consistency == "fast"
    return bool(session.state.settings) and session.state.get(READ_CONSISTENCY) == "fast"


async def begin_transaction(session: Session) -> None:
    """Before the first statement of a transaction whose snapshot is for all that it reads."""
    transaction = session.transaction
    assert transaction is not None
    transaction.awaits_snapshot = False
    groups = session.gateway.snapshot.group_names
    if len(groups) > 1 and not reads_fast(session):
        await take(session, transaction, groups)


async def take(session: Session, transaction: Transaction, groups: Sequence[str]) -> None:
    """Gives the transaction a snapshot in each of `groups`, all of one moment."""
    opening = "; ".join((_DEFERRABLE.sub("", transaction.begin_sql), *transaction.opening()))
    await _take(session, transaction, groups, opening, {})


def may_reopen(session: Session, transaction: Transaction, groups: Sequence[str]) -> bool:
    """Whether the transaction's branches in `groups` hold nothing that the transaction needs."""
    if transaction.failed or transaction.change is not None or session.cursors or session.pinned:
        return False
    if any("ISOLATION" in statement.upper() for statement in transaction.local) or _own_snapshot(session, transaction):
        return False
    if any(place in groups and branch.wrote for place, branch in transaction.branches.items()):
        return False
    read_only = (planned for planned in transaction.touched.values() if not planned.writes)
    return all(planned.verb == "SELECT" and planned.neutral and planned.pins is None for planned in read_only)


def _own_snapshot(session: Session, transaction: Transaction) -> bool:
    modes = transaction.options or transaction.state_before.get("default_transaction_isolation") or ""
    return "REPEATABLE READ" in modes.upper() or "SERIALIZABLE" in modes.upper()


async def reopen(session: Session, transaction: Transaction, groups: Sequence[str]) -> None:
    """For one statement of a transaction at READ COMMITTED. `end` follows it."""
    places = [place for place in groups if place in transaction.branches]
    await end(session, transaction, places, keep=True)
    backends = {place: transaction.branches.pop(place).backend for place in places}
    access = ", READ ONLY" if "READ ONLY" in transaction.options else ""
    opening = "; ".join((f"BEGIN ISOLATION LEVEL REPEATABLE READ{access}", *transaction.opening()))
    await _take(session, transaction, groups, opening, backends)


async def end(session: Session, transaction: Transaction, places: Sequence[str], *, keep: bool = False) -> None:
    """Ends branches that have only read. The transaction goes on, and begins new ones where it needs them."""
    branches = [(place, transaction.branches[place]) for place in places]
    await asyncio.gather(*(branch.backend.query("COMMIT") for _, branch in branches))
    for place, branch in branches:
        branch.backend.state = session.state
        if not keep:
            del transaction.branches[place]
            session.running.pop(place, None)
            session.give_back(branch.backend)


async def _take(
    session: Session, transaction: Transaction, groups: Sequence[str], opening: str, opened: dict[str, Backend]
) -> None:
    wanted = tuple(name for name in session.gateway.snapshot.group_names if name in set(groups))

    async def first_statements() -> None:
        here = [branch.backend for place, branch in transaction.branches.items() if place in wanted]
        work = [backend.query("SELECT 1") for backend in here]
        work += [backend.query(f"{opening}; SELECT 1") for backend in opened.values()]
        await asyncio.gather(*work)

    try:
        for place in wanted:
            if place not in transaction.branches and place not in opened:
                opened[place] = await session.acquire(place)
        await _interruptible(session, session.gateway.barriers.during(wanted, first_statements))
    except BaseException:
        await _abandon(session, opened)
        raise
    for place, backend in opened.items():
        transaction.branches[place] = Branch(backend, used=False)
        session.note_branch(transaction)


async def _abandon(session: Session, opened: dict[str, Backend]) -> None:
    for place, backend in opened.items():
        if session.pinned.get(place) is not backend:
            backend.close()
        elif not backend.closed:
            await session.settle(backend)
            await backend.query("ROLLBACK")


async def _interruptible(session: Session, work: Coroutine[Any, Any, None]) -> None:
    """Waits for something that no backend of the session does; a cancel request ends the wait (57014)."""
    task = asyncio.ensure_future(work)
    interruption = session.interruption = asyncio.get_running_loop().create_future()
    try:
        await asyncio.wait((task, interruption), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise PgError("57014", "canceling statement due to user request")
        task.result()
    finally:
        session.interruption = None
        task.cancel()
