"""CREATE, ALTER, DROP of tables and partitions: what the catalogs and the rows are afterwards, in every place."""

from __future__ import annotations

import psycopg
import pytest

from hanse.catalog.model import Kind
from hanse.core.errors import PgError
from support.ddl import Places

CUSTOMERS = "CREATE TABLE customers (id bigint PRIMARY KEY, name text) PARTITION BY HASH (id) WITH (shards = 4)"
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"


def names(db: Places, place: str) -> list[str]:
    return [row[0] for row in db.ask(place, TABLES)]


def refused(db: Places, sql: str, sqlstate: str) -> PgError:
    with pytest.raises(PgError) as caught:
        db.run(sql)
    assert caught.value.sqlstate == sqlstate
    return caught.value


def test_shards_are_spread_and_the_workspace_has_all(db: Places) -> None:
    db.run(CUSTOMERS)
    assert names(db, "workspace") == ["customers", *(f"customers_p{n}" for n in range(4))]
    assert names(db, "g1") == ["customers", "customers_p0", "customers_p2"]
    assert names(db, "g2") == ["customers", "customers_p1", "customers_p3"]
    table = db.relation("customers")
    assert table.kind is Kind.SHARDED and table.key == ("id",)
    assert [(shard.bound.modulus, shard.bound.remainder, shard.group) for shard in table.shards] == [
        (4, 0, "g1"), (4, 1, "g2"), (4, 2, "g1"), (4, 3, "g2")
    ]  # fmt: skip
    assert all(shard.nameable for shard in table.shards)


def test_wrong_sql_fails_with_postgresql_s_own_error_and_leaves_nothing(db: Places) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported):  # a unique key without the partition key
        db.run("CREATE TABLE t (id bigint PRIMARY KEY, k int) PARTITION BY HASH (k) WITH (shards = 2)")
    assert db.everywhere(TABLES) == {"workspace": [], "g1": [], "g2": []}


def test_failure_in_one_group_undoes_the_others(db: Places) -> None:
    db.write("g2", "CREATE TABLE customers_p3 (x int)")  # nobody should; the statement must still not stop halfway
    with pytest.raises(psycopg.errors.DuplicateTable):
        db.run(CUSTOMERS)
    assert names(db, "workspace") == [] and names(db, "g1") == [] and names(db, "g2") == ["customers_p3"]


def test_default_shards_are_made_once(db: Places) -> None:
    db.run("CREATE TABLE t (a int, b text, PRIMARY KEY (a)) PARTITION BY HASH (a)")
    assert db.relation("t").shards == ()
    db.default_shards("public", "t")
    db.default_shards("public", "t")
    assert len(db.relation("t").shards) == 4


def test_lazy_tables_joined_by_a_foreign_key_are_colocated(db: Places) -> None:
    db.run(CUSTOMERS.replace("shards = 4", "shards = 6"))
    db.run("CREATE TABLE o (id bigint REFERENCES customers, n int, PRIMARY KEY (id, n)) PARTITION BY HASH (id)")
    db.default_shards("public", "o")
    assert db.relation("o").colocation == db.relation("customers").colocation
    assert len(db.relation("o").shards) == 6


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("CREATE TABLE t (a numeric) PARTITION BY HASH (a)", "0A000"),
        ("CREATE TABLE t (a int) PARTITION BY HASH ((a + 1))", "0A000"),
        ("CREATE TABLE t (a int) WITH (shards = 4)", "42P16"),
        ("CREATE TABLE t (a int) PARTITION BY HASH (a) WITH (shards = 0)", "22023"),
        ("CREATE TABLE t (a int) WITH (distribution = 'nonsense')", "22023"),
        ("CREATE TABLE t (a int) TABLESPACE nope", "42704"),
        ("ALTER TABLE ALL IN TABLESPACE g1 SET TABLESPACE g2", "0A000"),
        ("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()", "0A000"),
    ],
)
def test_refusals(db: Places, sql: str, sqlstate: str) -> None:
    refused(db, sql, sqlstate)
    assert names(db, "workspace") == []


