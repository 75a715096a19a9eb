"""Atomic commit over several groups, as a protocol without I/O.

The last participant in the global order is the *decider*; its own one-phase commit is the decision (DESIGN §5):

1. where constraints may be deferred, ``SET CONSTRAINTS ALL IMMEDIATE`` in every branch: what they wait for is waited for
   before anything below is held (findings-transactions A4);
2. every other writer takes its group's *gate over groups* and does ``PREPARE TRANSACTION gid``, one after another in the global
   order;
3. the decider takes its own, records the gid and commits, in one message. If that commit is durable the transaction is
   committed everywhere, otherwise nowhere;
4. the others do ``COMMIT PREPARED gid``, at the same time; then the client is told. Where the answer to that is lost it is
   done again, because what a client was told of must be seen by whoever reads next; only a group that is away for long
   is left to recovery.

The gates are what a snapshot over several groups waits for: see `snapshots.py`, which also says why their order matters.
At SERIALIZABLE branches that have only read take part as well: see `serializable.py`.

A failure before step 3, or an *answered* failure in it, rolls everything back. A schema change has the control plane as its
decider: step 3 is the catalog's commit, and every group prepares.

**A decider that is lost before it answered** leaves the outcome open, but not for ever: the record of the gid in the
decider's group says what happened. `Resolve` asks for it as recovery does (`recovery.py`): it writes "aborted" in the
record's place, unless there is a record; what is read then can never change, because a commit that comes late dies on the
same unique key. Only if the group cannot be reached either is the client told that nobody knows, and recovery ends the
branches when it can.

**Somebody else may decide first.** Branches that stay prepared for too long are ended by recovery, which records "aborted".
The decider's own record then violates the unique key (23505 on `hanse.commit_record`), its transaction fails, and the
client is told what is true: rolled back, repeat it (40001).

**Not for ever.** The decision is sent, and an answer "there is no record" believed, only for COMMIT_S_MAX after the gid was
made; later the driver answers for the decider, 40001 or 08007. That is what lets records go in the end.

The gid is public (pg_prepared_xacts is readable by all), so it ends in the SHA-256 of a secret that only this transaction's
coordinator knows, and the table of records takes none without the secret.

The protocol is a generator of steps: the driver performs a step in all its places at once and sends back the errors by
place.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from ..core.errors import PgError
from ..core.ids import quote_literal
from ..core.limits import COMMIT_S_MAX
from .serializable import MARK

CATALOG_DECIDER = "catalog"
GID_PREFIX = "hanse:"
# ROW EXCLUSIVE needs no other right than INSERT (findings-transactions D22).
GATE = "LOCK TABLE ONLY hanse.gate IN ROW EXCLUSIVE MODE"
GATE_OVER_GROUPS = "LOCK TABLE ONLY hanse.gate_over_groups IN ROW EXCLUSIVE MODE"
_RECORD = "INSERT INTO hanse.commit_record (gid, secret) VALUES ({}, {})"
RECORD = _RECORD.format("$1", "$2")
PATIENTLY = "SET LOCAL lock_timeout = 0; "  # the client's lock_timeout is for his locks
CHECK_CONSTRAINTS = "SET CONSTRAINTS ALL IMMEDIATE"


@dataclass(frozen=True, slots=True)
class Run:
    """Run `sql` in each of `places` at the same time. Answered with the errors by place; a lost connection is one."""

    places: tuple[str, ...]
    sql: str
    expect_tag: str | None = None  # another command tag is a failure: COMMIT of a failed transaction says ROLLBACK
    stage: str = ""  # 'prepare', 'decide', 'finish': names the moment, for tests that interrupt it


@dataclass(frozen=True, slots=True)
class Decide:
    """The catalog's commit, for a transaction that changed the schema. Answered with {'catalog': error} or {}."""

    stage: str = "decide"


@dataclass(frozen=True, slots=True)
class Resolve:
    """The decider was lost: what did it do? Answered as its own step would have been, after it can do nothing else.

    {}: committed; {decider: 40001}: aborted, for ever; {decider: 08…}: it cannot be reached.
    """

    decider: str
    gid: str
    stage: str = "resolve"


class OutcomeUnknown(PgError):
    """08007: the decider could not be heard after it was told to commit."""

    def __init__(self, gid: str, decider: str) -> None:
        super().__init__(
            "08007",
            "the outcome of the transaction is not known",
            detail=f"The connection to {decider} was lost while it decided transaction {gid}.",
            hint="It is committed on all groups or on none; look at its effects before you repeat it.",
        )


@dataclass(frozen=True, slots=True)
class GlobalId:
    decider: str
    secret: str
    gid: str
    made: float = field(default_factory=time.monotonic)

    @property
    def late(self) -> bool:
        """Its records in the decider's group can be relied on no more: see `recovery.py`, "Records go, too"."""
        return time.monotonic() - self.made > COMMIT_S_MAX


