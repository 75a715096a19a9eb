"""Gives types that a transaction has just made other OIDs, by writing PostgreSQL's catalogs (findings-gateway 10).

Nobody else can see such a type, no row on disk has its OID in it, no plan knows it; only catalogs do. Which of their
columns refer to types PostgreSQL tells itself (`pg_get_catalog_foreign_keys()`, by which its own regression test
`oidjoins` checks them); the columns that refer to objects of any class are five, and named here. Expression trees
(type pg_node_tree) cannot be written by SQL: where a new one holds an old OID, `TREES_KNOW` is raised, nothing is lost but
the attempt. PostgreSQL's caches follow, since these are ordinary updates of catalogs.

In two rounds, by way of OIDs that nothing uses, because an old OID of one type may be the new one of another.
"""

from __future__ import annotations

from collections.abc import Mapping

TREES_KNOW = "55HN1"  # our own, in PostgreSQL's class "object not in prerequisite state"
TAKEN = "23505"

_RENUMBER = """DO $renumber$
DECLARE
    olds pg_catalog.oid[] := '{{{old}}}';
    news pg_catalog.oid[];
    pattern pg_catalog.text := '\\m(' || pg_catalog.array_to_string(olds, '|') || ')\\M';
    this_transaction pg_catalog.int8 := pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8;
    item record;
    found pg_catalog.bool;
BEGIN
    FOR item IN
        SELECT a.attrelid::pg_catalog.regclass AS catalog, a.attname AS name
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        WHERE a.atttypid = 'pg_catalog.pg_node_tree'::pg_catalog.regtype AND c.relkind = 'r'
          AND c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace
    LOOP
        EXECUTE pg_catalog.format('SELECT EXISTS (SELECT FROM %s t WHERE'
            ' ((t.xmin::text::int8 - $1) & 4294967295) < 2147483648 AND t.%I::text ~ $2)', item.catalog, item.name)
        INTO found USING this_transaction, pattern;
        IF found THEN
            RAISE EXCEPTION 'an expression in % refers to a new type', item.catalog USING ERRCODE = '{trees_know}';
        END IF;
    END LOOP;
    FOR round IN 1 .. 2 LOOP
        IF round = 1 THEN
            news := ARRAY(SELECT pg_catalog.pg_nextoid('pg_catalog.pg_type', 'oid', 'pg_catalog.pg_type_oid_index')
                          FROM pg_catalog.unnest(olds));
        ELSE
            olds := news;
            news := '{{{new}}}';
        END IF;
        UPDATE pg_catalog.pg_type t SET oid = news[pg_catalog.array_position(olds, t.oid)] WHERE t.oid = ANY (olds);
        FOR item IN
            SELECT k.fktable AS catalog, k.fkcols[1] AS name, k.is_array,
                   pg_catalog.format_type(a.atttypid, NULL) AS type
            FROM pg_catalog.pg_get_catalog_foreign_keys() k
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.fktable AND a.attname = k.fkcols[1]
            WHERE k.pktable = 'pg_catalog.pg_type'::pg_catalog.regclass
        LOOP
            IF item.is_array THEN
                EXECUTE pg_catalog.format('UPDATE %1$s t SET %2$I = (SELECT %3$s FROM ('
                    'SELECT coalesce($2[array_position($1, e.oid)], e.oid) AS oid, e.place'
                    ' FROM unnest(t.%2$I::oid[]) WITH ORDINALITY AS e(oid, place)) e) WHERE t.%2$I::oid[] && $1',
                    item.catalog, item.name, CASE item.type
                    WHEN 'oidvector' THEN 'string_agg(e.oid::text, '' '' ORDER BY e.place)::oidvector'
                    ELSE 'array_agg(e.oid ORDER BY e.place)' END) USING olds, news;
            ELSE
                EXECUTE pg_catalog.format('UPDATE %1$s t SET %2$I = $2[array_position($1, t.%2$I::oid)]'
                    ' WHERE t.%2$I::oid = ANY ($1)', item.catalog, item.name) USING olds, news;
            END IF;
        END LOOP;
        FOR item IN
            SELECT * FROM (VALUES
                ('pg_catalog.pg_depend', 'classid', 'objid', ''),
                ('pg_catalog.pg_depend', 'refclassid', 'refobjid', ''),
                ('pg_catalog.pg_shdepend', 'classid', 'objid',
                 ' AND dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())'),
                ('pg_catalog.pg_description', 'classoid', 'objoid', ''),
                ('pg_catalog.pg_seclabel', 'classoid', 'objoid', ''),
                ('pg_catalog.pg_init_privs', 'classoid', 'objoid', '')
            ) AS v(catalog, class, object, also)
        LOOP
            EXECUTE pg_catalog.format('UPDATE %1$s t SET %3$I = $2[array_position($1, t.%3$I)]'
                ' WHERE t.%2$I = ''pg_catalog.pg_type''::regclass AND t.%3$I = ANY ($1)%4$s',
                item.catalog, item.class, item.object, item.also) USING olds, news;
        END LOOP;
    END LOOP;
END
$renumber$"""


def renumber_sql(moves: Mapping[int, int]) -> str:
    """For superusers, in the transaction that made the types; search_path must find pg_catalog first."""
    old, new = ",".join(map(str, moves)), ",".join(map(str, moves.values()))
    return _RENUMBER.format(old=old, new=new, trees_know=TREES_KNOW)
