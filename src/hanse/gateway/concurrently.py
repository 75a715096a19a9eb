"""CREATE INDEX CONCURRENTLY on a table of one group, or a reference table: group after group, outside any transaction.

It cannot be atomic, so it has a journal (jobs.py). The schema-complete database gets the index last: while it has none,
whatever the groups have under that name is left over from an attempt that did not end, valid or not. An attempt that fails,
or is cancelled, drops what it has made. Where the gateway was killed the same statement goes on with the groups that are
missing, if it comes within seconds; else all is removed (jobkeeper.py).

The lock for schema changes is held while the job begins and while the catalog gets the index, not while the groups make it, which
takes as long as the longest transaction. So other schema changes may come in between; when they are over, the index must still
be in every group, on this table, in the place where it was.

DROP INDEX and DETACH PARTITION are the ordinary, atomic ones: a schema change waits briefly for its locks and lets
others pass (patience.py). So is CREATE INDEX without a name: only PostgreSQL could choose one, and it must be the same in
every group.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ..catalog.ddl import text as surgery
from ..catalog.model import Kind, Relation
from ..core.errors import PgError
from ..core.ids import quote_literal, quote_qualified
from ..executor.request import Sink, run
from ..planner.plan import Ddl
from ..sql.parse import parse_one
from .jobkeeper import undo_index
from .jobs import Job, Journal
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session

_CONCURRENT = (Kind.SINGLE, Kind.REFERENCE, Kind.PARTITION)


def table_of(session: Session, statement: Any) -> Relation | None:
    """The table whose index is to be made group by group; None: it is an ordinary schema change."""
    if type(statement).__name__ != "IndexStmt" or not statement.idxname:
        return None
    name = statement.relation
    relation = session.gateway.snapshot.find(name.schemaname, name.relname, session.context.search_path)
    return relation if relation is not None and relation.kind in _CONCURRENT else None


async def create_index(session: Session, verb: str, text: bytes, sink: Sink, relation: Relation) -> bytes:
    """Raises PostgreSQL's errors; afterwards no group has the index."""
    from . import ddl

    sql = surgery.without_own_clauses(text.decode())
    index = (relation.schema, parse_one(text).node.idxname)
    plain = surgery.without_word(sql, "CONCURRENTLY")
    gateway = session.gateway
    groups = gateway.snapshot.group_names
    if relation.kind is Kind.PARTITION and relation.group is not None:
        groups = (relation.group,)
    job = Job(
        id=gateway.new_transaction_id(),
        verb=verb,
        statement=text.decode(),
        texts=dict.fromkeys(groups, sql),
        role=session.context.user,
        search_path=session.search_path,
        index=index,
    )
    lock = Transaction("", session.state, explicit=False)
    await gateway.lock_ddl(lock)
    try:
        await gateway.workspace.catch_up(gateway.snapshot.version)
        known = await gateway.workspace.query(
            f"SELECT to_regclass({quote_literal(quote_qualified(*index))}) IS NOT NULL"
        )
        if not known[0][0]:
            async with Journal(gateway) as journal:
                job = await _begun(session, journal, job)
                gateway.unlock_ddl(lock)
                await _create(session, journal, job, plain, lock, relation)
            return verb.encode()
    finally:
        gateway.unlock_ddl(lock)
    return await ddl.run(session, Ddl(verb=verb), plain.encode(), sink)  # PostgreSQL's error, or its notice


async def _begun(session: Session, journal: Journal, job: Job) -> Job:
    """The job, or the one that an attempt of the same statement has left; of another, nothing stays."""
    left = await journal.of_index(job.index or ("", ""))
    if left is not None:
        taken = await journal.take(left)
        if taken is None:
            raise PgError(
                "55006",
                f'index "{left.index[1] if left.index else ""}" is being made by another session',
                hint="Look into hanse.jobs.",
            )
        if taken.is_again(job) and not taken.failed:
            return taken
        await undo_index(session.gateway, taken)
        await journal.end(taken)
    await journal.begin(job)
    return job


async def _create(
    session: Session, journal: Journal, job: Job, plain: str, lock: Transaction, relation: Relation
) -> None:
    from . import ddl

    try:
        for group in job.open_groups:
            await _run(session, group, _dropping(job))  # left over from an attempt that was killed
            await _run(session, group, job.texts[group], journal, job)
            await journal.advance(job, group)
            session.gateway.fault("after_group")
        await session.gateway.lock_ddl(lock)
        await _check_unmoved(session, job, relation)
        await ddl.workspace_only(session, plain, lock, lambda change: journal.decide(job, change))
    except PgError as error:
        if job.decision is None:
            left = await _drop(session, journal, job)
            error.hint = error.hint or _hint(job, left)
        raise
    await journal.end(job)


async def _check_unmoved(session: Session, job: Job, relation: Relation) -> None:
    """Raises 55000 where another table has the name now, or another group has the table."""
    snapshot = session.gateway.snapshot
    now = snapshot.relation_by_identity.get(relation.identity)
    groups = snapshot.group_names if relation.kind is not Kind.PARTITION else tuple(job.texts)
    unmoved = (
        now is not None and (now.kind, now.group) == (relation.kind, relation.group) and set(groups) == set(job.texts)
    )
    index, table = (quote_literal(quote_qualified(*name)) for name in (job.index or ("", ""), relation.identity))
    valid = (
        f"SELECT 1 FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass({index})"
        f" AND indrelid = pg_catalog.to_regclass({table}) AND indisvalid"
    )
    for group in groups if unmoved else ():
        backend = await session.gateway.system_backend(group)
        try:
            unmoved = unmoved and bool(await backend.query(valid))
        finally:
            backend.close()
    if not unmoved:
        raise PgError(
            "55000",
            f'table "{relation.name}" was changed while its index was being made',
            hint="Repeat the statement.",
        )


def _hint(job: Job, left: list[str]) -> str | None:
    if not left or job.index is None:
        return None
    return f'Index "{job.index[1]}" is left in {", ".join(left)}; it will be removed.'


async def _drop(session: Session, journal: Journal, job: Job) -> list[str]:
    """Gives the groups where that was not possible. Nothing is removed by whom somebody else has followed."""
    left = []
    try:
        await journal.touch(job)
    except PgError:
        return []
    for group in job.texts:
        try:
            await _run(session, group, _dropping(job))
        except PgError:
            left.append(group)
    with contextlib.suppress(PgError):
        await (journal.fail(job) if left else journal.end(job))
    return left


def _dropping(job: Job) -> str:
    return f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qualified(*(job.index or ('', '')))}"


async def _run(session: Session, group: str, sql: str, journal: Journal | None = None, job: Job | None = None) -> None:
    backend = await session.acquire(group)
    session.running[group] = backend  # so that the client can cancel it
    try:
        if journal is not None and job is not None:
            await journal.touch(job)  # who takes the job from now on finds the index being made
        await run(backend, sql)
    finally:
        session.running.pop(group, None)
        with contextlib.suppress(PgError):
            if backend.answering:
                await session.settle(backend)
        session.give_back(backend)
