"""CREATE TABLESPACE and DROP TABLESPACE: groups of servers that come and go. They commit by themselves, like ALTER TABLESPACE.

A new group is written to the catalog as one that is coming; the agent of its first instance makes it (agent/founding.py), and the
statement waits and tells how far it is. A statement that ends before, or is cancelled, takes nothing back: DROP TABLESPACE does.

A group is dropped when nothing lies in it and nobody uses it: its statements and those on reference tables, whose rows it has,
are held, and no transaction is prepared of which it has a part or the decision. The catalog forgets it first; then gateways close
their connections, and agents remove its servers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..catalog.commands import Command
from ..catalog.founding import reference_tables
from ..catalog.group_commands import AddGroup, DropGroup, check_droppable
from ..catalog.model import Group, Snapshot
from ..catalog.placement import free_nodes, possible_origins
from ..core.errors import PgError, not_supported
from ..core.ids import quote_literal
from ..core.limits import FREEZE_WAIT_S_MAX, INSTANCES_PER_GROUP_MAX, PREPARED_END_S_MAX
from ..replication.rule import Policy
from ..transactions.recovery import prepared_of_sql
from .groups import (
    SETTLE_POLL_S,
    durability_of,
    is_owner,
    location_of,
    locked,
    notify,
    options_of,
    replicas_of,
    until_settled,
)
from .holds import hold_of
from .interruption import interruptible

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

STATEMENTS = ("CreateTableSpaceStmt", "DropTableSpaceStmt")
OPTIONS = frozenset(("replicas", "durability"))
# It is a directory's name beside others of a node, and part of names of prepared transactions.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,30}")
_TAKEN = frozenset(("catalog", "control", "log", "run", "socket", "tls", "workspace", "pg_default", "pg_global"))
_SIZE = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"
_PREPARED = "SELECT gid FROM pg_catalog.pg_prepared_xacts LIMIT 1"
_JOBS = "SELECT id FROM hanse.job WHERE texts::jsonb ? {} LIMIT 1"


async def run(session: Session, verb: str, statement: Any) -> bytes:
    """Raises PgError; then what was asked for has not begun, or the message says how far it came."""
    if type(statement).__name__ == "CreateTableSpaceStmt":
        await _create(session, statement)
    else:
        await _drop(session, statement)
    return verb.encode()


# --- CREATE


async def _create(session: Session, statement: Any) -> None:
    name = statement.tablespacename
    if not await is_owner(session):
        raise PgError(
            "42501", f'permission denied to create tablespace "{name}"', hint="Must be owner of the database."
        )
    if statement.owner is not None:
        raise not_supported("CREATE TABLESPACE … OWNER is not supported")
    location = location_of(statement.location or "")
    if name.startswith("pg_"):
        raise PgError(
            "42939",
            f'unacceptable tablespace name "{name}"',
            detail='The prefix "pg_" is reserved for system tablespaces.',
        )
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise PgError(
            "42602",
            f'unacceptable tablespace name "{name}"',
            detail="Up to 31 lower-case letters, digits and underscores; some names are taken.",
        )
    options = options_of(statement)
    unknown = set(options) - OPTIONS
    if unknown:
        raise PgError(
            "22023", f'unrecognized parameter "{min(unknown)}"', hint=f"There are: {', '.join(sorted(OPTIONS))}."
        )
    await locked(session, lambda: _add(session, name, options, location))
    await interruptible(session, _until_open(session, name))
    await interruptible(session, until_settled(session, name))


async def _add(session: Session, name: str, options: dict[str, str], location: dict[str, str]) -> None:
    """As many instances as the home group has, where it is not said."""
    gateway = session.gateway
    snapshot = gateway.snapshot
    replicas = replicas_of(options)
    if replicas is None:
        replicas = len(snapshot.group_by_name[snapshot.home_group].wanted)
    if not 1 <= replicas <= INSTANCES_PER_GROUP_MAX:
        raise PgError("22023", f"replicas must be between 1 and {INSTANCES_PER_GROUP_MAX}, not {replicas}")
    command = AddGroup(
        group=name,
        nodes=free_nodes(snapshot, Group(name=name, instances=(), location=location), replicas),
        durability=durability_of(options) or Policy.QUORUM.value,
        origin=await _smallest(gateway, possible_origins(snapshot, location)),
        location=location,
    )
    await gateway.control.propose(command)


async def _smallest(gateway: Gateway, groups: Iterable[str]) -> str:
    """The one with the least to copy."""

    async def size(group: str) -> tuple[int, str]:
        return int(await _ask(gateway, group, _SIZE) or 0), group

    return min(await asyncio.gather(*map(size, groups)))[1]


async def _ask(gateway: Gateway, group: str, sql: str) -> str | None:
    """The first value, None where there is no row."""
    backend = await gateway.system_backend(group)
    try:
        rows = await backend.query(sql)
    finally:
        backend.close()
    return rows[0][0] if rows else None


async def _until_open(session: Session, name: str) -> None:
    told = ""
    while name not in session.gateway.snapshot.group_by_name:
        coming = session.gateway.snapshot.coming_by_name.get(name)
        if coming is None:
            raise PgError("55000", f'tablespace "{name}" was dropped meanwhile')
        founder = coming.founder
        now = f"instance {founder.name} on {founder.node} is {'being made' if founder.is_placed else 'to be made'}"
        if now != told:
            told = now
            notify(session, now)
        await asyncio.sleep(SETTLE_POLL_S)


# --- DROP


async def _drop(session: Session, statement: Any) -> None:
    name = statement.tablespacename

    async def work() -> None:
        snapshot = session.gateway.snapshot
        if name in snapshot.coming_by_name:
            await session.gateway.control.propose(DropGroup(group=name))
        elif name in snapshot.group_by_name:
            await _drop_group(session.gateway, snapshot, name)
        elif statement.missing_ok:
            notify(session, f'tablespace "{name}" does not exist, skipping')
        else:
            raise PgError("42704", f'tablespace "{name}" does not exist')

    if not await is_owner(session):
        raise PgError("42501", f"must be owner of tablespace {name}")
    await locked(session, work)


async def _drop_group(gateway: Gateway, snapshot: Snapshot, name: str) -> None:
    check_droppable(snapshot, name)
    home = snapshot.home_group
    if await _ask(gateway, home, _JOBS.format(quote_literal(name))) is not None:
        raise PgError("55006", f'tablespace "{name}" is being used by a statement over groups', hint="See hanse.jobs.")
    command: Command = DropGroup(group=name)
    async with gateway.control.frozen((hold_of(name), *reference_tables(snapshot)), FREEZE_WAIT_S_MAX):
        await _until_unprepared(gateway, snapshot, name)
        await gateway.control.propose(command)


async def _until_unprepared(gateway: Gateway, snapshot: Snapshot, name: str) -> None:
    """Recovery ends what a gateway has left. What a user has prepared, only that user does."""
    deadline = asyncio.get_running_loop().time() + PREPARED_END_S_MAX
    while True:
        found = [await _ask(gateway, name, _PREPARED)]
        found += [await _ask(gateway, group, prepared_of_sql(name)) for group in snapshot.group_names]
        gids = [gid for gid in found if gid is not None]
        if not gids:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise PgError(
                "55006",
                f'tablespace "{name}" is being used by prepared transactions',
                detail=f"{gids[0]} is one of them.",
                hint="See hanse.transactions.",
            )
        await asyncio.sleep(SETTLE_POLL_S)
