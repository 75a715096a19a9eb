"""The simple protocol: one message, any number of statements, one transaction unless they say otherwise.

PostgreSQL manual 55.2.2.1: several statements in one Query message run as one implicit transaction; BEGIN in the middle makes it
an explicit one from its start, COMMIT in the middle ends it and the rest begins another.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ..core.errors import FatalError, LostSynchronization, PgError, as_error
from ..executor.request import Sink
from ..pgwire import backend as server_messages
from ..pgwire.diagnostics import error_response
from ..sql.parse import Parsed
from . import aside
from .ending import commit_transaction, rollback_transaction
from .longinsert import run_long
from .shown import as_one_table
from .sinks import SimpleSink
from .statements import run_parsed, run_text
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session


async def run_simple(session: Session, text: bytes) -> None:
    """Everything from a Query message to its ReadyForQuery."""
    await answered(session, text, run_statements(session, text))


async def answered(session: Session, text: bytes, work: Coroutine[Any, Any, None]) -> None:
    """What `text` says is run by `work`. Its end is told, or its error."""
    try:
        await work
        await end_implicit(session)
    except FatalError:
        raise
    except (PgError, RecursionError) as error:
        await abort(session)
        told = session.judged(as_error(error))
        session.write(error_response(as_one_table(told, session.plans.snapshot, text)))
        if isinstance(error, LostSynchronization):
            session.fail(error.end)
            return
    session.write_ready()


async def run_statements(session: Session, text: bytes) -> None:
    sink = SimpleSink(session)
    if session.codec is not None:
        text = session.codec.decode(text)
    tag = await run_text(session, text, sink)
    if tag is None:
        tag = await run_long(session, text, sink)
    statements = await aside.parse(session.plans, text) if tag is None else ()
    if tag:
        session.write(server_messages.command_complete(tag.decode()))
    elif not statements:
        session.write(server_messages.empty_query())
    elif len(statements) == 1:
        await _run(session, statements[0], sink)
    else:
        await _run_several(session, text, statements, sink)


async def refuse(session: Session, error: PgError) -> None:
    """The answer to a message that is an error by itself."""
    await abort(session)
    session.write(error_response(error))
    session.write_ready()


async def _run(session: Session, statement: Parsed, sink: Sink, *, last: bool = False) -> None:
    """`last` of a message: its success is told when what the message has begun is committed."""
    tag = await run_parsed(session, statement, sink)
    if last:
        await end_implicit(session)
    session.write(server_messages.command_complete(tag.decode()) if tag else server_messages.empty_query())


async def _run_several(session: Session, text: bytes, statements: tuple[Parsed, ...], sink: Sink) -> None:
    for statement in statements:
        if session.transaction is None:
            session.transaction = Transaction("", session.state, explicit=False, message=True)
        try:
            await _run(session, statement, sink, last=statement is statements[-1])
        except PgError as error:
            if error.position is not None:
                error.position += len(text[: statement.start].decode())
            raise


async def end_implicit(session: Session) -> None:
    """The end of a message or pipeline commits what it began by itself."""
    if session.transaction is not None and not session.transaction.explicit:
        await commit_transaction(session)


async def abort(session: Session) -> None:
    """After an error: an explicit transaction has failed, an implicit one is over."""
    transaction = session.transaction
    if transaction is None:
        return
    transaction.failed = True
    if not transaction.explicit:
        await rollback_transaction(session)
