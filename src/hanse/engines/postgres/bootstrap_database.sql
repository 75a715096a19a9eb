-- First content of a fresh instance, the cluster's database. Run as hanse_system in single-user mode: a statement ends
-- with ";" and an empty line, so no function body may contain the two together.

CREATE SCHEMA hanse;

GRANT USAGE ON SCHEMA hanse TO PUBLIC;

-- The decisions of distributed transactions: 'c' committed, 'a' aborted (a tombstone, which a late commit dies on). gids can be
-- seen by everybody in pg_prepared_xacts; whoever knows the secret made the transaction, and may record that it is committed.
CREATE TABLE hanse.commit_record (
    gid text COLLATE "C" PRIMARY KEY,
    outcome "char" NOT NULL DEFAULT 'c',
    secret text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),  -- the transaction may be older than records live
    CONSTRAINT secret_of_transaction CHECK (
        outcome = 'a' OR secret IS NOT NULL AND right(gid, 65) = ':' || encode(sha256(convert_to(secret, 'UTF8')), 'hex')
    )
);

GRANT INSERT (gid, secret) ON hanse.commit_record TO PUBLIC;

-- The gates: their lock modes order commits and snapshots. They are always empty; who commits takes ROW EXCLUSIVE, for which
-- the right to insert is enough: of `gate` in a transaction in one group, of the other in one over several. Who reads over
-- several groups takes SHARE.
CREATE TABLE hanse.gate (x int CHECK (false));

GRANT INSERT ON hanse.gate TO PUBLIC;

CREATE TABLE hanse.gate_over_groups (x int CHECK (false));

GRANT INSERT ON hanse.gate_over_groups TO PUBLIC;

-- The version of the catalog that changed the schema last is this table's name: see gateway/versions.py.
CREATE TABLE hanse.catalog_0 (x int CHECK (false));

GRANT SELECT ON hanse.catalog_0 TO PUBLIC;

-- What a transaction over several groups writes when it commits at SERIALIZABLE, and takes back. No row is ever visible.
CREATE UNLOGGED TABLE hanse.touch (x int);

GRANT INSERT ON hanse.touch TO PUBLIC;

-- Transactions over several groups that wait for a lock at this moment: by it gateways find deadlocks over groups. Only the
-- home group's is used.
CREATE UNLOGGED TABLE hanse.waiting (
    gateway text NOT NULL,
    name text NOT NULL,
    started float8 NOT NULL,
    place text NOT NULL,
    pid int NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Statements that run group after group outside transactions, and how far they are: gateway/jobs.py. Only the home group's is
-- used. The owner is the session that writes here; where it is gone, another takes the job.
CREATE TABLE hanse.job (
    id text PRIMARY KEY,
    verb text NOT NULL,
    statement text NOT NULL,
    texts json NOT NULL,  -- group → what it runs
    done text[] NOT NULL DEFAULT '{}',
    role name NOT NULL,
    search_path text NOT NULL,
    index_schema name,
    index_name name,
    decision text,  -- the schema change by which the catalog learns of the index
    failed boolean NOT NULL DEFAULT false,  -- its client knows; what it has left is to be removed
    owner_pid int,
    owner_start timestamptz,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    touched timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Record "aborted" unless a decision is there already. Waits for a record of the same gid that is being made. The caller
-- reads the decision with a second statement, for which it needs a new snapshot.
CREATE FUNCTION hanse.record_abort(gid text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO hanse.commit_record (gid, outcome) VALUES (record_abort.gid, 'a') ON CONFLICT (gid) DO NOTHING
$$;

REVOKE EXECUTE ON FUNCTION hanse.record_abort(text) FROM PUBLIC;

-- Run a statement of Hanse's own inside a user's transaction (findings-gateway 13, 15: grants and owners are mirrored,
-- rows are moved while a table is converted). Whoever calls must know the system role's verifier, which only superusers
-- can read; the proof is good for one statement in one session, so that a user who sees it in pg_stat_activity has nothing.
CREATE FUNCTION hanse.check_proof(statement text, proof text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key text;
BEGIN
    SELECT rolpassword INTO STRICT key FROM pg_authid WHERE rolname = 'hanse_system';
    IF proof IS DISTINCT FROM encode(sha256(sha256(convert_to(key || ':' || pg_backend_pid() || ':' || statement, 'UTF8'))
        || convert_to(key, 'UTF8')), 'hex') THEN
        RAISE EXCEPTION 'permission denied for statements of the system' USING ERRCODE = '42501';
    END IF;
END
$$;

CREATE FUNCTION hanse.run_as_system(statement text, proof text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hanse.check_proof(statement, proof);
    EXECUTE statement;
END
$$;

-- The same for a query; each row is a JSON array of texts.
CREATE FUNCTION hanse.ask_as_system(statement text, proof text) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hanse.check_proof(statement, proof);
    RETURN QUERY EXECUTE 'SELECT (SELECT json_agg(v.value)::text FROM json_each_text(row_to_json(q)) v) FROM ('
        || statement || ') q';
END
$$;
