"""The rows of a long VALUES list as text, where all rows are written alike.

    VALUES (12300::bigint + 0, 7, 'a'), (12300::bigint + 1, 7, 'b'), …

Every row is the same pieces around other literals. The pieces are the plan's (they are its template), so that the text of
any choice of rows is one formatting operation over their literals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from ..planner.plan import InsertRows


@dataclass(frozen=True, slots=True)
class RowTexts:
    format: bytes
    first: int  # the number of the first row's first literal
    width: int  # literals of a row

    def joined(self, literals: Sequence[bytes], rows: Sequence[int]) -> bytes:
        """The rows, separated by commas."""
        first, width = self.first, self.width
        starts = (first + row * width for row in rows)
        chosen = chain.from_iterable(literals[start : start + width] for start in starts)
        return b", ".join([self.format] * len(rows)) % tuple(chosen)


def row_texts(plan: InsertRows, parts: Sequence[bytes]) -> RowTexts | None:
    """None: the rows are not written alike, or must be changed before they are sent."""
    if "texts" not in plan.compiled:
        plan.compiled["texts"] = _recognise(plan, parts)
    found = plan.compiled["texts"]
    return found if isinstance(found, RowTexts) else None


def _recognise(plan: InsertRows, parts: Sequence[bytes]) -> RowTexts | None:
    if plan.added or plan.replaced:
        return None
    segments = parts[::2]
    first, width = plan.rows[0].first_segment, plan.rows[0].last_segment - plan.rows[0].first_segment
    alike: list[bytes] | None = None
    for number, span in enumerate(plan.rows):
        if span.first_segment != first + number * width or span.last_segment - span.first_segment != width:
            return None
        pieces = list(segments[span.first_segment : span.last_segment + 1])
        pieces[-1] = pieces[-1][: span.end]
        pieces[0] = pieces[0][span.start :]
        if alike is None:
            alike = pieces
        elif alike != pieces:
            return None
    if not width or alike is None:
        return None
    return RowTexts(b"%b".join(piece.replace(b"%", b"%%") for piece in alike), first, width)
