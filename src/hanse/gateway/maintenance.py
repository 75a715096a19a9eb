"""VACUUM, ANALYZE, REINDEX, CLUSTER over groups: one after another, each for itself, with a journal (jobs.py).

What has run is not undone. An error in one group is the statement's end, and says which groups have run it. Where the
gateway is killed another goes on with the rest, as PostgreSQL does when only the client has gone.

REINDEX CONCURRENTLY leaves invalid indexes when it fails, `…_ccnew` and `…_ccold`. The schema-complete database has none of
them, so that nobody could see them or drop them: they are removed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.ids import quote_qualified
from ..core.limits import JOB_LOCK_WAIT_S_MAX
from ..executor.request import Places, Request, Sink, pump
from ..planner.plan import Broadcast, Planned
from .jobs import Job, Journal

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

_WRONG_STATEMENT = "42"  # the class of errors that every group would give
_LEFT = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relname ~ '_cc(new|old)[0-9]*$' ORDER BY 1, 2"
)


async def run(session: Session, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    """Raises the first group's error; gives the command tag."""
    plan = planned.plan
    assert isinstance(plan, Broadcast)
    given = request.text.decode()
    own = dict(plan.texts)
    job = Job(
        id=session.gateway.new_transaction_id(),
        verb=planned.verb,
        statement=given,
        texts={group: own.get(group, given) for group in plan.groups},
        role=session.context.user,
        search_path=session.search_path,
    )
    tag = b""
    async with Journal(session.gateway) as journal:
        await journal.begin(job)
        for group, text in job.texts.items():
            backend = await places.backend(group)
            await journal.touch(job)
            backend.write_pieces(Request(text=text.encode(), snapshot=request.snapshot).message())
            try:
                tag = await pump(backend, sink)
            except PgError as error:
                _say_where(error, job, group)
                await _give_up(session.gateway, journal, job, group)
                raise
            await journal.advance(job, group)
            session.gateway.fault("after_group")
        await journal.end(job)
    return tag


async def _give_up(gateway: Gateway, journal: Journal, job: Job, group: str) -> None:
    """Where that is not possible now, somebody else does it later (jobkeeper.py)."""
    with contextlib.suppress(PgError):
        await journal.fail(job)
        if job.verb == "REINDEX":
            await remove_left(gateway, group)
        taken = await journal.take(job)
        if taken is not None:
            await journal.end(taken)


def _say_where(error: PgError, job: Job, group: str) -> None:
    if len(job.texts) == 1 or (not job.done and error.sqlstate.startswith(_WRONG_STATEMENT)):
        return
    where = f"It has run in {', '.join(job.done)}." if job.done else "It has run in no other group."
    error.detail = f"{error.detail} {where}" if error.detail else f"This is group {group}. {where}"
    error.hint = error.hint or f"Run {job.verb} again when the reason is gone."


async def remove_left(gateway: Gateway, group: str) -> None:
    """Of REINDEX CONCURRENTLY. One that is under way keeps its own: 55P03."""
    backend = await gateway.system_backend(group)
    try:
        await backend.query(f"SET lock_timeout = '{JOB_LOCK_WAIT_S_MAX:.0f}s'")
        for schema, name in await backend.query(_LEFT):
            await backend.query(f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qualified(schema or '', name or '')}")
    finally:
        backend.close()
