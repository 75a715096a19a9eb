"""Witnesses of commits at SERIALIZABLE (`transactions.serializable` says what they are for)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from ..transactions.serializable import END_WITNESS, WITNESS
from .system_sessions import SystemSessions

SETTINGS = "SET client_connection_check_interval = '100ms'; SET application_name = 'hanse witness'"


async def call(sessions: SystemSessions, groups: Sequence[str]) -> list[Backend]:
    """One in each group, at its place. Raises 08… where a group cannot be reached."""
    found = await asyncio.gather(*(_call(sessions, group) for group in groups), return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            await dismiss(sessions, [witness for witness in found if isinstance(witness, Backend)])
            raise each
    return [witness for witness in found if isinstance(witness, Backend)]


async def _call(sessions: SystemSessions, group: str) -> Backend:
    witness = await sessions.take(group)
    try:
        await witness.query(WITNESS)
    except BaseException:
        witness.close()
        raise
    return witness


async def dismiss(sessions: SystemSessions, witnesses: Sequence[Backend]) -> None:
    """Never raises: with a lost connection its transaction ends, too."""
    await asyncio.gather(*(_dismiss(sessions, witness) for witness in witnesses))


async def _dismiss(sessions: SystemSessions, witness: Backend) -> None:
    try:
        await witness.query(END_WITNESS)
    except PgError:
        witness.close()
    except BaseException:
        witness.close()
        raise
    sessions.keep(witness)


def missing() -> PgError:
    """40001, where one has gone before the decision."""
    return PgError(
        "40001",
        "could not serialize access due to read/write dependencies among transactions",
        detail="A session that watches over them was lost while the transaction committed.",
        hint="The transaction might succeed if retried.",
    )
