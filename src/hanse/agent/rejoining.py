"""How a member's server gets back to its leader when its own data are not what the leader has: see `replication/rejoin.py`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from ..core.errors import PgError, UserMistake
from ..engines.postgres.cloning import clone, rewind
from ..engines.postgres.group_files import Source, clear_rewind_mark
from ..engines.postgres.instance import Instance, StopMode
from ..engines.postgres.streaming import Member
from .rule_change import Progress
from .tasks import in_thread

log = logging.getLogger(__name__)

POLL_S = 0.05


async def rewound(member: Member, source: Source, term: int, names: str) -> bool:
    """Whether pg_rewind could do it. Until it is consistent the server streams under a name that nobody waits for.

    `names`: `synchronous_standby_names`.
    """
    instance = member.instance
    await in_thread(instance.stop)
    try:
        unnamed = replace(source, name=f"{source.name} (rejoins)")
        await rewind(instance, unnamed, term=term, synchronous_standby_names=names)
        await in_thread(instance.bring_up)
        while not await member.is_consistent():
            await asyncio.sleep(POLL_S)
    except (PgError, UserMistake) as error:
        log.warning("%s is cloned: %s", source.name, error)
        return False
    await in_thread(clear_rewind_mark, instance)
    await member.follow(source, names)
    return True


async def copied(instance: Instance, source: Source, names: str) -> None:
    """The leader's data in the place of its own, by a base backup."""
    await in_thread(instance.stop, StopMode.IMMEDIATE)
    await clone(instance, source, synchronous_standby_names=names, progress=Progress(source.name).see)
    await in_thread(instance.bring_up)