def test_tablespaces_place_single_tables_and_their_sequences(db: Places) -> None:
    db.run("CREATE TABLE a (id serial PRIMARY KEY) TABLESPACE g2; CREATE TABLE b (id bigserial) TABLESPACE pg_default")
    assert db.relation("a").group == "g2" and db.relation("a_id_seq").group == "g2"
    assert db.relation("b").group == "g1" and db.relation("b_id_seq").group == "g1"
    db.settings["default_tablespace"] = "g2"
    db.run("CREATE TABLE c (x int)")
    assert db.relation("c").group == "g2"


def test_foreign_keys_must_stay_in_one_group(db: Places) -> None:
    db.run(CUSTOMERS)
    db.run("CREATE TABLE countries (id int PRIMARY KEY) WITH (distribution = 'reference')")
    db.run("CREATE TABLE s1 (id int PRIMARY KEY) TABLESPACE g2")
    db.run(
        "CREATE TABLE good (c bigint REFERENCES customers, n int REFERENCES countries, PRIMARY KEY (c, n))"
        " PARTITION BY HASH (c) WITH (shards = 4)"
    )
    bad = "PARTITION BY HASH (a) WITH (shards = 4)"
    refused(db, f"CREATE TABLE t (a bigint, b bigint REFERENCES customers) {bad}", "0A000")
    refused(db, "CREATE TABLE t (a bigint REFERENCES customers) PARTITION BY HASH (a) WITH (shards = 3)", "0A000")
    refused(db, "CREATE TABLE t (a bigint REFERENCES customers)", "0A000")
    refused(db, "CREATE TABLE t (a int REFERENCES s1)", "0A000")
    refused(db, "CREATE TABLE t (a int REFERENCES s1) WITH (distribution = 'reference')", "0A000")
    db.run("CREATE TABLE s2 (a int REFERENCES s1, b int REFERENCES countries) TABLESPACE g2")
    refused(db, "ALTER TABLE s2 SET TABLESPACE g1", "0A000")
    assert "t" not in names(db, "workspace")


def test_range_partitions_are_balanced_or_placed(db: Places) -> None:
    db.run("CREATE TABLE r (a int, b text) PARTITION BY RANGE (a)")
    for n in range(3):
        db.run(f"CREATE TABLE r{n} PARTITION OF r FOR VALUES FROM ({n * 10}) TO ({n * 10 + 10})")
    db.run("CREATE TABLE r9 PARTITION OF r FOR VALUES FROM (90) TO (MAXVALUE) TABLESPACE g1")
    assert {s.name: s.group for s in db.relation("r").shards} == {"r0": "g1", "r1": "g2", "r2": "g1", "r9": "g1"}
    with pytest.raises(psycopg.errors.InvalidObjectDefinition):  # overlaps with a partition of the other group
        db.run("CREATE TABLE rx PARTITION OF r FOR VALUES FROM (15) TO (17) TABLESPACE g1")
    db.insert("r", [(5, "a"), (15, "b"), (95, "c")])


def _guards(db: Places, group: str, table: str) -> int:
    sql = f"SELECT count(*) FROM pg_constraint WHERE conrelid = '{table}'::regclass AND conname LIKE 'hanse_not_%'"
    return int(db.ask(group, sql)[0][0])


