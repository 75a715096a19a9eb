-- Activity as the cluster's user means it: pg_stat_all_tables, pg_statio_all_tables and their kind are views over functions of
-- a relation's oid. The schema-complete database has no activity, so these functions read a table there, which each node's
-- agent brings up to date (agent/counters.py). PostgreSQL's own stay under another name, for system catalogs. Views keep
-- functions by their oids, and built-in ones are known to the server by them, so the views are made again from their texts.
-- Run once, when main is made.

CREATE TABLE hanse.counters (
    relid oid PRIMARY KEY,
    counted jsonb NOT NULL -- name of the function without 'pg_stat_get_' → its value over all groups
);

GRANT SELECT ON hanse.counters TO PUBLIC;

DO $make$
DECLARE
    texts jsonb := (
        SELECT jsonb_object_agg(relname, pg_get_viewdef(oid)) FROM pg_class
        WHERE relnamespace = 'pg_catalog'::regnamespace AND relname IN
            ('pg_stat_all_tables', 'pg_stat_all_indexes', 'pg_statio_all_tables', 'pg_statio_all_indexes', 'pg_statio_all_sequences')
    );
    item record;
BEGIN
    PERFORM set_config('allow_system_table_mods', 'on', true);
    FOR item IN
        SELECT proname, prorettype::regtype AS result FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND pronargs = 1 AND proargtypes[0] = 'oid'::regtype
          AND proname ~ '^pg_stat_get_' AND strpos(texts::text, proname || '(') > 0
    LOOP
        EXECUTE format('ALTER FUNCTION pg_catalog.%I(oid) RENAME TO %I', item.proname, 'hanse_' || item.proname);
        EXECUTE format('CREATE FUNCTION pg_catalog.%I(oid) RETURNS %s LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
            RETURN coalesce((SELECT (c.counted ->> %L)::%s FROM hanse.counters c WHERE c.relid = $1), pg_catalog.%I($1))',
            item.proname, item.result, substr(item.proname, length('pg_stat_get_') + 1), item.result, 'hanse_' || item.proname);
    END LOOP;
    FOR item IN SELECT key, value FROM jsonb_each_text(texts) LOOP
        EXECUTE format('CREATE OR REPLACE VIEW pg_catalog.%I AS %s', item.key, item.value);
    END LOOP;
END
$make$;
