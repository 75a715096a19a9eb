"""Activity of relations, over the groups: what `pg_stat_user_tables` and its kind say. Told with the sizes (sizes.py).

Each group's leader is asked for what its functions `pg_stat_get_…(oid)` say of each relation of users; the workspace's functions of
these names read the sums (engines/postgres/counters.sql). What is summed is what one server would have counted:

- Times, and how often a relation was vacuumed and analysed: the most of any group, since each group runs what the client says once.
- Rows of a table that every group has: the most of any group. They are written once, and in each copy.
- All else: the sum.

A partitioned table counts nothing itself, as in PostgreSQL. Blocks of TOAST tables are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..catalog.model import Kind, Snapshot

Name = tuple[str, str]
Counters = dict[Name, dict[str, Any]]

# One row for each relation that has counted anything. The names of the functions differ between versions.
OF_GROUP = """
SELECT 'SELECT n.nspname, c.relname, json_strip_nulls(json_build_object(' || string_agg(
    format('%L, pg_catalog.%I(c.oid)', substr(proname, length('pg_stat_get_') + 1), proname), ', ' ORDER BY proname) ||
    $$)) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'i', 'm', 'S') AND c.relpersistence <> 't'
      AND left(n.nspname::text, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', 'hanse')$$
FROM pg_catalog.pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND pronargs = 1 AND proargtypes[0] = 'oid'::regtype AND proname IN (
    SELECT m[1] FROM pg_catalog.pg_views,
    LATERAL regexp_matches(definition, '(pg_stat_get_[a-z_]+)\\(', 'g') m
    WHERE viewname IN
        ('pg_stat_all_tables', 'pg_stat_all_indexes', 'pg_statio_all_tables', 'pg_statio_all_indexes', 'pg_statio_all_sequences'))
"""
WRITE = """
WITH told AS (
    SELECT c.oid, t.counted FROM unnest($1::name[], $2::name[], $3::text[]) AS t(schema, name, counted)
    JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
), gone AS (DELETE FROM hanse.counters WHERE relid NOT IN (SELECT oid FROM told))
INSERT INTO hanse.counters AS s SELECT oid, counted::jsonb FROM told
ON CONFLICT (relid) DO UPDATE SET counted = EXCLUDED.counted WHERE s.counted <> EXCLUDED.counted
"""
_ROWS = ("tuples_inserted", "tuples_updated", "tuples_deleted", "tuples_hot_updated", "tuples_newpage_updated")
_ROWS_NOW = ("live_tuples", "dead_tuples", "mod_since_analyze", "ins_since_vacuum")


def added(found: Iterable[Sequence[Sequence[Any]]], snapshot: Snapshot) -> Counters:
    """From each group's rows: schema, name, JSON of what was counted."""
    kinds = {relation.identity: relation.kind for relation in snapshot.relations}
    sums: Counters = {}
    for rows in found:
        for schema, name, document in rows:
            copied = kinds.get((schema, name)) in (Kind.REFERENCE, Kind.MATERIALIZED_VIEW)
            known = sums.setdefault((schema, name), {})
            for counter, value in json.loads(document).items():
                before = known.get(counter)
                if before is None:
                    known[counter] = value
                elif _is_the_most(counter, copied):
                    known[counter] = max(before, value)  # times are written so that they sort
                else:
                    known[counter] = before + value
    return sums


def _is_the_most(counter: str, copied: bool) -> bool:
    if counter.endswith(("_time", "_count", "lastscan")) and counter.startswith(
        ("last", "vacuum", "autovacuum", "analyze", "autoanalyze")
    ):
        return True
    return copied and counter in (*_ROWS, *_ROWS_NOW)


def arguments(sums: Counters) -> tuple[list[str], list[str], list[str]]:
    """Of WRITE."""
    schemas, names = [name[0] for name in sums], [name[1] for name in sums]
    return schemas, names, [json.dumps(counted) for counted in sums.values()]
