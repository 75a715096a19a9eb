# ruff: noqa: E501
"""Prepared statements and cursors of a session, seen and used as on one server, by SQL and by the protocol."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from support.differential import Comparison, difference
from support.schemas import on_both
from support.servers import Cluster, Server
from support.wire import Mode, Wire

_PREPARED = "SELECT name, statement, parameter_types, result_types, from_sql FROM pg_prepared_statements ORDER BY 1"
_CURSORS = "SELECT name, statement, is_holdable, is_binary, is_scrollable FROM pg_cursors WHERE name <> '' ORDER BY 1"
SCRIPTS = {
    "prepared": f"PREPARE a AS SELECT id FROM t WHERE id = $1;; PREPARE b (text, int) AS SELECT $1, $2 + 1;; {_PREPARED};; DEALLOCATE a;; {_PREPARED}",
    "prepared_utility": f"PREPARE c AS INSERT INTO t VALUES ($1, 1) RETURNING v;; PREPARE d AS DELETE FROM t WHERE id = 1000;; {_PREPARED}",
    "prepared_joined": "PREPARE a AS SELECT 1;; SELECT p.name, c.relname FROM pg_catalog.pg_prepared_statements AS p JOIN pg_class c ON c.relname = 't' AND p.name = 'a' AND c.relnamespace = 't'::regclass::oid - 't'::regclass::oid + c.relnamespace",
    "prepared_counted": "SELECT count(*) FROM pg_prepared_statements;; PREPARE a AS SELECT 1;; SELECT count(*), max(prepare_time) <= now() FROM pg_prepared_statements;; SELECT pg_prepared_statements.name FROM pg_prepared_statements",
    "prepared_survives": f"BEGIN;; PREPARE a AS SELECT 1;; ROLLBACK;; {_PREPARED};; EXECUTE a;; DISCARD ALL;; {_PREPARED}",
    "prepared_all_gone": f"PREPARE a AS SELECT 1;; PREPARE b AS SELECT 2;; DEALLOCATE ALL;; {_PREPARED};; EXECUTE a",
    "prepared_time_types": "PREPARE a AS SELECT 1;; SELECT pg_typeof(prepare_time), pg_typeof(parameter_types), pg_typeof(generic_plans) FROM pg_prepared_statements",
    "table_command": "SELECT count(*) FROM (TABLE pg_prepared_statements) x;; SELECT 'pg_cursors', \"pg_cursors\".name FROM pg_cursors WHERE name <> ''",
    "cursors": f"BEGIN;; DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id;; DECLARE d SCROLL CURSOR WITH HOLD FOR SELECT v FROM t;; {_CURSORS};; CLOSE c;; COMMIT;; {_CURSORS};; CLOSE ALL;; {_CURSORS}",
    "cursors_binary": f"BEGIN;; DECLARE c BINARY NO SCROLL CURSOR FOR SELECT id FROM t WHERE id = 3;; {_CURSORS};; SELECT count(*), max(creation_time) <= clock_timestamp() FROM pg_cursors WHERE name <> '';; COMMIT;; {_CURSORS}",
    "cursor_savepoint": f"BEGIN;; SAVEPOINT s;; DECLARE c CURSOR FOR SELECT id FROM t;; ROLLBACK TO s;; {_CURSORS};; COMMIT",
    "execute": "PREPARE a (int, text) AS SELECT id, $2 FROM t WHERE id = $1;; EXECUTE a (3, 'x');; EXECUTE a ('4', NULL);; EXECUTE a (1 + 4, upper('y'));; EXECUTE a (3.4, 5);; EXECUTE a (3);; EXECUTE a ('x', 'y')",
    "execute_untyped": "PREPARE a AS SELECT count(*) FROM t WHERE id < $1 AND v > $2;; EXECUTE a (10, 2);; EXECUTE a (NULL, 2);; EXECUTE a ((SELECT 1), 2);; EXECUTE a (5000000000, 2)",
    "execute_types": "PREPARE a (numeric(4,1), varchar(2), date) AS SELECT $1, $2, $3;; EXECUTE a (1.26, 'abc', '2024-02-01');; PREPARE b (nosuch) AS SELECT $1",
    "execute_unknown": "EXECUTE nothing;; DEALLOCATE nothing;; PREPARE a AS SELECT $1;; EXECUTE a ('x')",
    "prepare_twice": "PREPARE a AS SELECT 1;; PREPARE a AS SELECT 2;; EXECUTE a",
    "prepare_wrong": "PREPARE a AS SELEC;; PREPARE a AS SELECT * FROM nowhere;; PREPARE a AS SELECT $2;; PREPARE a AS CREATE TABLE x (a int)",
    "prepare_write": "BEGIN;; PREPARE a AS UPDATE t SET v = $2 WHERE id = $1;; EXECUTE a (1, 100);; PREPARE b AS UPDATE t SET v = v + $1;; EXECUTE b (1);; SELECT sum(v) FROM t;; ROLLBACK",
    "prepare_in_failed": "BEGIN;; SELECT 1 / 0;; PREPARE a AS SELECT 1;; ROLLBACK;; EXECUTE a",
    "explain_execute": "PREPARE a AS SELECT id FROM t WHERE id = $1;; EXPLAIN (COSTS off) EXECUTE a (3);; EXPLAIN EXECUTE nothing;; EXPLAIN EXECUTE a",
    "create_as_execute": "PREPARE a AS SELECT id, v FROM t WHERE id < $1;; BEGIN;; CREATE TEMP TABLE made AS EXECUTE a (4);; SELECT count(*) FROM made;; ROLLBACK",
    "table_replaced": "BEGIN;; CREATE TABLE fleeting (a int);; PREPARE a AS SELECT a FROM fleeting;; DROP TABLE fleeting;; CREATE TABLE fleeting (a int, b int);; EXECUTE a;; ROLLBACK",
    "search_path": "PREPARE a AS SELECT count(*) FROM t;; EXECUTE a;; SET search_path = pg_catalog;; EXECUTE a;; RESET search_path;; EXECUTE a",
    "role": "PREPARE a AS SELECT current_user = session_user;; EXECUTE a",
}  # fmt: skip


@pytest.fixture(scope="module")
def dsns(plain_postgres: Server, cluster: Cluster) -> Iterator[list[str]]:
    setup = (
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t SELECT g, g % 7 FROM generate_series(1, 30) g",
    )
    with on_both(plain_postgres, cluster, "views", setup) as schema:
        options = f"-c search_path={schema} -c client_min_messages=error"
        yield [server.dsn_for(options=options) for server in (plain_postgres, cluster.server)]


@pytest.mark.parametrize("mode", [Mode.SIMPLE, Mode.EXTENDED])
@pytest.mark.parametrize("name", SCRIPTS)
def test_as_postgres(dsns: list[str], name: str, mode: Mode) -> None:
    answers = []
    for dsn in dsns:
        wire = Wire(dsn)
        answers.append([(sql, wire.run(sql.strip(), mode)) for sql in SCRIPTS[name].split(";;")])
        wire.close()
    for (sql, expected), (_, got) in zip(*answers, strict=True):
        found = difference(expected, got, Comparison(rows="EXPLAIN" not in sql))
        assert found is None, f"{sql}\n{found}"


def test_the_protocols_statements_are_seen_and_used_by_sql(dsns: list[str]) -> None:
    answers = []
    for dsn in dsns:
        wire = Wire(dsn)
        wire.connection.send_prepare(
            b"by_protocol", b"SELECT id, v FROM t WHERE id = $1 AND v = $2::int", param_types=[23]
        )
        found = list(wire._results(b""))
        answers.append([found[0][0].sqlstate, wire.run(_PREPARED), wire.run("EXECUTE by_protocol (8, 1)")])
        answers[-1] += [
            wire.run("PREPARE by_protocol AS SELECT 1"),
            wire.run("DEALLOCATE by_protocol"),
            wire.run(_PREPARED),
        ]
        wire.close()
    assert answers[0][0] is None
    for expected, got in zip(answers[0][1:], answers[1][1:], strict=True):
        assert difference(expected, got, Comparison()) is None, difference(expected, got, Comparison())


def test_a_statement_is_read_by_its_own_sessions_settings(dsns: list[str]) -> None:
    """Sessions share what is prepared in a backend; a constant is read when that is parsed."""
    sql = "SELECT v, '02/01/2024'::date FROM t WHERE id = %s"
    for dsn in dsns:
        with (
            psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as one,
            psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as two,
        ):
            one.execute("SELECT v FROM t WHERE id = %s", (3,))
            for _ in range(3):  # 'one' parses under settings of its own; then 'two' gets that backend
                assert str(two.execute(sql, (3,)).fetchone()[1]) == "2024-02-01"  # type: ignore[index]
                one.execute("BEGIN")
                one.execute("SET LOCAL datestyle = 'ISO, DMY'")
                assert str(one.execute(sql + " AND true", (3,)).fetchone()[1]) == "2024-01-02"  # type: ignore[index]
                one.execute("COMMIT")
                assert str(two.execute(sql + " AND true", (3,)).fetchone()[1]) == "2024-02-01"  # type: ignore[index]
