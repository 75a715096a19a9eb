"""Whether an etcd answers, and has the log of a cluster: asked before anything is written or started that counts on it."""

from __future__ import annotations

import asyncio

from ...core.clock import clock
from ...core.errors import UserMistake
from ...core.limits import ETCD_REACH_S_MAX, RAFT_RETRY_PAUSE_S
from .address import Servers
from .client import Client, Unanswered
from .keys import Keys


def check(servers: Servers, *, cluster: str, seen: int) -> None:
    """`seen`: how long the log was when a node saw it last; 0 where there is none yet. Raises UserMistake."""
    head = asyncio.run(_length(servers, cluster))
    if head < seen:
        raise UserMistake(
            f"this etcd has {head} changes of this cluster's catalog, and it had {seen}: it is another, or has lost data"
        )


async def _length(servers: Servers, cluster: str) -> int:
    """Of the log. A server that lost its leader a moment ago is given time to find the next."""
    client, keys = Client(servers), Keys(cluster)
    deadline = clock() + ETCD_REACH_S_MAX
    try:
        while True:
            try:
                return keys.seen(await client.transaction(keys.look(0))).head
            except Unanswered as error:
                if not error.sent or clock() > deadline:
                    raise UserMistake(f"etcd does not answer: {error}") from None
            await asyncio.sleep(RAFT_RETRY_PAUSE_S)
    finally:
        client.close()
