"""A long VALUES list gets the plan that the planner gives to its tree, and no other text is taken for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from towns import SNAPSHOT

from hanse.planner.longinsert import LongPlan, plan_long
from hanse.planner.plan import Context, Forward, InsertRows, Planned
from hanse.planner.planner import plan
from hanse.planner.values import NO_PARAMETERS, NotEvaluable, evaluate
from hanse.sql.longlists import LIST_ROWS_MIN, head_end, rows_of
from hanse.sql.parse import Parsed, parse_one

ROWS = 4 * LIST_ROWS_MIN
PADDING = "x" * 40  # so that the texts are long ones


def make(parsed: Parsed) -> Planned:
    return plan(parsed, Context(), SNAPSHOT)


def long(text: str) -> LongPlan | None:
    steps = plan_long(text.encode(), make, SNAPSHOT)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: LongPlan | None = end.value
            return found


def listed(
    row: Callable[[int], str], *, head: str = "INSERT INTO accounts VALUES", tail: str = "", comma: str = ", "
) -> str:
    return f"{head} {comma.join(map(row, range(ROWS)))}{tail}"


PLAIN = [
    pytest.param(listed(lambda n: f"({n}, '{PADDING}', {n}.5)"), id="one kind"),
    pytest.param(listed(lambda n: f"({n},'{PADDING} ''{n}'', (' , 1)", comma=" ,\n\t"), id="quotes and parentheses in strings"),
    pytest.param(listed(lambda n: f"({'-' * (n % 3 == 0)}{n}, {'NULL' if n % 2 else repr(PADDING)}, 0)"), id="kinds"),
    pytest.param(
        listed(lambda n: f"({n}::bigint + 7, upper('{PADDING}'), (1 + ({n})))", tail=" ON CONFLICT DO NOTHING RETURNING *;"),
        id="expressions and a tail",
    ),
    pytest.param(
        listed(lambda n: f"('{PADDING}', {n})", head='insert into "accounts" AS a ("name", aid)values'), id="columns"
    ),
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_keys_are_those_of_the_whole_plan(text: str) -> None:
    parsed = parse_one(text)
    whole = make(parsed).plan
    assert isinstance(whole, InsertRows)
    found = long(text)
    assert found is not None and isinstance(found.planned.plan, InsertRows)
    literals = parsed.parts[1::2]
    expected = []
    for equal in whole.keys:
        try:
            expected.append([evaluate(equal.values[0], 20, literals, NO_PARAMETERS)])
        except NotEvaluable:
            expected.append([None])
    assert found.rows.keys == expected
    assert [text.encode()[a:b].decode() for a, b in found.rows.spans] == [
        parsed.text[slice(*_bytes(parsed, span))].decode() for span in whole.rows
    ]


def _bytes(parsed: Parsed, span: object) -> tuple[int, int]:
    starts, _ = parsed._segment_bounds
    return starts[span.first_segment] + span.start, starts[span.last_segment] + span.end  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", PLAIN)
def test_the_template_is_the_planner_s(text: str) -> None:
    found = long(text)
    assert found is not None
    template = found.template()
    if len(found.kinds) > 1:
        assert template is None
    else:
        assert template == make(parse_one(text))


def test_a_single_table_s_rows_go_as_they_are() -> None:
    found = long(listed(lambda n: f"('{PADDING}', '{n}')", head="INSERT INTO settings VALUES"))
    assert found is not None and isinstance(found.planned.plan, Forward) and found.planned.plan.place == "g1"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(listed(lambda n: f"({n}, E'\\'{PADDING}', 0)"), id="E strings"),
        pytest.param(listed(lambda n: f"({n}, $$({PADDING}$$, 0)"), id="dollar quotes"),
        pytest.param(listed(lambda n: f"({n} /* ' */, '{PADDING}', 0)"), id="comments"),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}', 0) -- )\n"), id="line comments"),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}', 0)", head="WITH w AS (SELECT 1) INSERT INTO accounts VALUES")),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}', 0)", tail="; DELETE FROM accounts"), id="two statements"),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}', 0)", tail=", (7, E'a', 0)"), id="another row at the end"),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}', 0)", tail=","), id="a comma at the end"),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}'{', 0' if n % 2 else ''})"), id="rows of other lengths"),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}', {n}" + " + 1" * (n % 90) + ")"), id="many kinds"),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}', 0)", head="INSERT INTO nowhere VALUES"), id="no such table"),
        pytest.param(listed(lambda n: f"({n}, '{PADDING}' '{n}', 0)"), id="two strings"),
    ],
)  # fmt: skip
def test_others_are_left_to_the_parser(text: str) -> None:
    found = long(text)
    assert found is None or isinstance(found.planned.plan, Forward)
    if found is not None:  # of a table that nobody knows: a server says so
        assert "nowhere" in text


def test_short_lists_are_left_to_the_parser() -> None:
    text = f"INSERT INTO accounts VALUES {', '.join(f'({n}, 0)' for n in range(LIST_ROWS_MIN // 2))}".encode()
    assert head_end(text) is None
    assert head_end(text + b" " * 100_000) is None


def test_a_text_that_nests_without_end_is_refused_at_once() -> None:
    text = b"INSERT INTO accounts VALUES " + b"(1)," * LIST_ROWS_MIN + b"(" * 1_000_000
    start = head_end(text)
    assert start is not None
    spans = list(rows_of(text, start))
    assert spans[-1][0] == spans[-1][1]  # the empty row that no parser accepts
