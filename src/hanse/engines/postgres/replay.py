"""The schema change log, repeated in a schema-complete database.

Each entry is one transaction: lock the row of `hanse.applied`, look whether somebody else was faster, run the
statements, note the version. Workers of one node race for the lock; a schema change that is made on this node holds
it from its first statement to its end, so that its entry is either there when the lock comes free, or is replayed
because its maker died.

**As whom.** A statement says it in a first line that `as_client` and `as_system` write (a comment to PostgreSQL)::

    -- hanse {"role":"ann","settings":{"search_path":"public"}}
    CREATE TABLE t (x int)

A statement without that line runs as the entry's role with the entry's settings; whoever logs a client's text as it
is must know that the client may have written such a line itself, `as_client` makes it harmless. Statements on
hanse.placement are Hanse's own also without it: a client's INSERT, UPDATE or DELETE is never a schema change.

Hanse's own statements, and those of the role we are connected as, run plainly. A client's runs inside a SECURITY
DEFINER function that its role owns, and that exists for this statement only: there PostgreSQL refuses SET ROLE, RESET
SESSION AUTHORIZATION and their kind, so that code of that role (a default's function, say) cannot get at the
superuser who replays.

**OIDs of types** (catalog/type_oids.py). A line with `types_from` moves this server's counter to where the maker's stood,
so that the same types come out. A counter that is past it already cannot go back; so a line with `types` says which OIDs
the statement's types have, and here they get them, too (catalog/renumber.py). Where that cannot be done it is reported:
clients of this node that look up the type of a binary value would not find it.

Not repeated: what cannot run inside a transaction or a function (CREATE DATABASE, CREATE INDEX CONCURRENTLY …).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
from asyncpg import PostgresError

from ...catalog.commands import DdlEntry
from ...catalog.renumber import renumber_sql
from ...catalog.type_oids import advance_sql, named_sql
from ...core.ids import quote_identifier
from ...core.limits import REPLAY_LOCK_WAIT_S_MAX
from .system_connection import Connection, translated

log = logging.getLogger(__name__)

_MARK = "-- hanse "
_PLACEMENT = tuple(f"{verb} hanse.placement" for verb in ("INSERT INTO", "DELETE FROM", "UPDATE"))

_BECOME = """
CREATE FUNCTION hanse.replay(statement text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
AS $$ BEGIN EXECUTE statement; END $$;
ALTER FUNCTION hanse.replay(text) OWNER TO {role}
"""
_RETURN = """
RESET SESSION AUTHORIZATION;
RESET ROLE;
SET LOCAL search_path = pg_catalog;
DROP FUNCTION IF EXISTS hanse.replay(text)
"""


class _How(msgspec.Struct, frozen=True):
    """The first line of a logged statement. `role` None: Hanse itself. `types_from`, `types`: see there; no statement
    follows.
    """

    role: str | None = None
    settings: dict[str, str] = {}
    types_from: int | None = None
    types: tuple[tuple[str, str, int], ...] | None = None  # schema, name, OID


def as_system(sql: str) -> str:
    """A statement of Hanse's own, with qualified names, as it goes into `CommitDdl.statements`."""
    return _marked(_How(), sql)


def as_client(sql: str, *, role: str, settings: Mapping[str, str]) -> str:
    """A client's statement, as it goes into `CommitDdl.statements`: replayed as `role` with `settings`."""
    return _marked(_How(role, dict(settings)), sql)


def types_from(position: int) -> str:
    """Types that the next statements make must get the OIDs that they got where this server's counter stood here."""
    return _marked(_How(types_from=position), "")


def types_are(types: tuple[tuple[str, str, int], ...]) -> str:
    """The types that the last statements made, (schema, name, OID), have these OIDs in all groups."""
    return _marked(_How(types=types), "")


def _marked(how: _How, sql: str) -> str:
    return f"{_MARK}{msgspec.json.encode(how).decode()}\n{sql}"


def _how(entry: DdlEntry, statement: str) -> tuple[_How, str]:
    if statement.startswith(_MARK):
        line, _, sql = statement.partition("\n")
        return msgspec.json.decode(line[len(_MARK) :], type=_How), sql
    if statement.startswith(_PLACEMENT):
        return _How(), statement
    return _How(entry.role, entry.settings), statement


async def applied_version(connection: Connection) -> int:
    with translated("the version was read"):
        version: int = await connection.fetchval("SELECT version FROM hanse.applied")
        return version


async def replay(connection: Connection, entry: DdlEntry) -> bool:
    """Applies the entry unless it is there. True: it was applied now. Raises PgError: what PostgreSQL said."""
    with translated("schema changes were repeated"):
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{REPLAY_LOCK_WAIT_S_MAX}s'")
            version = await connection.fetchval("SELECT version FROM hanse.applied FOR UPDATE")
            if version >= entry.version:
                return False
            await connection.execute("SET LOCAL check_function_bodies = off")  # they were checked when they were made
            position: int | None = None
            for statement in entry.statements:
                how, sql = _how(entry, statement)
                if how.types is not None:
                    await _give_oids(connection, entry, how.types)
                elif how.types_from is None:
                    await _run(connection, how, sql, position)
                position = how.types_from
            await connection.execute("UPDATE hanse.applied SET version = $1", entry.version)
            return True


async def _run(connection: Connection, how: _How, sql: str, position: int | None) -> None:
    plain = how.role is None or how.role == await connection.fetchval("SELECT session_user")
    role = quote_identifier(how.role or "")
    if not plain:
        await connection.execute(_BECOME.format(role=role))
    if position is not None:
        await connection.execute(advance_sql(position))  # now: the function has drawn an OID, too
    if not plain:
        await connection.execute(f"SET LOCAL SESSION AUTHORIZATION {role}")
    for name, value in how.settings.items():
        await connection.execute("SELECT set_config($1, $2, true)", name, value)
    if plain:
        await connection.execute(sql)
    else:
        await connection.execute("SELECT hanse.replay($1)", sql)
    await connection.execute(_RETURN)


async def _give_oids(connection: Connection, entry: DdlEntry, types: tuple[tuple[str, str, int], ...]) -> None:
    wanted = {(schema, name): oid for schema, name, oid in types}
    rows = await connection.fetch(named_sql(wanted, 0))
    moves = {row[2]: wanted[row[0], row[1]] for row in rows if row[2] != wanted[row[0], row[1]]}
    if not moves:
        return
    try:
        async with connection.transaction():
            await connection.execute(renumber_sql(moves))
    except PostgresError as error:
        log.warning("types of schema change %d have other OIDs in this workspace: %s", entry.version, error)
