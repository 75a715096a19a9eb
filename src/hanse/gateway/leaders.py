"""Who leads each group: what the catalog says, or what the group's members have said since; and until when that is believed.

The catalog is told by each new leader, but it may be away, and then no healthy group may be lost with it. So a gateway asks the
leaders of groups of several again and again, and all members of a group whose leader did not say that it serves, as nobody else can
while it does; the answer of the highest term counts, if that member serves.

A leader says how much of its lease is left (`replication/lease.py`), which is counted from the moment of the question. What
arrives from its server later than that, and before the next answer, is held (`engines/postgres/cover.py`). While all is well an
answer comes every LEADERS_PERIOD_S with three times that left, and nothing is ever held. While a group cannot be reached, or a
lease is not known to go on, the members are asked more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING

from ..catalog.model import Group, Instance
from ..core.limits import GROUP_HELD_S_MAX, LEADERS_LOST_PERIOD_S, LEADERS_PERIOD_S
from ..engines.postgres.cover import Cover
from ..replication.asking import Address, Leads, WhoLeads

if TYPE_CHECKING:
    from .gateway import Gateway


def peer_of(instance: Instance) -> Address:
    """Where the instance's agent is asked."""
    return instance.node, instance.host, instance.peer_port


class Leaders:
    """Of one gateway worker. `run` goes on until it is cancelled."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._learned: dict[str, Leads] = {}
        self._covers: dict[str, Cover] = {}
        self._asked: set[str] = set()  # members that have not answered yet
        self._serving: set[str] = set()  # groups whose leader has said so when it was asked last
        self._changed = asyncio.Event()

    def of(self, group: Group) -> Instance:
        learned = self._learned.get(group.name)
        if learned is not None and learned.term > group.term:
            for instance in group.instances:
                if instance.name == learned.name:
                    return instance
        return group.leader

    def cover(self, place: str) -> Cover | None:
        """None: it is no group of several."""
        group = self._gateway.snapshot.group_by_name.get(place)
        if group is None or len(group.instances) < 2:
            return None
        return self._covers.setdefault(place, Cover())

    def leave(self, group: str) -> None:
        """It has another leader, whose lease is another."""
        self._covers.pop(group, None)
        self._serving.discard(group)
        self._changed.set()

    def hurry(self) -> None:
        """A group cannot be reached: perhaps it has another leader."""
        self._serving.clear()
        self._changed.set()

    def forget(self, group: str) -> None:
        """It was dropped. A later one of the name counts its terms anew."""
        self._learned.pop(group, None)

    async def run(self) -> None:
        while True:
            for group in self._gateway.snapshot.groups:
                for instance in self._to_be_asked(group) if len(group.instances) > 1 else ():
                    if instance.name not in self._asked:
                        self._asked.add(instance.name)
                        self._gateway.spawn(self._ask(group.name, instance))
            for cover in self._covers.values():
                cover.give_up(GROUP_HELD_S_MAX)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._period_s())
            self._changed.clear()

    def _to_be_asked(self, group: Group) -> tuple[Instance, ...]:
        leader = self.of(group)
        return (leader,) if group.name in self._serving and leader.name not in self._asked else group.instances

    def _period_s(self) -> float:
        now = time.monotonic()
        lost = self._gateway.prober.is_busy or any(cover.until < now for cover in self._covers.values())
        # Gateways are told of a new leader before it serves.
        unknown = any(
            len(group.instances) > 1 and group.name not in self._serving for group in self._gateway.snapshot.groups
        )
        return LEADERS_LOST_PERIOD_S if lost or unknown else LEADERS_PERIOD_S

    async def _ask(self, name: str, instance: Instance) -> None:
        asked_at = time.monotonic()
        try:
            answer = await self._answer(instance)
        finally:
            self._asked.discard(instance.name)
        group = self._gateway.snapshot.group_by_name.get(name)
        if group is None:
            self._serving.discard(name)
        elif answer is not None and answer.serving:
            self._hear(group, answer, asked_at)
        elif name in self._serving and instance.name == self.of(group).name:
            self._serving.discard(name)
            self._changed.set()  # the others are asked now

    def _hear(self, group: Group, answer: Leads, asked_at: float) -> None:
        known = self._learned.get(group.name)
        term = max(group.term, 0 if known is None else known.term)
        if answer.term > term:
            before = self.of(group)
            self._learned[group.name] = answer
            if self.of(group).name != before.name:
                self._gateway.leave(group.name)
        if answer.term < term or answer.name != self.of(group).name:
            return
        self._serving.add(group.name)
        if (cover := self.cover(group.name)) is not None:
            cover.renew(math.inf if answer.lease_left_s is None else asked_at + answer.lease_left_s)

    async def _answer(self, instance: Instance) -> Leads | None:
        try:
            answer = await self._gateway.asker.ask(peer_of(instance), WhoLeads(), timeout_s=LEADERS_PERIOD_S)
        except (OSError, EOFError, ValueError, TimeoutError):
            return None
        return answer if isinstance(answer, Leads) else None
