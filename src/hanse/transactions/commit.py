"""Atomic commit over several groups, as a protocol without I/O.

The last participant in the global order is the *decider*; its own one-phase commit is the decision (DESIGN §5):

1. every other writer does ``PREPARE TRANSACTION gid``;
2. the decider records the gid and commits, in one message. If that commit is durable the transaction is committed
   everywhere, otherwise nowhere;
3. the others do ``COMMIT PREPARED gid``; then the client is told.

A failure in step 1, or an *answered* failure in step 2, rolls everything back. A decider that is lost before it answered
leaves the outcome open: the record of the gid says what happened, whoever reads it (`recovery.py`). A schema change has the
control plane as its decider: step 2 is the catalog's commit, and every group prepares.

The gid is public (pg_prepared_xacts is readable by all), so it ends in the SHA-256 of a secret that only this transaction's
coordinator knows; the record is made by a function that asks for the secret.

The protocol is a generator of steps: the driver performs a step in all its places at once and sends back the errors by
place. What is not here yet: the gate (consistent reads across groups), which takes its place in steps 1 and 2.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Generator, Mapping
from dataclasses import dataclass

from ..core.errors import PgError
from ..core.ids import quote_literal

CATALOG_DECIDER = "catalog"


@dataclass(frozen=True, slots=True)
class Run:
    """Run `sql` in each of `places` at the same time. Answered with the errors by place; LOST marks a lost connection."""

    places: tuple[str, ...]
    sql: str
    expect_tag: str | None = None  # another command tag is a failure: COMMIT of a failed transaction says ROLLBACK


@dataclass(frozen=True, slots=True)
class Decide:
    """The catalog's commit, for a transaction that changed the schema. Answered with {'catalog': error} or {}."""


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


def new_global_id(decider: str, transaction_id: str | None = None) -> GlobalId:
    secret = secrets.token_hex(16)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return GlobalId(decider, secret, f"hanse:{decider}:{transaction_id or secrets.token_hex(8)}:{digest}")


Errors = Mapping[str, PgError]
Protocol = Generator[Run | Decide, Errors, None]


def commit(writers: tuple[str, ...], identity: GlobalId, *, catalog_decides: bool = False) -> Protocol:
    """Commits `writers` (in the global order; the last decides, unless the catalog does). Raises the failure."""
    prepared = writers if catalog_decides else writers[:-1]
    gid = quote_literal(identity.gid)
    errors = yield Run(prepared, f"PREPARE TRANSACTION {gid}", "PREPARE TRANSACTION")
    if errors:
        yield from _undo(writers, prepared, errors, gid)
    if catalog_decides:
        errors = yield Decide()
    else:
        record = f"SELECT hanse.record_commit({gid}, {quote_literal(identity.secret)}); COMMIT"
        errors = yield Run(writers[-1:], record, "COMMIT")
    if errors:
        (decider, error), *_ = errors.items()
        if error.sqlstate.startswith("08"):
            raise OutcomeUnknown(identity.gid, decider) from error
        yield Run(prepared, f"ROLLBACK PREPARED {gid}")
        raise error
    yield Run(prepared, f"COMMIT PREPARED {gid}")  # an error here changes nothing: recovery will do it


def _undo(writers: tuple[str, ...], prepared: tuple[str, ...], errors: Errors, gid: str) -> Protocol:
    """Somebody could not prepare: nothing was decided, so nothing may stay."""
    done = tuple(place for place in prepared if place not in errors)
    if done:
        yield Run(done, f"ROLLBACK PREPARED {gid}")
    rest = tuple(place for place in writers if place not in done)
    if rest:
        yield Run(rest, "ROLLBACK")
    raise next(iter(errors.values()))
