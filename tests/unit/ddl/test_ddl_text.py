"""Surgery on statement texts, partition bounds, passwords, and functions called as statements: no database needed."""

from __future__ import annotations

from typing import Any

import pytest
from pglast import parse_sql

from hanse.catalog.ddl import DdlContext, RunGroups, RunWorkspace, plan_ddl
from hanse.catalog.ddl import text as surgery
from hanse.catalog.ddl.functions import called
from hanse.catalog.ddl.roles import with_verifier
from hanse.catalog.ddl.shards import shard_name
from hanse.catalog.introspection import parse_bound
from hanse.catalog.model import Bound, Group, Snapshot
from hanse.core.errors import PgError

CONTEXT = DdlContext(
    snapshot=Snapshot(groups=(Group(name="g1", instances=()), Group(name="g2", instances=()))),
    make_verifier=lambda password: "SCRAM-SHA-256$4096:c2FsdA==$QQ==:" + "Qg==",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE TABLE t (a int) WITH (shards = 4) TABLESPACE g2", "CREATE TABLE t (a int)"),
        (
            "CREATE TABLE t (a int) WITH (fillfactor = 70, \"shards\"=4, toast.autovacuum_enabled=false)",
            "CREATE TABLE t (a int) WITH (fillfactor = 70, toast.autovacuum_enabled=false)",
        ),
        ("CREATE TABLE t (a text DEFAULT ' TABLESPACE g2 WITH (shards=4)')", None),
        ("CREATE TABLE t (tablespace int, shards int) /* TABLESPACE g1 */", None),
        ("CREATE TABLE t (a int PRIMARY KEY USING INDEX TABLESPACE g1)", "CREATE TABLE t (a int PRIMARY KEY )"),
        ("CREATE TABLE \"tä\" (a int) -- ü\n TABLESPACE g1", "CREATE TABLE \"tä\" (a int) -- ü\n"),
        ("CREATE TABLE t (a int) WITH (fillfactor = 70)", None),
    ],
)  # fmt: skip
def test_own_clauses_are_cut(text: str, expected: str | None) -> None:
    assert surgery.without_own_clauses(text).rstrip(" ") == (expected if expected is not None else text)
    parse_sql(surgery.without_own_clauses(text))


def test_a_query_keeps_its_words() -> None:
    text = "CREATE TABLE t WITH (distribution = 'reference') AS WITH (x) AS (SELECT 1) SELECT tablespace FROM x"
    assert surgery.without_own_clauses(text, query_follows=True).startswith("CREATE TABLE t  AS WITH (x) AS")


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("FOR VALUES WITH (modulus 4, remainder 3)", Bound(modulus=4, remainder=3)),
        ("FOR VALUES FROM (1, MINVALUE) TO (10, MAXVALUE)", Bound(lower=("1", None), upper=("10", None))),
        ("FOR VALUES FROM ('a'') TO (') TO ('b, ''c')", Bound(lower=("a') TO (",), upper=("b, 'c",))),
        ("FOR VALUES IN ('-5', NULL, 7)", Bound(values=("-5", None, "7"))),
        ("FOR VALUES IN (true, false)", Bound(values=("t", "f"))),
        ("FOR VALUES IN ('NULL', '')", Bound(values=("NULL", ""))),
        ("FOR VALUES IN (B'101')", Bound(values=("101",))),
        ("DEFAULT", Bound(default=True)),
    ],
)
def test_bounds(text: str, bound: Bound) -> None:
    assert parse_bound(text) == bound


def test_bounds_that_are_none() -> None:
    for text in ("", "FOR VALUES IN (1", "FOR VALUES FROM (1) TO 2", "FOR VALUES IN (a b)"):
        with pytest.raises(ValueError, match="not a"):
            parse_bound(text)


def drive(sql: str) -> list[Any]:
    procedure = plan_ddl(parse_sql(sql)[0].stmt, sql, CONTEXT)
    steps = []
    try:
        step = next(procedure)
        while True:
            steps.append(step)
            step = procedure.send([])
    except StopIteration:
        return steps


def test_passwords_become_one_verifier_everywhere() -> None:
    steps = drive("CREATE ROLE \"bob\" LOGIN ENCRYPTED PASSWORD 'se''cret' VALID UNTIL 'infinity'")
    expected = "CREATE ROLE \"bob\" LOGIN PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$QQ==:Qg==' VALID UNTIL 'infinity'"
    assert steps == [RunWorkspace(expected), RunGroups({"g1": (expected,), "g2": (expected,)})]
    assert "cret" not in repr(steps)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER ROLE bob PASSWORD NULL",
        "ALTER ROLE bob NOLOGIN",
        "ALTER ROLE bob PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$QUJD:REVG'",
    ],
)
def test_statements_without_a_plain_password_stay(sql: str) -> None:
    assert with_verifier(parse_sql(sql)[0].stmt, sql, CONTEXT) == sql


def test_dollar_quoted_and_escaped_passwords_are_replaced() -> None:
    for literal in ("$$pw$$", r"E'p\'w'", "U&'p\\0061w'", "'p'\n'w'"):
        sql = f"ALTER USER bob WITH PASSWORD {literal}"
        assert "p" not in with_verifier(parse_sql(sql)[0].stmt, sql, CONTEXT).split("PASSWORD ")[1].replace("SCRAM", "")


def test_md5_is_refused_with_a_hint() -> None:
    sql = "CREATE USER bob PASSWORD 'md5" + "0" * 32 + "'"
    with pytest.raises(PgError) as caught:
        with_verifier(parse_sql(sql)[0].stmt, sql, CONTEXT)
    assert caught.value.sqlstate == "0A000" and caught.value.hint


def test_functions_are_recognised_only_as_whole_statements() -> None:
    assert called(parse_sql("SELECT create_reference_table('t')")[0].stmt) == "create_reference_table"
    assert called(parse_sql("SELECT public.create_distributed_table('t', 'a')")[0].stmt) == "create_distributed_table"
    assert called(parse_sql("SELECT create_reference_table('t') FROM x")[0].stmt) is None
    assert called(parse_sql("SELECT 1")[0].stmt) is None


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("SELECT create_distributed_table('t')", "42883"),
        ("SELECT create_distributed_table('t', 'a', nonsense => 1)", "42883"),
        ("SELECT create_distributed_table('t', 'a', 'range')", "0A000"),
        ("SELECT create_reference_table('nonesuch')", "42P01"),
        ("CREATE DATABASE x", "0A000"),
    ],
)
def test_calls_that_are_refused(sql: str, sqlstate: str) -> None:
    with pytest.raises(PgError) as caught:
        drive(sql)
    assert caught.value.sqlstate == sqlstate


def test_shard_names_fit() -> None:
    assert shard_name("orders", 3) == "orders_p3"
    assert len(shard_name("ä" * 40, 12).encode()) <= 63 and shard_name("ä" * 40, 12).endswith("ä_p12")
