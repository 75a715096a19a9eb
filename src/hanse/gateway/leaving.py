"""After a statement whose functions may have left something in the backend's session (`planner.leaving`).

Settings become the session's, as if it had set them itself: at once outside a transaction; inside one they are made in its
other branches, and what is left of them is read when it has been committed. Whatever ties the session to its backend (temporary
tables, advisory locks, LISTEN) pins it. A backend in which dynamic SQL ran is not given to other sessions: the names of custom
settings that it made cannot be found out, and cannot be removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.ids import quote_literal
from ..engines.postgres.backend import Backend
from ..planner.leaving import Leaves, names_in
from . import durability
from .settings import with_setting

if TYPE_CHECKING:
    from .session import Session
    from .transaction import Transaction

_OF_SESSION = "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'"
_NEVER = frozenset(("client_encoding", "standard_conforming_strings", "transaction_read_only", "transaction_isolation"))
_ROLES = ("role", "session_authorization")
PREPARED_BY_SQL = "SELECT 1 FROM pg_catalog.pg_prepared_statements WHERE from_sql LIMIT 1"


async def note(session: Session, leaves: Leaves, used: dict[str, Backend], sql: bytes = b"") -> None:
    """Right after the statement, while it still has its backends. `sql`: a text whose constants may name settings."""
    transaction = session.transaction
    if leaves.anything:
        leaves |= Leaves(names_in(sql.decode()))
    for place, backend in used.items():
        if backend.closed or backend.answering or backend.status == ord("E"):
            continue
        if leaves.anything:
            await _secure(session, place, backend)
        if transaction is None:
            await _keep(session, leaves, backend)
        elif place in transaction.branches:
            transaction.left[place] = transaction.left.get(place, Leaves()) | leaves
            await _spread(session, transaction, leaves, backend)
    session.report_parameters(next(iter(used.values())))


def note_failed(session: Session, leaves: Leaves) -> None:
    """A statement has failed: its settings are undone, and custom ones known all the same."""
    for name in leaves.names:
        session.note_custom(name)
    if leaves.anything:
        session.note_unknown_names()
    if leaves:
        session.set_state(session.state)


async def after_commit(session: Session, transaction: Transaction) -> None:
    """What functions have set for the session, and not for the transaction alone, is still there."""
    for place, leaves in transaction.left.items():
        backend = transaction.branches[place].backend
        if not backend.closed:
            await _keep(session, leaves, backend)


async def _secure(session: Session, place: str, backend: Backend) -> None:
    """Pins what must stay; marks the backend as this session's own."""
    session.note_unknown_names()
    if await backend.query(PREPARED_BY_SQL):
        await backend.query("DEALLOCATE ALL")  # SQL's PREPARE is the gateway's; what a body prepared has no use
        backend.prepared.clear()
    await session.pin_what_is_left(place, backend)


async def _values(leaves: Leaves, backend: Backend, *, all_of_session: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    if all_of_session and leaves.anything:
        found |= {name or "": value or "" for name, value in await backend.query(_OF_SESSION)}
    asked = sorted({*leaves.names, *(_ROLES if leaves.anything else ())})
    if asked:
        calls = ", ".join(f"pg_catalog.current_setting({quote_literal(name)}, true)" for name in asked)
        (row,) = await backend.query(f"SELECT {calls}")
        found |= {name: value for name, value in zip(asked, row, strict=True) if value is not None}
    return {name: value for name, value in found.items() if name not in _NEVER}


async def _keep(session: Session, leaves: Leaves, backend: Backend) -> None:
    """As after SET: but a value that is the default's own is none that was set."""
    values = await _values(leaves, backend, all_of_session=True)
    for name in values:
        session.note_custom(name)
    state = session.state
    for name, value in values.items():
        if durability.is_less(session, name, value):
            continue
        if name == "role":
            state = with_setting(state, name, value)
        elif name == "session_authorization":
            if value != (state.get(name) or session.user):
                state = with_setting(state, name, value)
        elif value != state.get(name) and (value or state.get(name) is not None or "." not in name):
            state = with_setting(state, name, value)
    session.set_state(state)


async def _spread(session: Session, transaction: Transaction, leaves: Leaves, backend: Backend) -> None:
    """The transaction's other branches, present and future, see what a function has set in this one."""
    for name, value in (await _values(leaves, backend, all_of_session=False)).items():
        session.note_custom(name)
        if durability.is_less(session, name, value):
            continue
        if name in _ROLES and not _changed_role(session, name, value):
            continue
        sql = f"SELECT pg_catalog.set_config({quote_literal(name)}, {quote_literal(value)}, true)"
        for branch in transaction.branches.values():
            if branch.backend is not backend:
                await branch.backend.query(sql)
        transaction.local.append(sql)
        session.note_local(name, value)


def _changed_role(session: Session, name: str, value: str) -> bool:
    known = dict(session.transaction.planned_by) if session.transaction is not None else {}
    if name == "role":
        return value != (known.get(name) or session.state.role or "none")
    return value != (known.get(name) or session.state.get(name) or session.user)
