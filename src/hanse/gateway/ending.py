"""How a transaction ends: COMMIT in one place, or the atomic protocol over several; ROLLBACK everywhere.

An atomic commit that has begun is not interrupted by its client's end: it has nothing to wait for but the groups, and
branches that were left prepared would hold their locks until recovery finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ..config import WORKSPACE_PLACE
from ..core.errors import FatalError, PgError
from ..core.ids import quote_literal
from ..core.limits import RESOLVE_PAUSE_S, RESOLVE_WAIT_S_MAX
from ..engines.postgres.backend import Backend, lost_connection
from ..executor.request import Discard, pump_tags, run
from ..pgwire.backend import command_complete
from ..pgwire.diagnostics import error_response
from ..transactions.commit import (
    CATALOG_DECIDER,
    Decide,
    Errors,
    GlobalId,
    OutcomeUnknown,
    Protocol,
    Resolve,
    Run,
    Step,
    commit,
    ended_by_recovery,
    is_lost,
    never_committed,
    never_decided,
    new_global_id,
)
from ..transactions.lost_commit import Fate
from ..transactions.recovery import outcome_sql, record_abort_sql
from . import durability, gating, leaving, lost_commits, versions, witnesses
from .shown import as_one_table
from .transaction import Branch, Stopped, Transaction

if TYPE_CHECKING:
    from .session import Session

_COMMIT, _ROLLBACK = b"COMMIT", b"ROLLBACK"
_DISCARD = Discard()


async def commit_transaction(session: Session) -> bytes:
    """Ends the session's transaction by COMMIT; gives the command tag (ROLLBACK where it had failed).

    Raises what stood against it; the transaction is over in any case.
    """
    transaction = session.transaction
    assert transaction is not None
    if transaction.failed:
        await rollback_transaction(session)
        return _ROLLBACK
    try:
        if transaction.left:
            await durability.set_again(session, transaction)
        if transaction.change is not None:
            await _commit_change(session, transaction)
        elif len(transaction.participants) > 1:
            await _commit_several(session, transaction)
        else:
            await _commit_single(session, transaction)
        transaction.committed = True
        if transaction.left:
            await leaving.after_commit(session, transaction)
    finally:
        if not transaction.committed:
            session.set_state(transaction.state_before)
        finish(session, transaction, committed=transaction.committed)
        if transaction.ending and session.closed:
            session.end_backends()
            raise asyncio.CancelledError  # the client is gone: what he sent after this commit is not run
    await _look_at_pinned(session)
    return _COMMIT


async def answer_commit(session: Session, acknowledged: bytes) -> None:
    """A COMMIT that has only branches to end, from the beginning of its answer, `acknowledged`, to ReadyForQuery."""
    session.write(acknowledged)
    try:
        session.write(command_complete((await commit_transaction(session)).decode()))
    except FatalError:
        raise
    except PgError as error:
        session.write(error_response(as_one_table(session.judged(error), session.plans.snapshot)))
    session.write_ready()


async def _look_at_pinned(session: Session) -> None:
    """With the transaction temporary tables and locks may have gone."""
    if session.pinned and session.transaction is None:
        with contextlib.suppress(PgError):  # the next statement there will say so
            await session.unpin_if_free()


async def rollback_transaction(session: Session) -> None:
    """Ends the session's transaction by ROLLBACK in every branch. Never raises: a lost branch is rolled back, too."""
    transaction = session.transaction
    assert transaction is not None
    prepared = tuple(transaction.prepared)
    places = tuple(place for place in transaction.branches if place not in prepared)
    try:
        await _perform(transaction, Run(places, "ROLLBACK"))
        if prepared and transaction.identity is not None:
            await _perform(transaction, Run(prepared, f"ROLLBACK PREPARED {quote_literal(transaction.identity.gid)}"))
    finally:
        session.set_state(transaction.state_before)
        session.gateway.forget_change(transaction)
        finish(session, transaction, committed=False)
    await _look_at_pinned(session)


