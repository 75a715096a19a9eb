from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "planner"))

from towns import SNAPSHOT

from hanse.planner.plan import Context
from hanse.sql.functions import FunctionClass, calls, casts_to_catalog_type, classify, differs_by_place, is_volatile
from hanse.sql.parse import parse_one
from hanse.sql.render import NotRenderable, render, replace_tables
from hanse.sql.scope import named_tables, table_refs


def tables(text: str) -> list[str]:
    return [named.node.relname for named in named_tables(parse_one(text).node)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM a JOIN b USING (x), (SELECT * FROM c) d", ["a", "b", "c"]),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", ["a"]),
        ("WITH RECURSIVE a AS (SELECT * FROM b UNION ALL SELECT * FROM a) SELECT * FROM a", ["b"]),
        ("WITH a AS (SELECT 1), b AS (SELECT * FROM a, b) SELECT * FROM b", ["b"]),
        ("WITH a AS (SELECT 1) SELECT * FROM s.a", ["a"]),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a", ["a"]),
        ("SELECT (SELECT max(x) FROM a) FROM b WHERE EXISTS (SELECT 1 FROM c)", ["a", "b", "c"]),
        ("SELECT * FROM a FOR UPDATE OF a", ["a"]),
        ("WITH t AS (SELECT 1) UPDATE t SET x = 1 FROM t", ["t"]),
        ("INSERT INTO a SELECT * FROM b ON CONFLICT (x) DO UPDATE SET y = (SELECT 1 FROM c)", ["a", "b", "c"]),
        ("SELECT 1 INTO a FROM b", ["b"]),
    ],
)
def test_tables_that_are_no_ctes(text: str, expected: list[str]) -> None:
    assert sorted(tables(text)) == sorted(expected)


def test_names_are_resolved() -> None:
    context = Context(search_path=("public",), temporary=frozenset(("scratch",)))
    statement = parse_one(
        "SELECT * FROM accounts, scratch, pg_class, information_schema.tables, nothing, hanse.nodes"
    ).node
    found = {ref.node.relname: ref for ref in table_refs(statement, SNAPSHOT, context)}
    assert found["accounts"].relation is not None and found["accounts"].identity == ("public", "accounts")
    assert found["scratch"].temporary and found["scratch"].relation is None
    assert found["pg_class"].is_catalog and found["tables"].is_catalog and found["nodes"].is_catalog
    assert found["nothing"].unknown and not found["accounts"].unknown


def test_a_temporary_table_hides_the_real_one_unless_a_schema_is_named() -> None:
    context = Context(temporary=frozenset(("accounts",)))
    refs = table_refs(parse_one("SELECT * FROM accounts, public.accounts, pg_temp.x").node, SNAPSHOT, context)
    assert [ref.temporary for ref in refs] == [True, False, True]


@pytest.mark.parametrize(
    ("schema", "name", "kind"),
    [
        (None, "lower", FunctionClass.NEUTRAL),
        (None, "random", FunctionClass.VOLATILE),
        ("pg_catalog", "set_config", FunctionClass.SESSION),
        (None, "lo_create", FunctionClass.SESSION),
        (None, "pg_get_viewdef", FunctionClass.CATALOG),
        (None, "has_table_privilege", FunctionClass.CATALOG),
        (None, "pg_table_is_visible", FunctionClass.CATALOG),
        (None, "pg_stat_reset", FunctionClass.SERVER),
        (None, "touch", FunctionClass.USER),
        ("public", "lower", FunctionClass.USER),
        ("pg_catalog", "touch", FunctionClass.NEUTRAL),
    ],
)
def test_classes_of_functions(schema: str | None, name: str, kind: FunctionClass) -> None:
    assert classify(schema, name, SNAPSHOT) is kind


def test_calls_are_found_at_any_depth() -> None:
    node = parse_one("SELECT lower(x) FROM f(1) WHERE EXISTS (SELECT public.g(upper('a')))").node
    assert sorted(call.name for call in calls(node, SNAPSHOT)) == ["f", "g", "lower", "upper"]


def test_volatility() -> None:
    def volatile(expression: str) -> bool:
        return is_volatile(parse_one(f"SELECT {expression}").node, SNAPSHOT)

    assert volatile("random()") and volatile("touch()") and volatile("nextval('x')")
    assert not volatile("lower('x')") and not volatile("tax(1)") and not volatile("now()")


def test_what_differs_by_place() -> None:
    def differs(expression: str) -> bool:
        return differs_by_place(parse_one(f"SELECT {expression}").node, SNAPSHOT)

    assert differs("now()") and differs("current_date") and differs("'now'::timestamptz") and differs("random()")
    assert not differs("lower('x') || 5") and not differs("tax(3)")


def test_casts_to_catalog_types() -> None:
    assert casts_to_catalog_type(parse_one("SELECT 'x'::regclass").node)
    assert not casts_to_catalog_type(parse_one("SELECT 'x'::text").node)


SHAPES = [
    "SELECT DISTINCT ON (a) a, b AS c, count(*) FILTER (WHERE d > 1) OVER (PARTITION BY e ORDER BY f) FROM t x",
    "SELECT * FROM a LEFT JOIN b USING (x) CROSS JOIN LATERAL (SELECT 1 LIMIT 1) y WHERE NOT (p OR q) AND r IS NOT NULL",
    "WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT 2 FROM a) SELECT * FROM a ORDER BY 1 DESC NULLS LAST LIMIT 5 OFFSET 2",
    "SELECT CASE WHEN a THEN 'it''s' ELSE E'\\n' END, ARRAY[1, 2], (ROW(1, 2)).f1, x[1], -5, - (-5)",
    "SELECT interval '1' year, timestamp '2020-01-01', 'a' COLLATE \"C\", CAST(x AS numeric(10, 2)), $1",
    "INSERT INTO t (a, b) VALUES (1, DEFAULT) ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE t.a > 1 RETURNING *",
    "UPDATE t SET (a, b) = (SELECT 1, 2), c = DEFAULT FROM u WHERE t.x = u.x RETURNING t.a",
    "DELETE FROM t USING u WHERE t.a = ANY(ARRAY[1]) AND u.b BETWEEN 1 AND 2 AND c LIKE 'x%' ESCAPE '!'",
    "SELECT a, b FROM t GROUP BY GROUPING SETS ((a), (b), ()) HAVING sum(c) > 1 FOR UPDATE OF t SKIP LOCKED",
    'SELECT "Odd Name", "select" FROM "Sch"."Tab" AS "T"',
    "SELECT a FROM t UNION ALL (SELECT b FROM u ORDER BY 1 LIMIT 1) EXCEPT SELECT c FROM v",
]


@pytest.mark.parametrize("text", SHAPES)
def test_printing_survives_parsing(text: str) -> None:
    """`render` checks it on each use; these must not only be safe but possible."""
    node = parse_one(text).node
    assert parse_one(render(node)).node == node


def test_a_tree_that_does_not_survive_is_refused() -> None:
    node = parse_one("SELECT a FROM t").node
    node.targetList[0].val.fields[0].sval = ""
    with pytest.raises(NotRenderable):
        render(node)


def test_tables_are_replaced_and_keep_their_names() -> None:
    node = parse_one("SELECT a.x FROM a JOIN s.b AS c ON true").node
    changed = replace_tables(node, lambda table: ("other", "A1") if table.relname == "a" else None)
    assert render(changed) == 'SELECT a.x FROM other."A1" AS a INNER JOIN s.b AS c ON TRUE'
    assert render(node) == "SELECT a.x FROM a INNER JOIN s.b AS c ON TRUE"
