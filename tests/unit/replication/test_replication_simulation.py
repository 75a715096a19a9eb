"""Groups from seeds: nothing is lost, one leader at a time, and in the end the group serves.

HANSE_TEST_REPLICATION_SEEDS sets how many seeds are tried.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from hanse.replication.rule import Policy
from support.replication_world import World

SEEDS, PARTS = int(os.environ.get("HANSE_TEST_REPLICATION_SEEDS", "500")), 2


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_seed(part: int) -> None:
    story: Counter[str] = Counter()
    for seed in range(part, SEEDS, PARTS):
        story.update(_story(seed))
    wanted = {
        "promotion",
        "established",
        "commit",
        "read",
        "rewind",
        "clone",
        "rule changed",
        "lease ran out",
        "result refused",
    }
    assert wanted <= story.keys(), "the simulation is too kind"


@pytest.mark.timeout(7200)
def test_every_seed_with_operators() -> None:
    """Switchovers, and changes of the rule that are cut off, among everything else."""
    story: Counter[str] = Counter()
    for seed in range(SEEDS // 2):
        story.update(_story(seed, operators=True))
    wanted = {"switchover", "change cut off", "change gone on with", "removal", "rule changed", "begun again", "alone"}
    assert wanted <= story.keys(), "the simulation is too kind"


def _story(seed: int, *, operators: bool = False) -> Counter[str]:
    world = World(seed, operators=operators)
    try:
        world.run()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return world.story


def test_a_seed_tells_the_same_story_again() -> None:
    assert _story(11) == _story(11)


def test_a_leader_that_was_cut_off_does_not_win_by_its_length() -> None:
    story: Counter[str] = Counter()
    for seed in range(40):
        world = World(seed)
        try:
            world.rival()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        story.update(world.story)
    assert story["rival"] >= 5, "no successor ever serves"


def test_who_went_on_alone_is_waited_for() -> None:
    story: Counter[str] = Counter()
    for seed in range(40):
        world = World(seed, shape=(2, 0))
        try:
            world.loss()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        story.update(world.story)
    assert story["loss"] >= 10, "nobody is lost"


def test_who_has_reported_takes_nothing_more() -> None:
    story: Counter[str] = Counter()
    for seed in range(40):
        world = World(seed, shape=(3, 0))
        try:
            world.lag()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        story.update(world.story)
    assert story["lag"] >= 10, "nobody reports"


def test_who_is_lost_for_good_stops_no_change_of_the_rule() -> None:
    story: Counter[str] = Counter()
    for seed in range(40):
        world = World(seed, shape=(3 + seed % 3, 0), policy=Policy.ALL)
        try:
            world.relief()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        story.update(world.story)
    assert story["relief"] == 40


def test_a_group_that_shrinks_while_it_is_parted_loses_nothing() -> None:
    story: Counter[str] = Counter()
    for seed in range(40):
        world = World(seed, shape=(5, 0), policy=Policy.ALL)
        try:
            world.retreat()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        story.update(world.story)
    assert story["retreat"] >= 20, "no group shrinks"


def test_a_group_that_grows_while_it_is_parted_loses_nothing() -> None:
    story: Counter[str] = Counter()
    for seed in range(60):
        world = World(seed, shape=(3, 2))
        try:
            world.growth()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        story.update(world.story)
    assert story["growth"] >= 10, "no group grows"
