"""Which transactions are prepared, and what became of them: the rows of `hanse.transactions`, without I/O.

Each group is asked for its prepared transactions (`PREPARED`), then each decider that they name for its records of them
(`records_sql`); `rows_of` puts the answers together. In this order: a transaction whose record is not seen had not been
decided when its branch was seen, or has ended since. Nothing is written, so "in doubt" may be over a moment later;
to end a transaction its decider must be asked as recovery does (`recovery.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..core.ids import quote_literal
from .recovery import parse_gid

# Of users' own making, too. Times as text: ISO dates, for what follows is written into SQL and JSON.
PREPARED = (
    "SELECT gid, owner::text, pg_catalog.to_char(prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
    "transaction::text FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY gid"
)

IN_DOUBT, COMMITTED, ABORTED, UNKNOWN, USERS = "in doubt", "committed", "aborted", "unknown", "prepared by a user"
_STATES = {"c": COMMITTED, "a": ABORTED, "": IN_DOUBT}


@dataclass(frozen=True, slots=True)
class Branch:
    """A row of `PREPARED`."""

    gid: str
    owner: str
    prepared: str  # ISO 8601, UTC
    transaction: str  # the id that the group gave it


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A transaction that is prepared somewhere.

    `state`: 'in doubt' (no decision is recorded), 'committed' or 'aborted' (decided, to be ended in `groups`), 'unknown' (the
    decider does not answer), or 'prepared by a user', who has to end it.
    """

    gid: str
    state: str
    decider: str | None  # a group, or 'catalog' for a schema change; None: a user's
    groups: tuple[str, ...]  # where it is still prepared, in the global order
    owner: str
    prepared: str  # the oldest branch's


def records_sql(gids: Iterable[str]) -> str:
    """Asked of a decider. Rows: gid, outcome ('c' or 'a')."""
    wanted = ", ".join(map(quote_literal, sorted(gids)))
    return f"SELECT gid, outcome::text FROM hanse.commit_record WHERE gid IN ({wanted})"


def undecided(branches: Mapping[str, Iterable[Branch]]) -> dict[str, set[str]]:
    """Decider → the gids that it has to be asked for."""
    found: dict[str, set[str]] = {}
    for each in branches.values():
        for branch in each:
            identity = parse_gid(branch.gid)
            if identity is not None:
                found.setdefault(identity.decider, set()).add(branch.gid)
    return found


def rows_of(branches: Mapping[str, Iterable[Branch]], outcomes: Mapping[str, Mapping[str, str]]) -> list[Prepared]:
    """`branches`: by group, in the global order. `outcomes`: by decider that has answered, gid → 'c', 'a' or ''.

    Oldest first.
    """
    by_gid: dict[str, list[tuple[str, Branch]]] = {}
    for group, each in branches.items():
        for branch in each:
            by_gid.setdefault(branch.gid, []).append((group, branch))
    rows = [_row(gid, found, outcomes) for gid, found in by_gid.items()]
    return sorted(rows, key=lambda row: (row.prepared, row.gid))


def _row(gid: str, found: list[tuple[str, Branch]], outcomes: Mapping[str, Mapping[str, str]]) -> Prepared:
    identity = parse_gid(gid)
    decider = None if identity is None else identity.decider
    if decider is None:
        state = USERS
    elif decider not in outcomes:
        state = UNKNOWN
    else:
        state = _STATES[outcomes[decider].get(gid, "")]
    return Prepared(
        gid=gid,
        state=state,
        decider=decider,
        groups=tuple(group for group, _ in found),
        owner=found[0][1].owner,
        prepared=min(branch.prepared for _, branch in found),
    )
