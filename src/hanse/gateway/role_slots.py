"""CONNECTION LIMIT of roles: how many clients a role may have in the whole cluster, whatever gateway they came to.

A client of a limited role takes one of the role's n *slots* when he logs in: an advisory lock in the home group, in database
`postgres`, where no client's own advisory locks are. One connection holds the slots of all clients of a gateway process; when
the process dies so does the connection, and the slots are free. When the connection alone is lost, the slots are taken again
at the next login of a limited role; until then others may have come in their place.

PostgreSQL itself would count connections to each server, which clients share and which stay behind them. So the servers are
told a limit that is never met, `LIMIT_SHIFT` more than what was asked for (catalog/ddl/roles.py).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..catalog.ddl.roles import LIMIT_SHIFT
from ..config import SYSTEM_ROLE
from ..core.errors import FatalError, PgError
from ..core.ids import quote_literal
from ..core.limits import CONNECT_TIMEOUT_S
from ..engines.postgres.backend import Backend
from ..engines.postgres.connect import connect_backend
from ..pgwire.scram import Password

if TYPE_CHECKING:
    from .gateway import Gateway

_DATABASE = "postgres"  # advisory locks of one database do not meet those of another

Slot = tuple[str, int]  # role, number


def limit_of(stored: int) -> int | None:
    """What CONNECTION LIMIT was given as, from pg_authid.rolconnlimit; None: no limit."""
    if stored < 0:
        return None
    return stored - LIMIT_SHIFT if stored >= LIMIT_SHIFT else stored


class RoleSlots:
    """The slots that this gateway process holds for its clients."""

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._turn = asyncio.Lock()
        self._held: set[Slot] = set()

    async def take(self, gateway: Gateway, user: str, limit: int) -> Slot:
        """Raises 53300 when all are taken."""
        try:
            return await self._take(gateway, user, limit)
        except TimeoutError:
            if self._backend is not None:
                self._backend.close()
            raise FatalError("57P03", f'the connections of role "{user}" could not be counted in time') from None

    async def _take(self, gateway: Gateway, user: str, limit: int) -> Slot:
        async with self._turn, asyncio.timeout(CONNECT_TIMEOUT_S):
            backend = await self._connected(gateway)
            own = ", ".join(str(number) for role, number in self._held if role == user) or "0"
            rows = await backend.query(
                f"SELECT i FROM pg_catalog.generate_series(1, {limit}) i WHERE i NOT IN ({own}) AND "
                f"pg_catalog.pg_try_advisory_lock({_key(user)}, i) LIMIT 1"
            )
            if not rows:
                raise FatalError("53300", f'too many connections for role "{user}"')
            slot = (user, int(rows[0][0] or 0))
            self._held.add(slot)
            return slot

    async def give_back(self, slot: Slot) -> None:
        async with self._turn:
            self._held.discard(slot)
            if self._backend is not None and not self._backend.closed:
                try:
                    await self._backend.query(f"SELECT pg_catalog.pg_advisory_unlock({_key(slot[0])}, {slot[1]})")
                except PgError:
                    self._backend.close()  # whose end frees them all; `_connected` takes the others again

    async def _connected(self, gateway: Gateway) -> Backend:
        if self._backend is None or self._backend.closed:
            home = gateway.snapshot.home_group
            password = Password(gateway.secrets.system_password)
            backend = await connect_backend(gateway.address(home), home, SYSTEM_ROLE, _DATABASE, password)
            for user, number in sorted(self._held):
                await backend.query(f"SELECT pg_catalog.pg_try_advisory_lock({_key(user)}, {number})")
            self._backend = backend
        return self._backend


def _key(user: str) -> str:
    return f"pg_catalog.hashtext({quote_literal(user)})"
