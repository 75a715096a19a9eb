"""A client's transaction, as branches: one backend in each place it has touched.

BEGIN is sent to a place only when the transaction first needs it there, together with what a late branch must be told: the
transaction's own characteristics, its SET LOCALs and its savepoints, in the order they came. A savepoint therefore exists
in every branch, and ROLLBACK TO means the same in all of them.

A transaction is *explicit* (the client said BEGIN) or *implicit* (one statement, or one pipeline up to Sync, that writes
in several places). `failed` follows the first error of any branch: until ROLLBACK nothing else runs anywhere, which is what
one server would do.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ..catalog.model import Snapshot
from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..core.ids import quote_identifier
from ..engines.postgres.backend import Backend
from ..executor.request import Copy
from ..pgwire import frontend
from ..planner.leaving import Leaves
from ..planner.plan import Planned
from ..transactions.commit import Errors, GlobalId, Protocol, Run
from ..transactions.lost_commit import Mark
from .modes import STANDARD, Modes, after
from .settings import SessionState

BEGIN_ATTEMPTS_MAX = 5
WRITES_UNTIL_HERE = "hanse writes until here"  # a savepoint of ours


@dataclass(slots=True)
class Branch:
    backend: Backend
    wrote: bool = False
    used: bool = True  # False: it has only taken its part of the transaction's snapshot
    held: Copy | None = None  # is sent together with the order to commit


@dataclass(slots=True)
class Savepoint:
    name: str
    state: SessionState  # the session's settings when it was set
    local_count: int  # how many of `Transaction.local` came before it
    snapshot: Snapshot | None  # the transaction's own view of the catalog, if it had changed the schema by then
    statements: int = 0  # how many logged statements of the change came before it
    cursors: int = 0  # how many cursors the session had ever declared
    planned_by: tuple[tuple[str, str], ...] = ()  # `Transaction.planned_by` then
    modes: Modes = STANDARD  # the transaction's, then
    recorded: bool = False  # `SchemaChange.recorded` then


@dataclass(slots=True)
class SchemaChange:
    """What a transaction has done to the schema so far. Committed with the transaction, through the control plane."""

    transaction_id: str
    snapshot: Snapshot  # the catalog as this transaction sees it
    version: int  # the committed version it is based on
    statements: list[str] = field(default_factory=list)  # for the log, as run in the schema-complete database
    frozen: frozenset[tuple[str, str]] = frozenset()
    recorded: bool = False  # the groups know its version (versions.py)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A commit that was begun without a task (`quick_commit.py`), and what its last step met."""

    identity: GlobalId
    protocol: Protocol
    step: Run
    errors: Errors


