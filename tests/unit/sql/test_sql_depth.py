"""Depth: what could exhaust the stack is refused before a tree is made, and nothing else is."""

from __future__ import annotations

import pytest

from hanse.core.errors import PgError
from hanse.sql import depth
from hanse.sql.parse import parse, parse_one
from hanse.sql.scanning import tokens_of
from hanse.sql.walk import walk

DEEP = {
    "plus": lambda n: "SELECT 1" + "+1" * n,
    "plus behind a comment": lambda n: "SELECT 1 /* ' */" + "+1" * n,
    "plus with strings": lambda n: "SELECT E'\\''" + "||''" * n,
    "cast": lambda n: "SELECT 1" + "::int" * n,
    "union": lambda n: " UNION ALL ".join(["SELECT 1, 2 WHERE a AND b"] * n),
    "join": lambda n: "SELECT FROM t" + " JOIN t ON a AND b" * n,
    "subscripts": lambda n: "SELECT " + "(" * 100 + "a" + ")" * 100 + "+b" * n,
}
WIDE = {
    "in": "SELECT 1 FROM t WHERE id IN (" + ",".join(map(str, range(20_000))) + ")",
    "or": "SELECT 1 FROM t WHERE " + " OR ".join(f"(id = {n} AND v = 'x')" for n in range(5_000)),
    "values": "INSERT INTO t VALUES " + ",".join(f"({n}, NULL, now(), true)" for n in range(5_000)),
    "case": "SELECT CASE " + " ".join(f"WHEN a = {n} THEN b" for n in range(5_000)) + " END",
    "statements": ";".join(f"SELECT {n} + 1" for n in range(5_000)),
}


@pytest.mark.parametrize("kind", DEEP)
def test_too_deep_is_54001(kind: str) -> None:
    with pytest.raises(PgError) as caught:
        parse(DEEP[kind](40_000))
    assert caught.value.sqlstate == "54001"


@pytest.mark.parametrize("kind", DEEP)
def test_less_deep_is_taken(kind: str) -> None:
    statement = parse_one(DEEP[kind](500))
    assert sum(1 for _ in walk(statement.node)) > 500


@pytest.mark.parametrize("kind", WIDE)
def test_what_is_only_wide_is_taken(kind: str) -> None:
    assert parse(WIDE[kind])


def test_the_bound_holds() -> None:
    """The bound is never below the real depth of a chain, whatever stands between its links."""
    for make in DEEP.values():
        sql = make(300)
        assert depth.bound(sql.encode(), sql) >= 300


def test_statements_of_a_long_text_lie_where_they_were() -> None:
    text = ";".join(f" SELECT 'ü{n}' /* ; */ " for n in range(300))
    for statement in parse(text):
        assert text.encode()[statement.start : statement.end] == statement.text
    assert parse(text)[299].text.startswith("SELECT 'ü299'".encode())


def test_tokens_of_text_that_is_not_ascii() -> None:
    sql = "SELECT 'ä', \"ö\", ü FROM größe"
    assert [sql[token.start : token.end + 1] for token in tokens_of(sql)] == [
        "SELECT", "'ä'", ",", '"ö"', ",", "ü", "FROM", "größe",
    ]  # fmt: skip
