"""Long IN lists are no part of the tree, and come back where it is printed."""

from __future__ import annotations

import gc

import pytest

from hanse.planner.tree import render as planner_render
from hanse.sql.inlists import VALUES_MIN, restored, shortened
from hanse.sql.parse import parse, parse_one
from hanse.sql.render import NotRenderable, render

NUMBERS = ",".join(map(str, range(VALUES_MIN)))
STRINGS = ", ".join(f"'{n}''é'::character varying(20)" for n in range(VALUES_MIN))
PARAMETERS = ",".join(f"${n}" for n in range(1, VALUES_MIN + 1))
ROWS = ", ".join(f"({n}, 'x{n}', NULL::int[], true)" for n in range(VALUES_MIN + 1))
PAIRS = ",".join(f"(${n})" for n in range(1, VALUES_MIN + 1))
TAKEN_OUT = {
    "numbers": f"SELECT * FROM t WHERE id IN ({NUMBERS}) AND v = 5",
    "strings": f"UPDATE t SET v = 'ü' WHERE name NOT IN ( {STRINGS} ) RETURNING \"id\"",
    "parameters": f"(SELECT v FROM t WHERE id in({PARAMETERS})) UNION SELECT $600",
    "rows": f"SELECT * FROM t WHERE (id, v) NOT IN ({ROWS})",
    "array": f"SELECT * FROM t WHERE id = ANY (ARRAY[{NUMBERS}]) OR ids = array [ {NUMBERS} ]::int[]",
    "table": f"SELECT * FROM t JOIN (VALUES {ROWS}) v (id, x) USING (id)",
    "table in WITH": f"WITH v (id, x) AS (VALUES {ROWS} ORDER BY 1 LIMIT 7) UPDATE t SET v = v.x FROM v WHERE t.id = v.id",
    "table of parameters": f"MERGE INTO t USING (values ($901), {PAIRS}) v (id) ON t.id = v.id WHEN MATCHED THEN DELETE",
    "two": f"WITH a AS (SELECT 1) DELETE FROM t WHERE id IN ({NUMBERS}) OR id IN ({PARAMETERS})",
}
LEFT = {
    "short": "SELECT 1 WHERE 1 IN (" + ",".join(["1"] * (VALUES_MIN - 1)) + ")" + " " * 2_000,
    "in a string": f"SELECT 'id IN ({NUMBERS})'",
    "in a name": f'SELECT "id IN ({NUMBERS})"',
    "comment": f"SELECT 1 /* '*/ WHERE 1 IN ({NUMBERS}) -- '",
    "expression": f"SELECT 1 WHERE 1 IN ({NUMBERS}, 1 + 1)",
    "parameter elsewhere": f"SELECT $7 WHERE 1 IN ({PARAMETERS})",
    "not a query": f"CREATE VIEW v AS SELECT 1 WHERE 1 IN ({NUMBERS})",
    "into": f"SELECT 1 INTO t WHERE 1 IN ({NUMBERS})",
    "rows to insert": f"INSERT INTO t (VALUES {ROWS})",
    "rows to insert in WITH": f"WITH a AS (INSERT INTO t (VALUES {ROWS}) RETURNING id) SELECT * FROM a",
    "a row with an expression": f"SELECT * FROM (VALUES (1 + 1), {PAIRS}) v",
    "an array's elements": "SELECT ARRAY[now(), " + NUMBERS + "]",
    "several": f"SELECT 1; SELECT 1 WHERE 1 IN ({NUMBERS})",
    "wrong": f"SELECT FROM WHERE 1 IN ({NUMBERS})",
}


@pytest.mark.parametrize("name", TAKEN_OUT)
def test_a_printed_tree_is_the_statement(name: str) -> None:
    text = TAKEN_OUT[name]
    parsed = parse_one(text)
    assert parsed.shortened is not None and len(parsed.shortened.sql) == len(text)
    assert parsed.sql == text and not parsed.templatable
    whole = parse_one(text + "\n")  # trailing space: the same tree once more
    for printed in (render(parsed.node), planner_render(whole.node)):
        for one in parsed.shortened.lists:
            assert one.text in printed
        assert "hanse_list" not in printed


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_list_of_values_for_certain_is_parsed_as_it_is(name: str) -> None:
    if name == "wrong":
        with pytest.raises(Exception, match="syntax error"):
            parse(LEFT[name])
        return
    assert all(parsed.shortened is None for parsed in parse(LEFT[name]))


def test_a_list_lives_as_long_as_its_statement() -> None:
    text = TAKEN_OUT["numbers"] + " "
    short = shortened(text.encode(), text)
    assert short is not None
    assert restored(short.sql).replace(" ", "") == text.replace(" ", "")
    node = parse_one(TAKEN_OUT["numbers"]).node
    parse_one(TAKEN_OUT["two"])  # the last one that was parsed is kept
    gc.collect()
    with pytest.raises(NotRenderable):
        render(node)
