"""What a copy of a group's data becomes a group of its own by. The rows of reference tables stay; what belongs to the origin goes.

Rows that are in every group (reference tables, materialized views) are in the copy as in the origin, and so is the schema,
with all OIDs. Of the rest, docs/decisions/2026-11-23-a-new-group-is-a-stripped-copy.md has the list and the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..core.ids import quote_qualified
from .ddl.sequences import park
from .model import Kind, Snapshot

Identity = tuple[str, str]

PREPARED = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY gid"
# Schema changes whose commit the catalog has decided, and that are not in the group's own catalogs yet.
SCHEMA_CHANGES = "SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE gid LIKE 'hanse:catalog:%'"
# Indexes that are being made from group to group; where a gateway has died, nobody has the lock meanwhile.
INDEX_JOBS = "SELECT count(*) FROM hanse.job WHERE index_name IS NOT NULL"
SEQUENCES = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname NOT IN ('hanse', 'pg_catalog', 'information_schema') "
    "ORDER BY 1, 2"
)
# Of sessions of the origin. The server removes them only where it happens to come by.
TEMPORARY = (
    "SELECT n.nspname, c.relname, c.relkind::text FROM pg_catalog.pg_class c "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relpersistence = 't' AND c.relkind IN ('r', 'p', 'v') ORDER BY 1, 2"
)
# None: which are here, the catalog knows.
SHARDS_LEFT = (
    "SELECT count(*) FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent "
    "WHERE c.relkind = 'p' AND NOT c.relispartition"
)
_OWN = "TRUNCATE hanse.commit_record, hanse.touch, hanse.waiting, hanse.job, hanse.leadership"
_LARGE_OBJECTS = "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata"


def reference_tables(snapshot: Snapshot) -> tuple[Identity, ...]:
    """Nobody may write to them while a group is opened that has their rows."""
    return tuple(sorted(each.identity for each in snapshot.relations if each.kind is Kind.REFERENCE))


def strip(snapshot: Snapshot, origin: str) -> tuple[str, ...]:
    """Takes the origin's own rows out of the copy; one transaction, as the system, with session_replication_role = replica.

    A shard goes as it goes from a group that it leaves, with what is built on it.
    """
    shards = [
        (shard.schema, shard.name)
        for relation in snapshot.relations
        for shard in relation.shards
        if shard.group == origin
    ]
    single = [each.identity for each in snapshot.relations if each.kind is Kind.SINGLE]
    statements = [f"DROP TABLE {quote_qualified(*each)} CASCADE" for each in sorted(shards)]
    if single:
        statements.append(f"TRUNCATE ONLY {', '.join(quote_qualified(*each) for each in sorted(single))}")
    return (*statements, _OWN, _LARGE_OBJECTS)


def drop_temporary(found: Iterable[tuple[str, str, str]]) -> tuple[str, ...]:
    """Of the rows of TEMPORARY."""
    return tuple(
        f"DROP {'VIEW' if kind == 'v' else 'TABLE'} IF EXISTS {quote_qualified(schema, name)} CASCADE"
        for schema, name, kind in found
    )


def park_sequences(found: Iterable[Identity], number: int) -> tuple[str, ...]:
    """Of the rows of SEQUENCES: no value is drawn here, and what nextval() in a function gives, no other group gives."""
    return tuple(park(each, number) for each in found)
