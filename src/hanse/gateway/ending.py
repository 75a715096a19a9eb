"""How a transaction ends: COMMIT in one place, or the atomic protocol over several; ROLLBACK everywhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from ..executor.request import run
from ..transactions.commit import Decide, Errors, Protocol, Run, commit, new_global_id
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session

_COMMIT, _ROLLBACK = b"COMMIT", b"ROLLBACK"


async def commit_transaction(session: Session) -> bytes:
    """Ends the session's transaction by COMMIT; gives the command tag (ROLLBACK where it had failed).

    Raises what stood against it; the transaction is over in any case.
    """
    transaction = session.transaction
    assert transaction is not None
    if transaction.failed:
        await rollback_transaction(session)
        return _ROLLBACK
    committed = False
    try:
        if transaction.change is not None:
            await _commit_change(session, transaction)
        elif len(transaction.writers) > 1:
            await _commit_several(session, transaction)
        else:
            await _commit_single(session, transaction)
        committed = True
    finally:
        if not committed:
            session.set_state(transaction.state_before)
        finish(session, transaction, committed=committed)
    return _COMMIT


async def rollback_transaction(session: Session) -> None:
    """Ends the session's transaction by ROLLBACK in every branch. Never raises: a lost branch is rolled back, too."""
    transaction = session.transaction
    assert transaction is not None
    places = tuple(transaction.branches)
    try:
        await _perform(transaction, Run(places, "ROLLBACK"))
    finally:
        session.set_state(transaction.state_before)
        session.gateway.forget_change(transaction)
        finish(session, transaction, committed=False)


def finish(session: Session, transaction: Transaction, *, committed: bool) -> None:
    """Gives the branches back, each with the settings it now has.

    PostgreSQL undoes a branch's SETs at ROLLBACK and keeps them at COMMIT. A branch that was opened *after* a SET came with
    it, outside the transaction, and is in no known state after a ROLLBACK.
    """
    session.transaction = None
    dirty = transaction.mixed or any(not planned.neutral for planned in transaction.touched.values())
    for branch in transaction.branches.values():
        backend = branch.backend
        session.running.pop(backend.place, None)
        if dirty and session.pinned.get(backend.place) is not backend:
            backend.state = None
        elif committed:
            backend.state = session.state
        elif backend.state is not transaction.state_before:
            backend.state = None
        session.give_back(backend)
    session.after_transaction(committed=committed)


async def _commit_single(session: Session, transaction: Transaction) -> None:
    """At most one branch has written: its COMMIT decides; the others have nothing to lose."""
    order = sorted(transaction.branches, key=lambda place: not transaction.branches[place].wrote)
    for place in order:
        errors = await _perform(transaction, Run((place,), "COMMIT", "COMMIT"))
        if errors:
            rest = tuple(other for other in order[order.index(place) + 1 :])
            await _perform(transaction, Run(rest, "ROLLBACK"))
            raise errors[place]


def _global_order(session: Session, places: list[str]) -> tuple[str, ...]:
    rank = {name: index for index, name in enumerate(session.gateway.snapshot.group_names)}
    return tuple(sorted(places, key=lambda place: rank.get(place, -1)))


async def _commit_several(session: Session, transaction: Transaction) -> None:
    writers = _global_order(session, transaction.writers)
    readers = tuple(place for place in transaction.branches if place not in writers)
    identity = new_global_id(writers[-1])
    await _drive(session, transaction, commit(writers, identity))
    await _perform(transaction, Run(readers, "COMMIT"))


async def _commit_change(session: Session, transaction: Transaction) -> None:
    """The schema was changed: every group prepares, the catalog's commit decides, then all follow."""
    change = transaction.change
    assert change is not None
    groups = _global_order(session, [place for place in transaction.branches if place != WORKSPACE_PLACE])
    identity = new_global_id("catalog", change.transaction_id)
    try:
        await _drive(session, transaction, commit(groups, identity, catalog_decides=True))
    except BaseException:
        await _perform(transaction, Run((WORKSPACE_PLACE,), "ROLLBACK"))
        raise
    finally:
        session.gateway.forget_change(transaction)


async def _drive(session: Session, transaction: Transaction, protocol: Protocol) -> None:
    """Performs the protocol's steps until it ends; its exception is ours."""
    try:
        step = next(protocol)
        while True:
            answer: Errors
            if isinstance(step, Decide):
                answer = await _decide(session, transaction)
            else:
                answer = await _perform(transaction, step)
            step = protocol.send(answer)
    except StopIteration:
        return


async def _decide(session: Session, transaction: Transaction) -> Errors:
    """The catalog's commit; then the schema-complete database here follows at once."""
    try:
        await session.gateway.commit_change(transaction)
    except PgError as error:
        return {"catalog": error}
    await _perform(transaction, Run((WORKSPACE_PLACE,), "COMMIT"))
    return {}


async def _perform(transaction: Transaction, step: Run) -> dict[str, PgError]:
    places = [place for place in step.places if place in transaction.branches]
    results = await asyncio.gather(
        *(_run_one(transaction.branches[place].backend, step) for place in places), return_exceptions=True
    )
    errors: dict[str, PgError] = {}
    for place, result in zip(places, results, strict=True):
        if isinstance(result, PgError):
            errors[place] = result
        elif isinstance(result, BaseException):
            raise result
    return errors


async def _run_one(backend: Backend, step: Run) -> None:
    tag = (await run(backend, step.sql)).decode()
    if step.expect_tag is not None and tag != step.expect_tag:
        raise PgError("40000", f"the transaction was rolled back in {backend.place}")
