"""A client's messages, in the order in which they come, as units that his session runs one at a time.

PostgreSQL runs each message when it comes; here the extended protocol's wait for their Sync, because a whole unit can go to a
backend at once. So that this cannot be told from outside:

* What comes behind unsynced messages and is not one of them (a Query, COPY data, Terminate) has to wait for them.
* A pipeline that grows beyond PIPELINE_BYTES_MAX runs as far as it has come, as if Flush stood there.
* After an error everything up to Sync is skipped, a Query included.
* Before a long message is read on, the worker must have room for it (`longmessages.py`).
* Nothing runs while the client does not read the answers he has got: they would pile up here.

A message whose framing is sound but whose body is not is an error like any other, and the session goes on; where the
framing is in doubt it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import FatalError, PgError
from ..core.limits import LONG_MESSAGE_BYTES, PIPELINE_BYTES_MAX
from ..pgwire import frontend
from ..pgwire.framing import Message
from . import longmessages

if TYPE_CHECKING:
    from .session import Session

_PARTS = frozenset((frontend.PARSE, frontend.BIND, frontend.DESCRIBE, frontend.EXECUTE, frontend.CLOSE))
_COPY = frozenset((frontend.COPY_DATA, frontend.COPY_DONE, frontend.COPY_FAIL))
_ENDS = frozenset((frontend.SYNC, frontend.FLUSH))
_OTHERS = frozenset((frontend.QUERY, frontend.FUNCTION_CALL, frontend.TERMINATE))
KINDS = _PARTS | _COPY | _ENDS | _OTHERS
LARGE = frozenset((frontend.QUERY, frontend.PARSE, frontend.BIND, frontend.FUNCTION_CALL, frontend.COPY_DATA))
_FLUSH = Message(frontend.FLUSH, frontend.flush())


def advance(session: Session) -> None:
    """Starts the next unit, if one is whole and none runs."""
    try:
        while not session.busy and not session.closed and not session.blocked:
            message = session.framer.next()
            if message is None:
                _check_begun(session)
                if longmessages.lacks_room(session):
                    _make_room(session)
                    continue
                session.resume_reading()
                return
            _take(session, message)
    except PgError as error:
        session.fail(FatalError(error.sqlstate, error.message, detail=error.detail))


def _check_begun(session: Session) -> None:
    """PostgreSQL looks at a message's kind before it reads the rest."""
    kind = session.framer.kind
    if kind is not None and kind not in KINDS and not session.batch:
        raise frontend.unknown_message(kind)


def _make_room(session: Session) -> None:
    if session.batch:
        _run_collected(session)
    else:
        session.start(longmessages.make_room(session))


def _take(session: Session, message: Message) -> None:
    kind = message.kind
    if kind in _PARTS:
        _collect(session, message)
    elif kind in _ENDS:
        batch, session.batch, session.batch_bytes = session.batch, [], 0
        batch.append(message)
        session.start(_run_batch(session, batch))
    elif session.batch:
        _run_before(session, message)
    elif kind not in KINDS:
        raise frontend.unknown_message(kind)
    elif kind == frontend.TERMINATE:
        session.close()
    elif kind in _COPY or session.skip_to_sync:
        return  # left over from a COPY that has failed, or behind an error: ignored, as PostgreSQL does
    elif kind == frontend.QUERY:
        _query(session, message)
    else:
        session.start(_refuse(session, frontend.function_call_refused()))


def _collect(session: Session, message: Message) -> None:
    size = len(message.raw)
    if session.batch and session.batch_bytes + size > PIPELINE_BYTES_MAX:
        _run_before(session, message)
        return
    session.batch.append(message)
    session.batch_bytes += size


def _run_before(session: Session, message: Message) -> None:
    """What has been collected runs now; the message is taken again when it has."""
    session.framer.put_back(message)
    _run_collected(session)


def _run_collected(session: Session) -> None:
    batch, session.batch, session.batch_bytes = session.batch, [], 0
    batch.append(_FLUSH)
    session.start(_run_batch(session, batch))


def _query(session: Session, message: Message) -> None:
    if session.portals and session.transaction is None:
        session.end_portals()  # of a pipeline without Sync: its transaction ends with this message
    elif (unnamed := session.portals.pop(b"", None)) is not None:  # a Query message has the unnamed portal itself
        unnamed.close()
    if len(message.raw) >= LONG_MESSAGE_BYTES:
        session.start(_run_long(session, [message]))
        return
    try:
        if not message.raw:
            raise longmessages.out_of_memory()
        text = frontend.parse_query(message.raw)
    except PgError as error:
        session.start(_refuse(session, error))
        return
    if session.codec is not None or not session.fast.try_query(text):
        session.start(_run_simple(session, text))


def run(session: Session, unit: list[Message]) -> None:
    """A whole unit, the thorough way."""
    if unit[0].kind == frontend.QUERY:
        session.start(_run_simple(session, frontend.parse_query(unit[0].raw)))
    else:
        session.start(_run_batch(session, unit))


async def _run_simple(session: Session, text: bytes) -> None:
    from .simple import run_simple

    await run_simple(session, text)


async def _run_long(session: Session, query: list[Message]) -> None:
    from .longliterals import run_query

    await run_query(session, query)


async def _refuse(session: Session, error: PgError) -> None:
    from .simple import refuse

    await refuse(session, error)


async def _run_batch(session: Session, batch: list[Message]) -> None:
    from .extended import run_batch

    await run_batch(session, batch)
