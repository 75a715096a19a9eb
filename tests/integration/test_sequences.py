"""Sequences over groups (findings-gateway 19): no value twice, and currval(), lastval(), setval() and RESTART as on one server."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from support.servers import Cluster, Server

SHARDED = " PARTITION BY HASH (id) WITH (shards = 4)"
TABLES = """
CREATE TABLE t (id bigint PRIMARY KEY, n bigint, s text)@;
CREATE TABLE g (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigint)@;
CREATE TABLE a (id serial PRIMARY KEY, v text);
CREATE TABLE b (id serial PRIMARY KEY, v text);
CREATE SEQUENCE s;
CREATE FUNCTION code() RETURNS text LANGUAGE sql AS $$SELECT 'C' || nextval('s')$$;
INSERT INTO t SELECT i, 0 FROM generate_series(1, 20) i
"""
SPREAD = "SELECT min(n), max(n), count(DISTINCT n) FROM t"
SCRIPTS = {
    "UPDATE": f"UPDATE t SET n = nextval('s'); {SPREAD}; SELECT currval('s'), lastval(), last_value FROM s",
    "UPDATE of some": f"UPDATE t SET n = nextval('s'), s = 'x' WHERE id > 5; {SPREAD}; SELECT lastval()",
    "UPDATE of none": "UPDATE t SET n = nextval('s') WHERE id = -1; UPDATE t SET n = nextval('s') WHERE id = 3 RETURNING n",
    "INSERT … SELECT": f"INSERT INTO t SELECT id + 50, nextval('s') FROM t; {SPREAD}; SELECT currval('s')",
    "VALUES": "INSERT INTO t VALUES (31, nextval('s')), (32, 2 * nextval('s')), (33, nextval('s')) RETURNING id, n;"
    "INSERT INTO t VALUES (34, nextval('s')) RETURNING n; SELECT last_value FROM s",
    "a function": "INSERT INTO t VALUES (41, 0, code()); INSERT INTO t VALUES (42, 0, code()), (43, 0, code()), (44, 0, code());"
    "SELECT count(DISTINCT s), min(s), max(s) FROM t; SELECT lastval(), currval('s')",
    "a default": "ALTER TABLE t ALTER s SET DEFAULT 'D' || nextval('s'); INSERT INTO t (id) VALUES (51);"
    "INSERT INTO t (id) VALUES (52), (53), (54); SELECT count(DISTINCT s), min(s), max(s) FROM t",
    "a function's default": "ALTER TABLE t ALTER s SET DEFAULT code();"
    "INSERT INTO t (id) SELECT 60 + i FROM generate_series(1, 5) i;"
    "SELECT count(DISTINCT s), min(s), max(s) FROM t",
    "single tables": "INSERT INTO a (v) VALUES ('x'); SELECT lastval(); INSERT INTO b (v) VALUES ('x'), ('y');"
    "SELECT lastval(), currval('a_id_seq'), currval('b_id_seq'); SELECT nextval('s'); SELECT lastval();"
    "INSERT INTO a (v) VALUES ('x'); SELECT lastval(), currval('b_id_seq'), currval('s');"
    "INSERT INTO a (id, v) VALUES (99, 'z'); SELECT lastval(), currval('a_id_seq')",
    "not yet": "SELECT lastval(); SELECT currval('a_id_seq'); INSERT INTO a (id, v) VALUES (7, 'x'); SELECT lastval()",
    "setval": "SELECT nextval('s'); SELECT setval('s', 40); SELECT currval('s'), lastval(); SELECT nextval('s');"
    "INSERT INTO a (v) VALUES ('x'); SELECT setval('s', 90); SELECT currval('s'), lastval()",
    "in the statement that moves it": "SELECT setval('s', 5), currval('s'); SELECT nextval('b_id_seq'), currval('s'), lastval();"
    "SELECT setval('s', 9), lastval(); SELECT nextval('s'); SELECT setval('s', 30), lastval();"
    "SELECT lastval(), currval('s'), setval('s', 41), currval('s')",
    "restarts": "SELECT nextval('s'); ALTER SEQUENCE s RESTART WITH 70; SELECT currval('s'); SELECT nextval('s'), lastval();"
    "INSERT INTO g (n) VALUES (1), (2), (3); TRUNCATE g RESTART IDENTITY; INSERT INTO g (n) VALUES (4) RETURNING id",
    "triggers of single tables": "CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql"
    " AS $$BEGIN NEW.v := nextval('s'); RETURN NEW; END$$;"
    "CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION tr();"
    "INSERT INTO a (v) VALUES ('x') RETURNING *; SELECT currval('s'), currval('a_id_seq'), lastval()",
    "DISCARD": "INSERT INTO a (v) VALUES ('x'); DISCARD SEQUENCES; SELECT lastval()",
}


@pytest.fixture(scope="module")
def dsns(plain_postgres: Server, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Of a schema on each server, first in the search_path."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    found = []
    for server in (plain_postgres, cluster.server):
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
            with contextlib.suppress(
                psycopg.Error
            ):  # from now on the gateway looks after every draw (docs/guide/limits.md)
                connection.execute("SELECT lastval()")
        found.append(server.dsn_for(options=f"-c search_path={name}"))
    yield found[0], found[1]
    for server in (plain_postgres, cluster.server):
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


def answers(dsn: str, script: str, placing: str) -> list[object]:
    """Rows of each statement, or its SQLSTATE; every statement is a transaction of its own."""
    found: list[object] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in (TABLES.replace("@", placing)).split(";\n"):
            connection.execute(statement)
        try:
            for statement in script.split(";" if "$$" not in script else ";\n"):
                for part in _parts(statement):
                    try:
                        cursor = connection.execute(part)
                        found.append(sorted(cursor.fetchall()) if cursor.description else cursor.statusmessage)
                    except psycopg.Error as error:
                        found.append(error.sqlstate)
        finally:
            connection.execute("DROP TABLE t, g, a, b; DROP FUNCTION code(); DROP SEQUENCE s")
            connection.execute("DROP FUNCTION IF EXISTS tr()")
    return found


def _parts(script: str) -> list[str]:
    """Cut at semicolons outside of $$ … $$."""
    pieces = script.split("$$")
    marked = "$$".join(piece.replace(";", "\0") if not number % 2 else piece for number, piece in enumerate(pieces))
    return [part for part in marked.split("\0") if part.strip()]


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_as_on_one_server(dsns: tuple[str, str], script: str) -> None:
    plain, cluster = dsns
    assert answers(cluster, script, SHARDED) == answers(plain, script, "")


def test_triggers_in_two_groups_never_draw_the_same(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[1], autocommit=True) as connection:
        connection.execute("CREATE TABLE d (id bigint PRIMARY KEY, n bigserial)" + SHARDED)
        connection.execute(
            "CREATE FUNCTION draw() RETURNS trigger LANGUAGE plpgsql"
            " AS $$BEGIN NEW.n := nextval('d_n_seq'); RETURN NEW; END$$"
        )
        connection.execute("CREATE TRIGGER tr BEFORE INSERT ON d FOR EACH ROW EXECUTE FUNCTION draw()")
        connection.execute("INSERT INTO d SELECT i FROM generate_series(1, 20) i")
        kept = connection.execute("SELECT n FROM d").fetchall()
        assert len(set(kept)) == 20
        connection.execute("TRUNCATE d RESTART IDENTITY")
        connection.execute("INSERT INTO d SELECT i FROM generate_series(1, 20) i")
        assert connection.execute("SELECT count(DISTINCT n), min(n) < 40 FROM d").fetchone() == (20, True)
        connection.execute("DROP TABLE d; DROP FUNCTION draw()")


def test_each_session_has_its_own_last_value(dsns: tuple[str, str]) -> None:
    """Two clients draw in turn, in the same few backends."""
    with psycopg.connect(dsns[1], autocommit=True) as one, psycopg.connect(dsns[1], autocommit=True) as other:
        one.execute("CREATE TABLE e (id serial PRIMARY KEY, v text)")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            other.execute("SELECT lastval()")
        mine = theirs = 0
        for _ in range(5):
            (mine,) = one.execute("INSERT INTO e (v) VALUES ('x') RETURNING id").fetchone()  # type: ignore[misc]
            (theirs,) = other.execute("INSERT INTO e (v) VALUES ('x') RETURNING id").fetchone()  # type: ignore[misc]
            assert one.execute("SELECT lastval(), currval('e_id_seq')").fetchone() == (mine, mine)
        assert other.execute("SELECT lastval(), currval('e_id_seq')").fetchone() == (theirs, theirs)
        assert mine < theirs
        one.execute("DROP TABLE e")


def test_a_schema_change_that_fails_leaves_sequences_alone(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[1], autocommit=True) as connection:
        connection.execute("CREATE TABLE m (id serial PRIMARY KEY, v text)")
        connection.execute("INSERT INTO m (v) VALUES ('x')")
        with connection.transaction(force_rollback=True):
            connection.execute("ALTER TABLE m SET TABLESPACE g2")
            assert connection.execute("INSERT INTO m (v) VALUES ('y') RETURNING id").fetchone() == (2,)
        assert connection.execute("INSERT INTO m (v) VALUES ('y') RETURNING id").fetchone() in ((2,), (3,))
        connection.execute("DROP TABLE m")


def test_the_last_value_is_moved_in_another_backend(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[1], autocommit=True) as one, psycopg.connect(dsns[1]) as other:
        one.execute("CREATE SEQUENCE moved")
        try:
            assert one.execute("SELECT nextval('moved')").fetchone() == (1,)
            other.execute("SELECT last_value FROM moved")  # its transaction keeps the backend that has drawn
            assert one.execute("SELECT setval('moved', 30), lastval()").fetchone() == (30, 30)
            other.rollback()
        finally:
            one.execute("DROP SEQUENCE moved")
