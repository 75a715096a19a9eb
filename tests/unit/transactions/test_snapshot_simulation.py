"""Barriers and commits side by side, from a seed: no snapshot shows half a transaction, and nobody waits for ever.

Writers are the real commit protocol, readers the real barrier; groups are modelled: each has two gates with PostgreSQL's queues
(first come, first served; ROW EXCLUSIVE admits itself, SHARE admits itself) and the transactions that are visible in it.
One event happens at a time, chosen by the seed. A wait under other gates may time out at any moment, or never.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest

from hanse.core.errors import PgError
from hanse.transactions.commit import GATE_OVER_GROUPS, GlobalId, Run, commit
from hanse.transactions.snapshots import GiveBack, Pause, Take, barrier

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
    over_groups: dict[str, Gate]
    gates: dict[str, Gate]
    visible: dict[str, set[str]]  # group → transactions
    wrote: dict[str, tuple[str, ...]] = field(default_factory=dict)
    past: list[dict[str, set[str]]] = field(default_factory=list)  # what was visible, after each change
    snapshots: list[tuple[int, dict[str, set[str]]]] = field(default_factory=list)  # since which change, and what

    def show(self, group: str, name: str) -> None:
        self.visible[group].add(name)
        self.past.append({each: set(found) for each, found in self.visible.items()})

    def leave(self, group: str, who: str) -> None:
        for gates in (self.over_groups, self.gates):
            gates[group].leave(who)


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
                assert GATE_OVER_GROUPS in step.sql
                while not world.over_groups[place].ask(name, EXCLUSIVE):
                    yield
            yield
            if step.stage in ("decide", "finish"):
                world.show(place, name)  # first visible,
                yield
                world.leave(place, name)  # then without locks
            yield
        try:
            step = protocol.send(answer)
        except StopIteration:
            return


def single(world: World, name: str, groups: tuple[str, ...], *, gated: bool = True) -> Actor:
    """Transactions in one group each, one after the other."""
    for group in groups:
        while gated and not world.gates[group].ask(name, EXCLUSIVE):
            yield
        yield
        world.show(group, f"{name} in {group}")
        yield
        world.leave(group, name)
        yield


def reader(world: World, name: str, groups: tuple[str, ...]) -> Actor:
    steps = barrier(groups)
    step = next(steps)
    while True:
        busy: list[str] = []
        if isinstance(step, Take):
            asked = {group: _gates(world, sql) for group, sql in step.sql.items()}
            while asked:
                for group, gates in list(asked.items()):
                    if gates[0][group].ask(name, SHARE) and not gates[1:]:
                        del asked[group]
                    elif (name, SHARE) in gates[0][group].holders:
                        asked[group] = gates[1:]
                if asked and world.draw.random() < 0.1:  # lock_timeout
                    busy = sorted(asked)
                    break
                yield
            for group in busy:
                world.leave(group, name)
        elif isinstance(step, Pause):
            yield
        elif isinstance(step, GiveBack):
            for group in step.groups:
                world.leave(group, name)
        else:
            yield from _take_snapshots(world, name, groups, step.pivot)
        yield
        try:
            step = steps.send(busy)
        except StopIteration:
            return


def _gates(world: World, sql: str) -> list[dict[str, Gate]]:
    return [
        gates
        for table, gates in (("hanse.gate_over_groups", world.over_groups), ("hanse.gate ", world.gates))
        if table in sql
    ]


def _take_snapshots(world: World, name: str, groups: tuple[str, ...], pivot: str) -> Actor:
    """In any order; each gate goes when it may."""
    since, held = len(world.past), set(groups)
    taken: dict[str, set[str]] = {}
    for group in world.draw.sample(groups, len(groups)):
        taken[group] = set(world.visible[group])
        yield
        for each in [each for each in groups if each in held and pivot in taken and each in taken]:
            held.remove(each)
            world.leave(each, name)
            yield
    world.snapshots.append((since, taken))


def run(seed: int, *, gated: bool = True) -> World:
    draw = random.Random(seed)
    names = [f"g{i}" for i in range(1, draw.randint(2, 4) + 1)]
    world = World(draw, *({name: Gate() for name in names} for _ in range(2)), {name: set() for name in names})
    world.past.append({name: set() for name in names})

    def some() -> tuple[str, ...]:
        return tuple(sorted(draw.sample(names, draw.randint(2, len(names)))))

    actors = [writer(world, f"t{i}", some(), gated=gated) for i in range(draw.randint(1, 5))]
    actors += [single(world, f"s{i}", tuple(draw.choices(names, k=4)), gated=gated) for i in range(draw.randint(0, 3))]
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
    for _, snapshot in world.snapshots:
        for name, groups in world.wrote.items():
            seen = {name in snapshot[group] for group in groups if group in snapshot}
            if len(seen) > 1:
                found.append(name)
    return found


def of_no_moment(world: World) -> list[dict[str, set[str]]]:
    """Snapshots that are not what all their groups were at one moment since the gates were held."""
    return [
        snapshot
        for since, snapshot in world.snapshots
        if not any(all(past[group] == seen for group, seen in snapshot.items()) for past in world.past[since - 1 :])
    ]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_snapshot_is_of_one_moment(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        world = run(seed)
        assert torn(world) == [], f"seed {seed}"
        assert of_no_moment(world) == [], f"seed {seed}"


def test_the_check_finds_what_the_gate_prevents() -> None:
    worlds = [run(seed, gated=False) for seed in range(200)]
    assert sum(bool(torn(world)) for world in worlds) > 20
    assert sum(bool(of_no_moment(world)) for world in worlds) > 20