def test_a_default_partition_refuses_the_rows_of_partitions_elsewhere(db: Places) -> None:
    db.run("CREATE TABLE l (a text) PARTITION BY LIST (a)")
    db.run("CREATE TABLE l1 PARTITION OF l FOR VALUES IN ('x', NULL) TABLESPACE g1")
    db.run("CREATE TABLE ld PARTITION OF l DEFAULT TABLESPACE g2")
    for wrong in ("('x')", "(NULL)"):
        with pytest.raises(psycopg.errors.CheckViolation):
            db.connections["g2"].execute(f"INSERT INTO l VALUES {wrong}")
        db.connections["g2"].rollback()
    db.insert("l", [("x",), (None,), ("y",)])
    with pytest.raises(psycopg.errors.CheckViolation):  # ld has the row 'y'
        db.run("CREATE TABLE l2 PARTITION OF l FOR VALUES IN ('y') TABLESPACE g1")
    db.run("CREATE TABLE l3 PARTITION OF l FOR VALUES IN ('z') TABLESPACE g1")
    assert _guards(db, "g2", "ld") == 2
    db.run("ALTER TABLE l DETACH PARTITION l1; DROP TABLE l3")
    assert _guards(db, "g2", "ld") == 0


def test_a_default_partition_that_is_detached_takes_any_row(db: Places) -> None:
    db.run("CREATE TABLE l (a int) PARTITION BY LIST (a)")
    db.run("CREATE TABLE l1 PARTITION OF l FOR VALUES IN (1) TABLESPACE g1")
    db.run("CREATE TABLE ld PARTITION OF l DEFAULT TABLESPACE g2")
    db.run("ALTER TABLE ld SET TABLESPACE g1")
    assert _guards(db, "g1", "ld") == 0  # PostgreSQL knows both partitions there
    db.run("ALTER TABLE ld SET TABLESPACE g2")
    assert _guards(db, "g2", "ld") == 1
    db.run("ALTER TABLE l DETACH PARTITION ld")
    assert _guards(db, "g2", "ld") == 0


def test_sub_partitions_go_with_their_shard(db: Places) -> None:
    db.run("CREATE TABLE m (a int, b int) PARTITION BY RANGE (a)")
    db.run("CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10) PARTITION BY LIST (b) TABLESPACE g2")
    db.run("CREATE TABLE m1a PARTITION OF m1 FOR VALUES IN (1)")
    refused(db, "CREATE TABLE m1b PARTITION OF m1 FOR VALUES IN (2) TABLESPACE g1", "0A000")
    assert names(db, "g1") == ["m"] and names(db, "g2") == ["m", "m1", "m1a"]
    assert db.relation("m1a").group == "g2" and db.relation("m1a").parent == ("public", "m")
    assert [shard.nameable for shard in db.relation("m").shards] == [False]


def test_attach_moves_rows_and_drops_the_empty_copies(db: Places) -> None:
    db.run("CREATE TABLE h (a int, b text) PARTITION BY HASH (a)")
    db.run("CREATE TABLE h0 (b text, a int); CREATE TABLE h1 (a int, b text)")
    row = db.ask("g1", "SELECT n FROM generate_series(1, 99) n WHERE satisfies_hash_partition("
                       "(SELECT oid FROM pg_class WHERE relname = 'h'), 2, 1, n) LIMIT 1")[0][0]  # fmt: skip
    db.write("g1", f"INSERT INTO h1 VALUES ({row}, 'moved')")
    db.run("ALTER TABLE h ATTACH PARTITION h0 FOR VALUES WITH (MODULUS 2, REMAINDER 0)")
    db.run("ALTER TABLE h ATTACH PARTITION h1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)")
    assert names(db, "g1") == ["h", "h0"] and names(db, "g2") == ["h", "h1"]
    assert db.everywhere("SELECT * FROM h") == {"workspace": [], "g1": [], "g2": [(row, "moved")]}
    assert [shard.nameable for shard in db.relation("h").shards] == [False, True]  # h0 has another column order


