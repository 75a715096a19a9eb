"""Schema changes: the driver of `catalog.ddl`'s procedures, inside the session's distributed transaction.

The first change of a transaction takes the cluster's DDL lock and keeps it to the transaction's end; from then on the
session plans on its own snapshot, which others see when the catalog commits (`ending.py`). The order is always:
schema-complete database first (wrong statements fail there), then the groups.

Steps marked `system` run as Hanse's own role in the same transaction, through `hanse.run_as_system`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ..catalog import introspection
from ..catalog.ddl import guard_defaults, plan_ddl
from ..catalog.ddl.steps import (
    Ask,
    DdlContext,
    DdlResult,
    Fill,
    Freeze,
    Introspect,
    MoveRows,
    Notice,
    Procedure,
    Row,
    RunGroups,
    RunWorkspace,
    Step,
)
from ..catalog.model import Kind, Snapshot
from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..core.ids import quote_literal, quote_qualified
from ..core.limits import FREEZE_WAIT_S_MAX
from ..engines.postgres.backend import Backend, split_messages
from ..engines.postgres.replay import as_client, as_system
from ..executor.copying import copy_between
from ..executor.request import Sink, pump
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.backend import Field
from ..pgwire.diagnostics import notice_response
from ..pgwire.verifier import make_verifier
from ..planner.attached import refuse_new
from ..planner.plan import Ddl
from ..sql.parse import Parsed, parse_one
from . import abandoned, concurrently, groups, tablespaces, versions
from .ending import commit_transaction, rollback_transaction
from .oids import STATEMENT_ATTEMPTS_MAX, Alignment, TypesDiffer, makes_types, unequal
from .patience import AS_BEFORE, Patience
from .transaction import SchemaChange, Transaction

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)

NoticeTo = Callable[[bytes], None]

# The session's own search_path must come back, also where it was set in this transaction.
_INTROSPECT = (
    "SAVEPOINT hanse_introspect; SET LOCAL search_path = ''; SET LOCAL jit = off; "
    f"{introspection.QUERY}; ROLLBACK TO hanse_introspect; RELEASE hanse_introspect"
)
# Shards of a table that does not say how many. More spread better over groups to come; every one costs each bulk INSERT
# and each scan through the parent some 20 µs.
SHARDS_MIN, SHARDS_PER_GROUP = 8, 4
_REPLAYED_SETTINGS = ("search_path", "check_function_bodies", "default_table_access_method", "xmloption")


async def run(session: Session, plan: Ddl, text: bytes, sink: Sink) -> bytes:
    """Runs one schema change; alone, it is a transaction of its own."""
    if not plan.transactional:
        return await _run_outside(session, plan, text, sink)
    own = session.transaction is None
    if own:
        session.transaction = Transaction("", session.state, explicit=False)
    try:
        tag = await _run(session, parse_one(text), plan, sink)
    except BaseException:
        if own:
            await rollback_transaction(session)
        raise
    if own:
        await commit_transaction(session)
    return tag


async def _run(session: Session, statement: Parsed, plan: Ddl, sink: Sink) -> bytes:
    await begin_change(session)

    def procedure() -> Procedure:
        return plan_ddl(statement.node, statement.sql, context_of(session))

    result = await carry_out(session, procedure, sink, aligned=makes_types(statement.node))
    if result.columns:
        _write_rows(result, sink)
        await _rows(result, sink)
    return (result.tag or plan.verb).encode()


async def carry_out(
    session: Session, procedure: Callable[[], Procedure], sink: Sink | None, *, aligned: bool
) -> DdlResult:
    """Runs a procedure; again, where it waited too long for a lock (patience.py), or if the types that it made got OIDs
    that cannot be the same everywhere (oids.py).
    """
    patience, attempts = Patience(), 0
    while True:
        driver = _Driver(session, sink, attempt=attempts if aligned else None, wait_s=patience.wait_s)
        driver.mark(patience.briefly())
        driver.transaction.patient = True
        try:
            result = await driver.drive(procedure())
            await driver.end_alignment()
            await driver.finish()
        except TypesDiffer as difference:
            log.info("types were made with different OIDs %s: the statement is run again", difference)
            await driver.undo()
            attempts += 1
            if attempts == STATEMENT_ATTEMPTS_MAX:
                raise unequal() from difference
        except PgError as error:
            if not patience.applies(error):
                raise
            await driver.undo()
            await patience.pause(error, driver.backend(WORKSPACE_PLACE))
        else:
            driver.keep()
            return result
        finally:
            driver.transaction.patient = False
            driver.send_notices()


def _write_rows(result: DdlResult, sink: Sink) -> None:
    fields = [Field(name, 0, 0, 2278, 4, -1, 0) for name in result.columns]
    sink.describe(server_messages.row_description(fields))


async def _rows(result: DdlResult, sink: Sink) -> None:
    for row in result.rows:
        await sink.rows(server_messages.data_row([None if value is None else value.encode() for value in row]))


async def begin_change(session: Session) -> None:
    """The DDL lock, the newest catalog, and a branch in the schema-complete database that is up to date."""
    transaction = session.transaction
    assert transaction is not None
    if transaction.change is not None:
        return
    gateway = session.gateway
    if not gateway.has_ddl_lock(transaction):
        await gateway.lock_ddl(transaction)
    try:
        snapshot = gateway.snapshot
        await gateway.workspace.catch_up(snapshot.version)
        await abandoned.end(gateway, snapshot.group_names)
        transaction.change = SchemaChange(gateway.new_transaction_id(), snapshot, snapshot.version)
        transaction.mixed = True  # expressions in it may have set anything
        for group in snapshot.group_names:  # canonical order: two changes never wait for each other crosswise
            await session.branch(group)
        await session.branch(WORKSPACE_PLACE)
    except BaseException:
        transaction.change = None
        gateway.unlock_ddl(transaction)
        raise


def context_of(session: Session) -> DdlContext:
    transaction = session.transaction
    assert transaction is not None and transaction.change is not None
    return DdlContext(
        snapshot=transaction.change.snapshot,
        search_path=session.context.search_path,
        user=session.context.user,
        default_shard_count=max(SHARDS_MIN, SHARDS_PER_GROUP * len(transaction.change.snapshot.groups)),
        make_verifier=make_verifier,
        in_transaction_block=transaction.explicit,
        settings=dict(session.state.settings),
    )


class _Driver:
    """Performs the steps of one statement's procedure.

    `attempt`: the statement may make types, and this is its first run (0) or a later one. It can be undone (`mark`, `undo`,
    `keep`), and the client's notices wait until it is certain to stay.
    """

    def __init__(
        self, session: Session, sink: Sink | None, *, attempt: int | None = None, wait_s: float = FREEZE_WAIT_S_MAX
    ) -> None:
        assert session.transaction is not None and session.transaction.change is not None
        self.session = session
        self.sink = sink
        self.transaction = session.transaction
        self.change = session.transaction.change
        self._wait_s = wait_s
        self._frozen_before = self.change.frozen
        self._freezes: list[AsyncExitStack] = []
        self._alignment: Alignment | None = None
        if attempt is not None:
            self._alignment = Alignment(session.gateway, self.transaction, self.change, attempt)
        self._stage_over = True  # the groups have run, or nothing has: counters must be aligned before what follows
        self._notices: list[bytes] = []
        self._before = self.change.snapshot
        self._recorded_before = self.change.recorded
        self._marked = 0
        self._stale = False  # change.snapshot is older than the workspace

    # --- a statement that can be undone ------------------------------------------------------------------------

    def mark(self, then: str) -> None:
        self._marked = len(self.change.statements)
        self._tell_branches(f"SAVEPOINT hanse_change; {then}")

    def keep(self) -> None:
        self._tell_branches(f"RELEASE SAVEPOINT hanse_change; {AS_BEFORE}")

    def _tell_branches(self, sql: str) -> None:
        for branch in self.transaction.branches.values():
            branch.backend.write_ahead(frontend.query(sql.encode()))

    async def undo(self) -> None:
        self.change.snapshot = self._before
        self.change.frozen = self._frozen_before
        self.change.recorded = self._recorded_before
        del self.change.statements[self._marked :]
        self._notices.clear()
        for freeze in self._freezes:
            await freeze.aclose()
        for branch in self.transaction.branches.values():
            await branch.backend.query("ROLLBACK TO SAVEPOINT hanse_change; RELEASE SAVEPOINT hanse_change")

    async def finish(self) -> None:
        """The catalog as it is after the statement, and what follows from it."""
        after = await self.introspect()
        refuse_new(self._before, after, self.session.context.search_path)
        await self._drive(guard_defaults(self._before, after, context_of(self.session)))

    async def end_alignment(self) -> None:
        if self._alignment is not None:
            await self._alignment.end()

    def notice(self, message: bytes) -> None:
        self._notices.append(message)

    def send_notices(self) -> None:
        notices, self._notices = self._notices, []
        if self.sink is not None:
            for message in notices:
                self.sink.notice(message)

    # --- steps -------------------------------------------------------------------------------------------------

    async def drive(self, procedure: Procedure) -> DdlResult:
        result: DdlResult = await self._drive(procedure)
        return result

    async def _drive(self, procedure: Generator[Step, Any, Any]) -> Any:
        """Gives what the procedure returns."""
        answer: Any = None
        try:
            step = next(procedure)
            while True:
                try:
                    answer = await self._perform(step)
                except PgError as error:
                    step = procedure.throw(error)
                else:
                    step = procedure.send(answer)
        except StopIteration as end:
            return end.value

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, RunGroups | Freeze | MoveRows) and not self.change.recorded:
            await versions.record(self.session.gateway, self.transaction)
        match step:
            case Ask():
                return await self.backend(WORKSPACE_PLACE).query(step.sql)
            case RunWorkspace():
                return await self._run_workspace(step)
            case RunGroups():
                return await self._run_groups(step.sql, step.system)
            case Introspect():
                return await self.introspect()
            case MoveRows():
                return await self._move(step)
            case Fill():
                return await self._fill(step)
            case Freeze():
                return await self._freeze(step)
            case Notice():
                self.notice(notice_response(step.notice))
                return None

    def backend(self, place: str) -> Backend:
        return self.transaction.branches[place].backend

    async def _run_workspace(self, step: RunWorkspace) -> list[Row]:
        if self._alignment is not None and self._stage_over:
            await self._alignment.begin_stage()
            self._stage_over = False
        self._stale = True
        rows = await self._run(self.backend(WORKSPACE_PLACE), step.sql, step.system, self.notice)
        self.transaction.branches[WORKSPACE_PLACE].wrote = True
        # The path in force, which may be the role's own and no setting of the session.
        path = self.session.search_path
        settings = {name: value for name, value in self.session.state.settings if name in _REPLAYED_SETTINGS}
        settings["search_path"] = path
        logged = (
            as_system(step.sql)
            if step.system
            else as_client(step.sql, role=self.session.context.user, settings=settings)
        )
        self.change.statements.append(logged)
        return rows

    async def _run_groups(self, sql: Mapping[str, tuple[str, ...]], system: bool) -> dict[str, list[Row]]:
        groups = [group for group in self.change.snapshot.group_names if sql.get(group)]
        self._stage_over = True
        for group in groups:
            self.transaction.branches[group].wrote = True
        results = await asyncio.gather(
            *(self._run_list(group, sql[group], system) for group in groups), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return {group: rows for group, rows in zip(groups, results, strict=True) if not isinstance(rows, BaseException)}

    async def _run_list(self, group: str, statements: tuple[str, ...], system: bool) -> list[Row]:
        rows: list[Row] = []
        for sql in statements:
            rows = await self._run(self.backend(group), sql, system, None)
        return rows

    async def _run(self, backend: Backend, sql: str, system: bool, notice: NoticeTo | None) -> list[Row]:
        if system:
            return await self._run_as_system(backend, sql, notice)
        rows = _Collected(notice)
        backend.write(frontend.query(sql.encode()))
        await pump(backend, rows)
        return rows.table

    async def _run_as_system(self, backend: Backend, sql: str, notice: NoticeTo | None) -> list[Row]:
        asks = sql.lstrip()[:6].upper() == "SELECT"
        proof = await self.session.gateway.system_proof(backend.pid, sql)
        function = "ask_as_system" if asks else "run_as_system"
        call = f"SELECT hanse.{function}({quote_literal(sql)}, {quote_literal(proof)})"
        rows = await self._run(backend, call, False, notice)
        return [tuple(json.loads(row[0] or "[]")) for row in rows] if asks else []

    async def introspect(self) -> Snapshot:
        """The catalog as this transaction sees it; read again only when something has run in the workspace."""
        if not self._stale:
            return self.change.snapshot
        self._stale = False
        rows = await self.backend(WORKSPACE_PLACE).query(_INTROSPECT)
        found = introspection.decode(rows[0][0] or "{}", home_group=self.change.snapshot.home_group)
        self.change.snapshot = replace(
            self.change.snapshot, relations=found.relations, functions=found.functions, schemas=found.schemas
        )
        return self.change.snapshot

    async def _freeze(self, step: Freeze) -> None:
        new = frozenset(step.identities) - self.change.frozen
        self.change.frozen |= new  # first: our own transaction does not stand against it
        gateway = self.session.gateway
        self._freezes.append(await gateway.freeze_everywhere(self.transaction, tuple(sorted(new)), self._wait_s))

    async def _move(self, step: MoveRows) -> int:
        return await copy_between(
            self.change.snapshot,
            {group: self.backend(group) for group in self.transaction.branches if group != WORKSPACE_PLACE},
            step,
        )

    async def _fill(self, step: Fill) -> int:
        """The query runs as any of the session's would; its rows are inserted where they belong."""
        from .statements import execute_text

        target = quote_qualified(*step.target)
        columns = ", ".join('"' + column.replace('"', '""') + '"' for column in step.columns)
        await self.introspect()
        self._writable(step.target)
        sql = f"INSERT INTO {target} ({columns}) {step.query}" if step.columns else f"INSERT INTO {target} {step.query}"
        tag = await execute_text(self.session, sql.encode(), _Collected(None))
        return int(tag.rpartition(b" ")[2] or 0)

    def _writable(self, target: tuple[str, str]) -> None:
        """For this statement: in the groups a materialized view is a table with the same rows everywhere."""
        snapshot = self.change.snapshot
        relations = tuple(
            replace(relation, kind=Kind.REFERENCE)
            if relation.identity == target and relation.kind is Kind.MATERIALIZED_VIEW
            else relation
            for relation in snapshot.relations
        )
        self.change.snapshot = replace(snapshot, relations=relations)
        self._stale = True


