"""Statements and transactions of a session that see several groups at one moment (`transactions.snapshots` says why that holds).

* A statement of its own that reads several groups: an implicit transaction at REPEATABLE READ around it, begun under a barrier
  over the groups it reads.
* The same inside a transaction at READ COMMITTED, where each statement sees the newest state and what the transaction itself
  has written: the statement's queries are bound to portals under a barrier, in the branches that the transaction has.
* A transaction at REPEATABLE READ or SERIALIZABLE: a snapshot in *every* group, at its first statement, because nobody knows yet
  what it will read. It costs a branch in each group; a transaction that wants one group only may say READ COMMITTED.
* `hanse.read_consistency = 'fast'`: neither; each group answers as it is when it is asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from ..executor.request import Discard, Query, pump
from ..pgwire.frontend import sync
from .interruption import interruptible
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


async def bind(session: Session, backends: Mapping[str, Backend], queries: Sequence[Query]) -> None:
    """Opens a portal for each query, under a barrier; it keeps the snapshot that it was opened with (A3).

    They are opened once before, so that under the barrier nothing is waited for that a schema change has locked (A6).
    """
    places = dict.fromkeys(query.place for query in queries)
    parse = {place: b"".join(q.parse() + q.bind() for q in queries if q.place == place) + sync() for place in places}
    again = {place: b"".join(q.bind() for q in queries if q.place == place) + sync() for place in places}
    await _send(backends, parse)
    groups = tuple(name for name in session.gateway.snapshot.group_names if name in places)
    await interruptible(session, session.gateway.barriers.during(groups, lambda: _send(backends, again)))


async def _send(backends: Mapping[str, Backend], messages: Mapping[str, bytes]) -> None:
    for place, message in messages.items():
        backends[place].write(message)
    await asyncio.gather(*(pump(backends[place], Discard()) for place in messages))


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
        await interruptible(session, session.gateway.barriers.during(wanted, first_statements))
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
