"""Who may log in: what PostgreSQL would check when a client's own server process starts.

A client's session often gets a backend that is open already, so the server does not check him. The gateway does, against
the roles of the schema-complete database: password, VALID UNTIL, LOGIN, CONNECT (and CONNECTION LIMIT: role_slots.py). It
looks when the login begins, and again at its end if the catalog has changed meanwhile. A change of a role is in force when
every gateway has it, so nobody who comes after it is let in by what held before (findings-gateway 16).

**A role's identity** is its OID: bob who was dropped and made again is somebody else. When the identity of a name has changed, no
backend that was opened before is given to anybody any more, not even one that is busy now. Settings by ALTER ROLE … SET belong to
sessions that begin after it: standing.py.

**Keys.** A session keeps what its login left (scram.py). After a change of the password they open no new backend; those of a
later login of the same role do. A session for which there are none either is ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..config import SYSTEM_ROLE
from ..core.errors import FatalError, PgError
from ..pgwire.scram import ScramKeys, password_failed
from .role_slots import limit_of
from .standing import Standing, question, standing_of

if TYPE_CHECKING:
    from ..engines.postgres.backend import Backend
    from ..engines.postgres.pool import Pool
    from .gateway import Gateway
    from .session import Session

# Superusers have every right.
_QUESTION = f"""
SELECT r.oid, r.rolpassword, CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END,
       r.rolvaliduntil < pg_catalog.now(), r.rolcanlogin,
       pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT'),
       ({question("r.oid", "d.oid")})
FROM pg_catalog.pg_authid r, pg_catalog.pg_database d
WHERE r.rolname = $1 AND r.rolname <> $2 AND d.datname = pg_catalog.current_database()
"""


@dataclass(frozen=True, slots=True)
class Role:
    """A role as it is at a version of the catalog."""

    oid: int
    standing: Standing
    verifier: str | None = field(repr=False)
    expired: bool
    may_log_in: bool
    may_connect: bool
    limit: int | None  # of its clients
    version: int

    @property
    def usable_verifier(self) -> str | None:
        """None: no password fits."""
        return None if self.expired else self.verifier


async def look_up(gateway: Gateway, user: str) -> Role | None:
    """None: there is no such role."""
    version = gateway.snapshot.version
    await gateway.workspace.catch_up(version)
    rows = await gateway.workspace.query(_QUESTION, user, SYSTEM_ROLE)
    if not rows:
        return None
    oid, verifier, limit, expired, may_log_in, may_connect, settings = rows[0]
    return Role(
        oid=int(oid),
        standing=standing_of(settings),
        verifier=verifier,
        expired=bool(expired),
        may_log_in=may_log_in,
        may_connect=may_connect,
        limit=limit_of(limit),
        version=version,
    )


async def admit(gateway: Gateway, user: str, role: Role | None) -> Role:
    """The proof was right, for `role` as it was when the login began. Raises what still stands against it."""
    if role is None:
        raise password_failed(user)
    if role.version != gateway.snapshot.version:
        before, role = role, await look_up(gateway, user)
        if role is None or role.usable_verifier != before.usable_verifier or role.oid != before.oid:
            raise password_failed(user)
    if not role.may_log_in:
        raise FatalError("28000", f'role "{user}" is not permitted to log in')
    if not role.may_connect:
        raise FatalError(
            "42501",
            f'permission denied for database "{gateway.snapshot.database}"',
            detail="User does not have CONNECT privilege.",
        )
    return role


@dataclass(frozen=True, slots=True)
class Login:
    """What a login leaves with its session. `version`: of the catalog by which the role was looked at."""

    oid: int
    standing: Standing
    keys: ScramKeys
    version: int


class Logins:
    """The newest login of each role."""

    def __init__(self) -> None:
        self._newest: dict[str, Login] = {}

    def note(self, gateway: Gateway, user: str, login: Login) -> None:
        """A client has logged in. Backends of somebody else who had this name are not used again."""
        known = self._newest.get(user)
        if known is not None and known.oid != login.oid:
            for pool in gateway.pools.values():
                pool.retire_user(user)
        self._newest[user] = login

    def newer(self, user: str, login: Login) -> Login | None:
        """A login of the same role with other keys."""
        known = self._newest.get(user)
        if known is None or known.oid != login.oid or known.keys == login.keys:
            return None
        return known


async def acquire(session: Session, pool: Pool, database: str) -> Backend:
    """`Pool.acquire` for this session. Raises 57P01 where the server lets its role in no more."""
    login, state = session.credentials, session.state
    try:
        return await pool.acquire(session.user, database, state, login, state.names, state.standing)
    except PgError as error:
        if not isinstance(login, Login) or not _is_refusal(error):
            raise
        newer = session.gateway.logins.newer(session.user, login)
        if newer is None:
            raise _ended(error) from error
    try:
        newer = replace(newer, standing=login.standing, version=login.version)
        backend = await pool.acquire(session.user, database, state, newer, state.names, state.standing)
    except PgError as error:
        raise _ended(error) if _is_refusal(error) else error from None
    session.credentials = newer
    return backend


def _is_refusal(error: PgError) -> bool:
    """Of a login that would have been good once: the role has changed, not the server."""
    return error.severity == "FATAL" and error.sqlstate in ("28P01", "28000", "42501")


def _ended(error: PgError) -> FatalError:
    return FatalError(
        "57P01",
        "terminating connection because the role's password or rights to log in have changed",
        detail=error.message,
        hint="Log in again.",
    )
