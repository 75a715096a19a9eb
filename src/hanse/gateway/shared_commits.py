"""Rows of several clients in one transaction.

An INSERT whose rows lie in several groups costs three flushes one after another, a prepared transaction and a record. Where
clients insert at the same time, these costs are shared as servers share the flushes of their log (DeWitt et al. 1984, "group
commit"): while one such statement is under way, others that would send the same COPY wait in line; when it ends, the first of
them takes the rows of all with it. Nobody waits where nobody is under way.

Why it is right. Those who go together have the same user, settings, catalog and COPY statement, and each is a transaction of its
own: what is committed at one moment is what their transactions, one right after the other, would have left. It commits as a
whole or not at all. If not, each goes again alone and gets his own error or none: somebody's duplicate key is not told to
anybody else. Only an unknown outcome (class 08) is everybody's. A client who cancels or goes away leaves the line; once his
rows are under way their commit is, as any commit, no longer to be stopped.

Nobody waits long for others: neither in line, nor on a lock that another's row waits for (`core.limits.PREPARED_WAIT_S_MAX`); then
he goes alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import NotTogether, PgError
from ..core.limits import PREPARED_WAIT_S_MAX, SHARED_COMMIT_BYTES_MAX, SHARED_COMMITS_UNDER_WAY
from ..executor.request import Copy
from ..transactions.commit import is_lost
from .interruption import cancelled

if TYPE_CHECKING:
    from .session import Session
    from .transaction import Transaction

Copies = Mapping[str, Copy]  # by group
Key = tuple[object, ...]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A statement in line. `turn` gives the trip that it is to lead, or None when another has committed its rows."""

    session: Session
    copies: Copies
    turn: asyncio.Future[Trip | None]

    def tell(self, outcome: Trip | PgError | None) -> None:
        if self.turn.done():  # the client is gone
            return
        if isinstance(outcome, PgError):
            self.turn.set_exception(outcome)
        else:
            self.turn.set_result(outcome)


class _Line:
    def __init__(self, lines: dict[Key, _Line], key: Key) -> None:
        self._lines, self._key = lines, key
        self._under_way = 0
        self._waiting: deque[_Waiting] = deque()
        lines[key] = self

    @property
    def free(self) -> bool:
        return self._under_way < SHARED_COMMITS_UNDER_WAY

    def depart(self, copies: Copies) -> Trip:
        """With as many others as there is room for."""
        others: list[_Waiting] = []
        room = SHARED_COMMIT_BYTES_MAX - _size(copies)
        while self._waiting and (room := room - _size(self._waiting[0].copies)) >= 0:
            others.append(self._next())
        self._under_way += 1
        return Trip(self, _together([copies, *(each.copies for each in others)]), others)

    def arrived(self) -> None:
        self._under_way -= 1
        while self._waiting and self.free:
            first = self._next()
            if not first.turn.done():
                first.tell(self.depart(first.copies))
        if not self._under_way:
            del self._lines[self._key]

    def _next(self) -> _Waiting:
        found = self._waiting.popleft()
        found.session.interruption = None  # his commit begins
        return found

    async def wait(self, session: Session, copies: Copies) -> Trip | None:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(session, copies, loop.create_future())
        self._waiting.append(waiting)
        timer = loop.call_later(PREPARED_WAIT_S_MAX, self._leave, waiting, NotTogether())
        session.interruption = loop.create_future()
        session.interruption.add_done_callback(lambda _: self._leave(waiting, cancelled()))
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            turn = waiting.turn
            if turn.done() and not turn.cancelled() and not turn.exception() and (trip := turn.result()):
                trip.end(None, None)  # its turn had come in the same moment
            raise
        finally:
            timer.cancel()
            self._leave(waiting, cancelled())

    def _leave(self, waiting: _Waiting, reason: PgError) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.session.interruption = None
            waiting.tell(reason)


@dataclass(slots=True, eq=False)
class Trip:
    """The rows that one session's transaction inserts for itself and `others`. Must be ended."""

    line: _Line
    copies: Copies
    others: list[_Waiting]

    def end(self, transaction: Transaction | None, error: BaseException | None) -> None:
        """The transaction is over; `error` is what its own session is told, which may be gone."""
        committed = transaction is not None and transaction.committed
        doubtful = transaction is not None and transaction.ending and (not isinstance(error, PgError) or is_lost(error))
        for each in self.others:
            each.tell(None if committed else _unknown(error) if doubtful else NotTogether())
        self.line.arrived()


def _unknown(error: BaseException | None) -> PgError:
    """What the client in whose transaction the rows were is told; or he is gone."""
    if isinstance(error, PgError):
        return PgError(error.sqlstate, error.message, detail=error.detail, hint=error.hint)
    return PgError("08007", "the outcome of the transaction is not known")


def _size(copies: Copies) -> int:
    return sum(len(copy.data) for copy in copies.values())


def _together(shares: list[Copies]) -> Copies:
    if len(shares) == 1:
        return shares[0]
    found: dict[str, Copy] = {}
    for group in dict.fromkeys(group for share in shares for group in share):
        parts = [share[group] for share in shares if group in share]
        found[group] = Copy(parts[0].sql, b"".join([part.data for part in parts]))
    return found


class SharedCommits:
    """Of one gateway worker."""

    def __init__(self) -> None:
        self._lines: dict[Key, _Line] = {}

    async def join(self, session: Session, key: Key, copies: Copies) -> Trip | None:
        """The trip that the session is to make; None: another has committed its rows. Raises what else came of them."""
        line = self._lines.get(key) or _Line(self._lines, key)
        return line.depart(copies) if line.free else await line.wait(session, copies)
