-- What Hanse keeps in the schema-complete database is not the user's: pg_dump must leave it out. It does so with the members
-- of an extension, and it says nothing of an extension whose OID is one of the server's own (below FirstNormalObjectId).
-- So schema hanse and what is in it are made members of such a one, which exists in no other sense: no files, no script.
-- Rights that were granted with an extension are no news either (pg_init_privs).

INSERT INTO pg_catalog.pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
SELECT 16383, 'hanse', r.oid, 'hanse'::regnamespace, false, '1'
FROM pg_catalog.pg_roles r WHERE r.rolname = session_user;

INSERT INTO pg_catalog.pg_description (objoid, classoid, objsubid, description)
VALUES (16383, 'pg_catalog.pg_extension'::regclass, 0, 'many PostgreSQL servers that look like one');

INSERT INTO pg_catalog.pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
SELECT member.classid, member.objid, 0, 'pg_catalog.pg_extension'::regclass, 16383, 0, 'e'
FROM (
    SELECT 'pg_catalog.pg_namespace'::regclass AS classid, 'hanse'::regnamespace::oid AS objid
    UNION ALL
    SELECT 'pg_catalog.pg_class'::regclass, oid FROM pg_catalog.pg_class
    WHERE relnamespace = 'hanse'::regnamespace AND relkind IN ('r', 'v')
    UNION ALL
    SELECT 'pg_catalog.pg_proc'::regclass, oid FROM pg_catalog.pg_proc WHERE pronamespace = 'hanse'::regnamespace
) member;

INSERT INTO pg_catalog.pg_init_privs (objoid, classoid, objsubid, privtype, initprivs)
SELECT oid, 'pg_catalog.pg_namespace'::regclass, 0, 'e', nspacl FROM pg_catalog.pg_namespace
WHERE nspname = 'hanse' AND nspacl IS NOT NULL
UNION ALL
SELECT oid, 'pg_catalog.pg_class'::regclass, 0, 'e', relacl FROM pg_catalog.pg_class
WHERE relnamespace = 'hanse'::regnamespace AND relacl IS NOT NULL
UNION ALL
SELECT a.attrelid, 'pg_catalog.pg_class'::regclass, a.attnum, 'e', a.attacl FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'hanse'::regnamespace AND a.attacl IS NOT NULL
UNION ALL
SELECT oid, 'pg_catalog.pg_proc'::regclass, 0, 'e', proacl FROM pg_catalog.pg_proc
WHERE pronamespace = 'hanse'::regnamespace AND proacl IS NOT NULL;