def test_detach_makes_a_single_table_that_every_group_has(db: Places) -> None:
    db.run("CREATE TABLE h (a int PRIMARY KEY, b text DEFAULT 'x') PARTITION BY HASH (a) WITH (shards = 2)")
    db.run("CREATE INDEX ON h (b); GRANT SELECT ON h TO PUBLIC; ALTER TABLE h DETACH PARTITION h_p1 CONCURRENTLY")
    single = db.relation("h_p1")
    assert (single.kind, single.group) == (Kind.SINGLE, "g2")
    describe = "SELECT indexdef FROM pg_indexes WHERE tablename = 'h_p1' ORDER BY 1"
    assert db.ask("g1", describe) == db.ask("g2", describe) != []
    acl = "SELECT relacl::text FROM pg_class WHERE relname = 'h_p1'"
    assert db.ask("g1", acl) == db.ask("g2", acl)


def test_drop_runs_where_the_object_is(db: Places) -> None:
    db.run(CUSTOMERS)
    db.run("CREATE VIEW v AS SELECT * FROM customers_p1; CREATE TABLE s (a int)")
    view = "SELECT count(*) FROM pg_views WHERE viewname = 'v'"
    assert db.everywhere(view) == {"workspace": [(1,)], "g1": [(0,)], "g2": [(1,)]}
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        db.run("DROP TABLE customers_p1, s")
    db.run("DROP TABLE IF EXISTS customers_p1, s, nonesuch CASCADE")
    assert names(db, "g2") == ["customers", "customers_p3"] and names(db, "g1") == names(db, "g1")
    assert db.everywhere(view) == {"workspace": [(0,)], "g1": [(0,)], "g2": [(0,)]}
    db.run("DROP TABLE customers")
    assert db.everywhere(TABLES) == {"workspace": [], "g1": [], "g2": []}
    assert db.ask("workspace", "SELECT count(*) FROM hanse.placement") == [(0,)]


def test_a_view_over_shards_of_two_groups_is_only_in_the_workspace(db: Places) -> None:
    db.run(CUSTOMERS)
    db.run("CREATE VIEW v AS SELECT p.id FROM customers_p0 p, customers_p1; COMMENT ON VIEW v IS 'apart'")
    count = "SELECT count(*) FROM pg_views WHERE viewname = 'v'"
    assert db.everywhere(count) == {"workspace": [(1,)], "g1": [(0,)], "g2": [(0,)]}
    db.run("DROP VIEW v")


def test_names_of_partitions_may_be_used(db: Places) -> None:
    db.run(CUSTOMERS)
    db.run("ALTER TABLE customers_p1 RENAME TO other; CREATE INDEX oi ON other (name); COMMENT ON INDEX oi IS 'x'")
    db.run(
        "ALTER INDEX oi RENAME TO oj; COMMENT ON COLUMN other.name IS 'n'; CREATE STATISTICS st ON id, name FROM other"
    )
    db.run("DROP INDEX CONCURRENTLY oj; GRANT SELECT ON customers_p0, other TO PUBLIC")
    db.run("ALTER TABLE other ADD CONSTRAINT positive CHECK (id > 0); CREATE TABLE copy (LIKE other INCLUDING ALL)")
    assert names(db, "g2") == ["copy", "customers", "customers_p3", "other"]
    assert "copy" in names(db, "g1")
    assert db.relation("customers").shards[1].name == "other"


def test_set_tablespace_moves_rows(db: Places) -> None:
    db.run("CREATE TABLE s (id serial PRIMARY KEY, t text); CREATE TABLE r (a int) PARTITION BY RANGE (a)")
    db.run("CREATE TABLE r0 PARTITION OF r FOR VALUES FROM (0) TO (10); CREATE INDEX own ON r0 (a)")
    db.write("g1", "INSERT INTO s (t) VALUES ('a'), ('b'); INSERT INTO r VALUES (3)")
    db.run("ALTER TABLE s SET TABLESPACE g2; ALTER TABLE r0 SET TABLESPACE g2")
    assert db.ask("g2", "SELECT * FROM s ORDER BY 1") == [(1, "a"), (2, "b")]
    assert db.ask("g1", "SELECT * FROM s") == [] and db.relation("s").group == "g2"
    assert db.ask("g2", "SELECT nextval('s_id_seq')") == [(3,)] and db.relation("s_id_seq").group == "g2"
    assert names(db, "g1") == ["r", "s"] and db.ask("g2", "SELECT a FROM r") == [(3,)]
    assert db.ask("g2", "SELECT count(*) FROM pg_indexes WHERE indexname = 'own'") == [(1,)]


