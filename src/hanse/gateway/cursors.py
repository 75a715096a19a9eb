"""Cursors: DECLARE, FETCH, MOVE, CLOSE.

The rows of a cursor are computed when it is declared and kept in a `ResultBuffer` (memory, then disk), so a cursor over
many shards moves in any direction and may outlive its transaction (WITH HOLD). The price: DECLARE takes as long as the whole query.
A cursor is insensitive, which PostgreSQL's are, too; `WHERE CURRENT OF` is not possible with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..executor.buffer import ResultBuffer
from ..executor.request import Sink
from ..planner.plan import Session as SessionPlan
from .prepared import Portal, Statement

if TYPE_CHECKING:
    from .session import Session

FETCH_ROWS_AT_ONCE = 1_000


@dataclass(slots=True)
class Cursor(Portal):
    """A portal whose position is: 0 before the first row, n on row n, len+1 after the last."""

    scroll: bool = True


async def declare(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    from .statements import execute_text

    transaction = session.transaction
    hold = "hold" in plan.options
    if not hold and (transaction is None or not transaction.explicit):
        raise PgError("25P01", "DECLARE CURSOR can only be used in transaction blocks")
    if plan.name in session.cursors:
        raise PgError("42P03", f'cursor "{plan.name}" already exists')
    buffer = ResultBuffer()
    try:
        await execute_text(session, plan.argument.encode(), buffer, binary="binary" in plan.options)
    except BaseException:
        buffer.close()
        raise
    scroll = "no scroll" not in plan.options
    cursor = Cursor(Statement(plan.argument.encode(), (), 0), buffer=buffer, hold=hold, scroll=scroll)
    session.cursors[plan.name] = cursor
    return b"DECLARE CURSOR"


def _cursor(session: Session, name: str) -> Cursor:
    cursor = session.cursors.get(name)
    if not isinstance(cursor, Cursor) or cursor.buffer is None:
        raise PgError("34000", f'cursor "{name}" does not exist')
    return cursor


async def fetch(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    cursor = _cursor(session, plan.name)
    buffer = cursor.buffer
    assert buffer is not None
    rows = _move(cursor, plan, len(buffer))
    if plan.move:
        return b"MOVE %d" % len(rows)
    sink.describe(buffer.description)
    if rows.step == 1:
        for first in range(rows.start, rows.stop, FETCH_ROWS_AT_ONCE):
            await sink.rows(buffer.read(first - 1, min(FETCH_ROWS_AT_ONCE, rows.stop - first)))
    else:
        for row in rows:
            await sink.rows(buffer.read(row - 1, 1))
    return b"FETCH %d" % len(rows)


def _move(cursor: Cursor, plan: SessionPlan, size: int) -> range:
    """Moves the cursor as FETCH's direction says; gives the rows passed (1-based), in the order they come.

    PostgreSQL manual, FETCH: a count of 0 fetches the current row again; a negative one goes the other way.
    """
    count, direction = plan.count, plan.direction
    if direction in ("absolute", "relative"):
        assert count is not None
        target = count if direction == "absolute" else cursor.position + count
        if direction == "absolute" and count < 0:
            target = size + 1 + count
        _check_scroll(cursor, target <= cursor.position and not (direction == "relative" and count == 0))
        cursor.position = max(0, min(target, size + 1))
        return range(cursor.position, cursor.position + 1) if 1 <= cursor.position <= size else range(0)
    if count is not None and count < 0:
        count, direction = -count, "backward" if direction == "forward" else "forward"
    if count == 0:
        return range(cursor.position, cursor.position + 1) if 1 <= cursor.position <= size else range(0)
    if direction == "forward":
        first = cursor.position + 1
        last = size if count is None else min(size, cursor.position + count)
        cursor.position = size + 1 if count is None or cursor.position + count > size else last
        return range(first, last + 1) if last >= first else range(0)
    _check_scroll(cursor, True)
    first = min(cursor.position - 1, size)
    last = 1 if count is None else max(1, cursor.position - count)
    cursor.position = 0 if count is None or cursor.position - count < 1 else last
    return range(first, last - 1, -1) if first >= last else range(0)


def _check_scroll(cursor: Cursor, backward: bool) -> None:
    if backward and not cursor.scroll:
        raise PgError(
            "55000", "cursor can only scan forward", hint="Declare it with SCROLL option to enable backward scan."
        )


async def close(session: Session, plan: SessionPlan, text: bytes, sink: Sink) -> bytes:
    if plan.name == "all":
        for cursor in session.cursors.values():
            cursor.close()
        session.cursors.clear()
        return b"CLOSE CURSOR ALL"
    _cursor(session, plan.name)
    session.cursors.pop(plan.name).close()
    return b"CLOSE CURSOR"
