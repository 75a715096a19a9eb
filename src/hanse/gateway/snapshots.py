"""Statements and transactions of a session that see several groups at one moment (`transactions.snapshots` says why that holds).

* A statement at READ COMMITTED, of its own or in a transaction, in the branches that this has. It locks its tables first: each
  group parses and binds its part, and keeps the locks. Then, under a barrier over the groups, come the snapshots: a query is
  bound again, to the portal that it will run in and that keeps the snapshot of that moment; a COPY or a statement that
  writes is started, and the barrier held until each group has a snapshot for it. Locks before snapshots because
  PostgreSQL's rewrites (ALTER TABLE) leave a table empty for a snapshot that is older (manual, 13.6); and so nothing is
  waited for under the barrier that a schema change has locked (A6).
* A transaction at REPEATABLE READ or SERIALIZABLE: a snapshot in *every* group, at its first statement, because nobody knows yet
  what it will read. It costs a branch in each group; a transaction that wants one group only may say READ COMMITTED.
* A statement of its own that reads in several steps: the same around it, in the groups that it reads.
* `hanse.read_consistency = 'fast'`: none of it; each group answers as it is when it is asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..engines.postgres.asking import ask_all
from ..engines.postgres.backend import Backend
from ..executor.copy_stream import begin_copy_out, copy_out_begun
from ..executor.request import Query, Source
from ..pgwire.frontend import query as simple_query
from ..pgwire.frontend import sync
from .barriers import Reader, Working
from .interruption import interruptible
from .own_settings import READ_CONSISTENCY
from .transaction import Branch, Transaction

if TYPE_CHECKING:
    from .session import Session

# A safe snapshot (SERIALIZABLE READ ONLY DEFERRABLE) is waited for, and nobody may wait for transactions under a barrier.
_DEFERRABLE = re.compile(r",?\s*(?<!NOT )DEFERRABLE")

# What a statement that writes shows when it has its snapshot: the snapshot itself, unless the branch has an older one, of an open
# cursor; the transaction's id, which it is given with the first row that it changes, unless it has one; a wait for a row.
_SIGNS = (
    "SELECT CASE WHEN backend_xmin IS NOT NULL THEN 'snapshot' END, CASE WHEN backend_xid IS NOT NULL THEN 'id' END, "
    "CASE WHEN wait_event IN ('transactionid', 'tuple') THEN 'wait' END FROM pg_stat_get_activity"
)
LOOK_PAUSE_S, LOOK_PAUSE_S_MAX = 0.0005, 0.01


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
    transaction.groups = frozenset(groups)
    if len(groups) > 1 and not reads_fast(session):
        await take(session, transaction, groups)


async def take(session: Session, transaction: Transaction, groups: Sequence[str]) -> None:
    """Gives the transaction a snapshot in each of `groups`, all of one moment."""
    opening = "; ".join((_DEFERRABLE.sub("", transaction.begin_sql), *transaction.opening()))
    await _take(session, transaction, groups, opening, {})


async def bind(session: Session, sources: Sequence[Source]) -> None:
    """Opens a portal for each query, all at one moment; each keeps the snapshot that it was opened with (A3)."""
    parse: dict[Backend, list[bytes]] = {}
    again: dict[Backend, list[bytes]] = {}
    for backend, query in sources:
        parse.setdefault(backend, []).extend((query.parse(), *query.bind()))
        again.setdefault(backend, []).extend(query.bind())
    await _send({backend: [*pieces, sync()] for backend, pieces in parse.items()})
    reader = Reader({backend: [*pieces, sync()] for backend, pieces in again.items()})
    await _under_barrier(session, {query.place for _, query in sources}, reader)


async def start(session: Session, backends: Mapping[str, Backend], queries: Sequence[Query]) -> None:
    """Sends each group its statement that writes, all at one moment; the answers are the caller's to read.

    A portal of such a statement has no snapshot before it runs, and that it has one then is seen from outside only: `_SIGNS`.
    """
    await _send({backends[query.place]: [query.parse(), *query.bind(), sync()] for query in queries})

    def begin() -> None:
        for query in queries:
            backends[query.place].write(query.rows())

    await _started(session, backends, begin)


async def start_copies(
    session: Session, backends: Mapping[str, Backend], queries: Sequence[Query], sql: str
) -> list[tuple[Backend, bytes]]:
    """Starts COPY … TO STDOUT of the rows of `queries`, all at one moment; gives each with its CopyOutResponse.

    That is sent with the first 8 kB of rows, which may take long: that a group has its snapshot is seen from outside.
    """
    await _send({backends[each.place]: [each.parse(), *each.bind(), each.close(), sync()] for each in queries})
    places = list(backends.values())

    def begin() -> None:
        for backend in places:
            begin_copy_out(backend, sql)

    await _started(session, backends, begin)
    return list(zip(places, await asyncio.gather(*map(copy_out_begun, places)), strict=True))


async def _started(session: Session, backends: Mapping[str, Backend], begin: Callable[[], None]) -> None:
    """Calls `begin` under a barrier, which is held until each backend has a snapshot for what it was sent."""
    known = {backend: await _signs(session, backend) for backend in backends.values()}

    async def begin_and_wait() -> None:
        begin()
        await asyncio.gather(*(_until_snapshot(session, backend, signs) for backend, signs in known.items()))

    await _under_barrier(session, backends, begin_and_wait)


async def _signs(session: Session, backend: Backend) -> set[str]:
    watchers = session.gateway.snapshot_watchers
    watcher = await watchers.take(backend.place)
    try:
        rows = await watcher.query(f"{_SIGNS}({backend.pid})")
    except BaseException:
        watcher.close()
        raise
    watchers.keep(watcher)
    return {sign for sign in rows[0] if sign is not None} if rows else set()


async def _until_snapshot(session: Session, backend: Backend, known: set[str]) -> None:
    """A new sign shows it, or an answer, which comes after it."""
    pause_s = 0.0
    while not (backend.unread or backend.closed or await _signs(session, backend) - known):
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s + LOOK_PAUSE_S, LOOK_PAUSE_S_MAX)


async def _under_barrier(
    session: Session, places: Iterable[str], reader: Reader | Callable[[], Awaitable[None]]
) -> None:
    groups = tuple(name for name in session.gateway.snapshot.group_names if name in set(places))
    if not isinstance(reader, Reader):
        reader = Working(groups, reader)
    await interruptible(session, session.gateway.barriers.during(groups, reader))


async def _send(messages: Mapping[Backend, list[bytes]]) -> None:
    for answer in await ask_all(messages):
        if answer.failure is not None:
            raise answer.failure


async def _take(
    session: Session, transaction: Transaction, groups: Sequence[str], opening: str, opened: dict[str, Backend]
) -> None:
    wanted = tuple(name for name in session.gateway.snapshot.group_names if name in set(groups))
    try:
        for place in wanted:
            if place not in transaction.branches and place not in opened:
                opened[place] = await session.acquire(place)
        here = [branch.backend for place, branch in transaction.branches.items() if place in wanted]
        first = {backend: [simple_query(b"SELECT 1")] for backend in here}
        first |= {backend: [simple_query(f"{opening}; SELECT 1".encode())] for backend in opened.values()}
        await _under_barrier(session, wanted, Reader(first))
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
