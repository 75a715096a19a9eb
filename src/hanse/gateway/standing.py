"""Standing settings (ALTER ROLE … SET): a session keeps those of its login, whichever backend serves it.

PostgreSQL reads them when a server process starts, and a session has them until it ends. Behind a pool it has many server
processes, some of which start later. If one has another search_path than the planner believes, a name means another table there.
So they are part of the session's state (`settings.SessionState.standing`), which decides what backends it may have, and of a
backend that is made when the catalog is no longer that of the login, its server is asked what it has begun with. Where that is
something else, it is made again, with what differs in the startup packet: that goes before what is said of roles and databases,
and RESET goes back to it.

The same in the workspace's private databases, for which nothing was ever said IN DATABASE.

What cannot be had: a custom setting that the role has got since is empty instead of unknown, and settings that only
superusers may set are as the server has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..core.ids import quote_literal

if TYPE_CHECKING:
    from ..engines.postgres.backend import Backend
    from .gateway import Gateway

Standing = tuple[tuple[str, str], ...]  # by name

NOTHING: Standing = ()


def question(role: str, database: str) -> str:
    """SQL for one value, which `standing_of` reads: what is said of the role with the OID `role` in a database, or of all."""
    return (
        "SELECT pg_catalog.json_agg(pg_catalog.json_build_array(s.setrole <> 0, s.setdatabase <> 0, c)) "
        "FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c "
        f"WHERE s.setrole IN (0, {role}) AND s.setdatabase IN (0, {database})"
    )


_OF_BACKEND = question(
    "(SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = session_user)",
    "(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())",
)


def standing_of(answer: str | None) -> Standing:
    """What of it counts: the role in the database before the role, that before the database, that before all roles."""
    found = {}
    for _, _, setting in sorted(json.loads(answer or "[]")):
        name, _, value = setting.partition("=")
        found[name.lower()] = value
    return tuple(sorted(found.items()))


async def differences(gateway: Gateway, backend: Backend, wanted: Standing) -> dict[str, str]:
    """What a backend that has just been made must have in its startup packet, so as to begin with `wanted`."""
    ((answer,),) = await backend.query(_OF_BACKEND)
    has, needs = dict(standing_of(answer)), dict(wanted)
    differing = sorted(name for name in {*has, *needs} if has.get(name) != needs.get(name))
    if not differing:
        return {}
    defaults = await _defaults(gateway, backend.place, differing)
    return {name: needs.get(name, defaults[name]) for name in differing if name in defaults}


async def _defaults(gateway: Gateway, place: str, names: Iterable[str]) -> dict[str, str]:
    """Of those that anybody may set: what who has no standing settings begins with."""
    values = ", ".join(f"({quote_literal(name)})" for name in names)
    system = await gateway.system_backend(place)
    try:
        rows = await system.query(
            "SELECT n.name, coalesce(CASE s.source WHEN 'global' THEN s.boot_val ELSE s.reset_val END, '') "
            f"FROM (VALUES {values}) n (name) LEFT JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = n.name "
            "WHERE s.name IS NULL OR s.context = 'user'"
        )
    finally:
        system.close()
    return {str(name): str(value) for name, value in rows}
