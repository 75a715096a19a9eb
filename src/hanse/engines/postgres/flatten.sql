-- Makes a relation of a slot one that any rows of the cluster can be copied into, with any of its columns left out.
-- Runs once per relation and slot, never in main. The relation's oid and its row type's oid stay, so that views and
-- functions on it, and the types in results, are untouched. The table keeps: columns, primary key, owner, grants.
--
-- It loses what would refuse rows that PostgreSQL has accepted elsewhere, or rows with columns that were not pulled
-- (NULL): foreign keys, CHECK and NOT NULL, unique and exclusion constraints (a partial one tests columns that were
-- not pulled), row security (it has spoken in the pull, and reads columns that may be missing). And what costs time or
-- runs users' functions on half a row: other indexes, triggers, rules, defaults, generation expressions, statistics. The primary
-- key stays because GROUP BY may rest on it; its rows are unique in the cluster, and NULLs never collide.
--
-- A partitioned table gets one catch-all partition; its shards become tables of their own, for queries that name them.
-- A materialized view becomes a table: in pg_class, because there is no ALTER for it and dropping it drops what rests on
-- it. PostgreSQL reads relkind anew whenever it expands a view (AcquireRewriteLocks).

CREATE FUNCTION hanse.flatten(relation regclass) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog
AS $flatten$
DECLARE
    kind "char" := (SELECT relkind FROM pg_class WHERE oid = relation);
    catch_all regclass;
    item record;
BEGIN
    PERFORM hanse.flatten_inheritance(relation);

    FOR item IN
        SELECT conrelid::regclass AS owner, conname FROM pg_constraint
        WHERE contype = 'f' AND conparentid = 0 AND (conrelid = relation OR confrelid = relation)
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', item.owner, item.conname);
    END LOOP;

    IF kind = 'm' THEN
        DELETE FROM pg_depend d USING pg_rewrite r
        WHERE r.ev_class = relation AND d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid;
        DELETE FROM pg_rewrite WHERE ev_class = relation;
        UPDATE pg_class SET relkind = 'r', relhasrules = false, relispopulated = true WHERE oid = relation;
    END IF;

    FOR item IN
        SELECT conname FROM pg_constraint
        WHERE conrelid = relation AND contype IN ('c', 'u', 'x') AND conparentid = 0
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', relation, item.conname);
    END LOOP;
    FOR item IN SELECT indexrelid::regclass AS name FROM pg_index WHERE indrelid = relation AND NOT indisprimary LOOP
        EXECUTE format('DROP INDEX %s', item.name);
    END LOOP;
    FOR item IN SELECT stxnamespace::regnamespace AS schema, stxname FROM pg_statistic_ext WHERE stxrelid = relation LOOP
        EXECUTE format('DROP STATISTICS %s.%I', item.schema, item.stxname);
    END LOOP;
    FOR item IN
        SELECT attname, attgenerated FROM pg_attribute
        WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND atthasdef
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP %s', relation, item.attname,
                       CASE WHEN item.attgenerated <> '' THEN 'EXPRESSION' ELSE 'DEFAULT' END);
    END LOOP;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND NOT tgisinternal) THEN
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', relation);  -- even those that are ENABLE ALWAYS
    END IF;
    FOR item IN SELECT rulename FROM pg_rewrite WHERE ev_class = relation AND rulename <> '_RETURN' LOOP
        EXECUTE format('ALTER TABLE %s DISABLE RULE %I', relation, item.rulename);
    END LOOP;
    IF (SELECT relrowsecurity FROM pg_class WHERE oid = relation) THEN
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', relation);
    END IF;

    IF kind = 'p' THEN
        EXECUTE format('CREATE UNLOGGED TABLE hanse.flat_%s PARTITION OF %s %s', relation::oid, relation,
            CASE WHEN (SELECT partstrat FROM pg_partitioned_table WHERE partrelid = relation) = 'h'
                 THEN 'FOR VALUES WITH (MODULUS 1, REMAINDER 0)' ELSE 'DEFAULT' END);
        catch_all := format('hanse.flat_%s', relation::oid)::regclass;
    ELSIF (SELECT relpersistence FROM pg_class WHERE oid = relation) = 'p' THEN
        EXECUTE format('ALTER TABLE %s SET UNLOGGED', relation);
    END IF;

    -- ALTER cannot do this to a primary key's or an identity column; the sequence of the latter stays what it is.
    UPDATE pg_attribute SET attnotnull = false, attidentity = ''
    WHERE attrelid IN (relation, catch_all) AND attnum > 0 AND (attnotnull OR attidentity <> '');
END
$flatten$;

-- Takes a relation out of every tree: its partitions and children no longer add their rows, it no longer adds its own.
CREATE FUNCTION hanse.flatten_inheritance(relation regclass) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog
AS $flatten$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT i.inhrelid::regclass AS child, i.inhparent::regclass AS parent, c.relispartition
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE (i.inhparent = relation OR i.inhrelid = relation) AND c.relkind IN ('r', 'p', 'f')
    LOOP
        IF item.relispartition THEN
            EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', item.parent, item.child);
        ELSE
            EXECUTE format('ALTER TABLE %s NO INHERIT %s', item.child, item.parent);
        END IF;
    END LOOP;
END
$flatten$;

REVOKE EXECUTE ON FUNCTION hanse.flatten(regclass), hanse.flatten_inheritance(regclass) FROM PUBLIC;
