"""What a gateway concludes from the positions of leaders and followers."""

from __future__ import annotations

import math

from hanse.core.limits import LEADER_SAMPLES_MAX
from hanse.replication.freshness import SAMPLES_APART_S, Freshness, Position, Sample

VERSION = 3


def sample(at: float, lsn: int, *, term: int = 1, oldest: int = 100, following: int = 100) -> Sample:
    return Sample(asked_at=at, position=Position(term, lsn), oldest_xid=oldest, next_xid=following)


def led(*samples: Sample, version: int = VERSION) -> Freshness:
    found = Freshness()
    for each in samples:
        found.note_leader(each, version)
    return found


def test_a_follower_is_as_new_as_the_newest_position_that_it_has_reached() -> None:
    group = led(sample(1.0, 100), sample(2.0, 200), sample(3.0, 300))
    assert group.note_follower("b", Position(1, 250), 3.5).fresh_since == 2.0
    assert group.note_follower("b", Position(1, 300), 3.6).fresh_since == 3.0
    assert group.note_follower("c", Position(1, 99), 3.6).fresh_since == -math.inf


def test_nothing_has_changed_at_the_leader_and_the_follower_is_as_new_as_the_last_answer() -> None:
    group = led(sample(1.0, 100), sample(2.0, 100), sample(9.0, 100))
    assert group.note_follower("b", Position(1, 100), 9.1).fresh_since == 9.0


def test_a_follower_that_was_restarted_and_shows_less_is_as_old_as_that() -> None:
    group = led(sample(1.0, 100), sample(2.0, 200))
    group.note_follower("b", Position(1, 200), 2.1)
    assert group.note_follower("b", Position(1, 150), 2.2).fresh_since == 1.0


def test_the_term_goes_before_the_lsn() -> None:
    """A former leader's WAL may be longer than what its successor began with."""
    group = led(sample(1.0, 100, term=1), sample(2.0, 90, term=2))
    assert group.note_follower("former", Position(1, 500), 2.1).fresh_since == 1.0
    assert group.note_follower("b", Position(2, 90), 2.1).fresh_since == 2.0


def test_the_answer_of_a_former_leader_is_not_heard() -> None:
    group = led(sample(1.0, 90, term=2), sample(2.0, 500, term=1))
    assert group.newest == sample(1.0, 90, term=2)


def test_a_schema_change_has_come_when_what_was_under_way_has_ended() -> None:
    group = led(sample(1.0, 100, oldest=40, following=50))
    assert group.schema(VERSION) is None  # transaction 40 may be the change's branch
    group.note_leader(sample(2.0, 200, oldest=45, following=60), VERSION)
    assert group.schema(VERSION) is None
    group.note_leader(sample(3.0, 300, oldest=50, following=70), VERSION)
    assert group.schema(VERSION) == Position(1, 300)
    group.note_leader(sample(4.0, 400, oldest=70, following=70), VERSION)
    assert group.schema(VERSION) == Position(1, 300)  # what came later is not needed
    assert group.schema(VERSION + 1) is None
    group.note_leader(sample(5.0, 500, oldest=70, following=71), VERSION + 1)
    assert group.schema(VERSION + 1) is None


def test_a_leader_that_is_asked_all_the_time_is_still_remembered_from_long_before() -> None:
    count = 100 * LEADER_SAMPLES_MAX
    group = led(*(sample(number / 1000, number) for number in range(count)))
    newest = group.newest
    assert newest is not None and newest.position.lsn == count - 1
    behind_s = SAMPLES_APART_S * (LEADER_SAMPLES_MAX - 2)
    known = group.note_follower("b", Position(1, count - 1 - int(behind_s * 1000 / 2)), count / 1000)
    assert 0 <= newest.asked_at - known.fresh_since - behind_s / 2 <= 2 * SAMPLES_APART_S