def finish(session: Session, transaction: Transaction, *, committed: bool) -> None:
    """Gives the branches back, each with the settings it now has.

    PostgreSQL undoes a branch's SETs at ROLLBACK and keeps them at COMMIT. A branch that was opened *after* a SET came with
    it, outside the transaction, and is in no known state after a ROLLBACK.
    """
    session.transaction = None
    session.gateway.watch.spread.discard(session)
    session.set_state(session.state)  # with the names of custom settings that the transaction had for itself
    if transaction.planned_by:
        session.refresh_context()
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
    writers = tuple(transaction.writers)
    readers = tuple(place for place in transaction.branches if place not in writers)
    errors = await _commit_writer(session, transaction, writers)
    if errors:
        await _perform(transaction, Run((*writers, *readers), "ROLLBACK"))
        raise next(iter(errors.values()))
    errors = await _perform(transaction, Run(readers, "COMMIT", "COMMIT"))
    for error in errors.values():
        if not is_lost(error) or (transaction.serializable and not writers):
            raise error  # else what was decided is so, and what was read has been read, whoever has gone since


async def _commit_writer(session: Session, transaction: Transaction, writers: tuple[str, ...]) -> dict[str, PgError]:
    """Its errors; where the answer is lost, what became of it is asked for (`transactions.lost_commit`)."""
    if not any(gating.due(session, place) for place in writers):
        return await _perform(transaction, Run(writers, "COMMIT", "COMMIT"))
    (place,) = writers
    backend, mark = transaction.branches[place].backend, transaction.lost
    if mark is None:
        mark = session.gateway.positions.mark(backend)
        errors = await _perform(transaction, Run(writers, gating.commit_sql(session, mark), "COMMIT"))
    else:
        errors = {place: lost_connection(place)}
    if mark is None or not errors or not is_lost(errors[place]):
        return errors
    backend.close()
    fate = await lost_commits.fate_of(session.gateway, backend, mark)
    if fate is Fate.COMMITTED:
        return {}
    return {place: never_committed(errors[place])} if fate is Fate.ROLLED_BACK else errors


def _global_order(session: Session, places: list[str]) -> tuple[str, ...]:
    rank = {name: index for index, name in enumerate(session.gateway.snapshot.group_names)}
    return tuple(sorted(places, key=lambda place: rank.get(place, -1)))


def _home_last(session: Session, transaction: Transaction, writers: tuple[str, ...]) -> tuple[str, ...]:
    """A branch that has touched a temporary table or announced something cannot be prepared (manual, PREPARE TRANSACTION), so
    it decides. So does one where a function ran that may have done that.
    """
    home = session.gateway.snapshot.home_group
    if home not in writers or transaction.identity is not None:
        return writers
    planned = transaction.touched.values()
    if not transaction.announces and not any(each.pins == "temporary table" or not each.neutral for each in planned):
        return writers
    return (*(place for place in writers if place != home), home)


def in_order(session: Session, transaction: Transaction) -> tuple[str, ...]:
    """The participants, with the decider last."""
    return _home_last(session, transaction, _global_order(session, transaction.participants))


async def _commit_several(session: Session, transaction: Transaction) -> None:
    try:
        if transaction.stopped is not None:
            await _go_on(session, transaction, transaction.stopped)
        else:
            await _commit_all(session, transaction)
    except PgError as error:
        # A statement of its own is run again for 40001, and would wait until recovery has ended what was prepared.
        if transaction.explicit and is_lost(error) and not isinstance(error, OutcomeUnknown):
            raise never_decided(error) from error
        raise


async def _commit_all(session: Session, transaction: Transaction) -> None:
    writers = in_order(session, transaction)
    readers = tuple(place for place in transaction.branches if place not in writers)
    identity = transaction.identity or new_global_id(writers[-1])
    committed = False
    try:
        await _judged(session, transaction, identity, writers, _protocol(session, transaction, writers, identity))
        committed = True
    finally:
        await _perform(transaction, Run(readers, "COMMIT" if committed else "ROLLBACK"))


