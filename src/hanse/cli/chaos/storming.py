"""Random faults under load, and a judgement in the end."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

import click

from ...agent.observe import ClusterStatus
from ...core.errors import UserMistake
from . import WHOLE_S_MAX, targets
from .load import Bank
from .single import say, watched
from .watching import Cluster, Watch, is_whole

FAULTS = (
    "kill-leader",
    "kill-follower",
    "kill-node",
    "kill-gateway",
    "kill-agent",
    "pause-leader",
    "pause-agent",
    "pause-node",
)
PAUSE_S = 4.0  # longer than any silence that is forgiven


@dataclass(slots=True)
class Storm:
    cluster: Cluster
    seconds: float
    every: float
    clients: int
    seed: int
    faults: tuple[str, ...]
    pauses: list[float] = field(default_factory=list)  # of writes, one for each fault, in seconds

    async def run(self) -> None:
        """Raises UserMistake for an unknown fault; exit code 1 when something is wrong in the end."""
        unknown = [each for each in self.faults if each not in FAULTS]
        if unknown:
            raise UserMistake(f"there is no fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
        async with watched(self.cluster, self.cluster.clients()) as watch:
            bank = Bank(self.cluster.clients(), self.seed)
            work = [asyncio.create_task(bank.transfers(number)) for number in range(self.clients)]
            work.append(asyncio.create_task(bank.totals_read(self.clients)))
            try:
                done = await self._blow(watch, bank)
            finally:
                targets.resume(targets.everything(self.cluster.status()))
                for task in work:
                    task.cancel()
                ends = await asyncio.gather(*work, return_exceptions=True)
            for end in ends:
                if isinstance(end, Exception):
                    raise end
            if not await watch.until(is_whole, WHOLE_S_MAX):
                raise UserMistake(f"the cluster is not whole {WHOLE_S_MAX:.0f} s after the last fault")
            wrong = await bank.judge()
            self._tell(bank, done, wrong)
            if wrong:
                sys.exit(1)

    async def _blow(self, watch: Watch, bank: Bank) -> Counter[str]:
        draw, until = random.Random(self.seed), monotonic() + self.seconds
        done: Counter[str] = Counter()
        while monotonic() < until:
            await asyncio.sleep(self.every)
            fault = draw.choice(self.faults)
            name, target = self._target(draw, fault, self.cluster.status())
            acknowledged = len(bank.acknowledged)
            await watch.begin()
            say(0.0, f"{fault.split('-')[0]} {name}")
            await self._do(fault, target, watch)
            if not await watch.until(is_whole, WHOLE_S_MAX):
                raise UserMistake(f"the cluster is not whole {WHOLE_S_MAX:.0f} s after {fault} {name}")
            longest = max(watch.longest().values())
            self.pauses.append(longest)
            click.echo(
                f"  {len(bank.acknowledged) - acknowledged} transfers meanwhile; writes paused for {longest:.2f} s"
            )
            done[fault] += 1
        return done

    async def _do(self, fault: str, target: targets.Target, watch: Watch) -> None:
        if fault.startswith("kill"):
            await asyncio.to_thread(targets.kill, target)
            return
        targets.pause(target)
        try:
            await watch.until(lambda _: False, PAUSE_S)
        finally:
            targets.resume(target)

    def _target(self, draw: random.Random, fault: str, status: ClusterStatus) -> tuple[str, targets.Target]:
        part = fault.partition("-")[2]
        if part in ("leader", "follower"):
            name = f"{draw.choice(status.groups).name}:{part}"
        else:
            node = draw.choice(status.nodes).name
            name = node if part == "node" else f"{node}:{part}"
        return name, targets.find_target(status, name)

    def _tell(self, bank: Bank, done: Counter[str], wrong: list[str]) -> None:
        faults = ", ".join(f"{fault} × {count}" for fault, count in sorted(done.items()))
        click.echo(f"faults: {faults or 'none'}")
        click.echo(f"{len(bank.acknowledged)} transfers acknowledged, {bank.totals} totals read; errors: {bank.errors}")
        if self.pauses:
            ordered = sorted(self.pauses)
            click.echo(f"pauses of writes: median {ordered[len(ordered) // 2]:.2f} s, longest {ordered[-1]:.2f} s")
        for sentence in wrong or ["nothing acknowledged is missing; every total was right"]:
            click.echo(f"WRONG: {sentence}" if wrong else sentence)
