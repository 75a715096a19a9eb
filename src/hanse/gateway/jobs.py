"""The journal of statements that run group after group, outside transactions: VACUUM, ANALYZE, REINDEX, CLUSTER, CREATE INDEX
CONCURRENTLY.

A row of `hanse.job` in the home group says what is to be done and which groups have done it. It is written before anything
else, after each group, and taken away at the end::

    begin   INSERT … owner = this session        g1: VACUUM t      advance   done = {g1}
                                                 g2: VACUUM t      advance   done = {g1,g2}      end   DELETE

**Owner.** The session that writes the row owns it, by its process id and the time it began. Nothing is renewed: when the
gateway is killed its sessions end, and so they do when the home group gets another leader. Whose session has ended owns
nothing: each write says so, and he stops, and removes nothing. A job without owner is taken by who asks first
(jobkeeper.py, or the same CREATE INDEX again); a table lock makes them come one after another.

Why not in the catalog: a version of the catalog empties the plan caches of all gateways and refuses the schema changes that
are under way, which is too much for a VACUUM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.ids import quote_literal
from ..engines.postgres.backend import Backend

if TYPE_CHECKING:
    from .gateway import Gateway

_ALIVE = (
    "EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = j.owner_pid AND a.backend_start = j.owner_start)"
)
_ME = "(SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid())"
_COLUMNS = (
    "j.id, j.verb, j.statement, j.texts, j.done, j.role, j.search_path, j.index_schema, j.index_name,"
    " j.decision, j.failed"
)


@dataclass(slots=True, kw_only=True)
class Job:
    id: str
    verb: str
    statement: str  # the client's
    texts: dict[str, str]  # group → what it runs
    role: str
    search_path: str
    index: tuple[str, str] | None = None  # CREATE INDEX CONCURRENTLY: schema and name
    done: list[str] = field(default_factory=list)
    decision: str | None = None  # the schema change by which the catalog learns of the index
    failed: bool = False  # the client knows; what was left behind is to be removed

    @property
    def open_groups(self) -> list[str]:
        return [group for group in self.texts if group not in self.done]

    def is_again(self, other: Job) -> bool:
        """The same statement, with the same meaning."""
        mine, theirs = ((each.statement, each.texts, each.role, each.search_path, each.index) for each in (self, other))
        return mine == theirs


class Journal:
    """`async with`: one session in the home group, which owns what it begins or takes for as long as it lives."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._backend: Backend | None = None

    async def __aenter__(self) -> Journal:
        self._backend = await self._gateway.system_backend(self._gateway.snapshot.home_group)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._backend is not None
        self._backend.close()

    async def begin(self, job: Job) -> None:
        schema, name = map(quote_literal, job.index) if job.index else ("NULL", "NULL")
        await self._query(
            "INSERT INTO hanse.job (id, verb, statement, texts, role, search_path, index_schema, index_name,"
            f" owner_pid, owner_start) VALUES ({quote_literal(job.id)}, {quote_literal(job.verb)},"
            f" {quote_literal(job.statement)}, {quote_literal(json.dumps(job.texts))},"
            f" {quote_literal(job.role)}, {quote_literal(job.search_path)}, {schema}, {name},"
            f" pg_catalog.pg_backend_pid(), {_ME})"
        )

    async def touch(self, job: Job) -> None:
        """Before something that another owner must not find going on."""
        await self._update(job, "touched = DEFAULT")

    async def advance(self, job: Job, group: str) -> None:
        job.done.append(group)
        await self._update(job, f"done = done || {quote_literal(group)}::text")

    async def decide(self, job: Job, transaction_id: str) -> None:
        """What becomes of this schema change is from now on what becomes of the job."""
        job.decision = transaction_id
        await self._update(job, f"decision = {quote_literal(transaction_id)}")

    async def fail(self, job: Job) -> None:
        await self._update(job, "failed = true, owner_pid = NULL")

    async def end(self, job: Job) -> None:
        _owned(await self._query(f"DELETE FROM hanse.job j WHERE {_of_mine(job)} RETURNING true"))

    async def abandoned(self, age_s: float) -> list[Job]:
        rows = await self._query(
            f"SELECT {_COLUMNS} FROM hanse.job j WHERE NOT {_ALIVE}"
            f" AND touched < pg_catalog.clock_timestamp() - interval '{age_s} s' ORDER BY started"
        )
        return [_job(row) for row in rows]

    async def of_index(self, index: tuple[str, str]) -> Job | None:
        schema, name = map(quote_literal, index)
        rows = await self._query(
            f"SELECT {_COLUMNS} FROM hanse.job j WHERE index_schema = {schema} AND index_name = {name}"
        )
        return _job(rows[0]) if rows else None

    async def take(self, job: Job) -> Job | None:
        """The job as it is now, ours; None: it has an owner, or is no more."""
        rows = await self._query(
            "BEGIN; LOCK TABLE hanse.job IN SHARE ROW EXCLUSIVE MODE;"
            f" UPDATE hanse.job j SET owner_pid = pg_catalog.pg_backend_pid(), owner_start = {_ME}, touched = DEFAULT"
            f" WHERE id = {quote_literal(job.id)} AND NOT {_ALIVE} RETURNING {_COLUMNS}; COMMIT"
        )
        return _job(rows[0]) if rows else None

    async def _update(self, job: Job, assignments: str) -> None:
        touched = "" if assignments.startswith("touched") else ", touched = DEFAULT"
        _owned(await self._query(f"UPDATE hanse.job j SET {assignments}{touched} WHERE {_of_mine(job)} RETURNING true"))

    async def _query(self, sql: str) -> Sequence[tuple[str | None, ...]]:
        assert self._backend is not None
        return await self._backend.query(sql)


def shown_sql(user: str) -> str:
    """The rows of view `hanse.jobs`, as this user may see them."""
    return (
        "SELECT j.id, j.verb, (SELECT j.statement FROM pg_catalog.pg_roles r"
        f" WHERE r.rolname = j.role AND pg_catalog.pg_has_role({quote_literal(user)}, r.oid, 'USAGE')), j.role,"
        f" CASE WHEN {_ALIVE} THEN 'running' ELSE 'waiting' END,"
        " ARRAY(SELECT pg_catalog.json_object_keys(j.texts)), j.done, j.started"
        " FROM hanse.job j ORDER BY j.started"
    )


def _of_mine(job: Job) -> str:
    return f"j.id = {quote_literal(job.id)} AND j.owner_pid = pg_catalog.pg_backend_pid() AND j.owner_start = {_ME}"


def _owned(rows: Sequence[object]) -> None:
    if not rows:
        raise PgError(
            "40001",
            "the statement was taken over by another gateway",
            detail="Its session in the home group had ended.",
            hint="Look into hanse.jobs, and run it again when it is not there.",
        )


def _job(row: tuple[str | None, ...]) -> Job:
    id_, verb, statement, texts, done, role, path, schema, name, decision, failed = row
    return Job(
        id=id_ or "",
        verb=verb or "",
        statement=statement or "",
        texts=json.loads(texts or "{}"),
        role=role or "",
        search_path=path or "",
        index=(schema, name) if schema is not None and name is not None else None,
        done=(done or "{}")[1:-1].split(",") if done != "{}" else [],  # names of groups need no quotes
        decision=decision,
        failed=failed == "t",
    )
