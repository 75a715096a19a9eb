"""What clients do beside their statements: ask the catalog inside a transaction, name partitions, load with FREEZE."""

from __future__ import annotations

import psycopg
import pytest

from clients.home import PEOPLE, Home

# Rows of several groups meet in a workspace, which is made anew after each change of the schema.
TOGETHER = "SELECT count(*) FROM person p JOIN person q ON q.age = p.age + 1"


def test_a_transaction_that_asked_the_catalog_stops_nobody(home: Home) -> None:
    with psycopg.connect(home.dsn) as asking, psycopg.connect(home.dsn) as joining:
        for level in (None, "SAVEPOINT a"):
            asking.execute("SELECT count(*) FROM pg_catalog.pg_class")
            if level is not None:
                asking.execute("SAVEPOINT a")
                asking.execute("SELECT count(*) FROM information_schema.tables")
            joining.execute("CREATE TABLE made_meanwhile (id int)")
            joining.commit()
            assert joining.execute(TOGETHER).fetchone() == (PEOPLE - 1,)
            assert asking.execute(TOGETHER).fetchone() == (PEOPLE - 1,)
            asking.rollback()
            joining.execute("DROP TABLE made_meanwhile")
            joining.commit()


def test_the_transaction_sees_its_own_changes_of_the_schema(home: Home) -> None:
    with psycopg.connect(home.dsn) as connection:
        asked = "SELECT count(*) FROM pg_catalog.pg_class WHERE relname = 'made_here'"
        assert connection.execute(asked).fetchone() == (0,)
        connection.execute("CREATE TABLE made_here (id int)")
        assert connection.execute(asked).fetchone() == (1,)
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute("SELECT nix FROM pg_catalog.pg_class")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute("SELECT nix FROM pg_catalog.pg_class")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT count(*) FROM person")
        connection.rollback()


def test_partitions_of_several_groups_in_one_statement(home: Home) -> None:
    shards = ", ".join(f"letter_p{i}" for i in range(4))
    with psycopg.connect(home.dsn) as connection:
        connection.execute(f"LOCK TABLE town, person, {shards}, note IN ACCESS SHARE MODE NOWAIT")
        connection.execute(f"TRUNCATE ONLY {shards}")
        assert connection.execute("SELECT count(*) FROM letter").fetchone() == (0,)
        connection.rollback()
        connection.execute(f"ANALYZE {shards}, note (id)")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute(f"LOCK TABLE {shards}, nobody")


def test_copy_freeze_into_a_sharded_table(home: Home) -> None:
    with psycopg.connect(home.dsn) as connection:
        with connection.cursor().copy("COPY letter (person_id, n) FROM STDIN (FREEZE, FORMAT csv)") as copy:
            copy.write("1,77\n2,77\n3,77\n")
        assert connection.execute("SELECT count(*) FROM letter WHERE n = 77").fetchone() == (3,)
        connection.rollback()


def test_options_of_a_reference_table(home: Home) -> None:
    with psycopg.connect(home.dsn) as connection:
        options = "SELECT array_to_string(reloptions, ',') FROM pg_catalog.pg_class WHERE oid = %s::regclass"
        for change, expected in (
            ("ALTER TABLE town SET (fillfactor = 50)", "fillfactor=50,distribution=reference"),
            ("ALTER TABLE town RESET (fillfactor)", "distribution=reference"),
            ("SELECT undistribute_table('town_of_test')", None),
        ):
            if expected is None:
                connection.execute("CREATE TABLE town_of_test (id int) WITH (distribution = reference)")
            connection.execute(change)  # type: ignore[call-overload]
            table = "town" if expected is not None else "town_of_test"
            assert connection.execute(options, (table,)).fetchone() == (expected,)
        connection.rollback()
