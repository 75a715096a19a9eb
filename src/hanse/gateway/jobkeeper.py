"""Jobs whose owner is gone (jobs.py) are brought to an end: by the first worker of each node, whichever comes first.

VACUUM and its kind go on in the groups that have not run them, as the role that gave them. An index that was being made
CONCURRENTLY is taken away again, in all groups, unless the catalog has it: nobody waits for it, and half an index costs every
write, and may refuse some. Who repeats the statement before that goes on with it (concurrently.py).

An index is removed under the lock for schema changes, so that none of the same name comes in between. A server goes on
making an index for a gateway that is gone; that is not waited for under the lock.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.ids import quote_identifier, quote_literal, quote_qualified
from ..core.limits import JOB_AGE_S_MIN, JOB_LOCK_WAIT_S_MAX, JOBS_PERIOD_S
from ..engines.postgres.backend import Backend
from ..executor.request import Discard, Request, pump
from .jobs import Job, Journal
from .maintenance import remove_left

if TYPE_CHECKING:
    from .gateway import Gateway

log = logging.getLogger(__name__)

_LOST = ("08", "57P", "53")  # SQLSTATEs that say nothing of the statement: tried again in the next turn


async def keep(gateway: Gateway, *, period_s: float = JOBS_PERIOD_S, age_s: float = JOB_AGE_S_MIN) -> None:
    """Until it is cancelled. `age_s`: for so long nothing has happened to a job, in case its client comes again."""
    while gateway.worker == 0:
        await asyncio.sleep(period_s)
        try:
            async with Journal(gateway) as journal:
                found = await journal.abandoned(age_s)
            for job in found:
                gateway.spawn(_end_alone(gateway, job))  # each may take long
        except PgError as error:
            log.info("jobs cannot be looked for: %s", error.message)


async def _end_alone(gateway: Gateway, job: Job) -> None:
    try:
        async with Journal(gateway) as journal:  # its own session: what fails has no owner again
            await _end(gateway, journal, job)
    except PgError as error:
        log.info("%s waits: %s", job.statement, error.message)


async def _end(gateway: Gateway, journal: Journal, job: Job) -> None:
    if job.index is None:
        taken = await journal.take(job)
        if taken is not None:
            await _go_on(gateway, journal, taken)
        return
    if await _is_being_made(gateway, job):
        return
    await gateway.lock_ddl(journal)
    try:
        taken = await journal.take(job)
        if taken is not None:
            await undo_index(gateway, taken)
            await journal.end(taken)
            log.warning("what CREATE INDEX CONCURRENTLY had left was removed: %s", taken.statement)
    finally:
        gateway.unlock_ddl(journal)


# --- what goes on ------------------------------------------------------------------------------------------------------


async def _go_on(gateway: Gateway, journal: Journal, job: Job) -> None:
    try:
        for group in job.open_groups:
            if job.verb == "REINDEX":
                await remove_left(gateway, group)
            if not job.failed:
                await _run(gateway, job, group)
                await journal.advance(job, group)
                log.warning("in %s, for a gateway that is gone: %s", group, job.statement)
    except PgError as error:
        if error.sqlstate.startswith(_LOST) or error.sqlstate == "55P03":
            raise
        log.warning("%s is given up: %s", job.statement, error)
        job.failed = True
        if job.verb == "REINDEX":
            await remove_left(gateway, group)
    await journal.end(job)


async def _run(gateway: Gateway, job: Job, group: str) -> None:
    """As its role. By the extended protocol, which takes one statement only."""
    backend = await gateway.system_backend(group)
    try:
        path = quote_literal(job.search_path)
        await backend.query(f"SELECT pg_catalog.set_config('search_path', {path}, false)")
        await backend.query(f"SET SESSION AUTHORIZATION {quote_identifier(job.role)}")
        request = Request(text=job.texts[group].encode(), snapshot=gateway.snapshot, extended=True)
        backend.write_pieces(request.message())
        await pump(backend, Discard())
    finally:
        backend.close()


# --- what is undone ----------------------------------------------------------------------------------------------------


async def _is_being_made(gateway: Gateway, job: Job) -> bool:
    name = quote_literal(_name(job))
    for group in job.texts:
        backend = await gateway.system_backend(group)
        try:
            rows = await backend.query(
                f"SELECT FROM pg_catalog.pg_stat_progress_create_index WHERE index_relid = pg_catalog.to_regclass({name})"
            )
        finally:
            backend.close()
        if rows:
            return True
    return False


async def undo_index(gateway: Gateway, job: Job) -> None:
    """Under the lock for schema changes: no group has the index, unless the catalog has it."""
    if job.decision is not None and await gateway.control.outcome(job.decision):
        return
    await gateway.workspace.catch_up(gateway.snapshot.version)
    known = await gateway.workspace.query(f"SELECT to_regclass({quote_literal(_name(job))}) IS NOT NULL")
    if known[0][0]:  # made by another statement since then, so there was nothing left
        return
    for group in job.texts:
        backend = await gateway.system_backend(group)
        try:
            await _drop(backend, _name(job))
        finally:
            backend.close()


async def _drop(backend: Backend, name: str) -> None:
    await backend.query(f"SET lock_timeout = '{JOB_LOCK_WAIT_S_MAX:.0f}s'")
    await backend.query(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _name(job: Job) -> str:
    assert job.index is not None
    return quote_qualified(*job.index)
