"""Statements about the session itself: transactions, savepoints, settings, SQL-level PREPARE, LISTEN.

Each function is `async (session, plan, text, sink) -> command tag`. What PostgreSQL must judge (is this a valid value for
that setting?) is run on a backend, and only then noted here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..core.errors import PgError, not_supported
from ..core.ids import quote_identifier, quote_literal
from ..executor.request import Discard, Request, Sink, pump, run
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.backend import Field
from ..pgwire.diagnostics import notice_response
from ..planner.plan import Session as SessionPlan
from ..planner.plan import SessionVerb
from ..sql.parse import parse_one
from ..sql.render import render
from . import cursors, durability, own_settings, sqlprepare
from .encoding import canonical
from .ending import commit_transaction, rollback_transaction
from .modes import after, without_waiting
from .own_settings import GUARANTEE, READ_CONSISTENCY
from .setconfig import PLANNED_BY
from .settings import with_setting
from .transaction import WRITES_UNTIL_HERE, Savepoint, Transaction, chained

if TYPE_CHECKING:
    from .session import Session

Handler = Callable[["Session", SessionPlan, bytes, Sink], Awaitable[bytes]]
RowsHandler = Callable[["Session", SessionPlan, Request, Sink], Awaitable[bytes]]


def _warning(sink: Sink, sqlstate: str, message: str) -> None:
    sink.notice(notice_response(PgError(sqlstate, message, severity="WARNING")))


# --- transactions ------------------------------------------------------------------------------------------------


async def begin(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    tag = text.lstrip()[:5].upper() == b"START" and b"START TRANSACTION" or b"BEGIN"
    transaction = session.transaction
    if transaction is None:
        session.transaction = Transaction(plan.argument, session.state)
        return tag
    if transaction.explicit:
        _warning(sink, "25001", "there is already a transaction in progress")
    if plan.argument:
        await _set_modes(session, transaction, plan.argument)
    if not transaction.explicit:  # BEGIN inside a multi-statement message or a pipeline
        transaction.explicit = True
        transaction.awaits_snapshot = transaction.keeps_snapshot and not transaction.branches
    return tag


async def commit(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    return await _end(session, plan, sink, commit_transaction)


async def _rolled_back(session: Session) -> bytes:
    await rollback_transaction(session)
    return b"ROLLBACK"


async def rollback(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    return await _end(session, plan, sink, _rolled_back)


async def _end(session: Session, plan: SessionPlan, sink: Sink, end: Callable[[Session], Awaitable[bytes]]) -> bytes:
    transaction = session.transaction
    ours = b"COMMIT" if end is commit_transaction else b"ROLLBACK"
    if transaction is None or not transaction.explicit:
        if plan.argument == "chain":
            raise PgError("25P01", f"{ours.decode()} AND CHAIN can only be used in transaction blocks")
        _warning(sink, "25P01", "there is no transaction in progress")
        return ours if transaction is None else await end(session)
    following = chained(transaction, session.state) if plan.argument == "chain" else None
    index = transaction.find_savepoint(WRITES_UNTIL_HERE)
    if index is not None and not transaction.failed:
        await _release(session, transaction, index)
    tag = await end(session)
    if following is not None:
        following.state_before = session.state
        session.transaction = following
    return tag


def _block(session: Session, what: str) -> Transaction:
    if session.transaction is None or not session.transaction.explicit:
        raise PgError("25P01", f"{what} can only be used in transaction blocks")
    return session.transaction


async def savepoint(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    await _set_savepoint(session, _block(session, "SAVEPOINT"), plan.name)
    return b"SAVEPOINT"


async def _set_savepoint(session: Session, transaction: Transaction, name: str) -> None:
    await _everywhere(session, f"SAVEPOINT {quote_identifier(name)}")
    change = transaction.change
    transaction.savepoints.append(
        Savepoint(
            name,
            session.state,
            len(transaction.local),
            None if change is None else change.snapshot,
            0 if change is None else len(change.statements),
            session.cursors_declared,
            transaction.planned_by,
            transaction.modes,
            change is not None and change.recorded,
        )
    )


def _find(transaction: Transaction, name: str) -> int:
    index = transaction.find_savepoint(name)
    if index is None:
        raise PgError("3B001", f'savepoint "{name}" does not exist')
    return index


async def release(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    transaction = _block(session, "RELEASE SAVEPOINT")
    await _release(session, transaction, _find(transaction, plan.name))
    return b"RELEASE"


async def _release(session: Session, transaction: Transaction, index: int) -> None:
    await _everywhere(session, f"RELEASE SAVEPOINT {quote_identifier(transaction.savepoints[index].name)}")
    kept = transaction.savepoints[index]
    del transaction.savepoints[index:]
    if transaction.modes != kept.modes:  # READ ONLY ends with the subtransaction that it was set in
        transaction.set_modes(kept.modes)
        since = [sql for sql in transaction.local[kept.local_count :] if not sql.startswith("SET TRANSACTION ")]
        transaction.local[kept.local_count :] = since


async def rollback_to(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    transaction = _block(session, "ROLLBACK TO SAVEPOINT")
    index = _find(transaction, plan.name)
    kept = transaction.savepoints[index]
    await _everywhere(session, f"ROLLBACK TO SAVEPOINT {quote_identifier(plan.name)}")
    cursors.end_savepoint(session, kept.cursors)
    del transaction.savepoints[index + 1 :]
    del transaction.local[kept.local_count :]
    transaction.set_modes(kept.modes)
    transaction.failed = False
    if transaction.planned_by != kept.planned_by:
        transaction.planned_by = kept.planned_by
        session.refresh_context()
    session.gateway.rewind_change(transaction, kept)
    if session.pinned:
        await session.unpin_if_free()  # a temporary table may be gone
    if session.state is not kept.state:
        session.set_state(kept.state)
        transaction.mixed = True  # a branch opened after the SET has it outside the transaction: bring all to the state
        await _everywhere(session, kept.state.sync_sql)
        for sql in transaction.local:  # RESET ALL has taken these away
            if not sql.startswith(("SET TRANSACTION ", "SET CONSTRAINTS ")):
                await _everywhere(session, sql)
    return b"ROLLBACK"


async def _everywhere(session: Session, sql: str) -> None:
    """In every branch of the transaction, at once. The first error is raised when all have answered."""
    assert session.transaction is not None
    branches = session.transaction.branches.values()
    results = await asyncio.gather(*(run(branch.backend, sql) for branch in branches), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def user_two_phase(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    """PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED of the user's own making."""
    if plan.name.startswith("hanse:"):
        raise PgError("42501", "transaction identifiers beginning with hanse: belong to the cluster")
    sql = text.decode()
    if plan.argument == "prepare":
        if session.transaction is None or not session.transaction.message:
            _block(session, "PREPARE TRANSACTION")
        transaction = session.transaction
        assert transaction is not None
        if transaction.change is not None:
            raise not_supported("a transaction that changed the schema cannot be prepared")
        if transaction.failed:
            await rollback_transaction(session)
            return b"ROLLBACK"
        try:
            await _everywhere(session, sql)
        finally:
            await rollback_transaction(session)  # where PREPARE succeeded nothing is left to roll back
        return b"PREPARE TRANSACTION"
    if session.transaction is not None and (session.transaction.explicit or session.transaction.touched):
        raise PgError("25001", f"{plan.argument.upper()} PREPARED cannot run inside a transaction block")
    found = await _places_of(session, plan.name)
    if not found:
        raise PgError("42704", f'prepared transaction with identifier "{plan.name}" does not exist')
    for place in found:
        backend = await session.acquire(place)
        try:
            await run(backend, sql)
        finally:
            session.give_back(backend)
    return b"COMMIT PREPARED" if plan.argument == "commit" else b"ROLLBACK PREPARED"


