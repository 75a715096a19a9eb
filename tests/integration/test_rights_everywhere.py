# ruff: noqa: E501
"""Row-level security and privileges give every role what one plain PostgreSQL gives it, on every path to the rows.

Each statement runs as each role on both servers, in a transaction that is rolled back, and then everything that the owner sees is
compared, too: what a forbidden write has done counts as much as what it answered.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from support.differential import Comparison, difference
from support.servers import PASSWORD, Cluster, Server
from support.wire import Mode, Outcome, Wire

ROLES = ("owner", "ann", "bob", "root")  # table owner, two tenants, one with BYPASSRLS

SCHEMA = """
CREATE TABLE {s}.r_notes (tenant text, id int, body text, secret text, PRIMARY KEY (tenant, id)){tenant};
CREATE TABLE {s}.r_forced (tenant text, id int, body text, PRIMARY KEY (id)){id};
CREATE TABLE {s}.r_other (tenant text, id int, n int, PRIMARY KEY (tenant, id)){tenant};
CREATE TABLE {s}.r_land (code text PRIMARY KEY, tenant text){reference};
CREATE TABLE {s}.r_lone (id int PRIMARY KEY, tenant text);
INSERT INTO {s}.r_notes SELECT t, g, 'body ' || g, 'secret ' || g FROM unnest(ARRAY['{ann}', '{bob}', 'x', 'y', 'z']) t, generate_series(1, 6) g;
INSERT INTO {s}.r_forced SELECT (ARRAY['{ann}', '{bob}', '{owner}', 'x'])[g % 4 + 1], g, 'f ' || g FROM generate_series(1, 24) g;
INSERT INTO {s}.r_other SELECT t, g, g * 10 FROM unnest(ARRAY['{ann}', '{bob}', 'x']) t, generate_series(1, 6) g;
INSERT INTO {s}.r_land VALUES ('a', '{ann}'), ('b', '{bob}'), ('c', 'x');
INSERT INTO {s}.r_lone SELECT g, (ARRAY['{ann}', '{bob}', 'x'])[g % 3 + 1] FROM generate_series(1, 9) g;
ALTER TABLE {s}.r_notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE {s}.r_forced ENABLE ROW LEVEL SECURITY;
ALTER TABLE {s}.r_forced FORCE ROW LEVEL SECURITY;
ALTER TABLE {s}.r_land ENABLE ROW LEVEL SECURITY;
ALTER TABLE {s}.r_lone ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON {s}.r_notes FOR SELECT USING (tenant = current_user OR tenant = current_setting('app.tenant', true));
CREATE POLICY adds ON {s}.r_notes FOR INSERT WITH CHECK (tenant = current_user AND id < 100);
CREATE POLICY changes ON {s}.r_notes FOR UPDATE USING (tenant = current_user AND id <> 2) WITH CHECK (body <> 'forbidden');
CREATE POLICY removes ON {s}.r_notes FOR DELETE USING (tenant = current_user AND id > 3);
CREATE POLICY whole ON {s}.r_forced USING (tenant = current_user) WITH CHECK (tenant = current_user AND id < 1000);
CREATE POLICY limits ON {s}.r_forced AS RESTRICTIVE USING (id <> 5);
CREATE POLICY lands ON {s}.r_land USING (tenant = current_user);
CREATE POLICY lones ON {s}.r_lone TO {ann} USING (tenant = current_user);
CREATE VIEW {s}.all_notes AS SELECT tenant, id, body FROM {s}.r_notes;
CREATE VIEW {s}.my_notes WITH (security_invoker = true) AS SELECT tenant, id, body FROM {s}.r_notes;
CREATE VIEW {s}.tight WITH (security_barrier = true) AS SELECT id, body FROM {s}.r_notes WHERE tenant <> 'x';
CREATE VIEW {s}.hidden AS SELECT * FROM {s}.r_notes;
CREATE VIEW {s}.counts AS SELECT tenant, count(*) AS n FROM {s}.r_notes GROUP BY tenant;
GRANT USAGE ON SCHEMA {s} TO {ann}, {bob}, {root};
GRANT SELECT (tenant, id, body), INSERT, UPDATE (body), DELETE ON {s}.r_notes TO {ann}, {bob};
GRANT ALL ON {s}.r_notes, {s}.r_forced, {s}.r_other, {s}.r_land, {s}.r_lone TO {root};
GRANT SELECT, INSERT, UPDATE, DELETE ON {s}.r_forced, {s}.r_land, {s}.r_lone TO {ann}, {bob};
GRANT SELECT ON {s}.r_other TO {ann};
GRANT SELECT (tenant, id), UPDATE (n) ON {s}.r_other TO {bob};
GRANT SELECT, INSERT, UPDATE, DELETE ON {s}.all_notes, {s}.my_notes, {s}.tight, {s}.counts TO {ann};
GRANT SELECT ON {s}.my_notes TO {bob};
CREATE FUNCTION {s}.as_owner() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT count(*) FROM {s}.r_lone';
CREATE FUNCTION {s}.notes_of(text) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT count(secret) FROM {s}.r_notes WHERE tenant = $1';
CREATE FUNCTION {s}.forced_of(text) RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ BEGIN RETURN (SELECT count(*) FROM {s}.r_forced WHERE tenant = $1); END $$;
CREATE FUNCTION {s}.inner_others(text) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(n) FROM {s}.r_other WHERE tenant = $1';
CREATE FUNCTION {s}.others(text) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT {s}.inner_others($1)';
CREATE FUNCTION {s}.as_caller() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM {s}.r_lone';
CREATE FUNCTION {s}.spy(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$;
REVOKE EXECUTE ON FUNCTION {s}.as_caller() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {s}.as_caller() TO {ann};
"""

# Statements, each a transaction of its own; ";;" between several of one.
STATEMENTS = """
SELECT tenant, id, body FROM r_notes
SELECT count(*) FROM r_notes
SELECT tenant, count(*), max(body) FROM r_notes GROUP BY tenant
SELECT count(DISTINCT body) FROM r_notes
SELECT tenant, id FROM r_notes WHERE tenant = '{ann}'
SELECT tenant, id FROM r_notes WHERE tenant = 'x'
SELECT body FROM r_notes WHERE tenant = '{ann}' AND id = 2
SELECT body FROM r_notes WHERE tenant = 'x' AND id = 2
SELECT secret FROM r_notes WHERE tenant = '{ann}' AND id = 2
SELECT * FROM r_notes
SELECT r_notes FROM r_notes WHERE tenant = '{ann}'
SELECT count(*) FROM r_notes WHERE secret = 'secret 1'
SELECT body FROM r_notes ORDER BY secret
SELECT id FROM r_notes WHERE tenant = '{ann}' ORDER BY id LIMIT 2
SELECT tenant, id FROM r_notes ORDER BY tenant, id LIMIT 3
SELECT a.id, b.id FROM r_notes a JOIN r_notes b ON a.tenant = b.tenant AND a.id = b.id + 1
SELECT a.id, b.id FROM r_notes a JOIN r_notes b ON a.id = b.id + 1
SELECT a.tenant, f.tenant FROM r_notes a JOIN r_forced f ON f.id = a.id
SELECT n.id, o.id FROM r_notes n JOIN r_other o USING (tenant)
SELECT n.id, o.n FROM r_notes n JOIN r_other o USING (tenant, id)
SELECT n.id, l.code FROM r_notes n LEFT JOIN r_land l USING (tenant)
SELECT n.id, l.id FROM r_notes n JOIN r_lone l ON l.tenant = n.tenant
SELECT (SELECT count(*) FROM r_notes), (SELECT count(*) FROM r_forced), (SELECT count(*) FROM r_land), (SELECT count(*) FROM r_lone)
SELECT count(*) FROM r_notes n WHERE EXISTS (SELECT 1 FROM r_forced f WHERE f.tenant = n.tenant)
WITH w AS (SELECT tenant, id FROM r_notes) SELECT count(*) FROM w a, w b
SELECT tenant, id FROM r_notes UNION SELECT tenant, id FROM r_forced
SELECT id FROM r_notes WHERE tenant = '{ann}' FOR UPDATE
SELECT id FROM r_notes FOR UPDATE
SELECT id FROM r_notes FOR SHARE
SELECT * FROM r_forced
SELECT tenant, id FROM r_forced WHERE id = 5
SELECT tenant, id FROM r_forced WHERE id IN (1, 2, 3, 4, 5)
SELECT * FROM r_land
SELECT * FROM r_lone
SELECT tenant, id FROM r_other
SELECT sum(n) FROM r_other
SELECT n FROM r_other WHERE tenant = '{ann}'
SELECT tenant, count(*) FROM all_notes GROUP BY tenant
SELECT id FROM all_notes WHERE tenant = 'x' AND id = 1
SELECT tenant, count(*) FROM my_notes GROUP BY tenant
SELECT id FROM my_notes WHERE tenant = 'x' AND id = 1
SELECT count(*) FROM tight
SELECT * FROM hidden
SELECT * FROM counts
SELECT m.id, f.id FROM my_notes m JOIN r_forced f ON f.id > m.id WHERE f.id < 4
SELECT m.id, f.id FROM all_notes m JOIN r_forced f ON f.id > m.id WHERE f.id < 4
SELECT a.id, b.id FROM all_notes a, my_notes b WHERE a.id = b.id + 5
SELECT count(*) FROM r_notes WHERE spy(body)
SELECT count(*) FROM tight WHERE spy(body)
SELECT as_owner(), current_user::text
SELECT as_caller()
SELECT as_owner() FROM r_forced WHERE id = 1
SELECT notes_of('x'), current_user::text
SELECT notes_of('{ann}') FROM r_other
SELECT forced_of('{owner}'), forced_of('x')
SELECT tenant, notes_of(tenant) FROM counts
SELECT f.tenant, forced_of(f.tenant) FROM r_forced f
SELECT others('x')
SELECT inner_others('x')
SELECT n.id, others(n.tenant) FROM r_notes n JOIN r_lone l ON l.id = n.id
SELECT count(*) FROM r_other o WHERE notes_of(o.tenant) > 3
INSERT INTO r_notes VALUES ('{ann}', 50, 'mine', 's')
INSERT INTO r_notes VALUES ('{ann}', 150, 'mine', 's')
INSERT INTO r_notes VALUES ('x', 50, 'theirs', 's')
INSERT INTO r_notes (tenant, id, body) VALUES ('{ann}', 50, 'a'), ('{ann}', 51, 'b'), ('{bob}', 52, 'c')
INSERT INTO r_notes (tenant, id, body) VALUES ('{ann}', 50, 'a') RETURNING id
INSERT INTO r_notes (tenant, id, body) VALUES ('{ann}', 50, 'a') RETURNING secret
INSERT INTO r_notes (tenant, id, body) SELECT tenant, id + 50, body FROM r_notes
INSERT INTO r_notes (tenant, id, body) SELECT current_user, id + 50, body FROM r_forced
INSERT INTO r_notes (tenant, id, body) SELECT 'x', id + 60, body FROM r_forced
INSERT INTO r_notes (tenant, id, body) VALUES ('{ann}', 1, 'dup') ON CONFLICT DO NOTHING
INSERT INTO r_notes (tenant, id, body) VALUES ('{ann}', 1, 'dup') ON CONFLICT (tenant, id) DO UPDATE SET body = 'up'
INSERT INTO r_notes (tenant, id, body) VALUES ('{ann}', 2, 'dup') ON CONFLICT (tenant, id) DO UPDATE SET body = 'up'
INSERT INTO r_notes (tenant, id, body) VALUES ('{bob}', 1, 'dup') ON CONFLICT (tenant, id) DO UPDATE SET body = 'up'
INSERT INTO r_forced VALUES ('{ann}', 100, 'x'), ('{ann}', 101, 'y')
INSERT INTO r_forced VALUES ('{owner}', 100, 'x'), ('{owner}', 101, 'y')
INSERT INTO r_forced VALUES ('{bob}', 1000, 'x'), ('{bob}', 101, 'y')
INSERT INTO r_forced SELECT tenant, id + 200, body FROM r_notes
INSERT INTO r_land VALUES ('d', '{ann}')
INSERT INTO r_land VALUES ('d', 'x')
INSERT INTO all_notes VALUES ('x', 70, 'through')
INSERT INTO my_notes VALUES ('x', 70, 'through')
INSERT INTO my_notes VALUES ('{ann}', 70, 'through')
UPDATE r_notes SET body = 'new'
UPDATE r_notes SET body = 'new' WHERE tenant = '{ann}'
UPDATE r_notes SET body = 'new' WHERE tenant = 'x'
UPDATE r_notes SET body = 'forbidden' WHERE tenant = '{ann}'
UPDATE r_notes SET body = 'forbidden'
UPDATE r_notes SET secret = 'new' WHERE tenant = '{ann}'
UPDATE r_notes SET body = secret WHERE tenant = '{ann}'
UPDATE r_notes SET body = 'new' RETURNING tenant, id
UPDATE r_notes SET body = 'new' RETURNING *
UPDATE r_notes n SET body = 'j' FROM r_other o WHERE o.tenant = n.tenant AND o.id = n.id
UPDATE r_notes n SET body = 'j' FROM r_forced f WHERE f.id = n.id
UPDATE r_forced SET body = 'new'
UPDATE r_forced SET tenant = 'x'
UPDATE r_forced SET tenant = 'x' WHERE id = 2
UPDATE r_forced SET id = id + 500
UPDATE r_forced SET id = id + 5000
UPDATE r_forced SET id = 777 WHERE id = 2
UPDATE r_other SET n = 1
UPDATE r_other SET n = n + 1
UPDATE r_other SET n = 1 WHERE tenant = '{bob}'
UPDATE r_land SET code = code || '2'
UPDATE all_notes SET body = 'v'
UPDATE my_notes SET body = 'v'
UPDATE all_notes SET body = 'v' WHERE tenant = 'x'
DELETE FROM r_notes
DELETE FROM r_notes WHERE tenant = '{ann}'
DELETE FROM r_notes WHERE tenant = 'x'
DELETE FROM r_notes WHERE tenant = '{ann}' AND id = 2
DELETE FROM r_notes RETURNING id
DELETE FROM r_notes USING r_forced WHERE r_forced.id = r_notes.id
DELETE FROM r_forced
DELETE FROM r_forced WHERE id = 5
DELETE FROM r_land
DELETE FROM r_other
DELETE FROM all_notes WHERE id = 1
DELETE FROM my_notes WHERE id = 4
WITH d AS (DELETE FROM r_forced RETURNING tenant, id) SELECT count(*) FROM d
WITH d AS (UPDATE r_forced SET body = 'w' RETURNING id) INSERT INTO r_land SELECT 'k' || id, current_user FROM d
MERGE INTO r_notes n USING (SELECT '{ann}' AS tenant, g AS id FROM generate_series(1, 8) g) s ON n.tenant = s.tenant AND n.id = s.id WHEN MATCHED THEN UPDATE SET body = 'm' WHEN NOT MATCHED THEN INSERT (tenant, id, body) VALUES (s.tenant, s.id, 'm')
MERGE INTO r_notes n USING (SELECT '{ann}' AS tenant, g AS id FROM generate_series(4, 8) g) s ON n.tenant = s.tenant AND n.id = s.id WHEN MATCHED THEN DELETE
TRUNCATE r_notes
COPY r_notes TO STDOUT
COPY r_notes (tenant, id) TO STDOUT
COPY r_forced TO STDOUT
COPY r_forced (id) TO STDOUT
COPY r_other TO STDOUT
COPY (SELECT tenant, id FROM r_notes) TO STDOUT
COPY (SELECT * FROM all_notes) TO STDOUT
COPY (SELECT a.id FROM r_notes a JOIN r_notes b ON a.id = b.id + 1) TO STDOUT
COPY r_notes (tenant, id, body) FROM STDIN
COPY r_forced FROM STDIN
COPY r_other FROM STDIN
SET LOCAL ROLE {ann};; SELECT count(*) FROM r_notes;; SELECT id FROM r_notes WHERE tenant = '{ann}';; SELECT a.id FROM r_notes a JOIN r_forced f ON f.id = a.id;; INSERT INTO r_forced VALUES ('{ann}', 300, 'x'), ('{ann}', 301, 'y')
SET LOCAL ROLE {bob};; SELECT count(*) FROM r_forced;; UPDATE r_forced SET body = 'r';; SELECT count(*) FROM r_land;; SELECT secret FROM r_notes
SELECT count(*) FROM r_forced;; SET LOCAL ROLE {bob};; SELECT count(*) FROM r_forced;; RESET ROLE;; SELECT count(*) FROM r_forced
SAVEPOINT s;; SET LOCAL ROLE {ann};; SELECT count(*) FROM r_forced;; ROLLBACK TO s;; SELECT count(*) FROM r_forced
SET LOCAL app.tenant = 'x';; SELECT tenant, id FROM r_notes;; SELECT count(*) FROM r_notes WHERE tenant = 'x';; SELECT a.id FROM r_notes a JOIN r_notes b ON a.id = b.id - 1 AND a.tenant = 'x'
SET LOCAL row_security = off;; SELECT count(*) FROM r_notes
SET LOCAL row_security = off;; SELECT count(*) FROM r_forced WHERE id = 2
SET LOCAL row_security = off;; SELECT a.id FROM r_notes a JOIN r_forced f ON f.id = a.id
DECLARE c CURSOR FOR SELECT tenant, id FROM r_notes WHERE tenant = '{ann}' ORDER BY id;; FETCH 3 FROM c
DECLARE c CURSOR FOR SELECT tenant, id FROM r_forced ORDER BY id;; FETCH ALL FROM c
PREPARE p AS SELECT count(*) FROM r_notes;; EXECUTE p;; DEALLOCATE p
EXPLAIN (COSTS off) SELECT secret FROM r_notes
LOCK TABLE r_other IN ACCESS EXCLUSIVE MODE
CREATE POLICY mine ON r_notes USING (true)
ALTER TABLE r_notes DISABLE ROW LEVEL SECURITY
ALTER TABLE r_forced NO FORCE ROW LEVEL SECURITY
GRANT SELECT ON r_notes TO {bob}
CREATE INDEX ON r_notes (body)
CREATE VIEW sneaky AS SELECT * FROM r_notes
"""
# With an error that says so (docs/guide/limits.md), rather than with wrong rows.
REFUSED = (
    "SELECT f.tenant, forced_of(f.tenant) FROM r_forced f",
    "SELECT notes_of('x'), current_user::text",
    "SELECT notes_of('{ann}') FROM r_other",
    "SELECT forced_of('{owner}'), forced_of('x')",
    "SELECT tenant, notes_of(tenant) FROM counts",
    "SELECT count(*) FROM r_other o WHERE notes_of(o.tenant) > 3",
    "SELECT as_owner() FROM r_forced WHERE id = 1",
    "SELECT a.id, b.id FROM all_notes a, my_notes b WHERE a.id = b.id + 5",
    "UPDATE r_forced SET id = id + 500",
    "UPDATE r_forced SET id = id + 5000",
    "UPDATE r_forced SET id = 777 WHERE id = 2",
)
DATA = {
    "r_notes": "{ann}\t80\tcopied\n{bob}\t81\tcopied\n",
    "r_forced": "{ann}\t400\tcopied\n{ann}\t401\tcopied\n",
    "r_other": "q\t1\t1\n",
}
EVERYTHING = tuple(f"SELECT * FROM {table}" for table in ("r_notes", "r_forced", "r_other", "r_land", "r_lone"))


@dataclass(slots=True)
class Side:
    server: Server
    names: dict[str, str]
    wires: dict[str, Wire]
    admin: Wire


@pytest.fixture(scope="module")
def sides(plain_postgres: Server, cluster: Cluster) -> Iterator[tuple[Side, Side]]:
    mark = uuid.uuid4().hex[:8]
    names = {role: f"{role}_{mark}" for role in ROLES} | {"s": f"rights_{mark}"}
    found = []
    for server in (plain_postgres, cluster.server):
        _make(server, names, sharded=server is cluster.server)
        options = f"-c search_path={names['s']}"
        wires = {role: Wire(server.dsn_for(user=names[role], password=PASSWORD, options=options)) for role in ROLES}
        for wire in wires.values():
            wire.run("SET client_min_messages = error")
        found.append(Side(server, names, wires, Wire(server.dsn_for(options=options))))
    yield found[0], found[1]
    for side in found:
        for wire in (*side.wires.values(), side.admin):
            wire.close()
        with psycopg.connect(side.server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {names['s']} CASCADE")  # type: ignore[call-overload]
            for role in ROLES:
                connection.execute(f"DROP OWNED BY {names[role]}")  # type: ignore[call-overload]
                connection.execute(f"DROP ROLE {names[role]}")  # type: ignore[call-overload]


def _make(server: Server, names: dict[str, str], *, sharded: bool) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        for role in ROLES:
            more = "BYPASSRLS" if role == "root" else ""
            connection.execute(f"CREATE ROLE {names[role]} LOGIN PASSWORD '{PASSWORD}' {more}")  # type: ignore[call-overload]
        connection.execute(f"CREATE SCHEMA {names['s']} AUTHORIZATION {names['owner']}")  # type: ignore[call-overload]
        connection.execute(f"GRANT {names['ann']}, {names['bob']} TO {names['owner']}")  # type: ignore[call-overload]
    with psycopg.connect(server.dsn_for(user=names["owner"], password=PASSWORD), autocommit=True) as connection:
        places = {key: f" PARTITION BY HASH ({key}) WITH (shards = 4)" for key in ("tenant", "id")}
        places["reference"] = " WITH (distribution = 'reference')"
        named = names | (places if sharded else dict.fromkeys(places, ""))
        for statement in SCHEMA.strip().splitlines():
            connection.execute(statement.format(**named))  # type: ignore[call-overload]


def _play(side: Side, role: str, transaction: str, mode: Mode) -> list[tuple[str, list[Outcome]]]:
    wire = side.wires[role]
    outcomes: list[tuple[str, list[Outcome]]] = []
    wire.run("BEGIN")
    for sql in transaction.format(**side.names).split(";;"):
        sql = sql.strip()
        data = DATA.get(sql.split()[1], "") if sql.endswith("FROM STDIN") else ""
        outcomes.append((sql, wire.run(sql, mode, data=data.format(**side.names).encode())))
    changed = any(word in transaction for word in ("INSERT", "UPDATE ", "DELETE", "MERGE", "FROM STDIN", "TRUNCATE"))
    if changed and role == "owner" and not wire.run("RESET ROLE")[0].sqlstate:
        outcomes += [(f"then {sql}", wire.run(sql)) for sql in EVERYTHING]
    wire.run("ROLLBACK")
    return outcomes


@pytest.mark.parametrize(("role", "mode"), [*((role, Mode.SIMPLE) for role in ROLES), ("ann", Mode.PREPARED)])
def test_every_path(sides: tuple[Side, Side], role: str, mode: Mode) -> None:
    wrong = []
    for transaction in STATEMENTS.strip().splitlines():
        verb = transaction.split()[0]
        if mode is Mode.PREPARED and verb not in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "MERGE"):
            continue
        expected, got = (
            _play(side, role, transaction, Mode.EXTENDED if mode is Mode.PREPARED else mode) for side in sides
        )
        if got[0][1][-1].sqlstate == "0A000" and transaction in REFUSED:
            continue
        assert len(expected) == len(got), f"{transaction}\n{expected}\n{got}"
        for (sql, left), (_, right) in zip(expected, got, strict=True):
            found = difference(left, right, Comparison(rows=verb != "EXPLAIN"))
            if found is not None:
                wrong.append(f"[{role}, {mode}] {transaction}\n  {sql}\n{found}")
    assert not wrong, f"{len(wrong)} differ\n" + "\n\n".join(wrong)


HOSTILE = """
SELECT hanse.run_as_system('ALTER ROLE {ann} SUPERUSER', 'x')
SELECT hanse.ask_as_system('SELECT 1', 'x')
SELECT hanse.check_proof('SELECT 1', 'x')
SELECT hanse.check_proof('SELECT 1', NULL)
SELECT hanse.run_as_system('ALTER ROLE {ann} SUPERUSER', NULL)
SELECT hanse.record_abort('hanse:g1:x')
INSERT INTO hanse.commit_record (gid, secret) VALUES ('hanse:g1:x', 'y')
INSERT INTO hanse.commit_record (gid, secret) VALUES (NULL, NULL)
INSERT INTO hanse.commit_record VALUES ('x', 'c')
INSERT INTO hanse.commit_record (gid, outcome) VALUES ('x', 'a')
DELETE FROM hanse.commit_record
UPDATE hanse.placement SET home = 'g2'
UPDATE hanse.applied SET version = 99
CREATE TABLE hanse.mine (x int)
CREATE FUNCTION hanse.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'
SET SESSION AUTHORIZATION hanse_system
SET ROLE hanse_system
SET ROLE {bob}
SELECT set_config('role', 'hanse_system', false)
SELECT set_config('session_authorization', 'hanse_system', false)
SELECT rolpassword FROM pg_authid
SELECT * FROM pg_shadow
SELECT pg_read_file('/etc/passwd')
COPY (SELECT 1) TO PROGRAM 'true'
COPY r_lone FROM '/etc/passwd'
ALTER ROLE {ann} SUPERUSER
ALTER ROLE {ann} BYPASSRLS
SET session_replication_role = replica
COMMIT PREPARED 'hanse:g1:00'
ROLLBACK PREPARED 'hanse:g1:00'
PREPARE TRANSACTION 'hanse:g1:00'
DO $$ BEGIN EXECUTE 'SET ROLE hanse_system'; END $$
LOAD '/tmp/evil.so'
CREATE EXTENSION plpgsql
DROP SCHEMA hanse CASCADE
"""


def test_hostile(sides: tuple[Side, Side]) -> None:
    """Nothing of Hanse's own serves a user, and nobody becomes more than he is."""
    _, hanse = sides
    wire = hanse.wires["ann"]
    done = []
    for sql in HOSTILE.strip().splitlines():
        for mode in (Mode.SIMPLE, Mode.EXTENDED):
            outcome = wire.run(sql.format(**hanse.names), mode)[-1]
            if not outcome.sqlstate:
                done.append(f"{sql}: {outcome.tag} {outcome.rows}")
            assert wire.run("ROLLBACK")[-1].sqlstate is None
    assert not done, "\n".join(done)
    assert wire.run("SELECT current_user, session_user, current_setting('is_superuser')")[0].rows == (
        (hanse.names["ann"].encode(), hanse.names["ann"].encode(), b"off"),
    )
    for database in ("postgres", "template1", "main"):
        with pytest.raises(ConnectionError):
            Wire(hanse.server.dsn_for(user=hanse.names["ann"], password=PASSWORD, dbname=database))
