"""The shards of a HASH table that was declared without any, when its first row comes.

They are a schema change, and whoever makes one holds the cluster's DDL lock until it is committed. A client's transaction
may stay open for long after its first row. So where it can be, the change is a transaction of its own, in a session beside the
client's, and the shards stay when the client rolls back. It cannot be where the client's transaction has changed the
schema, or works in a workspace, which then cannot follow; nor where it holds a lock that stands against it: on the table, or
on one that the table refers to. What is known of that is looked at before; else the locks tell, which are not waited for for
long. Then his transaction makes them itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..catalog.ddl import make_default_shards
from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..core.limits import SCHEMA_LOCK_WAIT_S_MIN
from . import ddl
from .ending import commit_transaction, rollback_transaction
from .transaction import Transaction

if TYPE_CHECKING:
    from ..catalog.protocol import Identity
    from .session import Session

_MODES = "ISOLATION LEVEL READ COMMITTED READ WRITE"  # whatever the client's defaults are
_NOT_NOW = ("55P03", "40P01", "53300")  # a lock, or a backend, that perhaps the client himself holds


class _Nobody:
    """Where the answers of a session without a client go."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    async def drain(self) -> None: ...


async def make_shards(session: Session, relation: Identity) -> None:
    """Somebody else may have been faster."""
    transaction = session.transaction
    if transaction is None:
        await _alone(session, relation)
    elif not (_may_be_apart(session, transaction, relation) and await _apart(session, relation)):
        await _carry_out(session, relation)


def _may_be_apart(session: Session, transaction: Transaction, identity: Identity) -> bool:
    relation = session.gateway.snapshot.relation_by_identity.get(identity)
    if transaction.change is not None or relation is None or WORKSPACE_PLACE in transaction.branches:
        return False
    referred = {(key.referenced_schema, key.referenced_name) for key in relation.foreign_keys}
    return not session.uses(frozenset({identity, *referred}))


async def _apart(session: Session, relation: Identity) -> bool:
    """False: something stood against it."""
    helper = session.another(_Nobody())
    own = dict(session.state.settings) | {"lock_timeout": f"{1000 * SCHEMA_LOCK_WAIT_S_MIN:.0f}ms"}
    own.pop("client_encoding", None)
    helper.begin_with(tuple(own.items()))
    helper.default_search_path = session.default_search_path
    helper.refresh_context()
    # Its commit is not to be interrupted when the client goes away.
    work = asyncio.ensure_future(_alone(helper, relation, _MODES))
    try:
        await asyncio.shield(work)
    except PgError as error:
        if error.sqlstate in _NOT_NOW:
            return False
        raise
    finally:
        if not work.done():
            work.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return True


async def _alone(session: Session, relation: Identity, modes: str = "") -> None:
    session.transaction = Transaction(modes, session.state, explicit=False)
    try:
        await _carry_out(session, relation)
    except BaseException:
        await rollback_transaction(session)
        raise
    await commit_transaction(session)


async def _carry_out(session: Session, relation: Identity) -> None:
    await ddl.begin_change(session)
    context = ddl.context_of(session)
    found = context.snapshot.relation_by_identity.get(relation)
    if found is not None and not found.shards:
        await ddl.carry_out(session, lambda: make_default_shards(relation, context), None, aligned=True)