@dataclass(slots=True)
class Transaction:
    options: str  # the text after BEGIN: 'ISOLATION LEVEL … READ ONLY'
    state_before: SessionState
    explicit: bool = True
    message: bool = False  # implicit, of a Query message with several statements
    failed: bool = False
    branches: dict[str, Branch] = field(default_factory=dict)
    local: list[str] = field(default_factory=list)  # SET LOCAL, SET TRANSACTION …: replayed on late branches
    planned_by: tuple[tuple[str, str], ...] = ()  # of the local settings those that plans depend on: search_path, role
    savepoints: list[Savepoint] = field(default_factory=list)
    touched: dict[int, Planned] = field(default_factory=dict)
    change: SchemaChange | None = None
    announces: bool = False  # LISTEN, UNLISTEN or NOTIFY was run in the home group
    patient: bool = False  # a schema change is under way, which waits briefly for locks and then gives way
    ending: bool = False  # its commit is under way and must not be interrupted
    committed: bool = False
    identity: GlobalId | None = None  # made early where a branch prepares together with its only statement
    prepared: set[str] = field(default_factory=set)  # those branches
    stopped: Stopped | None = None  # its commit is to be gone on with
    lost: Mark | None = None  # its COMMIT was sent behind this mark, and the answer was lost
    started: float = field(default_factory=time.time)
    awaits_snapshot: bool = False  # its first statement is to see all groups at one moment
    keeps_snapshot: bool = False  # REPEATABLE READ or SERIALIZABLE
    groups: frozenset[str] | None = None  # that there were when its snapshot was taken
    serializable: bool = False
    witnesses: list[Backend] = field(default_factory=list)  # of its commit
    read_consistency: str | None = None  # SET LOCAL hanse.read_consistency
    left: dict[str, Leaves] = field(default_factory=dict)  # by place: what functions may have set for the session
    parses_alone: bool = False  # a local setting decides what texts mean: nothing that is prepared under it may be kept
    mixed: bool = False  # settings of the branches were changed by us in the middle: known to nobody at the end
    modes: Modes = STANDARD
    modes_begun: Modes = STANDARD  # that a late branch begins with; later ones are in `local`
    modes_before: Modes = STANDARD  # without what was set in it

    def __post_init__(self) -> None:
        if self.options or self.state_before.modes is not STANDARD:
            self.begin_with(self.state_before.modes, self.options)

    def begin_with(self, modes: Modes, options: str = "") -> None:
        self.modes_before, self.modes_begun = modes, after(modes, options)
        self.set_modes(self.modes_begun)
        self.awaits_snapshot = self.explicit and self.keeps_snapshot

    def set_modes(self, modes: Modes) -> None:
        """From now on. PostgreSQL has seen to it that the level changes only before the first statement."""
        if modes.isolation != self.modes.isolation:
            self.serializable, self.keeps_snapshot = modes.serializable, modes.keeps_snapshot
            self.awaits_snapshot = self.explicit and self.keeps_snapshot
        self.modes = modes

    @property
    def begin_sql(self) -> str:
        """With all modes where a backend's defaults may differ."""
        if self.modes_begun is STANDARD and self.state_before.modes is STANDARD and not self.local:
            return "BEGIN"
        return f"BEGIN {self.modes_begun.sql}"

    @property
    def plain(self) -> bool:
        """A late branch needs nothing but BEGIN."""
        return not self.local and not self.savepoints

    def opening(self) -> list[str]:
        """What a late branch is told after BEGIN."""
        statements: list[str] = []
        done = 0
        for savepoint in self.savepoints:
            statements += self.local[done : savepoint.local_count]
            done = savepoint.local_count
            statements.append(f"SAVEPOINT {quote_identifier(savepoint.name)}")
        return statements + self.local[done:]

    def find_savepoint(self, name: str) -> int | None:
        """The index of the innermost savepoint of this name."""
        for index in range(len(self.savepoints) - 1, -1, -1):
            if self.savepoints[index].name == name:
                return index
        return None

    @property
    def writers(self) -> list[str]:
        return [place for place, branch in self.branches.items() if branch.wrote]

    @property
    def participants(self) -> list[str]:
        """The branches that must commit together: those that have written; at SERIALIZABLE, then, those that have read, too."""
        writers = self.writers
        if not self.serializable or not writers:
            return writers
        return [place for place, branch in self.branches.items() if branch.used and place != WORKSPACE_PLACE]


def chained(transaction: Transaction, state: SessionState) -> Transaction:
    """The one that AND CHAIN begins. What was set in a transaction, or since its last savepoint, an error has undone."""
    modes = transaction.modes
    if transaction.failed:
        theirs = [each for each in transaction.savepoints if each.name != WRITES_UNTIL_HERE]
        modes = theirs[-1].modes if theirs else transaction.modes_before
    begun = Transaction("", state)
    begun.begin_with(modes)
    return begun


async def open_branch(transaction: Transaction, place: str, acquire: Callable[[str], Awaitable[Backend]]) -> Backend:
    """A backend in `place` that has been told what a late branch must know; BEGIN goes with its first statement.

    The workspace ends sessions that are idle when it makes a database, and a branch there may have to wait for others before
    it says something. So it begins at once, which makes it safe; where that came too late, another is taken.
    """
    if (
        transaction.keeps_snapshot
        and transaction.groups is not None
        and place not in transaction.groups | {WORKSPACE_PLACE}
    ):
        raise PgError(
            "40001",
            "could not serialize access: a group was added after the transaction's snapshot was taken",
            hint="The transaction might succeed if retried.",
        )
    attempts = BEGIN_ATTEMPTS_MAX if place == WORKSPACE_PLACE else 1
    while True:
        backend = await acquire(place)
        attempts -= 1
        try:
            backend.write_ahead(frontend.query(transaction.begin_sql.encode()))
            if place == WORKSPACE_PLACE:
                await backend.query("")
            for statement in transaction.opening():
                await backend.query(statement)
            return backend
        except BaseException as error:
            ended = isinstance(error, PgError) and error.sqlstate.startswith(("08", "57P"))
            backend.close()
            if not ended or not attempts:
                raise