async def _places_of(session: Session, gid: str) -> list[str]:
    found = []
    for place in session.gateway.snapshot.group_names:
        backend = await session.acquire(place)
        try:
            sql = f"SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE gid = {quote_literal(gid)}"
            if await backend.query(sql):
                found.append(place)
        finally:
            session.give_back(backend)
    return found


# --- settings ----------------------------------------------------------------------------------------------------


async def set_setting(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    """SET name = value: judged by PostgreSQL on one backend (in a transaction: on every branch), then remembered."""
    if plan.name == "client_encoding":
        return _set_encoding(session, text)
    _check_value(session, plan.name, text)
    await _judge(session, text.decode(), sink)
    *others, name = plan.name.split(",")  # SET SESSION CHARACTERISTICS sets several
    values = {other: await _current(session, other) for other in others}
    value = await _current(session, name)
    if plan.name == "standard_conforming_strings" and value == "off":
        await _judge(session, "SET standard_conforming_strings = on", sink)
        raise not_supported("standard_conforming_strings cannot be turned off", hint="Write E'' strings where needed.")
    for other, its_value in values.items():
        session.set_state(with_setting(session.state, other, its_value))
    await _remember(session, name, value)
    return b"SET"


def _check_value(session: Session, name: str, text: bytes) -> None:
    """What PostgreSQL itself would not refuse."""
    if name not in own_settings.DEFAULTS and name != durability.NAME:
        return
    arguments = parse_one(text).node.args
    value = arguments[0].val if arguments else None  # else DEFAULT
    written = str(getattr(value, "sval", getattr(value, "ival", "")))
    if name in own_settings.DEFAULTS and (value is not None or name == GUARANTEE):
        own_settings.check(name, written)
    durability.check(session, name, written)


def _set_encoding(session: Session, text: bytes) -> bytes:
    arguments = parse_one(text).node.args
    given = arguments[0].val.sval if arguments else session.base_state.get("client_encoding") or "UTF8"
    name = canonical(given)
    session.set_state(with_setting(session.state, "client_encoding", None if name == "UTF8" else name))
    session.report("client_encoding", name)
    return b"SET"


async def reset(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    """RESET goes back to what the session started with, as in PostgreSQL."""
    if plan.name == "all":
        session.set_state(session.base_state_with_role())
        await _bring_all(session)
        return b"RESET"
    value = session.base_state.get(plan.name)
    sql = f"SELECT pg_catalog.set_config({quote_literal(plan.name)}, {quote_literal(value or '')}, false)"
    await _judge(session, text.decode() if value is None else sql, sink if value is None else Discard())
    await _remember(session, plan.name, value)
    return b"RESET"


async def _judge(session: Session, sql: str, sink: Sink) -> None:
    if session.transaction is not None:
        if not session.transaction.branches:
            await session.branch(session.gateway.snapshot.home_group)
        await _everywhere(session, sql)
        session.transaction.local.append(sql)  # late branches hear it behind the SET LOCALs that came before
        return
    backend = await session.acquire(session.gateway.snapshot.home_group)
    session.settings_backend = backend
    try:
        backend.state = None
        backend.write(frontend.query(sql.encode()))
        await pump(backend, sink)
    except BaseException:
        session.settings_backend = None
        session.give_back(backend)
        raise


async def _current(session: Session, name: str) -> str | None:
    backend = session.settings_backend
    if session.transaction is not None:
        backend = next(iter(session.transaction.branches.values())).backend
    assert backend is not None
    shown = ".".join(quote_identifier(part) for part in name.split("."))
    rows = await backend.query(f"SHOW {shown}")  # a SELECT would take the snapshot, and SET TRANSACTION be too late
    return rows[0][0]


async def _remember(session: Session, name: str, value: str | None) -> None:
    session.note_local(name, None)
    session.note_custom(name)
    session.set_state(with_setting(session.state, name, value))
    backend, session.settings_backend = session.settings_backend, None
    if backend is not None:
        backend.state = session.state
        session.report_parameters(backend)
        session.give_back(backend)
    elif session.transaction is not None:
        session.report_parameters(next(iter(session.transaction.branches.values())).backend)


async def _bring_all(session: Session) -> None:
    if session.transaction is not None:
        session.transaction.mixed = True
        await _everywhere(session, session.state.sync_sql)
    backend = await session.acquire(session.gateway.snapshot.home_group) if session.transaction is None else None
    if backend is not None:
        session.report_parameters(backend)
        session.give_back(backend)


async def set_in_transaction(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    """SET LOCAL, SET CONSTRAINTS: for this transaction only, on present and future branches."""
    constraints = plan.verb is SessionVerb.SET_CONSTRAINTS
    sql = render(parse_one(text).node) if constraints else text.decode()
    if plan.name == "client_encoding":
        raise not_supported("client_encoding cannot be set for one transaction", hint="Use SET without LOCAL.")
    transaction = session.transaction
    tag = b"SET CONSTRAINTS" if constraints else b"SET"
    if transaction is None:
        what = "SET CONSTRAINTS" if constraints else "SET LOCAL"
        _warning(sink, "25P01", f"{what} can only be used in transaction blocks")
        return tag
    _check_value(session, plan.name, text)
    if not transaction.branches:
        await session.branch(session.gateway.snapshot.home_group)
    await _everywhere(session, sql)
    transaction.local.append(sql)
    if plan.name == READ_CONSISTENCY:
        transaction.read_consistency = await _current(session, plan.name)
    if plan.verb is SessionVerb.SET_LOCAL:
        session.note_custom(plan.name)
        session.note_local(plan.name, await _current(session, plan.name) if plan.name in PLANNED_BY else None)
    return tag


async def set_transaction(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    if session.transaction is not None:
        await _set_modes(session, session.transaction, plan.argument)
    elif plan.name:  # SET transaction_isolation = …, whose transaction is over
        pass
    else:
        _warning(sink, "25P01", "SET TRANSACTION can only be used in transaction blocks")
    return b"SET"


async def _set_modes(session: Session, transaction: Transaction, text: str) -> None:
    """SET TRANSACTION. Where PostgreSQL knows the transaction already it says whether it is too late for that."""
    modes = after(transaction.modes, text)
    if modes.read_only and not transaction.modes.read_only and transaction.writers:
        # Its commit writes, too, and READ ONLY cannot be taken back; it ends with the subtransaction that it was set in.
        await _set_savepoint(session, transaction, WRITES_UNTIL_HERE)
    if transaction.branches or transaction.savepoints:
        text = without_waiting(text)
        if not transaction.branches:
            await session.branch(session.gateway.snapshot.home_group)
        await _everywhere(session, f"SET TRANSACTION {text}")
        transaction.local.append(f"SET TRANSACTION {text}")
    else:
        transaction.modes_begun = modes
    transaction.set_modes(modes)


async def show(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    if plan.name == "client_encoding" and session.codec is not None:
        sink.describe(server_messages.row_description([Field("client_encoding", 0, 0, 25, -1, -1, 0)]))
        await sink.rows(server_messages.data_row([session.codec.name.encode()]))
        return b"SHOW"
    if (own := own_setting(session, plan.name)) is not None:
        sink.describe(server_messages.row_description([Field(plan.name, 0, 0, 25, -1, -1, 0)]))
        await sink.rows(server_messages.data_row([own.encode()]))
        return b"SHOW"
    backend = await session.statement_backend()
    backend.write(frontend.query(text))
    try:
        return await pump(backend, sink)
    finally:
        session.end_statement_backend(backend)


def own_setting(session: Session, name: str) -> str | None:
    """What SHOW gives for a setting of Hanse's own that PostgreSQL need not know."""
    if name not in own_settings.DEFAULTS:
        return None
    if session.transaction is not None and any(name in sql.lower() for sql in session.transaction.local):
        return None
    if session.reads is not None:
        session.reads.passed(session)
        if name == GUARANTEE:
            return session.reads.guarantee
    return session.state.get(name) or own_settings.DEFAULTS[name]


async def discard(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    if plan.name == "all":
        if session.transaction is not None:
            raise PgError("25001", "DISCARD ALL cannot run inside a transaction block")
        session.statements.clear()
        session.sql_statements.clear()
        for portal in session.cursors.values():
            portal.close()
        session.cursors.clear()
        session.set_state(session.base_state)
    if plan.name in ("all", "sequences"):
        session.drawn.clear()
    if plan.name in ("all", "temp", "temporary"):
        for backend in list(session.pinned.values()):
            await run(backend, text.decode())
            if plan.name == "all":
                backend.state, backend.prepared = None, type(backend.prepared)()
        await session.unpin_if_free()
    return f"DISCARD {plan.name.upper()}".encode()


# --- notifications -----------------------------------------------------------------------------------------------


async def listen(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    home = session.gateway.snapshot.home_group
    if plan.verb is SessionVerb.LISTEN:
        await session.pin(home, "LISTEN")
    if session.transaction is not None:
        session.transaction.announces = True
    backend = await session.statement_backend()
    backend.write(frontend.query(text))
    try:
        return await pump(backend, sink)
    finally:
        session.end_statement_backend(backend)
        if plan.verb is SessionVerb.UNLISTEN:
            await session.unpin_if_free()


async def empty(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    return b""


HANDLERS: dict[SessionVerb, Handler] = {
    SessionVerb.BEGIN: begin,
    SessionVerb.COMMIT: commit,
    SessionVerb.ROLLBACK: rollback,
    SessionVerb.SAVEPOINT: savepoint,
    SessionVerb.RELEASE: release,
    SessionVerb.ROLLBACK_TO: rollback_to,
    SessionVerb.PREPARE_TRANSACTION: user_two_phase,
    SessionVerb.SET: set_setting,
    SessionVerb.SET_LOCAL: set_in_transaction,
    SessionVerb.SET_TRANSACTION: set_transaction,
    SessionVerb.SET_CONSTRAINTS: set_in_transaction,
    SessionVerb.RESET: reset,
    SessionVerb.SHOW: show,
    SessionVerb.DISCARD: discard,
    SessionVerb.PREPARE: sqlprepare.prepare,
    SessionVerb.DEALLOCATE: sqlprepare.deallocate,
    SessionVerb.LISTEN: listen,
    SessionVerb.UNLISTEN: listen,
    SessionVerb.NOTIFY: listen,
    SessionVerb.EMPTY: empty,
}
# Those whose rows the client wants in his formats.
WITH_ROWS: dict[SessionVerb, RowsHandler] = {
    SessionVerb.EXECUTE: sqlprepare.execute,
    SessionVerb.DECLARE: cursors.declare,
    SessionVerb.FETCH: cursors.fetch,
    SessionVerb.CLOSE: cursors.close,
}
