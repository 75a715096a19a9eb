"""What becomes of prepared branches whose coordinator does not end them: the decisions, without I/O.

A branch is prepared under the gid ``hanse:<decider>:<id>:<hash>``; the decider has the last word. Recovery of one branch:

1. in the decider's group: ``SELECT hanse.record_abort(gid)``. If a record of the gid is being made at this moment this
   waits for its end. Afterwards there is a record: the one that was made, or a tombstone.
2. there, as a second statement (a new READ COMMITTED snapshot: the first one's might be older than the record it has
   waited for): read it, and have something written that waits for the same durability as the record.
3. here: ``COMMIT PREPARED`` or ``ROLLBACK PREPARED``. 42704 (there is no such transaction) means that somebody else was
   faster: a gateway, or an agent.

With the decider ``catalog`` the control plane is asked instead of steps 1 and 2; its "no" is final in the same way.

*Why any number of recoveries and the coordinator may work at once.* The record's primary key admits one outcome. It is
written once, by the decider's commit or by a tombstone, and it is never changed; whoever ends a branch has read it. So all
of them do the same.

*Worked example.* Gateway prepares on g1 and is stopped for a minute. Recovery of g1 (after PREPARED_AGE_S_MIN): no record
in g2 → tombstone → ROLLBACK PREPARED on g1. The gateway wakes up and tells g2 to record and commit: 23505, rolled back. It
tells its client 40001, which is the truth.

**Records go, too.** A record may go when nobody can be told by it any more. With A = RECORD_AGE_S_MIN, all times by the clock of
the decider's server, the rule is:

- *committed*: it is older than A, and then every group has been asked and holds no branch of the gid;
- *tombstone*: likewise, and no transaction is open in the decider's group that began before A after the tombstone.

Its proof needs what coordinators promise: the decision is sent within COMMIT_S_MAX = A/2 after the gid was made, and an answer of
the decider is believed only within that time (`GlobalId.late`).

*A committed record that is gone is missed by nobody.* It was made by a coordinator to whom every PREPARE had been answered, so
all branches were prepared before it, and a gid is prepared once: a branch that is not prepared after the record was
seen has ended, and never comes again. It ended by the record, and durably: PostgreSQL flushes COMMIT PREPARED, and waits for
synchronous standbys, before the branch leaves pg_prepared_xacts; one that crashes first is prepared again before it answers.
Who can ask now? The coordinator no more, since the record is older than A. A recovery or an operator who saw a branch while
it was there may ask; he is told "aborted" by the tombstone he writes himself, and finds no branch to do it to (42704).

*A tombstone that is gone lets nobody commit.* Only the decider's branch of its transaction could, by a message that was sent within
A/2 after the gid was made, hence within A/2 after the tombstone, which somebody wrote who had seen a branch. The
branch had run its statements by then, so it began before that moment. If it could still commit it would be open, and the rule
keeps the tombstone while such a one is open. The other half of A is how far a clock may be set meanwhile, forward or back.
The removal looks for open transactions when it reads the records; one that begins later is too young.

Nothing is removed while a group does not answer. `tests/unit/transactions/test_commit_simulation.py` breaks each part of the rule,
and shows what goes wrong then.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass

from ..core.ids import quote_literal
from .commit import CATALOG_DECIDER, GID_PREFIX


@dataclass(frozen=True, slots=True)
class BranchId:
    """The parts of a gid."""

    gid: str
    decider: str
    transaction_id: str

    @property
    def decided_by_catalog(self) -> bool:
        return self.decider == CATALOG_DECIDER


def parse_gid(gid: str) -> BranchId | None:
    """None for a prepared transaction that is not ours."""
    parts = gid.split(":")
    if not gid.startswith(GID_PREFIX) or len(parts) != 4 or not all(parts):
        return None
    return BranchId(gid, parts[1], parts[2])


@dataclass(frozen=True, slots=True)
class AskDecider:
    """Steps 1 and 2 in group `place`. Answered with the outcome: 'c', 'a'; None: not known now."""

    place: str
    gid: str


@dataclass(frozen=True, slots=True)
class AskCatalog:
    """Answered likewise."""

    transaction_id: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Run `sql` in the group that holds the branch. Answered with None, whatever becomes of it."""

    sql: str


Recovery = Generator[AskDecider | AskCatalog | Finish, str | None, bool]


def recover(branch: BranchId) -> Recovery:
    """Ends one prepared branch. False: its outcome is not known now, it has to be tried again."""
    if branch.decided_by_catalog:
        outcome = yield AskCatalog(branch.transaction_id)
    else:
        outcome = yield AskDecider(branch.decider, branch.gid)
    if outcome is None:
        return False
    assert outcome in ("c", "a"), outcome
    verb = "COMMIT" if outcome == "c" else "ROLLBACK"
    yield Finish(f"{verb} PREPARED {quote_literal(branch.gid)}")
    return True


def record_abort_sql(gid: str) -> str:
    """Step 1."""
    return f"SELECT hanse.record_abort({quote_literal(gid)})"


def outcome_sql(gid: str) -> str:
    """Step 2. The message in the WAL is what the second statement's commit waits for."""
    return (
        "SELECT r.outcome::text, pg_catalog.pg_logical_emit_message(true, 'hanse.recovery', r.gid) "
        f"FROM hanse.commit_record r WHERE r.gid = {quote_literal(gid)}"
    )


def overdue_sql(age_s: float) -> str:
    """Branches of ours in this group that have been prepared for `age_s` seconds, oldest first."""
    return (
        "SELECT gid FROM pg_catalog.pg_prepared_xacts "
        f"WHERE gid LIKE '{GID_PREFIX}%' AND database = pg_catalog.current_database() "
        f"AND prepared <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => {age_s}) ORDER BY prepared, gid"
    )


def old_records_sql(age_s: float, count: int) -> str:
    """Records of this group that are no longer needed if none of their branches is prepared any more.

    A session with track_activities = off does not say since when it has a transaction: tombstones wait for its end.
    """
    age = f"pg_catalog.make_interval(secs => {age_s})"
    return (
        "SELECT gid FROM hanse.commit_record "
        f"WHERE at < pg_catalog.clock_timestamp() - {age} AND (outcome = 'c' OR at + {age} < "
        "(SELECT coalesce(min(CASE state WHEN 'disabled' THEN '-infinity' ELSE xact_start END), 'infinity') "
        "FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid())) "
        f"ORDER BY at LIMIT {count}"
    )


def prepared_of_sql(decider: str) -> str:
    """The gids that a group still holds prepared for a decider."""
    pattern = f"{GID_PREFIX}{decider}:".replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%") + "%"
    return f"SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE gid LIKE {quote_literal(pattern)}"


def unneeded(records: Iterable[str], prepared: Iterable[Collection[str]]) -> list[str]:
    """The records that may go: no group holds a branch of theirs. `prepared` must be read after `records`."""
    held = set().union(*prepared)
    return [gid for gid in records if gid not in held]
