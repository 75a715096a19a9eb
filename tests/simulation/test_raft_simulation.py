"""A simulated Raft cluster under faults, from seeds: nothing is violated, and it serves again when all is healed.

HANSE_SIMULATION_SEEDS=first,count runs other seeds, or more. A failure's message has the seed.
"""

from __future__ import annotations

import os

import pytest
from raft_faults import run
from raft_mutants import planted

FIRST, COUNT = map(int, os.environ.get("HANSE_SIMULATION_SEEDS", "0,600").split(","))
PARTS = 6

# A seed that finds it is among the first so many.
FOUND_WITHIN = {
    "answers leave before the write": 300,
    "two votes in a term": 100,
    "votes for shorter logs": 100,
    "half is a majority": 50,
    "no check of the previous entry": 150,
    "a read without a round of heartbeats": 20,
    "a read before an entry of the term": 150,
    "a lease without rounds": 150,
    "a lease that does not reckon with drift": 700,
    "votes while a leader is heard of": 700,
}


def check(seed: int) -> tuple[int, int]:
    """(operations answered, terms with a leader)"""
    try:
        checks = run(seed)
    except AssertionError as error:
        raise AssertionError(f"HANSE_SIMULATION_SEEDS={seed},1: {error}") from error
    return sum(each.end is not None for each in checks.operations), len(checks.leaders)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(7200 if COUNT > 600 else 300)
def test_nothing_is_violated(part: int) -> None:
    found = [check(seed) for seed in range(FIRST + part, FIRST + COUNT, PARTS)]
    if len(found) >= 50:  # a cluster that does nothing would be safe, too
        assert sum(answered for answered, _ in found) > 50 * len(found)
        assert sum(leaders for _, leaders in found) > 3 * len(found)


@pytest.mark.parametrize("name", FOUND_WITHIN)
def test_a_planted_mistake_is_found(name: str) -> None:
    with planted(name) as flaws:
        for seed in range(FOUND_WITHIN[name]):
            try:
                run(seed, flaws)
            except AssertionError:
                return
    raise AssertionError(f"no seed shows: {name}")
