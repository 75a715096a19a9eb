"""State of a session that a pool must not lose or mix up: settings, cursors, temporary tables, sequences, encodings."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from support.schemas import Schema
from support.servers import Cluster

NAMES = ("Émile", "Gül", "Ada", "Bo", "Åsa", "Øystein", "Zoë", "ñandú")


@pytest.fixture
def table(cluster_schema: Schema) -> Schema:
    """`t`, sharded by id, with rows 1 to 20; `named`, sharded by a text; `keyed`, with ids of its own."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        connection.execute("SELECT create_distributed_table('t', 'id')")
        connection.execute("INSERT INTO t SELECT g, g * 10 FROM generate_series(1, 20) g")
        connection.execute("CREATE TABLE named (name text PRIMARY KEY, note text)")
        connection.execute("SELECT create_distributed_table('named', 'name')")
        connection.execute("CREATE TABLE keyed (id bigserial PRIMARY KEY, v text)")
        connection.execute("SELECT create_distributed_table('keyed', 'id')")
    return cluster_schema


@pytest.fixture
def connection(table: Schema) -> Iterator[psycopg.Connection]:
    with table.connect() as connection:
        yield connection


def one(connection: psycopg.Connection, sql: str, *parameters: object) -> object:
    row = connection.execute(sql, parameters or None).fetchone()  # type: ignore[call-overload]
    return None if row is None else row[0]


# --- settings --------------------------------------------------------------------------------------------------------


def test_a_local_search_path_decides_where_names_lead(table: Schema, connection: psycopg.Connection) -> None:
    other = f"{table.name}_other"
    connection.execute(f"CREATE SCHEMA {other}")
    try:
        connection.execute(f"CREATE TABLE {other}.t (id int PRIMARY KEY, v int)")
        connection.execute(f"INSERT INTO {other}.t VALUES (3, -1)")
        assert one(connection, "SELECT v FROM t WHERE id = 3") == 30
        with connection.transaction():
            connection.execute(f"SET LOCAL search_path = {other}")
            assert one(connection, "SELECT v FROM t WHERE id = 3") == -1
            with connection.transaction(force_rollback=True):
                connection.execute(f"SET LOCAL search_path = {table.name}")
                assert one(connection, "SELECT v FROM t WHERE id = 3") == 30
            assert one(connection, "SELECT v FROM t WHERE id = 3") == -1
            one(connection, "SELECT set_config('search_path', %s, true)", table.name)
            assert one(connection, "SELECT v FROM t WHERE id = 3") == 30
        assert one(connection, "SELECT v FROM t WHERE id = 3") == 30
    finally:
        connection.execute(f"DROP SCHEMA {other} CASCADE")


def test_set_config_reaches_every_group_and_nobody_else(table: Schema, connection: psycopg.Connection) -> None:
    one(connection, "SELECT set_config('app.tenant', %s, false)", "é 42")
    values = connection.execute("SELECT DISTINCT current_setting('app.tenant') FROM t").fetchall()
    assert values == [("é 42",)]
    one(connection, "SELECT set_config('app.nobody', 'x', false) FROM t WHERE id = -1")
    assert one(connection, "SELECT current_setting('app.nobody', true)") is None
    with table.connect() as other:
        assert {row[0] for row in other.execute("SELECT current_setting('app.tenant', true) FROM t")} <= {None, ""}
    with connection.transaction(force_rollback=True):
        one(connection, "SELECT set_config('app.tenant', 'inside', false)")
        assert one(connection, "SELECT max(current_setting('app.tenant')) FROM t") == "inside"
    assert one(connection, "SELECT min(current_setting('app.tenant')) FROM t") == "é 42"


# --- cursors ---------------------------------------------------------------------------------------------------------


def test_update_where_current_of(connection: psycopg.Connection) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("DECLARE c CURSOR FOR SELECT v FROM t WHERE id = 7 FOR UPDATE")
        assert connection.execute("FETCH c").fetchone() == (70,)
        assert connection.execute("UPDATE t SET v = -7 WHERE CURRENT OF c").rowcount == 1
        assert one(connection, "SELECT v FROM t WHERE id = 7") == -7


