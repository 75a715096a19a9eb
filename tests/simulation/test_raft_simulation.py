"""A simulated Raft cluster under faults, from seeds: nothing is violated, and it serves again when all is healed.

HANSE_SIMULATION_SEEDS=first,count runs other seeds, or more. A failure's message has the seed.
"""

from __future__ import annotations

import os

import pytest
from raft_faults import run
from raft_mutants import planted

FIRST, COUNT = map(int, os.environ.get("HANSE_SIMULATION_SEEDS", "0,1000").split(","))
PARTS = 6

HARD_ON = ("", "", "leases", "disks")  # by seed

# Which runs find it, and how many seeds that takes at most: about one in ten or more does, but for the last (one in fifty).
FOUND_WITHIN = {
    "answers leave before the write": ("disks", 60),
    "two votes in a term": ("disks", 60),
    "votes for shorter logs": ("disks", 60),
    "half is a majority": ("", 60),
    "no check of the previous entry": ("disks", 100),
    "a read without a round of heartbeats": ("disks", 60),
    "a read before an entry of the term": ("disks", 60),
    "a lease without rounds": ("leases", 100),
    "a lease that does not reckon with drift": ("leases", 150),
    "votes while a leader is heard of": ("leases", 500),
}


def check(seed: int) -> tuple[int, int]:
    """(operations answered, terms with a leader)"""
    try:
        checks = run(seed, hard_on=HARD_ON[seed % len(HARD_ON)])
    except AssertionError as error:
        raise AssertionError(f"HANSE_SIMULATION_SEEDS={seed},1: {error}") from error
    return sum(each.end is not None for each in checks.operations), len(checks.leaders)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(7200 if COUNT > 1000 else 300)
def test_nothing_is_violated(part: int) -> None:
    found = [check(seed) for seed in range(FIRST + part * COUNT // PARTS, FIRST + (part + 1) * COUNT // PARTS)]
    if len(found) >= 50:  # a cluster that does nothing would be safe, too
        assert sum(answered for answered, _ in found) > 50 * len(found)
        assert sum(leaders for _, leaders in found) > 3 * len(found)


@pytest.mark.parametrize("name", FOUND_WITHIN)
def test_a_planted_mistake_is_found(name: str) -> None:
    with planted(name) as flaws:
        hard_on, seeds = FOUND_WITHIN[name]
        for seed in range(seeds):
            try:
                run(seed, flaws, hard_on=hard_on)
            except AssertionError:
                return
    raise AssertionError(f"no seed shows: {name}")
