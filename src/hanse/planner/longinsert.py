"""INSERT … VALUES of thousands of rows: planned by its kinds of rows, a part at a time.

    INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, 'b'), … RETURNING id

Rows that differ only in their literals are of one *kind*: `(1, 'a')` and `(3, 'b')` are `(⋯, ⋯)`. For each kind the statement
is planned as if it had two rows, both this one::

    INSERT INTO t VALUES (1, 'a'), (1, 'a') RETURNING id

That is the real parser and the real planner, on the real head and tail. The plans of all kinds must agree in everything but
the row; then it is the plan of the whole, with the keys of all rows read here from their literals (`LongRows`).

`plan_long` is a generator: it yields often, so that its driver can let others run. It gives None for what it does not
know (another plan than by rows, a value that must be put in place of DEFAULT, too many kinds); the statement is then planned
as any other, slowly and rightly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace

from ..catalog.keys import Canonical, NotEvaluable
from ..catalog.model import Relation, Snapshot
from ..core.errors import PgError
from ..sql.literals import cut
from ..sql.longlists import head_end, rows_of
from ..sql.parse import Parsed, parse_one
from .plan import Arithmetic, Cast, Equal, Forward, InsertRows, Literal, Planned, RowSpan, Value
from .values import NO_PARAMETERS, evaluate

ROWS_PER_TURN = 500
KINDS_MAX = 64
_PARENTHESIS = re.compile(rb"\(\s*+VALUES\s*+\Z", re.IGNORECASE)

Doubtful = tuple[int, int, Value, list[bytes]]  # row, position in the key, the plan's value, the row's literals


@dataclass(slots=True)
class LongRows:
    """The rows of the list. A key's column that the gateway adds to the rows is None here."""

    text: bytes
    spans: list[tuple[int, int]] = field(default_factory=list)
    keys: list[list[Canonical]] = field(default_factory=list)
    doubtful: list[Doubtful] = field(default_factory=list)  # values that PostgreSQL must read


@dataclass(slots=True)
class LongPlan:
    """`parts` are those of the short statement that `planned` is the plan of; a Forward plan sends the text as it is."""

    planned: Planned
    parts: list[bytes]
    rows: LongRows
    kinds: list[tuple[bytes, ...]]  # the segments of each
    bare: bool  # parentheses around the list were left out

    def template(self) -> Planned | None:
        """The plan of the text as the planner would make it, for the cache; None: rows of several kinds come but once."""
        plan = self.planned.plan
        if isinstance(plan, Forward):
            return self.planned if len(self.kinds) == 1 and not self.bare else None
        assert isinstance(plan, InsertRows)
        width = len(self.kinds[0]) - 1  # literals of a row
        if len(self.kinds) > 1 or not width or self.bare:
            return None
        end = len(self.kinds[0][-1])  # bytes of a row behind its last literal
        spans, done = [], 0
        for number, (start, stop) in enumerate(self.rows.spans):
            begin = start - done + (end if number else 0)
            spans.append(RowSpan(first_segment=number * width, start=begin, last_segment=(number + 1) * width, end=end))
            done = stop
        keys = tuple(_shifted(plan.keys[0], number * width) for number in range(len(spans)))
        return replace(self.planned, plan=replace(plan, keys=keys, rows=tuple(spans), compiled={}))


def _shifted(key: Equal, by: int) -> Equal:
    return Equal(tuple(_value_shifted(value, by) for value in key.values))


def _value_shifted(value: Value, by: int) -> Value:
    match value:
        case Literal(index=index):
            return Literal(index + by)
        case Cast(type_oid=oid, operand=operand):
            return Cast(oid, _value_shifted(operand, by))
        case Arithmetic(operator=operator, left=left, right=right):
            return Arithmetic(operator, _value_shifted(left, by), _value_shifted(right, by))
    return value


