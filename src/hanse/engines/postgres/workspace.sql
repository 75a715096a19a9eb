-- What the schema-complete database ("main") of a workspace has beside the users' schema. Run once, when main is made.
-- Names are qualified: it runs with search_path = pg_catalog.

CREATE SCHEMA IF NOT EXISTS hanse;
GRANT USAGE ON SCHEMA hanse TO PUBLIC;

-- One row: the version of the last schema change that main has. Who changes main locks the row first (FOR UPDATE),
-- so that a change under way and the replay of the log never meet.
CREATE TABLE hanse.applied (version bigint NOT NULL);
CREATE UNIQUE INDEX applied_one_row ON hanse.applied ((true));
INSERT INTO hanse.applied VALUES (0);

-- Where rows are. Written by schema changes. No row: in the home group.
CREATE TABLE hanse.placement (
    relid oid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('single', 'reference', 'sharded', 'partition', 'sequence')),
    home text,
    shard_group text
);

-- The topology of the newest snapshot.
CREATE TABLE hanse.topology (version bigint NOT NULL, home_group text NOT NULL);
CREATE UNIQUE INDEX topology_one_row ON hanse.topology ((true));
INSERT INTO hanse.topology VALUES (-1, '');
CREATE TABLE hanse.nodes (name text PRIMARY KEY, host text NOT NULL, gateway_port int NOT NULL, labels jsonb NOT NULL);
CREATE TABLE hanse.groups (name text PRIMARY KEY, leader text, durability text NOT NULL, instances jsonb NOT NULL,
    term bigint, members text[], k int, location jsonb NOT NULL DEFAULT '{}');

-- Rows without any column on their way into a slot's table: COPY cannot name no columns. Empty but within a load.
CREATE TABLE hanse.no_columns ();

-- Every user's table. kind is 'single', 'reference', 'sharded' or 'matview'. A shard is not a table of its own here.
CREATE VIEW hanse.tables AS
SELECT n.nspname AS schema,
       c.relname AS name,
       CASE WHEN c.relkind = 'p' THEN 'sharded' WHEN c.relkind = 'm' THEN 'matview' ELSE coalesce(l.kind, 'single') END
           AS kind,
       CASE p.partstrat WHEN 'h' THEN 'hash' WHEN 'r' THEN 'range' WHEN 'l' THEN 'list' END AS strategy,
       (SELECT array_agg(coalesce(a.attname::text, '(expression)') ORDER BY k.place)
        FROM unnest(p.partattrs::int2[]) WITH ORDINALITY AS k(attnum, place)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0) AS key,
       CASE WHEN c.relkind = 'p' THEN (SELECT count(*) FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) END
           AS shard_count,
       CASE WHEN c.relkind = 'r' AND coalesce(l.kind, 'single') = 'single' THEN coalesce(l.home, t.home_group) END
           AS home_group
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN hanse.topology t
LEFT JOIN hanse.placement l ON l.relid = c.oid
LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND left(n.nspname::text, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', 'hanse');

-- Every shard: the top-level partitions of sharded tables.
CREATE VIEW hanse.shards AS
SELECT n.nspname AS schema,
       c.relname AS table_name,
       sn.nspname AS shard_schema,
       s.relname AS shard_name,
       pg_catalog.pg_get_expr(s.relpartbound, s.oid) AS bound,
       coalesce(l.shard_group, l.home, t.home_group) AS group_name
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid
JOIN pg_catalog.pg_class s ON s.oid = i.inhrelid
JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
CROSS JOIN hanse.topology t
LEFT JOIN hanse.placement l ON l.relid = s.oid
WHERE c.relkind = 'p' AND NOT c.relispartition
  AND left(n.nspname::text, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', 'hanse');

-- Prepared transactions of all groups, and statements that go from group to group. A gateway puts the rows in their place
-- (gateway/sessionviews.py) where a statement names them; this tells what they look like, and what to do where they are reached
-- in another way.
CREATE FUNCTION hanse.only_by_name(view text) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    RAISE feature_not_supported USING
        MESSAGE = format('hanse.%s can only be read by a statement that names it so', view),
        HINT = format('Call it so: SELECT * FROM hanse.%s;', view);
END
$$;

CREATE VIEW hanse.transactions AS
SELECT NULL::text AS gid,
       NULL::text AS state,
       NULL::text AS decider,
       NULL::text[] AS groups,
       NULL::name AS owner,
       NULL::timestamptz AS prepared,
       NULL::interval AS age
WHERE hanse.only_by_name('transactions');

CREATE VIEW hanse.jobs AS
SELECT NULL::text AS id,
       NULL::text AS command,
       NULL::text AS statement,
       NULL::name AS owner,
       NULL::text AS state,
       NULL::text[] AS groups,
       NULL::text[] AS done,
       NULL::timestamptz AS started
WHERE hanse.only_by_name('jobs');

GRANT SELECT ON ALL TABLES IN SCHEMA hanse TO PUBLIC;

-- What Hanse adds to SQL in the form of functions. A call that is a whole statement is a schema change, and never gets
-- here; drivers and psql see that the functions exist, and what they take.
CREATE FUNCTION hanse.not_called_so(name text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    RAISE feature_not_supported USING
        MESSAGE = format('%s must be the whole statement', name),
        HINT = format('Call it so: SELECT %s(…);', name);
END
$$;

CREATE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE sql AS $$ SELECT hanse.not_called_so('create_distributed_table') $$;

CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void LANGUAGE sql
AS $$ SELECT hanse.not_called_so('create_reference_table') $$;

CREATE FUNCTION pg_catalog.undistribute_table(table_name regclass, cascade_via_foreign_keys boolean DEFAULT false)
RETURNS void LANGUAGE sql AS $$ SELECT hanse.not_called_so('undistribute_table') $$;
