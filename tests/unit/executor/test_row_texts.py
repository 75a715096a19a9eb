"""Rows of a VALUES list that are written alike are chosen by their literals alone."""

from __future__ import annotations

import pytest

from hanse.executor.insert_rows import cut_out
from hanse.executor.row_texts import row_texts
from hanse.planner.plan import Equal, InsertRows
from hanse.sql.literals import split
from support.inserts import spans_of


def planned(text: bytes) -> tuple[InsertRows, list[bytes]]:
    """A plan whose rows are the parenthesised groups behind VALUES."""
    parts = split(text)
    spans = spans_of(parts)
    return InsertRows(relation=("s", "t"), keys=tuple(Equal(()) for _ in spans), rows=spans), parts


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'it''s')",
        b"INSERT INTO t VALUES (1::bigint + 5 % 3, 'a%b'), (2::bigint + 6 % 3, '100%')",
    ],
)
def test_any_choice_is_the_rows_own_text(text: bytes) -> None:
    plan, parts = planned(text)
    texts = row_texts(plan, parts)
    assert texts is not None
    for rows in ([0], [1], list(range(len(plan.rows))), [len(plan.rows) - 1, 0]):
        assert texts.joined(parts[1::2], rows) == b", ".join(cut_out(parts, plan.rows[row]) for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t VALUES (1, 'a'), (2,  'b')",  # written differently
        b"INSERT INTO t VALUES (1, 'a'), (2, null)",
        b"INSERT INTO t VALUES ($1, $2), ($3, $4)",
        b"INSERT INTO t VALUES (null), (null)",
    ],
)
def test_other_lists_are_left_to_the_slow_way(text: bytes) -> None:
    plan, parts = planned(text)
    assert row_texts(plan, parts) is None