@dataclass(slots=True)
class _Kind:
    planned: Planned
    parts: list[bytes]
    width: int  # values of a row
    key_width: int
    columns: list[tuple[int, Value, int]]  # position in the key, value, type

    def common(self) -> tuple[Planned, int]:
        """What all kinds must have in common."""
        plan = self.planned.plan
        if isinstance(plan, InsertRows):
            return replace(self.planned, plan=replace(plan, keys=(), rows=())), self.width
        return self.planned, self.width


def plan_long(
    text: bytes, make: Callable[[Parsed], Planned], snapshot: Snapshot
) -> Generator[None, None, LongPlan | None]:
    start = head_end(text)
    if start is None:
        return None
    rows = LongRows(text)
    for span in rows_of(text, start):
        rows.spans.append(span)
        if not len(rows.spans) % (4 * ROWS_PER_TURN):
            yield
    head, tail, bare = _bare(text[:start], text[rows.spans[-1][1] :])
    kinds: dict[tuple[bytes, ...], _Kind] = {}
    first: _Kind | None = None
    for number, (begin, end) in enumerate(rows.spans):
        if not number % ROWS_PER_TURN:
            yield
        parts = cut(text[begin:end])
        segments = tuple(parts[::2])
        kind = kinds.get(segments)
        if kind is None:
            row = text[begin:end]
            kind = _kind(head + row + b", " + row + tail, make, snapshot)
            first = first or kind
            if kind is None or first is None or kind.common() != first.common() or len(kinds) >= KINDS_MAX:
                return None
            kinds[segments] = kind
            yield
        _add_key(rows, kind, parts[1::2])
    assert first is not None
    return LongPlan(first.planned, first.parts, rows, list(kinds), bare)


def _bare(head: bytes, tail: bytes) -> tuple[bytes, bytes, bool]:
    """What stands around the rows, with blanks for parentheses around the list, which mean nothing; whether there were any."""
    opens = head.rindex(b"(") if _PARENTHESIS.search(head) else None
    closes = len(tail) - len(tail.lstrip(b" \t\r\n"))
    if opens is None or tail[closes : closes + 1] != b")":
        return head, tail, False
    return head[:opens] + b" " + head[opens + 1 :], tail[:closes] + b" " + tail[closes + 1 :], True


def _add_key(rows: LongRows, kind: _Kind, literals: list[bytes]) -> None:
    key: list[Canonical] = [None] * kind.key_width
    for position, value, type_oid in kind.columns:
        try:
            key[position] = evaluate(value, type_oid, literals, NO_PARAMETERS)
        except NotEvaluable:
            rows.doubtful.append((len(rows.keys), position, value, literals))
    rows.keys.append(key)


def _kind(text: bytes, make: Callable[[Parsed], Planned], snapshot: Snapshot) -> _Kind | None:
    try:
        parsed = parse_one(text)
        if parsed.node is None:
            return None
        planned = make(parsed)
    except PgError:
        return None  # the whole statement's error has the right words and the right position
    plan = planned.plan
    if not planned.template_safe or planned.frozen or not parsed.plain:
        return None
    width = len(parsed.node.selectStmt.valuesLists[0])
    if isinstance(plan, Forward):
        whole = plan.place is not None and not plan.prunes and not plan.renames and plan.sql is None
        return _Kind(planned, parsed.parts, width, 0, []) if whole else None
    if not isinstance(plan, InsertRows) or plan.replaced or plan.rows[0].first_segment:
        return None
    columns = [] if plan.replicated else _key_columns(plan, snapshot.relation_by_identity[plan.relation])
    return _Kind(planned, parsed.parts, width, len(plan.keys[0].values), columns)


def _key_columns(plan: InsertRows, relation: Relation) -> list[tuple[int, Value, int]]:
    added = {id(value) for _, value in plan.added}
    values = zip(plan.keys[0].values, relation.key_types, strict=True)
    return [(position, value, oid) for position, (value, oid) in enumerate(values) if id(value) not in added]
