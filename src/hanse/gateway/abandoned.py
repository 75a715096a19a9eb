"""Schema changes whose gateway has died, ended by the next one.

Their prepared branches keep the lock on each group's version (`versions.py`), for which every schema change waits. Recovery ends
them after some seconds (`transactions/recovery.py`). Who has the cluster's lock for schema changes need not wait for that: nobody
else is at work on one, so what is prepared is abandoned, or about to be ended the same way by the gateway that has decided it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..transactions.commit import CATALOG_DECIDER
from ..transactions.recovery import AskCatalog, Finish, parse_gid, prepared_of_sql, recover

if TYPE_CHECKING:
    from .gateway import Gateway

_PREPARED = prepared_of_sql(CATALOG_DECIDER)


async def end(gateway: Gateway, groups: Sequence[str]) -> None:
    """The lock for schema changes is held. Raises PgError where a group or the control plane does not answer."""
    await asyncio.gather(*(_end_in(gateway, group) for group in groups))


async def _end_in(gateway: Gateway, group: str) -> None:
    watcher = await gateway.snapshot_watchers.take(group)
    try:
        for (gid,) in await watcher.query(_PREPARED):
            branch = parse_gid(gid or "")
            if branch is None:
                continue
            steps = recover(branch)
            asked = next(steps)
            assert isinstance(asked, AskCatalog)
            last = steps.send("c" if await gateway.control.outcome(asked.transaction_id) else "a")
            assert isinstance(last, Finish)
            with contextlib.suppress(PgError):  # somebody else has ended it, or does so now
                await watcher.query(last.sql)
    except BaseException:
        watcher.close()
        raise
    gateway.snapshot_watchers.keep(watcher)
