"""Whether a statement's catalog is the newest, by the groups' own word: for a gateway that has lost the control plane.

With a lease (`ControlClient.assured`) nobody can have been told of a newer catalog, and nothing here is asked. Without one the
gateway may go on with its catalog only where no schema change has come between. Each group knows: it has one empty table
whose *name* is the version of the last change, and each change renames it, in its branch::

    the change   ALTER TABLE hanse.catalog_7 RENAME TO catalog_8 … PREPARE TRANSACTION … COMMIT PREPARED
    a statement  BEGIN; LOCK TABLE hanse.catalog_7 IN ACCESS SHARE MODE NOWAIT; …; COMMIT

So a statement on version 7 and the change to version 8 exclude each other in every group, from the moment at which the change
first does something to rows there (it waits for statements that have the lock) to its end. After that the name is not there.
It is a name, and not a value in a row, because names are looked up as they are now: at REPEATABLE READ a row would be read as it
was. And LOCK TABLE takes no snapshot, so that it may be a transaction's first word.

- A change that is prepared and not decided holds the lock. It is asked for again, for CATALOG_WAIT_S_MAX; then 57P03.
- Every group is told of every change, also those that it does nothing in. So a group that was added since need not be asked:
  each of the others says that the catalog is old. Who opens a group has no branches; `agent/founding.py` closes the name first.
- Followers are not asked: a gateway without a lease reads from leaders only.
- The lease must go on for CONTROL_MARGIN_S: what is sent until then has its locks in the group before a change can begin there.
  What has them is waited for: a change locks the tables whose rows it moves (`catalog/ddl/partitions.py`).

Statements of their own get a transaction around them; a procedure that would commit in the middle gets 2D000 for that. VACUUM and
its like, which cannot have one, are not checked: what they do is no wrong answer, whatever catalog they were planned on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..catalog.marks import mark_of, renaming
from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..core.ids import quote_literal
from ..core.limits import CATALOG_POLL_S, CATALOG_WAIT_S_MAX
from ..engines.postgres.backend import Backend
from .transaction import Transaction

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

IN_TRANSACTION = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "CALL", "DO"))
_MISSING, _LOCKED = "42P01", "55P03"
_AGAIN = "ROLLBACK TO SAVEPOINT hanse_catalog; RELEASE SAVEPOINT hanse_catalog"


async def confirm(session: Session, backend: Backend, version: int) -> None:
    """That `version` of the schema holds in the backend's group until its transaction ends. Raises PgError 57P03."""
    lock = f"SAVEPOINT hanse_catalog; {_lock(version)}; RELEASE SAVEPOINT hanse_catalog"
    clock = asyncio.get_running_loop().time
    deadline = clock() + CATALOG_WAIT_S_MAX
    session.running[backend.place] = backend
    while True:
        try:
            await backend.query(lock)
            return
        except PgError as error:
            if error.sqlstate not in (_MISSING, _LOCKED):
                raise
            if error.sqlstate == _MISSING or clock() > deadline:
                raise _refused(backend.place, error) from error
        await backend.query(_AGAIN)
        await asyncio.sleep(CATALOG_POLL_S)


async def ask(session: Session, backend: Backend, sql: str) -> list[tuple[str | None, ...]]:
    """A question of our own whose answer depends on the catalog, also outside a transaction. Raises PgError 57P03."""
    if session.gateway.control.assured or session.changes_schema:
        return await backend.query(sql)
    try:
        return await backend.query(f"{_lock(session.plans.snapshot.schema_version)}; {sql}")
    except PgError as error:
        if error.sqlstate in (_MISSING, _LOCKED):
            raise _refused(backend.place, error) from error
        raise


def _lock(version: int) -> str:
    return f"LOCK TABLE ONLY hanse.{mark_of(version)} IN ACCESS SHARE MODE NOWAIT"


def _refused(place: str, error: PgError) -> PgError:
    if error.sqlstate == _MISSING:
        return refusal(f"The schema has changed since, as group {place} knows.")
    return refusal(f"A schema change in group {place} is not decided yet.")


def refusal(why: str) -> PgError:
    return PgError(
        "57P03",
        "this gateway has lost the control plane, and cannot run the statement on the catalog that it knows",
        detail=why,
        hint="Ask another node's gateway, or try again when this one reaches the control plane.",
    )


async def record(gateway: Gateway, transaction: Transaction) -> None:
    """The change's version becomes the name in every group. From now on no gateway without a lease works there."""
    change = transaction.change
    assert change is not None
    sql = renaming(change.snapshot.schema_version, change.version + 1)

    async def run(backend: Backend) -> None:
        proof = await gateway.system_proof(backend.pid, sql)
        await backend.query(f"SELECT hanse.run_as_system({quote_literal(sql)}, {quote_literal(proof)})")

    branches = transaction.branches.items()
    results = await asyncio.gather(
        *(run(branch.backend) for place, branch in branches if place != WORKSPACE_PLACE), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result
    change.recorded = True
