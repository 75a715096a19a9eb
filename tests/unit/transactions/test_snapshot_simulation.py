"""Barriers and commits side by side, from a seed: no snapshot shows half a transaction, and nobody waits for ever.

Writers are the real commit protocol, readers the real barrier; groups are modelled: each has a gate with PostgreSQL's queue
(first come, first served; ROW EXCLUSIVE admits itself, SHARE admits itself) and the transactions that are visible in it.
One event happens at a time, chosen by the seed. A wait under other gates may time out at any moment, or never.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest

from hanse.core.errors import PgError
from hanse.transactions.commit import GlobalId, Run, commit
from hanse.transactions.snapshots import GiveBack, Held, Pause, Take, barrier

SEEDS, PARTS = 4_000, 2
SHARE, EXCLUSIVE = "share", "row exclusive"


@dataclass
class Gate:
    holders: list[tuple[str, str]] = field(default_factory=list)  # (who, mode)
    queue: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, who: str, mode: str) -> bool:
        """True: granted. A request that must wait stands in the queue, and so does every later one that it excludes."""
        if (who, mode) in self.holders:
            return True
        if (who, mode) not in self.queue:
            self.queue.append((who, mode))
        ahead = self.holders + self.queue[: self.queue.index((who, mode))]
        if any(other != mode and them != who for them, other in ahead):
            return False
        self.queue.remove((who, mode))
        self.holders.append((who, mode))
        return True

    def leave(self, who: str) -> None:
        self.holders = [each for each in self.holders if each[0] != who]
        self.queue = [each for each in self.queue if each[0] != who]


@dataclass
class World:
    draw: random.Random
    gates: dict[str, Gate]
    visible: dict[str, set[str]]  # group → transactions
    wrote: dict[str, tuple[str, ...]] = field(default_factory=dict)
    snapshots: list[dict[str, set[str]]] = field(default_factory=list)


Actor = Generator[None, None, None]  # each step is one event; it is over when it returns


def writer(world: World, name: str, groups: tuple[str, ...], *, gated: bool = True) -> Actor:
    world.wrote[name] = groups
    protocol = commit(groups, GlobalId(groups[-1], "secret", "gid"))
    answer: dict[str, PgError] = {}
    step = next(protocol)
    while True:
        assert isinstance(step, Run)
        places = list(step.places)
        world.draw.shuffle(places)
        for place in places:
            if step.stage in ("prepare", "decide") and gated:
                while not world.gates[place].ask(name, EXCLUSIVE):
                    yield
            yield
            if step.stage in ("decide", "finish"):
                world.visible[place].add(name)  # first visible,
                yield
                world.gates[place].leave(name)  # then without locks
            yield
        try:
            step = protocol.send(answer)
        except StopIteration:
            return


def reader(world: World, name: str, groups: tuple[str, ...]) -> Actor:
    steps = barrier(groups)
    step = next(steps)
    while True:
        granted = True
        if isinstance(step, Take):
            while not world.gates[step.group].ask(name, SHARE):
                if world.draw.random() < 0.1:  # lock_timeout
                    world.gates[step.group].leave(name)
                    granted = False
                    break
                yield
        elif isinstance(step, Pause):
            yield
        elif isinstance(step, GiveBack):
            for group in step.groups:
                world.gates[group].leave(name)
        else:
            assert isinstance(step, Held)
            taken: dict[str, set[str]] = {}
            for group in world.draw.sample(groups, len(groups)):
                taken[group] = set(world.visible[group])
                if world.draw.random() < 0.5:
                    yield
                world.gates[group].leave(name)
                yield
            world.snapshots.append(taken)
        yield
        try:
            step = steps.send(granted)
        except StopIteration:
            return


def run(seed: int, *, gated: bool = True) -> World:
    draw = random.Random(seed)
    names = [f"g{i}" for i in range(1, draw.randint(2, 4) + 1)]
    world = World(draw, {name: Gate() for name in names}, {name: set() for name in names})

    def some() -> tuple[str, ...]:
        return tuple(sorted(draw.sample(names, draw.randint(2, len(names)))))

    actors = [writer(world, f"t{i}", some(), gated=gated) for i in range(draw.randint(1, 5))]
    actors += [reader(world, f"r{i}", some()) for i in range(draw.randint(1, 4))]
    for _ in range(20_000):
        if not actors:
            return world
        actor = draw.choice(actors)
        try:
            next(actor)
        except StopIteration:
            actors.remove(actor)
    raise AssertionError(f"seed {seed}: somebody waits for ever")


def torn(world: World) -> list[str]:
    """Transactions that a snapshot shows in one of its groups and not in another."""
    found = []
    for snapshot in world.snapshots:
        for name, groups in world.wrote.items():
            seen = {name in snapshot[group] for group in groups if group in snapshot}
            if len(seen) > 1:
                found.append(name)
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_every_snapshot_is_of_one_moment(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        world = run(seed)
        assert torn(world) == [], f"seed {seed}"


def test_the_check_finds_what_the_gate_prevents() -> None:
    assert sum(bool(torn(run(seed, gated=False))) for seed in range(200)) > 20
