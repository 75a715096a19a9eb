"""The gate for transactions in one group: `transactions.snapshots` says what it is for.

A transaction over several groups takes its gates in steps of their own (`transactions.commit`). One that has written in one
group only must not pay a round trip for it, so the lock travels with what commits it:

* an explicit COMMIT becomes `LOCK …; COMMIT` in one text. Or it has a mark in between, by which can be told what became of it
  should its answer be lost (`transactions.lost_commit`; `lost_commits.py` says whose);
* a statement of its own has the lock behind it, in the same text or before the same Sync, and so in the same transaction,
  which commits next. Before a Sync PostgreSQL refuses LOCK; an INSERT of no rows takes the same lock.

The lock is the last thing before the commit, so that nobody who waits for rows holds a gate: who has them may be waiting for
snapshots, and so for the gate. Its answers are taken out of what the client sees.

A SELECT that writes (FOR UPDATE, a function) may do so in a session that is READ ONLY, where that INSERT may not: it gets a
transaction around it. So does what constraints may be deferred of; their checks wait for rows, and come before the lock.
Without a gate go CALL and DO, which may commit in the middle and so must not run in a transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import WORKSPACE_PLACE
from ..engines.postgres.backend import Backend, close_statement
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..planner.plan import Planned
from ..transactions.commit import CHECK_CONSTRAINTS, GATE, PATIENTLY
from ..transactions.lost_commit import MARK, Mark

if TYPE_CHECKING:
    from .session import Session

_ONE_MESSAGE = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE"))
_VERBS = _ONE_MESSAGE | {"SELECT", "COPY"}
_NAME = b"hanse_gate"
_SQL = b"INSERT INTO hanse.gate SELECT 0 WHERE false"
_BEHIND_TEXT = b"\n; " + GATE.encode()  # on a line of its own: the text may end in a comment
_SYNC = frontend.sync()
_BEHIND = frontend.bind(b"", _NAME, ()) + frontend.execute() + _SYNC
_PARSE = close_statement(_NAME) + frontend.parse(_NAME, _SQL) + _SYNC
_BEHIND_UNPREPARED = frontend.parse(b"", _SQL) + frontend.bind(b"", b"", ()) + frontend.execute() + _SYNC

COMMIT = frontend.query(GATE.encode() + b"; COMMIT")

_LOCK_NAME, _MARK_NAME, _COMMIT_NAME = b"hanse_lock", b"hanse_mark", b"hanse_end"
_TEXT_OID = 25
_PARSE_COMMIT = (
    b"".join(close_statement(name) for name in (_LOCK_NAME, _MARK_NAME, _COMMIT_NAME))
    + frontend.parse(_LOCK_NAME, GATE.encode())
    + frontend.parse(_MARK_NAME, MARK.encode(), (_TEXT_OID,))
    + frontend.parse(_COMMIT_NAME, b"COMMIT")
    + _SYNC
)
_TAKE_LOCK = frontend.bind(b"", _LOCK_NAME, ()) + frontend.execute()
_END = frontend.execute() + frontend.bind(b"", _COMMIT_NAME, ()) + frontend.execute() + _SYNC
_BOUND = server_messages.bind_complete()
# What is answered before COMMIT is, if all goes well.
MARKED = (
    _BOUND
    + server_messages.command_complete("LOCK TABLE")
    + _BOUND
    + server_messages.command_complete("SELECT 0")
    + _BOUND
)
MARKED_MESSAGES = 5


def due(session: Session, place: str) -> bool:
    """Whether a commit in `place` is to take a gate: where there are several, and it is a group's."""
    return place != WORKSPACE_PLACE and _several(session)


def _several(session: Session) -> bool:
    return len(session.gateway.snapshot.group_names) > 1


def due_alone(session: Session, planned: Planned, place: str) -> bool:
    """The same for a statement that commits by itself."""
    return planned.writes and session.transaction is None and planned.verb in _VERBS and due(session, place)


def needs_transaction(session: Session, planned: Planned) -> bool:
    """For a statement of its own that writes."""
    return _several(session) and (
        planned.verb not in _ONE_MESSAGE or impatient(session) or _may_check_late(session, planned)
    )


def _may_check_late(session: Session, planned: Planned) -> bool:
    """Whether constraints of what it writes, or of what triggers may write then, are checked at the commit."""
    snapshot = session.gateway.snapshot
    if not snapshot.has_deferrable:
        return False
    found = map(snapshot.relation_by_identity.get, planned.relations)
    return any(relation is None or relation.has_deferrable or relation.has_triggers for relation in found)


def commit_plainly(session: Session) -> bool:
    """Whether `COMMIT` is all that a transaction in one group needs to end by."""
    return not _several(session) or not (session.gateway.snapshot.has_deferrable or impatient(session))


def commit_marked(backend: Backend, mark: Mark) -> tuple[bytes, bytes]:
    """COMMIT in one group, behind the gate's lock and the mark. Gives what is to be sent, and answered, before it, and that."""
    message = _TAKE_LOCK + frontend.bind(b"", _MARK_NAME, (mark.name,)) + _END
    if backend.knows(_MARK_NAME):
        return b"", message
    evicted, _ = backend.remember(_MARK_NAME, len(MARK))
    return evicted + _PARSE_COMMIT, message


def forget_marked(backend: Backend) -> None:
    """It may not be prepared there."""
    backend.forget(_MARK_NAME)


def commit_sql(session: Session, mark: Mark | None) -> str:
    """COMMIT in one group, with all that may go before it."""
    checks = f"{CHECK_CONSTRAINTS}; " if session.gateway.snapshot.has_deferrable else ""
    marked = "" if mark is None else f"{mark.sql}; "
    return f"{checks}{PATIENTLY}{GATE}; {marked}COMMIT"


def impatient(session: Session) -> bool:
    """The client's lock_timeout, or his role's, would count for the gate, too, unless it is set otherwise, in a transaction."""
    state = session.state
    if state.settings and state.get("lock_timeout") or any(name == "lock_timeout" for name, _ in state.standing):
        return True
    transaction = session.transaction
    return transaction is not None and any("lock_timeout" in statement for statement in transaction.local)


def behind(backend: Backend, message: bytes) -> tuple[bytes, bytes]:
    """The gate's lock behind a statement's message. Gives what is to be sent, and answered, before it, and that.

    Parse of an INSERT takes the lock, too, and would keep it while the statement waits for rows; so it has its own Sync.
    """
    if message[0] == 81:
        return b"", frontend.query(message[5:-1] + _BEHIND_TEXT)
    message = message[: -len(_SYNC)] + _BEHIND
    if backend.knows(_NAME):
        return b"", message
    evicted, _ = backend.remember(_NAME, len(_SQL))
    return evicted + _PARSE, message


def behind_unprepared(message: list[bytes]) -> list[bytes]:
    """As `behind`, of a message in pieces (`Request.message`)."""
    if message[0][0] == 81:
        return frontend.query_pieces(*message[1:-1], _BEHIND_TEXT)
    return [*message[:-1], _BEHIND_UNPREPARED]
