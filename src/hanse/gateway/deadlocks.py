"""Finds deadlocks over several groups among the transactions of this gateway and of all others (`transactions.deadlocks`).

Nothing is asked while nobody waits. A transaction with branches in several groups whose statement has not ended between two
looks is suspected; then the groups are asked who waits for a lock. Who really waits is written, with its branches, into
`hanse.waiting` in the home group, where every gateway reads of the others' waiting transactions: a cycle consists of nothing
but those. The gateway of the victim cancels its statement, which is told to the client as 40P01.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.ids import quote_literal
from ..core.limits import DEADLOCK_ASK_S_MAX, DEADLOCK_LOOK_S
from ..engines.postgres.backend import Backend
from ..transactions.deadlocks import PATIENT, Deadlock, Process, Waiting, deadlocked

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

_BLOCKERS = """SELECT pid, pg_catalog.pg_blocking_pids(pid) FROM pg_catalog.pg_stat_activity
WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'"""
_WAITING = """SELECT name, started, place, pid FROM hanse.waiting
WHERE at > pg_catalog.clock_timestamp() - interval '1 second'"""

log = logging.getLogger(__name__)


class Watch:
    """`spread`: the sessions whose transaction has branches in several groups."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.spread: set[Session] = set()
        self._units: dict[Session, int] = {}  # what each was busy with at the last look
        self._found: set[Deadlock] = set()  # at the last look
        self._sessions: dict[str, Backend] = {}
        self._trouble = ""  # of the last look
        self._written = False
        self._name = f"{gateway.config.name}/{gateway.worker}"

    async def run(self) -> None:
        while True:
            await asyncio.sleep(DEADLOCK_LOOK_S)
            suspects = self._suspects()
            if not suspects and not self._written:
                self._found.clear()
                continue
            try:
                async with asyncio.timeout(DEADLOCK_ASK_S_MAX):
                    await self._look(suspects)
                self._trouble = ""
            except (PgError, TimeoutError) as error:  # a group is away, or stands still: what waits there will end
                self._say(str(error) or "no answer")
                self._drop()

    def _say(self, trouble: str) -> None:
        """Once, and again when it is another, or comes back."""
        if trouble != self._trouble:
            log.info("waits for locks could not be looked at: %s", trouble)
        self._trouble = trouble

    def _suspects(self) -> list[Session]:
        """Those that are busy with the same as at the last look; of patient ones the others must know in time."""
        before, self._units = self._units, {}
        patient = []
        for session in self.spread:
            if session.transaction is not None and session.transaction.patient:
                patient.append(session)
            elif session.running:
                self._units[session] = session.unit
        return patient + [session for session, unit in self._units.items() if before.get(session) == unit]

    async def _look(self, suspects: Sequence[Session]) -> None:
        blockers = await self._blockers() if suspects else {}
        ours = {self._name_of(session): session for session in suspects}
        waiting = {name: each for name, s in ours.items() if (each := self._waiting(name, s, blockers)) is not None}
        known = await self._exchange(list(waiting.values()))
        found = set(deadlocked(known, blockers))
        for deadlock in found & self._found:
            if deadlock.victim in waiting:
                await _give_up(self._gateway, ours[deadlock.victim], deadlock)
        self._found = found

    def _name_of(self, session: Session) -> str:
        return f"{self._name}/{session.pid}"

    def _waiting(self, name: str, session: Session, blockers: dict[Process, list[int]]) -> Waiting | None:
        transaction = session.transaction
        if transaction is None:
            return None
        processes = frozenset((place, branch.backend.pid) for place, branch in transaction.branches.items())
        if transaction.patient:
            return Waiting(name, PATIENT, processes)
        return Waiting(name, transaction.started, processes) if processes & blockers.keys() else None

    async def _blockers(self) -> dict[Process, list[int]]:
        found: dict[Process, list[int]] = {}
        groups = self._gateway.snapshot.group_names
        answers = await asyncio.gather(*(self._ask(group, _BLOCKERS) for group in groups))
        for group, rows in zip(groups, answers, strict=True):
            for pid, others in rows:
                found[(group, int(pid or 0))] = [int(other) for other in (others or "{}")[1:-1].split(",") if other]
        return found

    async def _exchange(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """Tells the other gateways who waits here, and is told who waits there."""
        statements = [f"DELETE FROM hanse.waiting WHERE gateway = {quote_literal(self._name)}"]
        if waiting:
            rows = ", ".join(
                f"({quote_literal(self._name)}, {quote_literal(each.name)}, {each.started!r}, {quote_literal(place)}, {pid})"
                for each in waiting
                for place, pid in sorted(each.processes)
            )
            statements.append(f"INSERT INTO hanse.waiting (gateway, name, started, place, pid) VALUES {rows}")
            statements.append(_WAITING)
        rows_read = await self._ask(self._gateway.snapshot.home_group, "; ".join(statements))
        self._written = bool(waiting)
        if not waiting:
            return []
        processes: dict[tuple[str, float], set[Process]] = {}
        for name, started, place, pid in rows_read:
            processes.setdefault((str(name), float(started or 0)), set()).add((str(place), int(pid or 0)))
        return [Waiting(name, started, frozenset(found)) for (name, started), found in processes.items()]

    async def _ask(self, group: str, sql: str) -> list[tuple[str | None, ...]]:
        session = self._sessions.get(group)
        if session is None or session.closed or session.unread:
            session = self._sessions[group] = await self._gateway.system_backend(group)
            await session.query("SET application_name = 'hanse deadlock watch'; SET synchronous_commit = off")
        return await session.query(sql)

    def _drop(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()


async def _give_up(gateway: Gateway, session: Session, deadlock: Deadlock) -> None:
    session.sentence = PgError("40P01", "deadlock detected", detail=deadlock.detail)
    await asyncio.gather(*(gateway.cancel_backend(backend) for backend in list(session.running.values())))
