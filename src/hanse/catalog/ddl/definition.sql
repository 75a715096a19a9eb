-- definition: everything that makes a table what it is, besides its rows, as statements that would make it again.
--
-- {relation} is a literal with the table's qualified name. Run with search_path = '', so that the statements mean the same
-- wherever they run. Decoded by definition.py, whose struct names the fields.
WITH me AS MATERIALIZED (
    SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS q
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = {relation}::pg_catalog.regclass
), leaf AS MATERIALIZED (
    -- what a partitioned table cannot have itself and its partitions have alike
    SELECT c.oid, c.reloptions, c.relpersistence, c.relreplident
    FROM me, pg_partition_tree(me.oid) t JOIN pg_catalog.pg_class c ON c.oid = t.relid
    WHERE me.relkind = 'p' AND t.isleaf AND c.relkind = 'r'
    ORDER BY c.oid LIMIT 1
), col AS MATERIALIZED (
    SELECT a.*, f.adbin, f.adrelid, t.typstorage, t.typcollation
    FROM me JOIN pg_catalog.pg_attribute a ON a.attrelid = me.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
), owned AS MATERIALIZED (
    SELECT c.relname, n.nspname, col.attname, d.deptype, format('%I.%I', n.nspname, c.relname) AS q, s.*,
           col.attidentity
    FROM me
    JOIN pg_catalog.pg_depend d ON d.refobjid = me.oid AND d.deptype IN ('a', 'i')
     AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid AND d.refobjsubid > 0
    JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
    JOIN col ON col.attnum = d.refobjsubid
), view_level AS (
    WITH RECURSIVE above(oid, level) AS (
        SELECT me.oid, 0 FROM me
        UNION
        SELECT r.ev_class, above.level + 1
        FROM above
        JOIN pg_catalog.pg_depend d ON d.refobjid = above.oid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
         AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class <> above.oid
        JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm')
    )
    SELECT above.oid, max(above.level) AS level FROM above WHERE above.level > 0 GROUP BY above.oid
), viewed AS MATERIALIZED (
    SELECT view_level.level, c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS q
    FROM view_level JOIN pg_catalog.pg_class c ON c.oid = view_level.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
), target AS MATERIALIZED (
    -- the table and the views over it, for what is alike in both: rights, comments, rules, triggers
    SELECT me.oid, me.q, 0 AS level, me.relkind, me.relowner, me.relacl FROM me
    UNION ALL
    SELECT viewed.oid, viewed.q, viewed.level, viewed.relkind, viewed.relowner, viewed.relacl FROM viewed
), acl AS (
    SELECT target.oid, target.q, '' AS columns, a.privilege_type, a.grantee, a.is_grantable
    FROM target, aclexplode(target.relacl) a
    UNION ALL
    SELECT target.oid, target.q, format('(%I)', t.attname), a.privilege_type, a.grantee, a.is_grantable
    FROM target JOIN pg_catalog.pg_attribute t ON t.attrelid = target.oid AND NOT t.attisdropped,
         aclexplode(t.attacl) a
), rights AS (
    SELECT target.oid, format('ALTER %s %s OWNER TO %I', CASE target.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
                              target.q, pg_get_userbyid(target.relowner)) AS sql, 0 AS step
    FROM target
    UNION ALL
    SELECT target.oid, format('REVOKE ALL ON TABLE %s FROM PUBLIC, %I', target.q, pg_get_userbyid(target.relowner)), 1
    FROM target WHERE target.relacl IS NOT NULL
    UNION ALL
    SELECT acl.oid, format('GRANT %s %s ON TABLE %s TO %s%s', acl.privilege_type, acl.columns, acl.q,
               CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END,
               CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), 2
    FROM acl
), comment AS (
    SELECT target.oid, format('COMMENT ON %s %s IS %L', CASE target.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
                              target.q, d.description) AS sql
    FROM target JOIN pg_catalog.pg_description d ON d.objoid = target.oid AND d.objsubid = 0
     AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
    UNION ALL
    SELECT target.oid, format('COMMENT ON COLUMN %s.%I IS %L', target.q, a.attname, d.description)
    FROM target JOIN pg_catalog.pg_description d ON d.objoid = target.oid AND d.objsubid > 0
     AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
    JOIN pg_catalog.pg_attribute a ON a.attrelid = target.oid AND a.attnum = d.objsubid
    UNION ALL
    SELECT target.oid, format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, target.q, d.description)
    FROM target JOIN pg_catalog.pg_constraint k ON k.conrelid = target.oid
    JOIN pg_catalog.pg_description d ON d.objoid = k.oid AND d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
    UNION ALL
    SELECT target.oid, format('COMMENT ON INDEX %I.%I IS %L', n.nspname, c.relname, d.description)
    FROM target JOIN pg_catalog.pg_index i ON i.indrelid = target.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
    UNION ALL
    SELECT target.oid, format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, target.q, d.description)
    FROM target JOIN pg_catalog.pg_trigger t ON t.tgrelid = target.oid AND NOT t.tgisinternal
    JOIN pg_catalog.pg_description d ON d.objoid = t.oid AND d.classoid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
    UNION ALL
    SELECT target.oid, format('COMMENT ON RULE %I ON %s IS %L', r.rulename, target.q, d.description)
    FROM target JOIN pg_catalog.pg_rewrite r ON r.ev_class = target.oid AND r.rulename <> '_RETURN'
    JOIN pg_catalog.pg_description d ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    UNION ALL
    SELECT target.oid, format('COMMENT ON POLICY %I ON %s IS %L', p.polname, target.q, d.description)
    FROM target JOIN pg_catalog.pg_policy p ON p.polrelid = target.oid
    JOIN pg_catalog.pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_catalog.pg_policy'::pg_catalog.regclass
    UNION ALL
    SELECT target.oid, format('COMMENT ON STATISTICS %I.%I IS %L', n.nspname, s.stxname, d.description)
    FROM target JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = target.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
    JOIN pg_catalog.pg_description d
      ON d.objoid = s.oid AND d.classoid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass
), behaviour AS (
    SELECT target.oid, pg_get_ruledef(r.oid) AS sql, 0 AS step, r.rulename AS name
    FROM target JOIN pg_catalog.pg_rewrite r ON r.ev_class = target.oid AND r.rulename <> '_RETURN'
    UNION ALL
    SELECT target.oid, format('ALTER TABLE %s %s RULE %I', target.q,
               CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, r.rulename),
           1, r.rulename
    FROM target JOIN pg_catalog.pg_rewrite r ON r.ev_class = target.oid AND r.rulename <> '_RETURN' AND r.ev_enabled <> 'O'
    UNION ALL
    SELECT target.oid, pg_get_triggerdef(t.oid), 0, t.tgname
    FROM target JOIN pg_catalog.pg_trigger t ON t.tgrelid = target.oid AND NOT t.tgisinternal AND t.tgparentid = 0
    UNION ALL
    SELECT target.oid, format('ALTER TABLE %s %s TRIGGER %I', target.q,
               CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, t.tgname),
           1, t.tgname
    FROM target JOIN pg_catalog.pg_trigger t ON t.tgrelid = target.oid AND NOT t.tgisinternal AND t.tgparentid = 0
     AND t.tgenabled <> 'O'
    UNION ALL
    SELECT target.oid, format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', target.q, a.attname,
                              pg_get_expr(f.adbin, f.adrelid)), 0, a.attname
    FROM target JOIN pg_catalog.pg_attribute a ON a.attrelid = target.oid AND target.relkind = 'v'
    JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    UNION ALL
    SELECT me.oid, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, me.q,
               CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
               CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                             WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
               (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ')
                FROM unnest(p.polroles) AS role),
               ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
               ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'), 2, p.polname
    FROM me JOIN pg_catalog.pg_policy p ON p.polrelid = me.oid
    UNION ALL
    SELECT me.oid, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', me.q), 3, '' FROM me WHERE me.relrowsecurity
    UNION ALL
    SELECT me.oid, format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', me.q), 3, '' FROM me WHERE me.relforcerowsecurity
)
SELECT json_build_object(
    'schema', (SELECT me.nspname FROM me), 'name', (SELECT me.relname FROM me),
    'owner', (SELECT pg_get_userbyid(me.relowner) FROM me),
    'unlogged', (SELECT coalesce(leaf.relpersistence, me.relpersistence) = 'u' FROM me LEFT JOIN leaf ON true),
    'storage', (SELECT coalesce(array_to_string(
        array_remove(coalesce(leaf.reloptions, me.reloptions), 'distribution=reference'), ', '), '') FROM me LEFT JOIN leaf ON true),
    'partition_key', (SELECT pg_get_partkeydef(me.oid) FROM me WHERE me.relkind = 'p'),
    'obstacles', (SELECT coalesce(json_agg(o.what), '[]') FROM (
        SELECT 'it takes part in inheritance' AS what FROM me
        WHERE me.relkind = 'r' AND NOT me.relispartition
          AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE me.oid IN (i.inhrelid, i.inhparent))
        UNION ALL SELECT 'it is a typed table' FROM me WHERE me.reloftype <> 0
        UNION ALL SELECT 'it is a partition' FROM me WHERE me.relispartition
        UNION ALL SELECT 'it is in publication ' || quote_ident(p.pubname)
        FROM me JOIN pg_catalog.pg_publication_rel r ON r.prrelid = me.oid
        JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
        UNION ALL SELECT 'materialized view ' || viewed.q || ' depends on it' FROM viewed WHERE viewed.relkind = 'm'
        UNION ALL SELECT 'it has a security label' FROM me
        WHERE EXISTS (SELECT FROM pg_catalog.pg_seclabel l WHERE l.objoid = me.oid)) o),
    'columns', (SELECT coalesce(json_agg(concat_ws(' ', quote_ident(col.attname),
            format_type(col.atttypid, col.atttypmod),
            (SELECT format('COLLATE %I.%I', n.nspname, l.collname)
             FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
             WHERE l.oid = col.attcollation AND col.attcollation <> col.typcollation),
            CASE WHEN col.attgenerated = 's'
                 THEN 'GENERATED ALWAYS AS (' || pg_get_expr(col.adbin, col.adrelid) || ') STORED'
                 WHEN col.adbin IS NOT NULL THEN 'DEFAULT ' || pg_get_expr(col.adbin, col.adrelid) END,
            CASE WHEN col.attnotnull THEN 'NOT NULL' END) ORDER BY col.attnum), '[]') FROM col),
    'column_settings', (SELECT coalesce(json_agg(s.sql), '[]') FROM me, LATERAL (
        SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', me.q, col.attname,
                   CASE col.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'
                                       ELSE 'EXTENDED' END) AS sql
        FROM col WHERE col.attstorage <> col.typstorage
        UNION ALL
        SELECT format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', me.q, col.attname,
                   CASE col.attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END)
        FROM col WHERE col.attcompression <> ''
        UNION ALL
        SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', me.q, col.attname, col.attstattarget)
        FROM col WHERE col.attstattarget >= 0
        UNION ALL
        SELECT format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', me.q, col.attname, array_to_string(col.attoptions, ', '))
        FROM col WHERE col.attoptions IS NOT NULL) s),
    'identities', (SELECT coalesce(json_agg(json_build_array(owned.nspname, owned.relname,
            format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s INCREMENT BY %s MINVALUE %s'
                   ' MAXVALUE %s START WITH %s CACHE %s%s)', me.q, owned.attname,
                   CASE owned.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, owned.q, owned.seqincrement,
                   owned.seqmin, owned.seqmax, owned.seqstart, owned.seqcache,
                   CASE WHEN owned.seqcycle THEN ' CYCLE' ELSE '' END))), '[]')
        FROM me, owned WHERE owned.deptype = 'i'),
    'serials', (SELECT coalesce(json_agg(json_build_array(
            format('ALTER SEQUENCE %s OWNED BY NONE', owned.q),
            format('ALTER SEQUENCE %s OWNED BY %s.%I', owned.q, me.q, owned.attname),
            owned.nspname, owned.relname,
            format('CREATE SEQUENCE %s AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s%s', owned.q,
                   format_type(owned.seqtypid, NULL), owned.seqincrement, owned.seqmin, owned.seqmax, owned.seqstart,
                   owned.seqcache, CASE WHEN owned.seqcycle THEN ' CYCLE' ELSE '' END),
            format('ALTER SEQUENCE %s OWNER TO %I', owned.q, pg_get_userbyid(me.relowner)))), '[]')
        FROM me, owned WHERE owned.deptype = 'a'),
    'constraints', (SELECT coalesce(json_agg(format('ALTER TABLE %s ADD CONSTRAINT %I %s', me.q, k.conname,
                                                    pg_get_constraintdef(k.oid)) ORDER BY k.contype = 'c', k.conname), '[]')
        FROM me JOIN pg_catalog.pg_constraint k ON k.conrelid = me.oid AND k.contype IN ('p', 'u', 'x', 'c')),
    'indexes', (SELECT coalesce(json_agg(CASE WHEN me.relkind = 'p'
                        THEN replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ' || me.q, ' ON ' || me.q)
                        ELSE pg_get_indexdef(i.indexrelid) END ORDER BY i.indexrelid), '[]')
        FROM me JOIN pg_catalog.pg_index i ON i.indrelid = me.oid
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                          WHERE k.conindid = i.indexrelid AND k.conrelid = me.oid AND k.contype IN ('p', 'u', 'x'))),
    'statistics', (SELECT coalesce(json_agg(json_build_array(format('DROP STATISTICS %I.%I', n.nspname, s.stxname),
                                                             pg_get_statisticsobjdef(s.oid))), '[]')
        FROM me JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = me.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace),
    'foreign_keys', (SELECT coalesce(json_agg(json_build_array(
            format('ALTER TABLE %I.%I DROP CONSTRAINT %I', n.nspname, c.relname, k.conname),
            format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)),
            n.nspname, c.relname) ORDER BY k.conname), '[]')
        FROM me JOIN pg_catalog.pg_constraint k ON me.oid IN (k.conrelid, k.confrelid) AND k.contype = 'f' AND k.conparentid = 0
        JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace),
    'behaviour', (SELECT coalesce(json_agg(b.sql ORDER BY b.step, b.name), '[]')
        FROM me JOIN behaviour b ON b.oid = me.oid WHERE b.sql IS NOT NULL),
    'rights', (SELECT coalesce(json_agg(r.sql ORDER BY r.step, r.sql), '[]') FROM me JOIN rights r ON r.oid = me.oid),
    'comments', (SELECT coalesce(json_agg(c.sql), '[]') FROM me JOIN comment c ON c.oid = me.oid),
    'replica_identity', (SELECT CASE coalesce(leaf.relreplident, me.relreplident)
            WHEN 'f' THEN format('ALTER TABLE %s REPLICA IDENTITY FULL', me.q)
            WHEN 'n' THEN format('ALTER TABLE %s REPLICA IDENTITY NOTHING', me.q)
            WHEN 'i' THEN (SELECT format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', me.q, x.relname)
                           FROM pg_catalog.pg_index i LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.indexrelid
                           JOIN pg_catalog.pg_class x ON x.oid = coalesce(h.inhparent, i.indexrelid)
                           WHERE i.indrelid = coalesce(leaf.oid, me.oid) AND i.indisreplident) END
            FROM me LEFT JOIN leaf ON true),
    'views', (SELECT coalesce(json_agg(json_build_array(
            format('DROP VIEW %s', viewed.q),
            (SELECT json_agg(v.sql ORDER BY v.step, v.n) FROM (
                SELECT format('CREATE VIEW %s%s AS %s', viewed.q,
                           ' WITH (' || array_to_string(viewed.reloptions, ', ') || ')',
                           rtrim(pg_get_viewdef(viewed.oid), ';')) AS sql, 0 AS step, 0 AS n
                UNION ALL SELECT b.sql, 1, b.step FROM behaviour b WHERE b.oid = viewed.oid
                UNION ALL SELECT r.sql, 2, r.step FROM rights r WHERE r.oid = viewed.oid
                UNION ALL SELECT c.sql, 3, 0 FROM comment c WHERE c.oid = viewed.oid) v)
            ) ORDER BY viewed.level, viewed.oid), '[]') FROM viewed WHERE viewed.relkind = 'v')
)::text
