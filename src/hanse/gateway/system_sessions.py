"""Sessions of Hanse's own role in the groups, kept for the next use: for barriers, for witnesses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.limits import SYSTEM_SESSIONS_IDLE_MAX
from ..engines.postgres.backend import Backend

if TYPE_CHECKING:
    from .gateway import Gateway


class SystemSessions:
    """`settings`: SQL that each is told when it is new. Whoever takes one leaves it outside a transaction, or closes it."""

    def __init__(self, gateway: Gateway, settings: str) -> None:
        self._gateway = gateway
        self._settings = settings
        self._idle: dict[str, list[Backend]] = {}
        self._made: set[Backend] = set()

    async def take(self, group: str) -> Backend:
        """Raises 08… where the group cannot be reached."""
        idle = self._idle.setdefault(group, [])
        while idle:
            session = idle.pop()
            if not session.closed and not session.unread:
                return session
            session.close()
        session = await self._gateway.system_backend(group)
        self._made = {each for each in self._made if not each.closed} | {session}
        await session.query(self._settings)
        return session

    def keep(self, session: Backend) -> None:
        idle = self._idle.setdefault(session.place, [])
        if len(idle) < SYSTEM_SESSIONS_IDLE_MAX and not session.closed:
            idle.append(session)
        else:
            session.close()

    def leave(self, group: str) -> None:
        """The group has another leader: who waits for the former one has waited in vain."""
        for session in self._made:
            if session.place == group:
                session.abort()

    def forget(self) -> None:
        """The groups may have moved: sessions that are idle are not used again."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()
