from __future__ import annotations

import pytest
from pglast import ast

from hanse.core.errors import PgError
from hanse.sql.parse import parse, parse_one
from hanse.sql.walk import walk


@pytest.mark.parametrize(
    ("text", "message", "position"),  # as PostgreSQL 16 words them
    [
        ("selec 1", 'syntax error at or near "selec"', 1),
        ("select 'é' from", "syntax error at end of input", 16),
        ("select 'é', ;", 'syntax error at or near ";"', 13),
        ("select 1 +  ", "syntax error at end of input", 11),
        ("select 'é", 'unterminated quoted string at or near "\'é"', 8),
        ('select "a', 'unterminated quoted identifier at or near ""a"', 8),
        ("select $a$x", 'unterminated dollar-quoted string at or near "$a$x"', 8),
        ("/* x", 'unterminated /* comment at or near "/* x"', 1),
        ("select 08x", 'trailing junk after numeric literal at or near "08x"', 8),
        ("create table (a int)", 'syntax error at or near "("', 14),
    ],
)
def test_syntax_errors_are_postgresqls(text: str, message: str, position: int) -> None:
    with pytest.raises(PgError) as raised:
        parse(text)
    assert (raised.value.sqlstate, raised.value.message, raised.value.position) == ("42601", message, position)


def test_bytes_that_are_no_utf8() -> None:
    with pytest.raises(PgError) as raised:
        parse(b"SELECT '\xff'")
    assert raised.value.sqlstate == "22021"
    assert raised.value.message == 'invalid byte sequence for encoding "UTF8": 0xff'


def test_one_statement_keeps_the_clients_text() -> None:
    (statement,) = parse(b"  SELECT 1 ; ")
    assert statement.text == b"  SELECT 1 ; "
    assert statement.sql == "  SELECT 1"
    assert (statement.start, statement.end, statement.verb) == (0, 13, "SELECT")


def test_several_statements_are_cut() -> None:
    text = "SELECT 'é'; INSERT INTO t VALUES (5) ;; UPDATE t SET a = 1".encode()
    statements = parse(text)
    assert [each.verb for each in statements] == ["SELECT", "INSERT", "UPDATE"]
    assert [text[each.start : each.end] for each in statements] == [each.text for each in statements]
    assert statements[1].text == b"INSERT INTO t VALUES (5)"
    assert statements[1].node.relation.location == 12


@pytest.mark.parametrize("text", ["", "  ", ";;", "-- nothing", "/* nothing */ ;"])
def test_nothing(text: str) -> None:
    assert parse(text) == ()


def test_one_is_asked_for() -> None:
    with pytest.raises(PgError, match="multiple commands"):
        parse_one("SELECT 1; SELECT 2")


def literals_of(text: str) -> list[tuple[int, bool] | None]:
    statement = parse_one(text)
    return [statement.literal_of(node) for node in walk(statement.node) if isinstance(node, ast.A_Const)]


def test_constants_know_their_literals() -> None:
    assert literals_of("SELECT 1, 'a', - 5, -6 FROM t WHERE true AND b IN (7, 8) LIMIT 9") == [
        (0, False),
        (1, False),
        (2, True),
        (3, True),
        None,  # true
        (4, False),
        (5, False),
        (6, False),
    ]


def test_constants_of_a_text_that_is_not_plain_are_unknown() -> None:
    assert literals_of("SELECT 1 -- one") == [None]
    assert not parse_one("SELECT 1 -- one").templatable


def test_positions_around_literals() -> None:
    statement = parse_one("SELECT 'é', b FROM t")
    assert statement.position(0) == (0, 0)
    assert statement.position(7) == (0, 7)  # where the literal begins
    assert statement.position(11) == (1, 0)  # where it ends: four bytes later
    assert statement.byte_offset(12) == 13


def test_what_only_a_server_can_judge_is_left_unparsed() -> None:
    (statement,) = parse(r"SELECT E'\xff'")  # 22021: no UTF-8
    assert statement.node is None and statement.verb == ""
