"""What a session has drawn from sequences, behind a pool.

PostgreSQL keeps the last value of each sequence in the backend. What the gateway draws itself is told to `Values.note`. What a
statement may draw on its own, by a single table's default, a trigger or a function, stays in the backend that ran it, which is
marked as this session's *drawer*: `currval()` and `lastval()` are asked there. Before another session draws in that backend, its
memory of sequences is thrown away (DISCARD SEQUENCES, sent along with the statement), so that a value found there is always
the drawer's own. Once any client of this gateway has asked for such a value, the former drawer's are read before that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.ids import quote_literal, quote_qualified
from ..engines.postgres.backend import Backend
from ..pgwire import frontend
from ..planner.plan import Identity

if TYPE_CHECKING:
    from .session import Session

_DISCARD = frontend.query(b"DISCARD SEQUENCES")
_BUSY_WAITS_MAX, _BUSY_WAIT_S = 400, 0.005


class Values:
    """One session's. A sequence in `places` may have been drawn there since its value in `known` was noted."""

    def __init__(self) -> None:
        self.known: dict[Identity, int] = {}
        self.last: Identity | None = None  # the sequence that was drawn from last, as far as is known
        self.certain = True  # nothing may have been drawn since
        self.places: dict[Identity, Backend] = {}
        self.last_place: Backend | None = None  # where this session drew last, or may have

    def note(self, sequence: Identity, value: int) -> None:
        self.set(sequence, value)
        self.last, self.certain = sequence, True

    def set(self, sequence: Identity, value: int) -> None:
        """As setval() does: lastval() changes only if this sequence was the last."""
        self.known[sequence] = value
        self.places.pop(sequence, None)

    def mark(self, sequences: Iterable[Identity], backend: Backend) -> None:
        if self.last_place not in (None, backend) and not self.certain:
            self.last = None  # nobody will know what was drawn there
        self.last_place, self.certain = backend, False
        for sequence in sequences:
            if self.places.get(sequence) not in (None, backend):
                self.known.pop(sequence, None)
            self.places[sequence] = backend

    def forget(self, backend: Backend) -> None:
        """The backend does not know them any more."""
        for sequence in [name for name, place in self.places.items() if place is backend]:
            del self.places[sequence]
            self.known.pop(sequence, None)

    def clear(self) -> None:
        self.known.clear()
        self.places.clear()
        self.last = self.last_place = None
        self.certain = True


def begin(session: Session, backend: Backend, sequences: Iterable[Identity] = ()) -> bool:
    """A statement is about to be sent that may draw in this backend. True: something is sent before it."""
    former, values = backend.drawer, session.drawn
    fresh = former is not None and (former is not session or values.last_place is not backend)
    if fresh:
        backend.write_ahead(_DISCARD)
        values.forget(backend)
    backend.drawer = session
    values.mark(sequences, backend)
    return fresh


def must_save(session: Session, backend: Backend) -> bool:
    former = backend.drawer
    if former is None or not session.gateway.asked_for_drawn:
        return False
    if former is session:  # it has drawn elsewhere meanwhile, so that this backend's memory will be thrown away
        return session.drawn.last_place is not backend and backend in session.drawn.places.values()
    return not former.closed and (former.drawn.last_place is backend or backend in former.drawn.places.values())


async def begin_saving(session: Session, backend: Backend, sequences: Iterable[Identity] = ()) -> None:
    """As `begin`, after the former drawer's values were read."""
    if must_save(session, backend):
        await _save(session, backend, backend.drawer.drawn)
    begin(session, backend, sequences)


async def _save(session: Session, backend: Backend, values: Values) -> None:
    last = values.last_place is backend and await _read(session, backend, "SELECT pg_catalog.lastval()")
    for sequence in [name for name, place in values.places.items() if place is backend]:
        value = await _read(session, backend, _currval(sequence))
        if value is not None:
            values.set(sequence, value)
            if value == last and not values.certain:
                values.last, values.certain = sequence, True
        else:
            del values.places[sequence]


async def currval(session: Session, sequence: Identity) -> int | None:
    values = session.drawn
    place = values.places.get(sequence)
    if place is None:
        return values.known.get(sequence)
    found = await _ask(session, place, _currval(sequence))
    return values.known.get(sequence) if found is None else found


async def lastval(session: Session) -> int | None:
    values = session.drawn
    found = None
    if values.last_place is not None and not values.certain:
        found = await _ask(session, values.last_place, "SELECT pg_catalog.lastval()")
    return values.known.get(values.last) if found is None and values.last is not None else found


def _currval(sequence: Identity) -> str:
    return f"SELECT pg_catalog.currval({quote_literal(quote_qualified(*sequence))}::pg_catalog.regclass)"


async def _ask(session: Session, backend: Backend, sql: str) -> int | None:
    """None: nothing was drawn there, or nobody knows any more."""
    transaction = session.transaction
    held = transaction is not None and any(branch.backend is backend for branch in transaction.branches.values())
    if held or backend in session.pinned.values():
        return await _read(session, backend, sql) if backend.drawer is session else None
    pool = session.gateway.pool(backend.place)
    for _ in range(_BUSY_WAITS_MAX):
        if backend.closed or backend.drawer is not session:
            return None
        if pool.take_this(backend):
            try:
                return await _read(None, backend, sql)
            finally:
                pool.release(backend)
        await asyncio.sleep(_BUSY_WAIT_S)
    return None


async def _read(session: Session | None, backend: Backend, sql: str) -> int | None:
    """The value; None where PostgreSQL says 55000. Inside a transaction that error is undone."""
    if session is None or session.transaction is None:
        with contextlib.suppress(PgError):
            return int((await backend.query(sql))[0][0] or 0)
        return None
    await backend.query("SAVEPOINT hanse_drawn")
    try:
        return int((await backend.query(sql))[0][0] or 0)
    except PgError:
        await backend.query("ROLLBACK TO SAVEPOINT hanse_drawn")
        return None
    finally:
        await backend.query("RELEASE SAVEPOINT hanse_drawn")


async def read_back(session: Session, backend: Backend, sequence: Identity) -> int | None:
    return await _read(session, backend, _currval(sequence))
