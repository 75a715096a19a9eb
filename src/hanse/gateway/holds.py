"""A group that is about to have another leader, on purpose: who has not begun there waits, who has may end.

It is a freeze (`catalog.protocol`) of an identity that no relation has, so every gateway knows of it and has drained before the
leader is stopped, and it ends when whoever asked for it is gone. Transactions that stay open are waited for up to
SWITCHOVER_DRAIN_S_MAX; then they lose their connection, as in a failover.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..core.limits import GROUP_HELD_S_MAX, SWITCHOVER_DRAIN_S_MAX
from ..planner.plan import Identity
from .interruption import interruptible

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

_SCHEMA = "\0group"  # no schema's name has a NUL
POLL_S = 0.002


def hold_of(group: str) -> Identity:
    return _SCHEMA, group


def holds(session: Session, place: str) -> bool:
    """Whether the session has to wait before it begins something in a place."""
    frozen = session.gateway.frozen
    return bool(frozen) and hold_of(place) in frozen and not session.works_in(place)


async def passed(session: Session, place: str) -> None:
    """Returns when nothing begins to hold it, or after GROUP_HELD_S_MAX."""
    if not holds(session, place):
        return
    with contextlib.suppress(TimeoutError):
        await interruptible(session, asyncio.wait_for(_released(session, place), GROUP_HELD_S_MAX))


async def _released(session: Session, place: str) -> None:
    while holds(session, place):
        await session.gateway.thawed.wait()


async def drained(gateway: Gateway, identities: Iterable[Identity]) -> None:
    """Returns when no session works in the groups among `identities`, or after SWITCHOVER_DRAIN_S_MAX."""
    groups = [name for schema, name in identities if schema == _SCHEMA]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SWITCHOVER_DRAIN_S_MAX):
            while any(_busy(gateway, group) and hold_of(group) in gateway.frozen for group in groups):
                await asyncio.sleep(POLL_S)


def _busy(gateway: Gateway, group: str) -> bool:
    """A backend that a session keeps for what it has there (a temporary table) is idle between its statements."""
    pool = gateway.pools.get(group)
    if pool is None:
        return False
    resting = sum(group in each.pinned and not each.works_in(group) for each in gateway.sessions.values())
    return pool.lent > resting
