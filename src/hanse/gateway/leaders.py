"""Who leads each group: what the catalog says, or what the group's members have said since.

The catalog is told by each new leader, but it may be away, and then no healthy group may be lost with it. So a gateway asks the
members of groups of several again and again; the answer of the highest term counts, if that member serves.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..catalog.model import Group, Instance
from ..core.limits import LEADERS_PERIOD_S
from ..replication.asking import Leads, WhoLeads, ask

if TYPE_CHECKING:
    from .gateway import Gateway


class Leaders:
    """Of one gateway worker. `run` goes on until it is cancelled."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._learned: dict[str, Leads] = {}

    def of(self, group: Group) -> Instance:
        learned = self._learned.get(group.name)
        if learned is not None and learned.term > group.term:
            for instance in group.instances:
                if instance.name == learned.name:
                    return instance
        return group.leader

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LEADERS_PERIOD_S)
            await asyncio.gather(
                *(self._ask(group) for group in self._gateway.snapshot.groups if len(group.instances) > 1)
            )

    async def _ask(self, group: Group) -> None:
        answers = await asyncio.gather(*map(self._answer, group.instances))
        serving = [answer for answer in answers if answer is not None and answer.serving]
        newest = max(serving, key=lambda answer: answer.term, default=None)
        known = self._learned.get(group.name)
        if newest is None or newest.term <= max(group.term, 0 if known is None else known.term):
            return
        before = self.of(group)
        self._learned[group.name] = newest
        if self.of(group).name != before.name:
            self._gateway.leave(group.name)

    async def _answer(self, instance: Instance) -> Leads | None:
        key = self._gateway.secrets.control_token.encode()
        try:
            answer = await ask(instance.host, instance.peer_port, key, WhoLeads(), timeout_s=LEADERS_PERIOD_S)
        except (OSError, EOFError, ValueError, TimeoutError):
            return None
        return answer if isinstance(answer, Leads) else None