def test_a_cursor_gives_text_and_binary(connection: psycopg.Connection) -> None:
    """The format is known at FETCH only."""
    with connection.transaction():
        connection.execute("DECLARE c SCROLL CURSOR FOR SELECT id, v::numeric / 3, now() > 'epoch' FROM t ORDER BY id")
        text = connection.execute("FETCH ABSOLUTE 5 FROM c").fetchall()
        binary = connection.execute("FETCH ABSOLUTE 5 FROM c", binary=True).fetchall()
        assert text == binary != []
        assert [row[0] for row in connection.execute("FETCH BACKWARD 3 FROM c", binary=True)] == [4, 3, 2]


def test_a_held_cursor_outlives_a_later_rollback(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("DECLARE h CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id")
    with connection.transaction(force_rollback=True):
        assert connection.execute("FETCH 2 FROM h").fetchall() == [(1,), (2,)]
    assert connection.execute("FETCH 1 FROM h").fetchall() == [(3,)]
    connection.execute("CLOSE h")
    with pytest.raises(psycopg.errors.InvalidCursorName):
        connection.execute("FETCH 1 FROM h")


# --- temporary tables ------------------------------------------------------------------------------------------------


def test_temporary_tables_are_filled_from_shards_and_joined_with_them(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TEMP TABLE mine AS SELECT id, sum(v) AS total FROM t WHERE id > 15 GROUP BY id")
    assert one(connection, "SELECT sum(total) FROM mine") == 900
    assert connection.execute("INSERT INTO mine SELECT id, v FROM t WHERE id < 3 RETURNING id").rowcount == 2
    assert one(connection, "SELECT count(*) FROM mine JOIN t USING (id)") == 7
    connection.execute("INSERT INTO t SELECT id + 100, total FROM mine")
    assert one(connection, "SELECT count(*) FROM t WHERE id > 100") == 7
    connection.execute("DROP TABLE mine")
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM mine")


def test_a_temporary_table_ends_with_its_rolled_back_transaction(connection: psycopg.Connection) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TEMP TABLE t (id text)")
        assert one(connection, "SELECT count(*) FROM t") == 0
    assert one(connection, "SELECT count(*) FROM t") == 20


# --- sequences -------------------------------------------------------------------------------------------------------


def test_currval_is_the_sessions_own(table: Schema, connection: psycopg.Connection) -> None:
    with table.connect() as other:
        drawn = one(connection, "INSERT INTO keyed (v) VALUES ('a') RETURNING id")
        one(other, "INSERT INTO keyed (v) VALUES ('b') RETURNING id")
        assert one(connection, "SELECT currval('keyed_id_seq')") == drawn
        assert one(connection, "SELECT lastval()") == drawn
        assert one(connection, "SELECT v FROM keyed WHERE id = currval(pg_get_serial_sequence('keyed', 'id'))") == "a"
        number = one(connection, "SELECT nextval('keyed_id_seq')")
        one(other, "SELECT nextval('keyed_id_seq')")
        assert one(connection, "SELECT count(*) + currval('keyed_id_seq') FROM t") == 20 + int(str(number))
    with table.connect() as third, pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        third.execute("SELECT currval('keyed_id_seq')")


# --- encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "UTF8"])
def test_a_clients_encoding(table: Schema, encoding: str) -> None:
    """Keys are hashed as UTF-8 whatever the client writes; rows of every plan come back in his encoding."""
    with table.connect(client_encoding=encoding) as client, table.connect() as utf8:
        for name in NAMES[:4]:
            client.execute(f"INSERT INTO named VALUES ('{name}', 'é')")  # type: ignore[call-overload]
        client.execute("INSERT INTO named VALUES (%s, %s)", (NAMES[4], "é"))
        with client.cursor().copy("COPY named FROM STDIN") as copy:
            for name in NAMES[5:]:
                copy.write_row((name, "é"))
        for reader in (client, utf8):
            found = [reader.execute("SELECT name FROM named WHERE name = %s", (name,)).fetchone() for name in NAMES]
            assert found == [(name,) for name in NAMES]
            assert one(reader, "SELECT name FROM named WHERE name = 'Zoë'") == "Zoë"
            for sql in (
                "SELECT name, note FROM named ORDER BY name",
                "SELECT a.name, b.note FROM named a JOIN named b ON a.note = b.note AND b.name = 'Gül' ORDER BY 1",
            ):
                for binary in (False, True):
                    rows = reader.execute(sql, binary=binary).fetchall()  # type: ignore[call-overload]
                    assert rows == [(name, "é") for name in sorted(NAMES)]
            with reader.cursor().copy("COPY (SELECT name FROM named) TO STDOUT") as copy:
                assert sorted(row[0] for row in copy.rows()) == sorted(NAMES)
        with pytest.raises(psycopg.errors.UniqueViolation, match="Gül"):
            client.execute("INSERT INTO named VALUES ('Gül', '')")
        assert one(client, "SHOW client_encoding") == encoding


def test_a_character_that_the_client_has_not(table: Schema) -> None:
    with table.connect() as utf8:
        utf8.execute("INSERT INTO named VALUES ('€', '')")
    with table.connect(client_encoding="LATIN1") as client:
        with pytest.raises(psycopg.errors.UntranslatableCharacter):
            client.execute("SELECT name FROM named")
        assert one(client, "SELECT count(*) FROM named") == 1
        client.execute("SET client_encoding = 'UTF8'")
        assert one(client, "SELECT name FROM named") == "€"
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            client.execute("SET client_encoding = 'no such'")


# --- COPY ------------------------------------------------------------------------------------------------------------


def test_copy_draws_ids_of_a_table_that_is_new_in_the_transaction(connection: psycopg.Connection) -> None:
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        with cursor.copy("COPY keyed (v) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["text"])
            for i in range(5000):
                copy.write_row((f"row {i}",))
        assert cursor.rowcount == 5000
        assert cursor.execute("SELECT count(DISTINCT id) FROM keyed").fetchone() == (5000,)


@pytest.mark.parametrize("options", ["", "(FORMAT csv, HEADER)", "(FORMAT binary)"])
def test_copy_of_what_a_write_returns(connection: psycopg.Connection, options: str) -> None:
    sql = f"COPY (UPDATE t SET v = v + 1 WHERE id <= 10 RETURNING id, v) TO STDOUT {options}"
    with connection.cursor().copy(sql) as copy:  # type: ignore[call-overload]
        if "binary" in options:
            copy.set_types(["int4", "int4"])
            assert sorted(copy.rows()) == [(i, i * 10 + 1) for i in range(1, 11)]
        else:
            assert len(b"".join(bytes(piece) for piece in copy).splitlines()) == (11 if options else 10)
    assert one(connection, "SELECT sum(v) FROM t") == 2110


# --- large objects ---------------------------------------------------------------------------------------------------


def test_large_objects_are_found_where_they_are_made(connection: psycopg.Connection) -> None:
    made = one(connection, "SELECT lo_from_bytea(0, 'a text')")
    listed = "SELECT count(*) FROM pg_largeobject_metadata WHERE oid = %s"
    assert one(connection, "SELECT lo_get(%s)", made) == b"a text"
    assert one(connection, listed, made) == 1
    assert one(connection, "SELECT sum(length(data)) FROM pg_catalog.pg_largeobject WHERE loid = %s", made) == 6
    connection.commit()
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="large objects"):
        connection.execute("SELECT count(*) FROM t JOIN pg_largeobject_metadata m ON m.oid = t.id")
    connection.rollback()
    connection.execute("SELECT lo_unlink(%s)", (made,))
    assert one(connection, listed, made) == 0


# --- lost server processes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [False, True], ids=["simple", "prepared"])
def test_a_transaction_whose_server_process_has_gone_is_rolled_back(
    table: Schema, cluster: Cluster, prepared: bool
) -> None:
    with table.connect() as connection, psycopg.connect(cluster.group_dsns()["g1"]) as system:
        connection.execute("CREATE TABLE here (id int PRIMARY KEY) TABLESPACE g1")
        for end in ("ROLLBACK", "ROLLBACK", "COMMIT"):
            connection.execute("BEGIN")
            connection.execute("INSERT INTO here VALUES (%s)", (1,), prepare=prepared)
            rows = system.execute(
                "SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
                "WHERE c.relname = 'here' AND l.mode = 'RowExclusiveLock'"
            ).fetchall()
            system.commit()
            assert rows == [(True,)]
            with pytest.raises(psycopg.Error) as caught:
                connection.execute("INSERT INTO here VALUES (%s)", (2,), prepare=prepared)
            assert caught.value.sqlstate in ("57P01", "08006")
            assert connection.execute(end).statusmessage == "ROLLBACK"
            assert connection.execute("SELECT count(*) FROM here").fetchone() == (0,)
