"""Settings, transactions, cursors and inlined parameters, as values."""

from __future__ import annotations

import pytest

from hanse.core.errors import PgError
from hanse.executor.buffer import ResultBuffer
from hanse.gateway.autoprepare import Prepared, _ordinary, _types, parameterised
from hanse.gateway.inline import argument_list, substitute
from hanse.gateway.settings import DEFAULT, intern, with_names, with_setting
from hanse.gateway.transaction import Savepoint, Transaction
from hanse.pgwire import backend as server
from hanse.sql.literals import split
from hanse.sql.parse import parse_one


def test_equal_settings_are_one_state() -> None:
    one = with_setting(with_setting(DEFAULT, "timezone", "UTC"), "datestyle", "ISO, DMY")
    other = with_setting(with_setting(DEFAULT, "datestyle", "ISO, DMY"), "timezone", "UTC")
    assert one is other
    assert with_setting(one, "timezone", None) is intern((("datestyle", "ISO, DMY"),))
    assert with_setting(with_setting(one, "timezone", None), "datestyle", None) is DEFAULT


def test_a_role_is_a_state_of_its_own() -> None:
    state = with_setting(with_setting(DEFAULT, "work_mem", "8MB"), "role", "bob")
    assert with_setting(state, "work_mem", None).role == "bob"
    assert with_setting(with_setting(state, "work_mem", None), "role", "none") is DEFAULT


def test_names_of_custom_settings_stay() -> None:
    known = with_names(with_setting(DEFAULT, "app.tenant", "7"), frozenset({"app.tenant"}))
    without = with_setting(known, "app.tenant", None)
    assert without.settings == () and without.names == {"app.tenant"}
    assert "set_config('app.tenant', '', false) WHERE" in without.sync_sql
    assert with_names(without, frozenset()) is DEFAULT


def test_sync_sql_quotes_names_and_values() -> None:
    sql = intern((("search_path", '"a\'b"'),), "o'neil").sync_sql
    assert "'\"a''b\"'" in sql
    assert "'o''neil'" in sql
    assert sql.index("RESET ALL") < sql.index("set_config")


def test_a_late_branch_is_told_in_order() -> None:
    transaction = Transaction("", DEFAULT)
    transaction.local.append("SET LOCAL a = 1")
    transaction.savepoints.append(Savepoint("s", DEFAULT, 1, None))
    transaction.local.append("SET LOCAL b = 2")
    transaction.savepoints.append(Savepoint("T", DEFAULT, 2, None))
    assert transaction.opening() == ["SET LOCAL a = 1", "SAVEPOINT s", "SET LOCAL b = 2", 'SAVEPOINT "T"']
    assert transaction.find_savepoint("s") == 0
    assert transaction.find_savepoint("x") is None


def test_the_innermost_savepoint_of_a_name_counts() -> None:
    transaction = Transaction("", DEFAULT)
    transaction.savepoints += [Savepoint("s", DEFAULT, 0, None), Savepoint("s", DEFAULT, 0, None)]
    assert transaction.find_savepoint("s") == 1


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("SELECT $1", ["'a'::text"], "SELECT  'a'::text  AS \"?column?\" "),
        ("SELECT '$1', \"$1\", $1 -- $1", ["5"], 'SELECT \'$1\', "$1",  5  AS "?column?"  -- $1'),
        ("SELECT $2, $1, $2", ["a", "b"], 'SELECT  b  AS "?column?" ,  a  AS "?column?" ,  b  AS "?column?" '),
        ("SELECT $tag$ $1 $tag$", [], "SELECT $tag$ $1 $tag$"),
    ],
)
def test_parameters_are_put_where_they_are_parameters(text: str, values: list[str], expected: str) -> None:
    assert substitute(text.encode(), values).decode() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("1, 'a,b'", ["1", "'a,b'"]),
        ("(1, f(2, 3), ARRAY[4, 5])", ["1", "f(2, 3)", "ARRAY[4, 5]"]),
        ("(1), (2)", ["(1)", "(2)"]),
    ],
)
def test_arguments_are_cut_at_top_level_commas(text: str, expected: list[str]) -> None:
    assert argument_list(text) == expected


async def test_a_buffer_gives_any_rows_again() -> None:
    rows = [server.data_row([b"%d" % number]) for number in range(10)]
    buffer = ResultBuffer()
    await buffer.rows(b"".join(rows[:4]))
    await buffer.rows(b"".join(rows[4:]))
    assert len(buffer) == 10
    assert buffer.read(0, 3) == b"".join(rows[:3])
    assert buffer.read(8, 5) == b"".join(rows[8:])
    assert buffer.read(10, 1) == b""
    buffer.close()


@pytest.mark.parametrize(
    ("text", "ordinary"),
    [
        ("SELECT a FROM t WHERE id = 5 AND s = 'x'", True),
        ("UPDATE t SET a = a + 1 WHERE id = 5", True),
        ("SELECT a FROM t WHERE id = 5 ORDER BY 1", False),
        ("SELECT a, count(*) FROM t WHERE id = 5 GROUP BY 1", False),
        ("SELECT a FROM t WHERE id = 5 LIMIT 3", False),
        ("SELECT a FROM t WHERE id = 5 AND d > date '2020-01-01'", False),
        ("SELECT a::numeric(10,2) FROM t WHERE id = 5", False),
    ],
)
def test_only_operands_become_parameters(text: str, ordinary: bool) -> None:
    assert _ordinary(parse_one(text)) is ordinary


def test_literals_of_other_types_do_not_fit() -> None:
    assert _types([b"5", b"'x'"]) == (23, 0)
    assert _types([b"5.0"]) is None
    assert _types([b"5000000000"]) is None
    prepared = Prepared(1, (23, 0), b"")
    assert prepared.values([b"7", b"'it''s'"]) == b"\x00\x02\x00\x00\x00\x017\x00\x00\x00\x04it's"
    assert prepared.values([b"'7'", b"'x'"]) is None
    assert prepared.values([b"5000000000", b"'x'"]) is None
    assert parameterised(split(b"SELECT 5, 'x'")) == b"SELECT $1, $2"


def test_errors_know_their_sqlstate() -> None:
    assert str(PgError("22012", "division by zero")) == "22012: division by zero"
