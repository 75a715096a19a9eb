"""What ties a session to one backend: temporary relations, advisory locks, LISTEN, cursors WITH HOLD. Each place may have one.

A session is pinned for a reason and unpinned by a proof: the server is asked whether anything is left. Some reasons the server
does not show; these last as long as the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engines.postgres.backend import Backend

if TYPE_CHECKING:
    from .session import Session

# One row for each thing that ties the session to its backend; temporary relations and functions (`f()`) by name, the rest as
# a line feed.
PROOF = """SELECT relname::text FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()
UNION ALL SELECT proname || '()' FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema()
UNION ALL SELECT E'\\n' FROM pg_catalog.pg_type
 WHERE typnamespace = pg_catalog.pg_my_temp_schema() AND typtype IN ('e', 'd', 'r')
UNION ALL SELECT E'\\n' FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'advisory'
UNION ALL SELECT E'\\n' FROM pg_catalog.pg_listening_channels()
UNION ALL SELECT E'\\n' FROM pg_catalog.pg_cursors WHERE is_holdable"""
_FOR_EVER = frozenset(("random seed", "replication origin", "loaded library"))


async def pin(session: Session, place: str, reason: str) -> None:
    """From now on this session keeps its backend in `place`."""
    session.pin_reasons.add(reason)
    if place in session.pinned:
        return
    in_transaction = session.transaction is not None
    _hold(session, place, (await session.branch(place)).backend if in_transaction else await session.acquire(place))


def _hold(session: Session, place: str, backend: Backend) -> None:
    session.pinned[place] = backend
    backend.on_notification = session.write


async def pin_what_is_left(session: Session, place: str, backend: Backend) -> None:
    """After code of unknown effect: the backend stays with the session if there is something of his in it."""
    if place in session.pinned:
        await unpin_if_free(session)
        return
    rows = await backend.query(PROOF)
    if rows:
        session.pin_reasons.add("left by a function")
        _hold(session, place, backend)
        _note_temporary(session, rows)


def _note_temporary(session: Session, rows: list[tuple[str | None, ...]]) -> None:
    temporary = frozenset(name for (name,) in rows if name and name != "\n")
    if temporary != session.temporary:
        session.temporary = temporary
        session.refresh_context()


async def unpin_if_free(session: Session) -> None:
    """Lets pinned backends go when the server says that nothing of the session is left in them."""
    for place, backend in list(session.pinned.items()):
        if backend.closed:
            lose(session, place)
            continue
        rows = await backend.query(PROOF)
        _note_temporary(session, rows)
        if not rows and session.transaction is None and not session.pin_reasons & _FOR_EVER:
            del session.pinned[place]
            session.pin_reasons.clear()
            backend.on_notification = None
            backend.state = None
            session.give_back(backend)


def lose(session: Session, place: str) -> None:
    """The pinned backend has died, and all that was the session's in it."""
    del session.pinned[place]
    session.pin_reasons.clear()
    session.temporary = frozenset()
    session.refresh_context()
