-- Sizes as the cluster's user means them: the schema-complete database has no rows, so the functions that tell sizes read a
-- table there, which each node's agent brings up to date (agent/sizes.py). PostgreSQL's own functions stay under another
-- name, for system catalogs and for what the table does not know yet. Run once, when main is made; names are qualified.

CREATE TABLE hanse.sizes (
    schema name NOT NULL,
    name name NOT NULL,
    main bigint NOT NULL, -- bytes, summed over the groups
    whole bigint NOT NULL,
    indexes bigint NOT NULL,
    total bigint NOT NULL,
    PRIMARY KEY (schema, name)
);

-- The database itself has schema and name ''.
INSERT INTO hanse.sizes VALUES ('', '', 0, 0, 0, 0);

GRANT SELECT ON hanse.sizes TO PUBLIC;

ALTER FUNCTION pg_catalog.pg_relation_size(regclass, text) RENAME TO hanse_relation_size;
ALTER FUNCTION pg_catalog.pg_relation_size(regclass) RENAME TO hanse_relation_size;
ALTER FUNCTION pg_catalog.pg_table_size(regclass) RENAME TO hanse_table_size;
ALTER FUNCTION pg_catalog.pg_indexes_size(regclass) RENAME TO hanse_indexes_size;
ALTER FUNCTION pg_catalog.pg_total_relation_size(regclass) RENAME TO hanse_total_relation_size;
ALTER FUNCTION pg_catalog.pg_database_size(name) RENAME TO hanse_database_size;
ALTER FUNCTION pg_catalog.pg_database_size(oid) RENAME TO hanse_database_size;

CREATE FUNCTION hanse.size_of(relation regclass) RETURNS hanse.sizes LANGUAGE sql STABLE
RETURN (
    SELECT s FROM hanse.sizes s
    JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.name
    WHERE c.oid = relation
);

CREATE FUNCTION pg_catalog.pg_relation_size(regclass) RETURNS bigint LANGUAGE sql VOLATILE STRICT
RETURN coalesce((hanse.size_of($1)).main, pg_catalog.hanse_relation_size($1));

CREATE FUNCTION pg_catalog.pg_relation_size(regclass, text) RETURNS bigint LANGUAGE sql VOLATILE STRICT
RETURN CASE WHEN $2 = 'main' THEN pg_catalog.pg_relation_size($1) ELSE pg_catalog.hanse_relation_size($1, $2) END;

CREATE FUNCTION pg_catalog.pg_table_size(regclass) RETURNS bigint LANGUAGE sql VOLATILE STRICT
RETURN coalesce((hanse.size_of($1)).whole, pg_catalog.hanse_table_size($1));

CREATE FUNCTION pg_catalog.pg_indexes_size(regclass) RETURNS bigint LANGUAGE sql VOLATILE STRICT
RETURN coalesce((hanse.size_of($1)).indexes, pg_catalog.hanse_indexes_size($1));

CREATE FUNCTION pg_catalog.pg_total_relation_size(regclass) RETURNS bigint LANGUAGE sql VOLATILE STRICT
RETURN coalesce((hanse.size_of($1)).total, pg_catalog.hanse_total_relation_size($1));

CREATE FUNCTION pg_catalog.pg_database_size(name) RETURNS bigint LANGUAGE sql VOLATILE STRICT
RETURN CASE WHEN $1 = pg_catalog.current_database() THEN (SELECT total FROM hanse.sizes WHERE schema = '' AND name = '')
            ELSE pg_catalog.hanse_database_size($1) END;

CREATE FUNCTION pg_catalog.pg_database_size(oid) RETURNS bigint LANGUAGE sql VOLATILE STRICT
RETURN CASE WHEN $1 = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
            THEN pg_catalog.pg_database_size(pg_catalog.current_database()) ELSE pg_catalog.hanse_database_size($1) END;