def _protocol(session: Session, transaction: Transaction, writers: tuple[str, ...], identity: GlobalId) -> Protocol:
    prepared = frozenset(transaction.prepared)
    return commit(
        writers,
        identity,
        already=prepared,
        deferrable=session.gateway.snapshot.has_deferrable,
        serializable=transaction.serializable,
        impatient=not transaction.explicit or gating.impatient(session),  # an INSERT of its own may have hurried
    )


async def _judged(
    session: Session, transaction: Transaction, identity: GlobalId, places: tuple[str, ...], protocol: Protocol
) -> None:
    """Drives the protocol; at SERIALIZABLE before witnesses in `places`."""
    if not transaction.serializable:
        await _drive(session, transaction, identity, protocol)
        return
    try:
        transaction.witnesses = await witnesses.call(session.gateway.witnesses, places)
    except PgError:
        await _perform(transaction, Run(places, "ROLLBACK"))
        raise
    try:
        await _drive(session, transaction, identity, protocol)
    finally:
        await witnesses.dismiss(session.gateway.witnesses, transaction.witnesses)


async def _commit_change(session: Session, transaction: Transaction) -> None:
    """The schema was changed: every group prepares, the catalog's commit decides, then all follow."""
    change = transaction.change
    assert change is not None
    groups = _global_order(session, [place for place in transaction.branches if place != WORKSPACE_PLACE])
    identity = new_global_id(CATALOG_DECIDER, change.transaction_id)
    try:
        if not change.recorded:
            await versions.record(session.gateway, transaction)
        deferrable = change.snapshot.has_deferrable or session.gateway.snapshot.has_deferrable
        # Whether it can be decided: what is prepared without that stops rows in every group until it can (versions.py).
        await session.gateway.control.look_up(change.transaction_id)
        protocol = commit(
            groups, identity, catalog_decides=True, deferrable=deferrable, serializable=transaction.serializable
        )
        await _judged(session, transaction, identity, groups, protocol)
    except BaseException:
        places = (WORKSPACE_PLACE,) if change.recorded else tuple(transaction.branches)
        await _perform(transaction, Run(places, "ROLLBACK"))
        raise
    finally:
        session.gateway.forget_change(transaction)


async def _go_on(session: Session, transaction: Transaction, stopped: Stopped) -> None:
    errors = await _done_again(session, stopped.step, stopped.errors)
    await _drive(session, transaction, stopped.identity, stopped.protocol, errors)


async def _drive(
    session: Session, transaction: Transaction, identity: GlobalId, protocol: Protocol, answer: Errors | None = None
) -> None:
    """Performs the protocol's steps until it ends; its exception is ours. `answer`: of a step that was performed elsewhere."""
    gateway = session.gateway
    transaction.ending = True
    gateway.committing += 1
    try:
        step = next(protocol) if answer is None else protocol.send(answer)
        while True:
            gateway.fault(f"before_{step.stage}")
            answer = await _step(session, transaction, identity, step)
            gateway.fault(f"after_{step.stage}")
            step = protocol.send(answer)
    except StopIteration:
        return
    finally:
        gateway.committing -= 1


async def _step(session: Session, transaction: Transaction, identity: GlobalId, step: Step) -> Errors:
    if step.stage == "decide" and any(witness.closed for witness in transaction.witnesses):
        return {identity.decider: witnesses.missing()}
    if isinstance(step, Decide):
        return await _decide(session, transaction)
    if isinstance(step, Resolve):
        return await _resolve(session, transaction, identity, step)
    if step.stage == "decide" and identity.late:
        return {identity.decider: ended_by_recovery()}
    if step.stage == "decide":
        return await _order_to_commit(session, transaction, step)
    return await _done_again(session, step, await _perform(transaction, step))


async def _done_again(session: Session, step: Run, errors: Errors) -> Errors:
    """COMMIT PREPARED, where its answer was lost; other steps are not done again."""
    if step.stage == "finish" and errors:
        await asyncio.gather(*(_finish(session, place, step.sql) for place in errors))
    return errors


