"""`synchronous_commit` in groups of several: a session may raise it, and not lower it below what the group's rule needs.

PostgreSQL lets everybody set it, so every way to it is watched:

* SET, the connection's options, `set_config()` with a constant name, ALTER ROLE … SET: refused (22023) where the value is too low;
* `set_config()` with a computed name: an error after it, which undoes it;
* functions, triggers and dynamic SQL that may set it (`planner/leaving.py`): a statement of its own that runs them and writes
  gets a transaction around it, and before the commit of a transaction in which they ran it is set again. It has no effect that
  lasts;
* CALL and DO may commit in the middle. One that names it is refused (0A000). After one that may set it by dynamic SQL, outside a
  transaction, something is committed that waits as it should, before the client is answered: whoever is told that it has ended
  loses nothing of it. Until then other sessions may see what it has committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pglast import ast

from ..config import WORKSPACE_PLACE
from ..core.errors import PgError, not_supported
from ..engines.postgres.backend import Backend
from ..executor.request import run
from ..planner.leaving import Leaves
from ..planner.plan import Planned
from ..sql.parse import parse_one

if TYPE_CHECKING:
    from .session import Session
    from .transaction import Transaction

NAME = "synchronous_commit"
_LESS = frozenset(("off", "false", "no", "0", "local", "remote_write"))
_MAY_COMMIT = ("CALL", "DO")
_SET_AGAIN = (
    f"SELECT pg_catalog.set_config('{NAME}', 'on', true) "
    f"WHERE pg_catalog.current_setting('{NAME}') IN ('off', 'local', 'remote_write')"
)
_WAIT = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_SET_AGAIN}; "
    "SELECT pg_catalog.pg_logical_emit_message(true, 'hanse', ''); COMMIT"  # a commit without WAL of its own waits for nobody
)


def is_less(session: Session, name: str, value: str | None) -> bool:
    """Whether this setting would make commits less durable than they are to be."""
    return name.lower() == NAME and (value or "").lower() in _LESS and session.gateway.is_replicated


def check(session: Session, name: str, value: str | None) -> None:
    """Raises 22023 for a setting that would."""
    if is_less(session, name, value):
        raise PgError(
            "22023",
            f'{NAME} cannot be "{value}" here',
            detail="Commits wait for followers in the groups of this cluster, so that no failover loses them.",
            hint="Available values: on, remote_apply.",
        )


def check_options(session: Session, settings: Mapping[str, str]) -> None:
    """Of the connection."""
    for name, value in settings.items():
        check(session, name, value)


def check_role_setting(session: Session, text: bytes) -> None:
    """ALTER ROLE … SET."""
    statement = parse_one(text).node
    setting = statement.setstmt if isinstance(statement, ast.AlterRoleSetStmt) else None
    if setting is not None and setting.args:
        value = setting.args[0].val
        check(session, setting.name or "", str(getattr(value, "sval", getattr(value, "ival", ""))))


def check_body(session: Session, planned: Planned) -> None:
    """Raises 0A000 for CALL and DO of what names it."""
    if planned.verb in _MAY_COMMIT and NAME in planned.leaves.names and session.gateway.is_replicated:
        raise not_supported(f"{planned.verb} of a body that sets {NAME}", hint=f"SET {NAME} before it.")


def may_have_lowered(session: Session, planned: Planned) -> bool:
    """Whether a statement that commits by itself may have done so with less."""
    return (
        planned.verb in _MAY_COMMIT
        and planned.leaves.anything
        and session.transaction is None
        and session.gateway.is_replicated
    )


async def wait_for_commits(used: Mapping[str, Backend]) -> None:
    """Until followers have all that these backends have committed: a commit waits for its own LSN, which is the last."""
    for place, backend in used.items():
        if place != WORKSPACE_PLACE and not backend.closed:
            await run(backend, _WAIT)


def in_doubt(session: Session, planned: Planned) -> bool:
    """Whether a statement that writes may set it, too."""
    return (
        planned.writes
        and planned.verb not in _MAY_COMMIT
        and _may_set(planned.leaves)
        and session.gateway.is_replicated
    )


def _may_set(leaves: Leaves) -> bool:
    return leaves.anything or NAME in leaves.names


async def set_again(session: Session, transaction: Transaction) -> None:
    """Before the commit of a transaction whose statements may have set it."""
    if not session.gateway.is_replicated:
        return
    for place, leaves in transaction.left.items():
        if _may_set(leaves):
            await run(transaction.branches[place].backend, _SET_AGAIN)
