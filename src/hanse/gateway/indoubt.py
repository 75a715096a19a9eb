"""`hanse.transactions`, asked of the groups themselves: always as it is now, and nothing is kept for it.

A group that does not answer is left out, with a warning to the client: those who look have a reason, and it may be this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..core.limits import IN_DOUBT_ASK_S_MAX
from ..pgwire.diagnostics import notice_response
from ..transactions.commit import CATALOG_DECIDER
from ..transactions.indoubt import PREPARED, Branch, Prepared, records_sql, rows_of, undecided
from ..transactions.recovery import parse_gid

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session


async def branches(session: Session) -> dict[str, list[Branch]]:
    """The prepared transactions of every group that answers."""
    gateway = session.gateway
    names = gateway.snapshot.group_names
    answers = await asyncio.gather(*(_ask(gateway, name, PREPARED) for name in names), return_exceptions=True)
    found: dict[str, list[Branch]] = {}
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, PgError):
            _warn(session, name, answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[name] = [Branch(*(value or "" for value in row)) for row in answer]
    return found


async def transactions(session: Session) -> list[Prepared]:
    """What is prepared anywhere, with what its decider says."""
    found = await branches(session)
    outcomes: dict[str, dict[str, str]] = {}
    for decider, gids in undecided(found).items():
        try:
            if decider == CATALOG_DECIDER:
                outcomes[decider] = await _of_catalog(session.gateway, sorted(gids))
            elif decider in found:
                rows = await _ask(session.gateway, decider, records_sql(gids))
                outcomes[decider] = {str(gid): str(outcome) for gid, outcome in rows}
        except PgError as error:
            _warn(session, decider, error)
    return rows_of(found, outcomes)


async def _ask(gateway: Gateway, group: str, sql: str) -> Sequence[tuple[str | None, ...]]:
    try:
        async with asyncio.timeout(IN_DOUBT_ASK_S_MAX):
            backend = await gateway.system_backend(group)
            try:
                return await backend.query(sql)
            finally:
                backend.close()
    except TimeoutError:
        raise PgError("57014", f"group {group} did not answer within {IN_DOUBT_ASK_S_MAX:g} s") from None


async def _of_catalog(gateway: Gateway, gids: Sequence[str]) -> dict[str, str]:
    found = {}
    for gid in gids:
        identity = parse_gid(gid)
        assert identity is not None
        found[gid] = await gateway.control.look_up(identity.transaction_id)
    return found


def _warn(session: Session, decider: str, error: PgError) -> None:
    warning = PgError(
        "01000", f"{decider} could not be asked for its transactions", detail=error.message, severity="WARNING"
    )
    session.write(notice_response(warning))
