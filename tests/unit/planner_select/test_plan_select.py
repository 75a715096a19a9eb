"""The plans of single statements, where the plan and not its answer is what matters."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from hanse.catalog.model import Bound, Column, Function, Group, Kind, Relation, Shard, Snapshot, Strategy, UniqueKey
from hanse.core.errors import PgError
from hanse.planner.clock import PLACEHOLDER, with_time
from hanse.planner.explain import describe
from hanse.planner.plan import (
    AnyOf,
    Context,
    Equal,
    Gather,
    Literal,
    Merge,
    Param,
    Planned,
    Pull,
    Scatter,
    SortKey,
    TwoPhase,
)
from hanse.planner.select import plan_select
from hanse.sql.parse import parse_one


def columns(*described: tuple[str, int, str]) -> tuple[Column, ...]:
    return tuple(Column(name=name, type_oid=oid, type_name=kind) for name, oid, kind in described)


def sharded(name: str, key: str, *more: tuple[str, int, str], **fields: object) -> Relation:
    shards = tuple(
        Shard(schema="public", name=f"{name}_{i}", group=f"g{i % 2 + 1}", bound=Bound(modulus=4, remainder=i))
        for i in range(4)
    )
    return Relation(
        schema="public", name=name, kind=Kind.SHARDED, strategy=Strategy.HASH, key=(key,), key_types=(23,), shards=shards,
        columns=columns((key, 23, "integer"), *more), **fields,  # type: ignore[arg-type]
    )  # fmt: skip


T = sharded("t", "k", ("x", 23, "integer"), ("note", 25, "text"), ("unused", 25, "text"))
U = sharded("u", "k", ("x", 23, "integer"), ("y", 23, "integer"))
KEYED = sharded("keyed", "k", ("v", 23, "integer"), unique_keys=(UniqueKey(name="p", columns=("k",), primary=True),))
FILLED = sharded("filled", "k", ("x", 23, "integer"))
FILLED = replace(FILLED, columns=(*FILLED.columns, Column(name="v", type_oid=23, type_name="integer", not_null=True)))
RLS = sharded("guarded", "k", ("v", 23, "integer"), row_security=True)
S = Relation(
    schema="public", name="s", kind=Kind.SINGLE, group="g2", columns=columns(("id", 23, "integer"), ("w", 25, "text"))
)
FOREIGN = Column(name="word", type_oid=25, type_name="text", collation="de-x-icu")
OTHER = sharded("other", "k")
OTHER = Relation(**{f: getattr(OTHER, f) for f in OTHER.__struct_fields__} | {"columns": (*OTHER.columns, FOREIGN)})


def view(name: str, definition: str, owner: str, invoker: bool = False) -> Relation:
    return Relation(
        schema="public", name=name, kind=Kind.VIEW, owner=owner, view_definition=definition, view_security_invoker=invoker,
        columns=columns(("k", 23, "integer")),
    )  # fmt: skip


SNAPSHOT = Snapshot(
    database="shop",
    groups=(Group(name="g1", instances=()), Group(name="g2", instances=())),
    relations=(
        T, U, S, RLS, OTHER, KEYED, FILLED,
        view("of_ann", "SELECT k FROM t", "ann"),
        view("as_user", "SELECT k FROM t", "ann", invoker=True),
        view("guarded_view", "SELECT k FROM guarded", "ann"),
        view("nested", "SELECT k FROM of_ann WHERE k > 3", "bob"),
    ),
    functions=(
        Function(schema="public", name="reads_s", kind="f", language="sql", volatility="s", argument_count=0,
                 source="SELECT max(id) FROM s"),
        Function(schema="public", name="python", kind="f", language="plpython3u", volatility="v", argument_count=0, source="…"),
    ),
)  # fmt: skip


def plan(sql: str, **context: object) -> Planned:
    return plan_select(parse_one(sql), Context(**context), SNAPSHOT)  # type: ignore[arg-type]


def gathered(sql: str) -> dict[str, Pull]:
    found = plan(sql).plan
    assert isinstance(found, Gather)
    return {pull.relation[1]: pull for pull in found.pulls}


# --- scatter -----------------------------------------------------------------------------------------------------


def test_text_is_unchanged_where_it_can_be() -> None:
    found = plan("SELECT k, x FROM t ORDER BY x DESC, k LIMIT 5").plan
    keys = (SortKey(column=1, descending=True, nulls_first=True, type_oid=23), SortKey(column=0, type_oid=23))
    assert found == Scatter(groups=("g1", "g2"), merge=Merge(keys=keys, limit=5))


def test_sort_column_added_and_limit_widened() -> None:
    found = plan("SELECT k FROM t ORDER BY x LIMIT 5 OFFSET 2").plan
    assert isinstance(found, Scatter)
    assert found.sql == "SELECT k, x AS hanse_sort_0 FROM t ORDER BY x LIMIT 7"
    assert found.merge == Merge(keys=(SortKey(column=-1, type_oid=23),), limit=5, offset=2, drop_columns=1)


def test_limit_as_parameter() -> None:
    found = plan("SELECT k FROM t ORDER BY k LIMIT $1").plan
    assert found == Scatter(groups=("g1", "g2"), merge=Merge(keys=(SortKey(column=0, type_oid=23),), limit=Param(0)))
    found = plan("SELECT k FROM t ORDER BY k LIMIT $2 OFFSET $1").plan
    assert isinstance(found, Scatter)
    assert (found.merge.limit, found.merge.offset) == (Param(1), Param(0))
    assert found.sql is not None
    assert found.sql.endswith("LIMIT (CAST($2 AS bigint) + COALESCE(CAST($1 AS bigint), 0))")


def test_prunes_to_the_shards_of_a_list() -> None:
    found = plan("SELECT x FROM t WHERE k IN (1, 2)").plan
    assert isinstance(found, Scatter)
    assert found.prunes[0].relation == ("public", "t")
    assert found.prunes[0].condition == AnyOf((Equal((Literal(0),)), Equal((Literal(1),))))


def test_no_prune_by_the_nullable_side() -> None:
    found = plan("SELECT t.x FROM t LEFT JOIN u ON u.k = t.k AND u.k IN (1, 2)").plan
    assert isinstance(found, Scatter)
    assert found.prunes == ()


def test_unsortable_type_is_planned_again() -> None:
    sql = "SELECT k FROM t ORDER BY x"
    assert isinstance(plan(sql).plan, Scatter)
    assert isinstance(plan(sql, merge_allowed=False).plan, Gather)


def test_other_collation_is_gathered() -> None:
    assert isinstance(plan("SELECT k FROM other ORDER BY word").plan, Gather)
    assert isinstance(plan("SELECT word, count(*) FROM other GROUP BY word").plan, Gather)
    assert isinstance(plan("SELECT max(word) FROM other").plan, Gather)
    assert isinstance(plan("SELECT word FROM other").plan, Scatter)


def test_time_is_one_for_all_groups() -> None:
    found = plan("SELECT k, now(), current_date FROM t").plan
    assert isinstance(found, Scatter)
    assert found.clock
    assert found.sql is not None
    assert found.sql.count(PLACEHOLDER) == 2
    moment = datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    assert "'2024-05-06 07:08:09.000010+00:00'" in with_time(found.sql, moment, moment)


def test_moments_in_literals_are_gathered() -> None:
    assert isinstance(plan("SELECT k, 'now'::timestamptz FROM t").plan, Gather)


def test_locking_counts_as_writing() -> None:
    assert plan("SELECT k FROM t FOR UPDATE").writes
    assert not plan("SELECT k FROM t").writes


# --- two phases --------------------------------------------------------------------------------------------------


def test_two_phases() -> None:
    found = plan("SELECT x, count(*), avg(k) FROM t WHERE note = $1 GROUP BY x HAVING sum(k) > 3 ORDER BY 2").plan
    assert found == TwoPhase(
        groups=("g1", "g2"),
        partial_sql="SELECT x AS g0, count(*) AS p0, sum(k) AS p1, count(k) AS p2 FROM t WHERE note = $1 GROUP BY 1",
        partial_columns=(("g0", "integer"), ("p0", "bigint"), ("p1", ""), ("p2", "bigint")),
        final_sql="SELECT g0 AS x, CAST(COALESCE(sum(p0), 0) AS bigint) AS count, sum(p1) / sum(p2) AS avg "
        "FROM hanse_partial GROUP BY g0 HAVING CAST(sum(p1) AS bigint) > 3 ORDER BY 2",
    )


@pytest.mark.parametrize(
    ("sql", "partial"),
    [
        ("SELECT x, avg(v), count(*) FROM filled GROUP BY x", "sum(v) AS p0, count(*) AS p1 FROM"),
        ("SELECT x, count(v), avg(v) FROM filled GROUP BY x", "count(v) AS p0, sum(v) AS p1 FROM"),
        ("SELECT x, avg(v) FILTER (WHERE v > 1) FROM filled GROUP BY x", "count(*) FILTER (WHERE v > 1) AS p1 FROM"),
        ("SELECT t.x, avg(v) FROM filled JOIN t USING (k) GROUP BY 1", "count(*) AS p1 FROM"),
        ("SELECT t.x, avg(v) FROM t LEFT JOIN filled USING (k) GROUP BY 1", "count(v) AS p1 FROM"),
        ("SELECT x, avg(v) FROM filled AS f(k, v, x) GROUP BY x", "count(v) AS p1 FROM"),
    ],
)
def test_the_count_of_a_column_without_nulls_is_that_of_the_rows(sql: str, partial: str) -> None:
    found = plan(sql).plan
    assert isinstance(found, TwoPhase)
    assert partial in found.partial_sql


# --- gather ------------------------------------------------------------------------------------------------------


def test_columns_and_conditions() -> None:
    pulls = gathered(
        "SELECT t.x FROM t LEFT JOIN s ON s.id = t.x AND s.w <> 'a' WHERE t.note LIKE 'n%' AND s.id IS NULL"
    )
    assert pulls["t"].columns == ("x", "note")
    assert pulls["t"].where == "note LIKE 'n%'"
    assert pulls["s"].columns == ("id", "w")
    assert pulls["s"].where == "w <> 'a'"


def test_primary_key_is_always_pulled() -> None:
    assert gathered("SELECT v FROM keyed JOIN s ON s.id = v")["keyed"].columns == ("k", "v")


def test_a_column_at_least() -> None:
    assert gathered("SELECT count(*) FROM t a, t b")["t"].columns == ("k",)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t JOIN s ON s.id = t.x",
        "SELECT t.* FROM t JOIN s ON s.id = t.x",
        "SELECT a FROM t a JOIN s ON s.id = a.x",
        "SELECT to_json(a) FROM t a JOIN s ON s.id = a.x",
        "SELECT (a).note FROM t a JOIN s ON s.id = a.x",
        "SELECT 1 FROM t NATURAL JOIN s",
        "SELECT q FROM t a(q) JOIN s ON s.id = q",
        "SELECT 1 FROM (SELECT * FROM t) y JOIN s ON s.id = y.x",
    ],
)
def test_all_columns(sql: str) -> None:
    assert gathered(sql)["t"].columns == ("k", "x", "note", "unused")


def test_conditions_of_two_occurrences() -> None:
    pulls = gathered("SELECT 1 FROM t a JOIN t b ON a.x = b.x WHERE a.x > 3 AND b.note = 'q'")
    assert pulls["t"].where == "x > 3 OR note = 'q'"
    assert gathered("SELECT 1 FROM t a JOIN t b ON a.x = b.x WHERE a.x > 3")["t"].where is None


@pytest.mark.parametrize(
    "condition",
    ["t.x > $1", "t.x = s.id", "t.note < now()::text", "random() < t.x", "t.x IN (SELECT id FROM s)", "note = 'now'"],
)
def test_what_is_not_pushed(condition: str) -> None:
    assert gathered(f"SELECT 1 FROM t JOIN s ON s.id = t.x WHERE {condition}")["t"].where is None


def test_ambiguous_names_are_not_pushed() -> None:
    pulls = gathered("SELECT 1 FROM t JOIN u ON t.x = u.y WHERE note = 'a' AND y > 3")
    assert (pulls["t"].where, pulls["u"].where) == ("note = 'a'", "y > 3")
    pulls = gathered("WITH u AS (SELECT 1 AS note) SELECT 1 FROM t JOIN u ON true JOIN s ON true WHERE note = 'a'")
    assert pulls["t"].where is None


def test_pulls_are_pruned() -> None:
    pulls = gathered("SELECT count(*) FROM t JOIN s ON s.id = t.x WHERE t.k = 7")
    assert pulls["t"].prune is not None
    assert pulls["t"].prune.condition == Equal((Literal(0),))


def test_rights_below_views() -> None:
    assert gathered("SELECT 1 FROM of_ann v JOIN s ON s.id = v.k")["t"].as_owner == "ann"
    assert gathered("SELECT 1 FROM as_user v JOIN s ON s.id = v.k")["t"].as_owner is None
    assert gathered("SELECT 1 FROM nested v JOIN s ON s.id = v.k")["t"].as_owner == "ann"
    assert gathered("SELECT 1 FROM of_ann v JOIN t ON t.x = v.k")["t"].as_owner == "ann"
    with pytest.raises(PgError, match="row security"):
        plan("SELECT 1 FROM guarded_view v JOIN guarded g ON g.v = v.k")


def test_functions_add_their_tables() -> None:
    pulls = gathered("SELECT k FROM t WHERE x > reads_s()")
    assert pulls["s"].columns == ("id", "w")
    with pytest.raises(PgError) as caught:
        plan("SELECT k, python() FROM t")
    assert caught.value.sqlstate == "0A000"


def test_locks_are_taken_while_pulling() -> None:
    pulls = gathered("SELECT 1 FROM t JOIN s ON s.id = t.x WHERE t.x > 2 FOR UPDATE OF t SKIP LOCKED")
    assert pulls["t"].lock == "FOR UPDATE SKIP LOCKED"
    assert pulls["s"].lock == ""


def test_database_name() -> None:
    found = plan("SELECT current_database(), k FROM t JOIN s ON s.id = t.x").plan
    assert isinstance(found, Gather)
    assert found.sql is not None
    assert "'shop'" in found.sql


def test_temporary_tables_come_along() -> None:
    found = plan("SELECT 1 FROM t JOIN scratch ON scratch.a = t.x", temporary=frozenset({"scratch"})).plan
    assert isinstance(found, Gather)
    assert found.temporary == ("scratch",)
    assert [pull.relation for pull in found.pulls] == [("public", "t")]


# --- EXPLAIN -----------------------------------------------------------------------------------------------------


def test_describe() -> None:
    assert describe(plan("SELECT k FROM t ORDER BY x DESC LIMIT 2"), SNAPSHOT) == [
        "Hanse: scattered to g1, g2, rows merged by added column 1 descending, limit 2",
        "  Each group: SELECT k, x AS hanse_sort_0 FROM t ORDER BY x DESC LIMIT 2",
    ]
    assert describe(plan("SELECT count(*) FROM t JOIN s ON s.id = t.x"), SNAPSHOT) == [
        "Hanse: gathered into the workspace, because of single table s",
        "  Pull: SELECT id FROM public.s",
        "    Place: g2",
        "  Pull: SELECT x FROM public.t",
        "    Shards: 4 in g1, g2",
        "  Workspace: the statement as it is",
    ]