class _Collected:
    """Rows as text, small results of our own; notices go to the client."""

    def __init__(self, notice_to: NoticeTo | None) -> None:
        self.notice_to = notice_to
        self.table: list[Row] = []

    def describe(self, message: bytes) -> None:
        self.table = []

    async def rows(self, messages: bytes) -> None:
        for message in split_messages(messages):
            values = server_messages.parse_data_row(message)
            self.table.append(tuple(None if value is None else value.decode() for value in values))

    def notice(self, message: bytes) -> None:
        if self.notice_to is not None:
            self.notice_to(message)


async def _run_outside(session: Session, plan: Ddl, text: bytes, sink: Sink) -> bytes:
    """What PostgreSQL refuses in a transaction block (CREATE INDEX CONCURRENTLY …)."""
    if session.transaction is not None:
        raise PgError("25001", f"{plan.verb} cannot run inside a transaction block")
    statement = parse_one(text).node
    if type(statement).__name__ in groups.STATEMENTS:
        return await groups.run(session, plan.verb, statement)
    if type(statement).__name__ in tablespaces.STATEMENTS:
        return await tablespaces.run(session, plan.verb, statement)
    relation = concurrently.table_of(session, statement)
    if relation is not None:
        return await concurrently.create_index(session, plan.verb, text, sink, relation)
    return await run(session, Ddl(verb=plan.verb), text, sink)


async def workspace_only(
    session: Session, sql: str, transaction: Transaction, decided: Callable[[str], Awaitable[None]]
) -> None:
    """A schema change that the groups have already. `transaction` has the DDL lock; `decided` is told the change's id before
    it can be committed.
    """
    session.transaction = transaction
    try:
        await begin_change(session)
        driver = _Driver(session, None)
        await driver.drive(_only(RunWorkspace(sql)))
        await driver.introspect()
        assert transaction.change is not None
        await decided(transaction.change.transaction_id)
    except BaseException:
        await rollback_transaction(session)
        raise
    await commit_transaction(session)


def _only(step: Step) -> Procedure:
    yield step
    return DdlResult()