async def _finish(session: Session, place: str, sql: str) -> None:
    """COMMIT PREPARED where its answer was lost, as long as a client may wait: he is told when all can see what he did."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + RESOLVE_WAIT_S_MAX
    while clock() < deadline:
        try:
            backend = await session.gateway.system_backend(place)
            try:
                await backend.query(sql)
            finally:
                backend.close()
            return
        except PgError as error:
            if error.sqlstate == "42704":  # done: by us, or by recovery
                return
        await asyncio.sleep(RESOLVE_PAUSE_S)


async def _order_to_commit(session: Session, transaction: Transaction, step: Run) -> Errors:
    """The decider's part of the statement may come with it, which may wait for a lock, and so be cancelled."""
    statements = {place: branch.backend for place, branch in transaction.branches.items() if branch.held is not None}
    session.running.update(statements)
    try:
        return await _perform(transaction, step)
    finally:
        for place in statements:
            session.running.pop(place, None)


async def _decide(session: Session, transaction: Transaction) -> Errors:
    """The catalog's commit; then the schema-complete database here follows at once."""
    try:
        await session.gateway.commit_change(transaction)
    except PgError as error:
        return {CATALOG_DECIDER: error}
    await _perform(transaction, Run((WORKSPACE_PLACE,), "COMMIT"))
    return {}


async def _resolve(session: Session, transaction: Transaction, identity: GlobalId, step: Resolve) -> Errors:
    """Asks until there is an answer, but not for ever: recovery can wait longer than a client."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + RESOLVE_WAIT_S_MAX
    while True:
        try:
            if await _was_committed(session, transaction, step):
                return {}
            if identity.late and step.decider != CATALOG_DECIDER:  # the catalog keeps what it has said
                return {step.decider: PgError("08006", "its record may be gone")}
            return {step.decider: ended_by_recovery()}
        except PgError as error:
            if clock() > deadline:
                return {step.decider: PgError("08006", error.message)}
        await asyncio.sleep(RESOLVE_PAUSE_S)


async def _was_committed(session: Session, transaction: Transaction, step: Resolve) -> bool:
    gateway = session.gateway
    if step.decider == CATALOG_DECIDER:
        assert transaction.change is not None
        committed = await gateway.control.outcome(transaction.change.transaction_id)
        if committed:
            await _perform(transaction, Run((WORKSPACE_PLACE,), "COMMIT"))
        return committed
    backend = await gateway.system_backend(step.decider)
    try:
        await backend.query(record_abort_sql(step.gid))
        rows = await backend.query(outcome_sql(step.gid))
        await backend.query(
            "SELECT pg_catalog.pg_logical_emit_message(true, 'hanse', 'settled')"
        )  # followers have it, too
    finally:
        backend.close()
    return rows[0][0] == "c"


async def _perform(transaction: Transaction, step: Run) -> dict[str, PgError]:
    places = [place for place in step.places if place in transaction.branches]
    if len(places) < 2:  # without tasks
        return await _perform_alone(transaction, step, places)
    results = await asyncio.gather(
        *(_run_one(transaction.branches[place], step) for place in places), return_exceptions=True
    )
    errors: dict[str, PgError] = {}
    for place, result in zip(places, results, strict=True):
        if isinstance(result, PgError):
            errors[place] = result
        elif isinstance(result, BaseException):
            raise result
    return errors


async def _perform_alone(transaction: Transaction, step: Run, places: list[str]) -> dict[str, PgError]:
    for place in places:
        try:
            await _run_one(transaction.branches[place], step)
        except PgError as error:
            return {place: error}
    return {}


async def _run_one(branch: Branch, step: Run) -> None:
    held, branch.held = branch.held, None
    if held is not None and step.stage == "decide":
        held.send(branch.backend, step.sql)
        tag = (await pump_tags(branch.backend, _DISCARD, copying=True))[-1].decode()
    else:
        tag = (await run(branch.backend, step.sql)).decode()
    if step.expect_tag is not None and tag != step.expect_tag:
        raise rolled_back(branch.backend)


def rolled_back(backend: Backend) -> PgError:
    """It said so in the answer to COMMIT or PREPARE TRANSACTION."""
    return PgError("40000", f"the transaction was rolled back in {backend.place}")
