-- introspection: what PostgreSQL says about the schema-complete database, as one JSON document.
--
-- Run with search_path = '' so that every name that is not in pg_catalog comes qualified. Decoded by introspection.py,
-- whose structs name the fields of the arrays built here, in order. Partitions outnumber everything else, so they send
-- only what differs from the table at the top of their tree.
WITH RECURSIVE extension_member AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
), space AS MATERIALIZED (
    SELECT n.oid, n.nspname
    FROM pg_catalog.pg_namespace n
    WHERE left(n.nspname::text, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', 'hanse')
      AND n.oid NOT IN (SELECT e.objid FROM extension_member e WHERE e.classid = 'pg_catalog.pg_namespace'::regclass)
), rel AS MATERIALIZED (
    SELECT c.oid, space.nspname, c.relname, c.relkind, c.relispartition, c.relowner, c.relpartbound, c.relrowsecurity,
           c.relhastriggers, c.relhasrules, c.reloptions
    FROM pg_catalog.pg_class c JOIN space ON space.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relpersistence <> 't'
      AND c.oid NOT IN (SELECT e.objid FROM extension_member e WHERE e.classid = 'pg_catalog.pg_class'::regclass)
), tree (oid, root, shard) AS (
    -- every partition, with the sharded table at the top and the top-level partition (the shard) that it belongs to
    SELECT i.inhrelid, i.inhparent, i.inhrelid
    FROM pg_catalog.pg_inherits i JOIN rel ON rel.oid = i.inhparent
    WHERE rel.relkind = 'p' AND NOT rel.relispartition AND NOT i.inhdetachpending
    UNION ALL
    SELECT i.inhrelid, tree.root, tree.shard
    FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
), top_attribute AS MATERIALIZED (
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.atthasdef, a.attgenerated
    FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE rel.relkind = 'p' AND NOT rel.relispartition
), misshapen AS MATERIALIZED (
    -- Partitions with a column whose place, type or default differs from the top table's. Identity does not count:
    -- before PostgreSQL 17 no partition has it.
    SELECT DISTINCT tree.oid
    FROM pg_catalog.pg_attribute a
    JOIN tree ON tree.oid = a.attrelid
    LEFT JOIN top_attribute b
      ON b.attrelid = tree.root AND b.attnum = a.attnum AND b.attname = a.attname AND b.atttypid = a.atttypid
     AND b.atttypmod = a.atttypmod AND b.attnotnull = a.attnotnull AND b.atthasdef = a.atthasdef
     AND b.attgenerated = a.attgenerated
    WHERE a.attnum > 0 AND NOT a.attisdropped AND b.attrelid IS NULL
), unsteady AS MATERIALIZED (
    -- defaults that need not give the same value twice: any function that is not immutable, any conversion through text
    SELECT DISTINCT d.oid
    FROM pg_catalog.pg_attrdef d
    JOIN rel ON rel.oid = d.adrelid AND NOT rel.relispartition
    LEFT JOIN LATERAL regexp_matches(d.adbin::text, ':(?:opfuncid|funcid) (\d+)', 'g') AS called(id) ON true
    LEFT JOIN pg_catalog.pg_proc p ON p.oid = called.id[1]::oid
    WHERE p.provolatile <> 'i' OR d.adbin::text ~ '\{(SQLVALUEFUNCTION|NEXTVALUEEXPR|COERCEVIAIO|FUNCEXPR :funcid 0) '
), drawn AS MATERIALIZED (
    -- the sequence behind an identity column, or behind a default that is nextval() and nothing else
    SELECT d.refobjid AS relid, d.refobjsubid AS attnum, d.objid AS sequence
    FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
      AND d.deptype = 'i' AND d.refobjsubid > 0 AND d.objid IN (SELECT rel.oid FROM rel WHERE rel.relkind = 'S')
    UNION ALL
    SELECT f.adrelid, f.adnum, d.refobjid
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
      AND d.refobjid IN (SELECT rel.oid FROM rel WHERE rel.relkind = 'S')
      AND pg_catalog.pg_get_expr(f.adbin, f.adrelid) ~ '^nextval\(''.*''::regclass\)$'
), attribute AS (
    SELECT a.attrelid,
           json_agg(json_build_array(
               a.attname, a.atttypid::int8, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
               CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(f.adbin, f.adrelid) END,
               a.attgenerated = '' AND unsteady.oid IS NOT NULL,
               drawn.sequence::int8, a.attidentity, a.attgenerated <> '', coalesce(l.collisdeterministic, true)
           ) ORDER BY a.attnum) AS columns
    FROM rel
    JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    LEFT JOIN unsteady ON unsteady.oid = f.oid
    LEFT JOIN drawn ON drawn.relid = a.attrelid AND drawn.attnum = a.attnum
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
    WHERE rel.relkind <> 'S' AND (NOT rel.relispartition OR rel.oid IN (SELECT misshapen.oid FROM misshapen))
    GROUP BY a.attrelid
), trigger AS (
    SELECT t.tgrelid, bool_or(t.tgtype & 1 = 0) FILTER (WHERE NOT t.tgisinternal) AS per_statement,
           bool_or(NOT t.tgisinternal) AS own, bool_or(t.tgdeferrable) AS deferrable
    FROM pg_catalog.pg_trigger t
    GROUP BY t.tgrelid
), rule AS (
    SELECT r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.rulename <> '_RETURN' GROUP BY r.ev_class
), uniqueness AS (
    SELECT i.indrelid, json_agg(json_build_array(
               c.relname,
               (SELECT json_agg(a.attname ORDER BY k.place)
                FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                WHERE k.place <= i.indnkeyatts),
               i.indisprimary) ORDER BY i.indisprimary DESC, c.relname) AS keys
    FROM pg_catalog.pg_index i
    JOIN rel ON rel.oid = i.indrelid AND NOT rel.relispartition
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    GROUP BY i.indrelid
), reference AS (
    SELECT k.conrelid, json_agg(json_build_array(
               k.conname,
               (SELECT json_agg(a.attname ORDER BY f.place) FROM unnest(k.conkey) WITH ORDINALITY AS f(attnum, place)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = f.attnum),
               space.nspname, c.relname,
               (SELECT json_agg(a.attname ORDER BY f.place) FROM unnest(k.confkey) WITH ORDINALITY AS f(attnum, place)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = f.attnum)
           ) ORDER BY k.conname) AS keys
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.confrelid
    JOIN space ON space.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0
    GROUP BY k.conrelid
), foreign_code (classid, objid) AS MATERIALIZED (
    -- expressions that call what a user made: only those are recorded (built-in functions are pinned)
    SELECT DISTINCT d.classid, d.objid FROM pg_catalog.pg_depend d
    WHERE d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
      AND d.classid IN ('pg_catalog.pg_constraint'::regclass, 'pg_catalog.pg_attrdef'::regclass,
                        'pg_catalog.pg_class'::regclass)
), code_part AS (
    -- what runs beside a statement that reads or writes the relation
    SELECT t.tgrelid AS relid, 'trigger' AS kind, t.tgname::text AS name, pg_catalog.pg_get_triggerdef(t.oid) AS source
    FROM pg_catalog.pg_trigger t JOIN rel ON rel.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND t.tgparentid = 0
    UNION ALL
    SELECT p.polrelid, 'policy', p.polname::text, concat_ws(' AND ',
           '(' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
           '(' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')')
    FROM pg_catalog.pg_policy p JOIN rel ON rel.oid = p.polrelid
    UNION ALL
    SELECT r.ev_class, 'rule', r.rulename::text, pg_catalog.pg_get_ruledef(r.oid)
    FROM pg_catalog.pg_rewrite r JOIN rel ON rel.oid = r.ev_class
    WHERE r.rulename <> '_RETURN'
    UNION ALL
    SELECT k.conrelid, 'check', k.conname::text, pg_catalog.pg_get_expr(k.conbin, k.conrelid)
    FROM pg_catalog.pg_constraint k JOIN foreign_code f ON f.objid = k.oid AND f.classid = 'pg_catalog.pg_constraint'::regclass
    JOIN rel ON rel.oid = k.conrelid
    WHERE k.contype = 'c' AND NOT rel.relispartition
    UNION ALL
    SELECT d.adrelid, CASE WHEN a.attgenerated = '' THEN 'default' ELSE 'generated' END, a.attname::text,
           pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    FROM pg_catalog.pg_attrdef d JOIN foreign_code f ON f.objid = d.oid AND f.classid = 'pg_catalog.pg_attrdef'::regclass
    JOIN rel ON rel.oid = d.adrelid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE NOT rel.relispartition
    UNION ALL
    SELECT i.indrelid, 'index', c.relname::text, concat_ws(', ',
           pg_catalog.pg_get_expr(i.indexprs, i.indrelid), pg_catalog.pg_get_expr(i.indpred, i.indrelid))
    FROM pg_catalog.pg_index i
    JOIN foreign_code f ON f.objid = i.indexrelid AND f.classid = 'pg_catalog.pg_class'::regclass
    JOIN rel ON rel.oid = i.indrelid JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    WHERE NOT rel.relispartition AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
), code AS (
    SELECT c.relid, json_agg(json_build_array(c.kind, c.name, coalesce(c.source, '')) ORDER BY c.kind, c.name) AS parts
    FROM code_part c GROUP BY c.relid
), sharding AS MATERIALIZED (
    SELECT p.partrelid, p.partstrat,
           (SELECT json_agg(json_build_array(a.attname, a.atttypid::int8) ORDER BY k.place)
            FROM unnest(p.partattrs::int2[]) WITH ORDINALITY AS k(attnum, place)
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.attnum AND k.attnum > 0
           ) AS key
    FROM pg_catalog.pg_partitioned_table p
    JOIN rel ON rel.oid = p.partrelid AND NOT rel.relispartition
)
SELECT json_build_object(
    'server_version', current_setting('server_version_num')::int,
    'relations', (
        SELECT json_agg(json_build_array(
            rel.oid::int8, rel.nspname, rel.relname, rel.relkind, pg_catalog.pg_get_userbyid(rel.relowner),
            placement.kind, coalesce(placement.shard_group, placement.home),
            tree.root::int8, tree.shard::int8,
            CASE WHEN tree.oid = tree.shard THEN pg_catalog.pg_get_expr(rel.relpartbound, rel.oid) END,
            attribute.columns, sharding.partstrat, sharding.key,
            rel.relrowsecurity, coalesce(trigger.per_statement, false), coalesce(trigger.own, false),
            rule.ev_class IS NOT NULL, uniqueness.keys, reference.keys,
            CASE WHEN rel.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(rel.oid) END,
            rel.relkind = 'v' AND coalesce(rel.reloptions::text ~* 'security_invoker=(true|on|yes|1)', false),
            coalesce(trigger.deferrable, false), code.parts
        ) ORDER BY rel.nspname, rel.relname)
        FROM rel
        LEFT JOIN tree ON tree.oid = rel.oid
        LEFT JOIN hanse.placement ON placement.relid = coalesce(tree.shard, rel.oid)
        LEFT JOIN attribute ON attribute.attrelid = rel.oid
        LEFT JOIN sharding ON sharding.partrelid = rel.oid
        LEFT JOIN trigger ON rel.relhastriggers AND trigger.tgrelid = rel.oid
        LEFT JOIN rule ON rel.relhasrules AND rule.ev_class = rel.oid
        LEFT JOIN uniqueness ON uniqueness.indrelid = rel.oid
        LEFT JOIN reference ON reference.conrelid = rel.oid
        LEFT JOIN code ON code.relid = rel.oid
    ),
    'functions', (
        SELECT json_agg(json_build_array(
            space.nspname, p.proname, p.prokind, l.lanname, p.provolatile, p.pronargs, p.proretset,
            CASE WHEN l.lanname IN ('sql', 'plpgsql')
                 THEN coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc) ELSE '' END,
            CASE WHEN l.lanname = 'plpgsql' THEN pg_catalog.pg_get_function_arguments(p.oid) ELSE '' END,
            CASE WHEN l.lanname = 'plpgsql' THEN coalesce(pg_catalog.pg_get_function_result(p.oid), '') ELSE '' END,
            (SELECT substr(c.setting, 13) FROM unnest(p.proconfig) AS c(setting)
             WHERE c.setting LIKE 'search\_path=%'),
            (SELECT json_agg(split_part(c.setting, '=', 1)) FROM unnest(p.proconfig) AS c(setting)),
            p.prosecdef, pg_catalog.pg_get_userbyid(p.proowner)
        ) ORDER BY space.nspname, p.proname, p.oid)
        FROM pg_catalog.pg_proc p
        JOIN space ON space.oid = p.pronamespace
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE p.oid NOT IN (SELECT e.objid FROM extension_member e WHERE e.classid = 'pg_catalog.pg_proc'::regclass)
    ),
    'schemas', (SELECT json_agg(space.nspname ORDER BY space.nspname) FROM space)
)::text