def test_rows_move_with_their_foreign_keys_or_not_at_all(db: Places) -> None:
    db.run(CUSTOMERS)
    db.run(
        "CREATE TABLE orders (c bigint REFERENCES customers, n int, PRIMARY KEY (c, n))"
        " PARTITION BY HASH (c) WITH (shards = 4)"
    )
    for shard in ("customers_p0", "orders_p0"):
        refused(db, f"ALTER TABLE {shard} SET TABLESPACE g2", "0A000")
    assert "customers_p0" in names(db, "g1") and "orders_p0" in names(db, "g1")
    db.run("CREATE TABLE land (id int PRIMARY KEY) WITH (distribution = 'reference')")
    db.run("CREATE TABLE town (id int PRIMARY KEY, land int REFERENCES land)")
    for group in db.groups:
        db.write(group, "INSERT INTO land VALUES (1)")
    db.write("g1", "INSERT INTO town VALUES (7, 1)")
    db.run("ALTER TABLE town SET TABLESPACE g2")
    assert db.ask("g2", "SELECT * FROM town") == [(7, 1)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        db.connections["g2"].execute("INSERT INTO town VALUES (8, 2)")
    db.connections["g2"].rollback()


def test_added_columns_are_alike_in_all_copies(db: Places) -> None:
    db.run("CREATE TABLE ref (a int) WITH (distribution = 'reference'); " + CUSTOMERS)
    for group in db.groups:
        db.write(group, "INSERT INTO ref VALUES (1)")
    db.insert("customers", [(n, "x") for n in range(10)])
    db.run(
        "ALTER TABLE ref ADD COLUMN at timestamptz NOT NULL DEFAULT now(); ALTER TABLE ref ADD COLUMN n int DEFAULT 7"
    )
    assert db.ask("g1", "SELECT * FROM ref") == db.ask("g2", "SELECT * FROM ref")
    db.run("ALTER TABLE customers ADD COLUMN at timestamptz DEFAULT now(), ADD COLUMN u uuid DEFAULT gen_random_uuid()")
    values = {row for group in db.groups for row in db.ask(group, "SELECT DISTINCT at FROM customers")}
    assert len(values) == 1
    uuids = [row for group in db.groups for row in db.ask(group, "SELECT u FROM customers")]
    assert len(set(uuids)) == 10
    refused(db, "ALTER TABLE ref ADD COLUMN u uuid DEFAULT gen_random_uuid()", "0A000")
    refused(db, "ALTER TABLE customers ADD COLUMN s bigserial", "0A000")
    db.run("CREATE TABLE empty (a int) WITH (distribution = 'reference'); ALTER TABLE empty ADD COLUMN s serial")
    assert db.relation("empty").column_by_name["s"].default_sequence == "public.empty_s_seq"


def test_a_key_column_keeps_its_type(db: Places) -> None:
    db.run(CUSTOMERS)
    with pytest.raises(psycopg.errors.InvalidTableDefinition):
        db.run("ALTER TABLE customers ALTER COLUMN id TYPE int")


def test_inheritance_stays_in_one_group(db: Places) -> None:
    db.run("CREATE TABLE a (x int); CREATE TABLE b () INHERITS (a); CREATE TABLE c (x int) TABLESPACE g2")
    refused(db, "CREATE TABLE d () INHERITS (a) TABLESPACE g2", "0A000")
    refused(db, "ALTER TABLE c INHERIT a", "0A000")
