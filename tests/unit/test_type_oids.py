"""Where OID counters are brought to, and how a replay is told of it."""

from __future__ import annotations

import pytest

from hanse.catalog.type_oids import TURN, latest
from hanse.engines.postgres.replay import types_from


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ((20310,), 20310),
        ((20118, 20310, 20177), 20310),
        ((20310, 20310), 20310),
        ((TURN - 5, 16390), 16390),  # one counter has begun its next turn
        ((16390, TURN - 5, TURN - 900), 16390),
        ((1, 2 + TURN // 2), 2 + TURN // 2 if TURN // 2 + 1 < TURN - (TURN // 2 + 1) else 1),
    ],
)
def test_the_latest_is_reached_by_the_fewest_draws(positions: tuple[int, ...], expected: int) -> None:
    assert latest(positions) == expected
    assert max((expected - position) % TURN for position in positions) == min(
        max((target - position) % TURN for position in positions) for target in positions
    )


def test_a_logged_position_is_a_comment_to_postgresql() -> None:
    assert types_from(20310).startswith("-- ")
    assert types_from(20310).rstrip("\n").count("\n") == 0
