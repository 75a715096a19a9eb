"""Where the rows of an INSERT's text are, without a planner."""

from __future__ import annotations

from collections.abc import Sequence

from hanse.planner.plan import RowSpan


def spans_of(parts: Sequence[bytes]) -> tuple[RowSpan, ...]:
    """The parenthesised groups of a split text that has no column list."""
    spans: list[RowSpan] = []
    start: tuple[int, int] | None = None
    for number, segment in enumerate(parts[::2]):
        for place, byte in enumerate(segment):
            if byte == ord("(") and start is None:
                start = (number, place)
            elif byte == ord(")") and start is not None:
                spans.append(RowSpan(first_segment=start[0], start=start[1], last_segment=number, end=place + 1))
                start = None
    return tuple(spans)
