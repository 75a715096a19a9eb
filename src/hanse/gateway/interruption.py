"""Cancel requests that come while no backend works for the session: between two of a statement's steps, or in a wait of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.errors import PgError

if TYPE_CHECKING:
    from .session import Session

T = TypeVar("T")
NOBODY = -1


async def interruptible(session: Session, work: Coroutine[Any, Any, T]) -> T:
    """Waits for something that no backend of the session does; a cancel request ends the wait (57014)."""
    task = asyncio.ensure_future(work)
    interruption = session.interruption = asyncio.get_running_loop().create_future()
    try:
        await asyncio.wait((task, interruption), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise cancelled()
        return task.result()
    finally:
        session.interruption = None
        task.cancel()


def check(session: Session) -> None:
    """Before a step of a statement: raises 57014 where a cancel request came when no backend could hear it."""
    if session.unit_to_cancel == session.unit:
        session.unit_to_cancel = NOBODY
        raise cancelled()


def cancelled() -> PgError:
    return PgError("57014", "canceling statement due to user request")
