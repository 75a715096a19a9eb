"""Before a member takes a new term because it hears of no leader: would enough members be its recruits?

A recruit stops streaming, so an attempt that cannot succeed is a pause for the group, and a term that nobody else has heard of is
another one when the network is whole again. So a member that is cut off, in one direction or both, only asks. What Raft calls
pre-vote (Ongaro's dissertation, 9.6). It protects nothing but the group's peace: attempts are safe without.

Those who hear of a leader object, and so does one that serves.
"""

from __future__ import annotations

import asyncio
import contextlib

from ..core.limits import HEARTBEAT_S
from ..replication.asking import Leads, WhoLeads
from ..replication.record import RuleRecord
from .peers import Peers


async def canvass(own: str, peers: Peers, record: RuleRecord | None) -> bool:
    """As soon as it is known. `record`: the newest that `own` has seen; without one it cannot know, and may try."""
    if record is None:
        return True
    willing = {own}
    waiting = {asyncio.create_task(_ask(peers, name)) for name in peers.names - {own}}
    try:
        while waiting and not record.recruited(willing, willing):
            answered, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answers = [task.result() for task in answered]
            willing |= {answer.name for answer in answers if answer is not None and not answer.hears}
        return record.recruited(willing, willing)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _ask(peers: Peers, name: str) -> Leads | None:
    with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError):
        answer = await peers.ask(name, WhoLeads(), 2 * HEARTBEAT_S)
        return answer if isinstance(answer, Leads) else None
    return None