def new_global_id(decider: str, transaction_id: str | None = None) -> GlobalId:
    """Ids grow with time, so that records come to lie at the end of their index, on a page that is in memory and in the WAL."""
    token = secrets.token_hex(18)
    secret = token[4:]
    digest = hashlib.sha256(secret.encode()).hexdigest()
    number = transaction_id or f"{time.time_ns() >> 10:014x}{token[:4]}"
    return GlobalId(decider, secret, f"{GID_PREFIX}{decider}:{number}:{digest}")


Errors = Mapping[str, PgError]
Step = Run | Decide | Resolve
Protocol = Generator[Step, Errors, None]


def commit(
    writers: tuple[str, ...],
    identity: GlobalId,
    *,
    catalog_decides: bool = False,
    already: frozenset[str] = frozenset(),
    deferrable: bool = False,
    serializable: bool = False,
    impatient: bool = True,
) -> Protocol:
    """Commits `writers` (in the global order; the last decides, unless the catalog does). Raises the failure.

    `already`: those that have prepared under this identity (a statement's own transaction prepares with the statement).
    `deferrable`: constraints may have been deferred. `serializable`: witnesses are open, and every branch marks itself.
    `impatient`: a lock_timeout may be set in the branches.
    """
    prepared = writers if catalog_decides else writers[:-1]
    gid = quote_literal(identity.gid)
    before = (f"{MARK}; " if serializable else "") + (PATIENTLY if impatient else "")
    if deferrable:
        errors = yield Run(tuple(w for w in writers if w not in already), CHECK_CONSTRAINTS, stage="constraints")
        if errors:
            yield from _undo(writers, tuple(already), errors, gid)
    for place in prepared:
        if place not in already:
            errors = yield Run((place,), before + _prepare(gid), "PREPARE TRANSACTION", "prepare")
            already |= {place}
            if errors:
                yield from _undo(writers, tuple(already), errors, gid)
    if catalog_decides:
        errors = yield Decide()
    else:
        record = _RECORD.format(gid, quote_literal(identity.secret))
        record = f"{before}{GATE_OVER_GROUPS}; {record}; COMMIT"
        errors = yield Run(writers[-1:], record, "COMMIT", "decide")
    if errors and is_lost(_first(errors)):
        lost = _first(errors)
        errors = yield Resolve(identity.decider, identity.gid)
        if errors and is_lost(_first(errors)):
            raise OutcomeUnknown(identity.gid, identity.decider) from lost
    if errors:
        yield Run(prepared, f"ROLLBACK PREPARED {gid}", stage="undo")
        if not catalog_decides:  # it failed on the record, and waits in a failed transaction
            yield Run(writers[-1:], "ROLLBACK", stage="undo")
        raise told(_first(errors))
    yield Run(
        prepared, f"COMMIT PREPARED {gid}", stage="finish"
    )  # an error changes nothing: recovery will do it, in the end


def prepare_sql(identity: GlobalId) -> str:
    """Behind a branch's only statement, whatever its lock_timeout."""
    return PATIENTLY + _prepare(quote_literal(identity.gid))


def _prepare(gid: str) -> str:
    return f"{GATE_OVER_GROUPS}; PREPARE TRANSACTION {gid}"


def _undo(writers: tuple[str, ...], asked: tuple[str, ...], errors: Errors, gid: str) -> Protocol:
    """Somebody could not prepare: nothing was decided, so nothing may stay. `asked`: those that were to prepare."""
    done = tuple(place for place in writers if place in asked and place not in errors)
    if done:
        yield Run(done, f"ROLLBACK PREPARED {gid}", stage="undo")
    rest = tuple(place for place in writers if place not in done)
    if rest:
        yield Run(rest, "ROLLBACK", stage="undo")
    raise _first(errors)


def _first(errors: Errors) -> PgError:
    return next(iter(errors.values()))


def is_lost(error: PgError) -> bool:
    """Whether an error leaves open what became of the statement.

    Class 08: no answer came. 57P01 and 57P02: the server was stopped; a COMMIT may have been written by then. A server
    that is starting or stopping (57P03) has not begun on it.
    """
    return error.sqlstate.startswith("08") or error.sqlstate in ("57P01", "57P02")


def told(error: PgError) -> PgError:
    """What the client is told of the decider's failure: a tombstone that it met is our affair, not a duplicate of his."""
    if error.sqlstate == "23505" and (error.fields.get("s"), error.fields.get("t")) == ("hanse", "commit_record"):
        return ended_by_recovery()
    return error


def never_decided(lost: PgError) -> PgError:
    """A group was lost that was to prepare. Who alone could have decided did not, and so nobody will."""
    return _rolled_back(f"Before it was decided, {lost.message}.")


def never_committed(lost: PgError) -> PgError:
    """The group that was written in was lost at COMMIT, and is back without the transaction."""
    return _rolled_back(f"While it was to commit, {lost.message}.")


def ended_by_recovery() -> PgError:
    return _rolled_back("Its commit was interrupted or took too long, and recovery has ended it on all groups.")


def _rolled_back(detail: str) -> PgError:
    return PgError(
        "40001",
        "could not commit: the transaction was rolled back",
        detail=detail,
        hint="The transaction might succeed if retried.",
    )
