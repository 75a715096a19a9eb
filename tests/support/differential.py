"""The same statement on two servers gives the same answer: what "the same" is, and how a difference is shown.

Compared are: the number of results, and the transaction status after them; for each result its command tag, SQLSTATE, column
names, column types (the OID of a built-in type, the name of a user's, and the type modifier), and its rows as bytes: in order
where the statement orders them, else as a multiset. Not compared: error texts, OIDs of user objects, where a column comes from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from support.wire import Outcome

ROWS_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much of the answers is compared."""

    ordered: bool = False
    rows: bool = True  # False: only success or SQLSTATE, tag and columns (EXPLAIN, versions, …)


def difference(expected: list[Outcome], got: list[Outcome], how: Comparison) -> str | None:
    """None when the answers are the same; else what differs, in lines for a person."""
    if len(expected) != len(got):
        return f"{len(expected)} results expected, {len(got)} came\n{_sketch(expected)}\n{_sketch(got)}"
    for number, (left, right) in enumerate(zip(expected, got, strict=True), start=1):
        found = _outcome_difference(left, right, how)
        if found:
            return found if len(expected) == 1 else f"in result {number} of {len(expected)}:\n{found}"
    return None


def _outcome_difference(left: Outcome, right: Outcome, how: Comparison) -> str | None:
    if left.sqlstate != right.sqlstate:
        return f"expected {_ending(left)}\ngot      {_ending(right)}"
    if left.status != right.status:
        return f"transaction status expected {left.status}, got {right.status}"
    if left.sqlstate:
        return None
    if left.columns != right.columns:
        return f"columns expected {left.columns}\ncolumns got      {right.columns}"
    if left.types != right.types:
        return f"types (oid, modifier) of {left.columns}\nexpected {left.types}\ngot      {right.types}"
    if how.rows and left.copied != right.copied and _copied(left, how) != _copied(right, how):
        return f"COPY data expected\n{_shown_copy(left.copied)}\ngot\n{_shown_copy(right.copied)}"
    found = _row_difference(left.rows, right.rows, how) if how.rows else None
    if found:
        return found
    if left.tag != right.tag and (how.rows or left.tag.split()[0] != right.tag.split()[0]):
        return f"command tag expected {left.tag!r}, got {right.tag!r}"
    return None


def _row_difference(left: tuple, right: tuple, how: Comparison) -> str | None:  # type: ignore[type-arg]
    if left == right:
        return None
    missing, extra = Counter(left) - Counter(right), Counter(right) - Counter(left)
    if missing or extra:
        lines = [f"{len(left)} rows expected, {len(right)} came"]
        lines += _row_lines("missing", missing)
        lines += _row_lines("unexpected", extra)
        return "\n".join(lines)
    if not how.ordered:
        return None
    at = next(i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)
    return f"the same rows in another order: row {at + 1}\nexpected {_row(left[at])}\ngot      {_row(right[at])}"


def _row_lines(title: str, rows: Counter) -> list[str]:  # type: ignore[type-arg]
    lines = [f"  {title}: {_row(row)}" + (f"  × {count}" if count > 1 else "") for row, count in rows.items()]
    return lines[:ROWS_SHOWN_MAX] + ([f"  … {len(lines) - ROWS_SHOWN_MAX} more"] if len(lines) > ROWS_SHOWN_MAX else [])


def _row(row: tuple[bytes | None, ...]) -> str:
    return "(" + ", ".join("NULL" if value is None else _text(value) for value in row) + ")"


def _text(value: bytes | None) -> str:
    if value is None:
        return "(none)"
    shown = value if len(value) <= 2000 else value[:2000] + b"..."
    try:
        text = shown.decode()
        return text if text.isprintable() or "\n" in text else repr(shown)
    except UnicodeDecodeError:
        return repr(shown)


def _copied(outcome: Outcome, how: Comparison) -> object:
    """The messages, each of which is a row (manual 55.7, CopyData), in any order unless ordered.

    Binary data begin with a header in the first row's message, which makes that row another one: they are compared as a whole.
    """
    if outcome.copied is None or how.ordered or outcome.copied[:1] and outcome.copied[0].startswith(b"PGCOPY"):
        return outcome.copied
    return Counter(outcome.copied)


def _shown_copy(copied: tuple[bytes, ...] | None) -> str:
    return (
        "(none)"
        if copied is None
        else f"{len(copied)} messages\n" + "\n".join(_text(part) for part in copied[:ROWS_SHOWN_MAX])
    )


def _ending(outcome: Outcome) -> str:
    return f"SQLSTATE {outcome.sqlstate}: {outcome.message}" if outcome.sqlstate else f"success ({outcome.tag})"


def _sketch(outcomes: list[Outcome]) -> str:
    return "  " + "; ".join(f"{_ending(o)}, {len(o.rows)} rows" for o in outcomes)
