"""One failover, as it is driven: members are asked what `replication/failover.py` decides to ask, until one of them leads.

    lost_to = await fail_over(attempt, peers, "n1", replica.handle, know, now)

Every member is asked one question at a time. What an answer leads to is asked at once; without news the questions are
repeated a little later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ..core.limits import PEER_ANSWER_S_MAX
from ..replication.asking import Leads, Reply
from ..replication.failover import Answer, Attempt, Observation, Report, decide
from ..replication.pledge import Message
from ..replication.record import RuleRecord
from .peers import Peers

ATTEMPT_S_MAX = 15.0  # for one failover; then it is begun anew, above the terms that were heard of
RECRUIT_PAUSE_S, FOLLOW_PAUSE_S = 0.01, 0.05  # what follows on the choice is only said again
ANSWERS_WAIT_S = 0.05


async def fail_over(
    attempt: Attempt,
    peers: Peers,
    own_name: str,
    own: Callable[[Message], Awaitable[Reply]],
    know: Callable[[RuleRecord | None], None],
    now: Callable[[], float],
) -> int:
    """As far as it comes in ATTEMPT_S_MAX. Gives the term that it has lost to, or 0. Where it waits for a member that is preferred
    in vain, and the others are not enough, it ends: who asked for it may have data that are needed.

    `own` answers for the member that drives it. `know` is told of the rule: one that is no member any more finds out here,
    and leaves the others in peace.
    """

    async def ask(name: str, message: Message) -> Reply:
        if name == own_name:
            return await own(message)
        reply = await peers.ask(name, message, PEER_ANSWER_S_MAX)
        assert not isinstance(reply, Leads)
        return reply

    answers: dict[str, Answer] = {}
    under_way: dict[asyncio.Task[Reply], str] = {}
    deadline = now() + ATTEMPT_S_MAX
    try:
        while now() < deadline:
            seen = Observation(now(), dict(answers), peers.names)
            decision = decide(attempt, seen)
            attempt = decision.attempt
            know(attempt.record)
            if decision.done or decision.lost_to is not None:
                return decision.lost_to or 0
            if attempt.record is None and attempt.prefer is not None and seen.now >= attempt.prefer_until:
                return 0
            for name, message in decision.send:
                if name not in under_way.values():
                    under_way[asyncio.create_task(ask(name, message))] = name
            if under_way:  # else everybody has answered, and it is not enough
                done, _ = await asyncio.wait(under_way, timeout=ANSWERS_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
                if any([_take(answers, under_way.pop(task), task, now()) for task in done]):
                    continue
            await asyncio.sleep(RECRUIT_PAUSE_S if attempt.record is None else FOLLOW_PAUSE_S)
        return 0
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _take(answers: dict[str, Answer], name: str, task: asyncio.Task[Reply], now: float) -> bool:
    """Whether it is news."""
    if task.exception() is not None:
        return False
    reply = task.result()
    if isinstance(reply, Report):
        reply = replace(reply, received_at=now)
    if not isinstance(reply, Answer):
        return False
    news = name not in answers or type(answers[name]) is not type(reply)
    answers[name] = reply
    return news
