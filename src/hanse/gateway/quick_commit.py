"""COMMIT over several groups, driven by the groups' own answers: without a task, a future or a coroutine.

It is the protocol of `transactions.commit` in the case that is met most: a transaction of the client's own that has written
wherever it has been, below SERIALIZABLE. It goes on as long as all goes well. With the first error, or a backend that is lost,
`ending.py` takes over behind the step where this stands, and knows what is to be done.

The decider's message is the protocol's text as prepared statements: the record's INSERT is not parsed and planned anew, which
saves 20 of the 70 µs that it costs the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..engines.postgres.backend import Backend, close_statement, lost_connection
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.diagnostics import parse_error
from ..transactions.commit import (
    GATE_OVER_GROUPS,
    PATIENTLY,
    RECORD,
    GlobalId,
    Run,
    Step,
    commit,
    ended_by_recovery,
    new_global_id,
)
from . import ending, gating
from .transaction import Stopped, Transaction

if TYPE_CHECKING:
    from .session import Session

_NAME = b"hanse_record"
_TEXTS = {
    b"hanse_patiently": PATIENTLY.encode(),
    b"hanse_gate_over_groups": GATE_OVER_GROUPS.encode(),
    _NAME: RECORD.encode(),
    b"hanse_commit": b"COMMIT",
}
_PARSE = b"".join(close_statement(name) + frontend.parse(name, text) for name, text in _TEXTS.items())
_BYTES = sum(map(len, _TEXTS.values()))
_PATIENTLY = frontend.bind(b"", b"hanse_patiently", ()) + frontend.execute()
_TAKE_GATE = frontend.bind(b"", b"hanse_gate_over_groups", ()) + frontend.execute()
_COMMIT = frontend.execute() + frontend.bind(b"", b"hanse_commit", ()) + frontend.execute() + frontend.sync()

_IDLE = server_messages.ready_for_query(b"I")
_ENDS = {tag: server_messages.command_complete(tag) + _IDLE for tag in ("PREPARE TRANSACTION", "COMMIT")}
_COMMITTED = _ENDS["COMMIT"]


def start(session: Session, transaction: Transaction, acknowledged: bytes) -> bool:
    """Commits the session's transaction, which ends plainly. False: it is another case, and nothing was done."""
    branches = transaction.branches
    if (
        len(branches) < 2
        or transaction.serializable
        or transaction.identity is not None
        or not all(branch.wrote and branch.held is None for branch in branches.values())
    ):
        return False
    _QuickCommit(session, transaction, acknowledged)
    return True


def decision(backend: Backend, identity: GlobalId, *, impatient: bool = False) -> bytes:
    """What the decider is sent: its gate, the record, COMMIT."""
    message = (
        (_PATIENTLY if impatient else b"")
        + _TAKE_GATE
        + frontend.bind(b"", _NAME, (identity.gid.encode(), identity.secret.encode()))
        + _COMMIT
    )
    if backend.knows(_NAME):
        return message
    evicted, _ = backend.remember(_NAME, _BYTES)
    return evicted + _PARSE + message


class _QuickCommit:
    """One commit, from the first step to the client's answer, or to the first error."""

    __slots__ = (
        "_acknowledged",
        "_errors",
        "_identity",
        "_impatient",
        "_protocol",
        "_session",
        "_step",
        "_transaction",
        "_unanswered",
    )
    _step: Run
    _errors: dict[str, PgError]  # of the running step
    _unanswered: int  # so many places have still to answer it

    def __init__(self, session: Session, transaction: Transaction, acknowledged: bytes) -> None:
        """From here on the unit runs, and its client's end does not interrupt it."""
        self._session = session
        self._transaction = transaction
        self._acknowledged = acknowledged
        writers = ending.in_order(session, transaction)
        self._identity = new_global_id(writers[-1])
        deferrable = session.gateway.snapshot.has_deferrable
        self._impatient = gating.impatient(session)
        self._protocol = commit(writers, self._identity, deferrable=deferrable, impatient=self._impatient)
        session.busy = True
        session.unit += 1
        session.sentence = None
        session.gateway.committing += 1
        transaction.ending = True
        self._perform(next(self._protocol))

    def _perform(self, step: Step) -> None:
        assert isinstance(step, Run)
        self._step, self._errors, self._unanswered = step, {}, len(step.places)
        self._session.gateway.fault(f"before_{step.stage}")
        decides = step.stage == "decide"
        for place in step.places:
            backend = self._transaction.branches[place].backend
            if backend.closed:
                self.answered(place, lost_connection(place))
            elif decides and self._identity.late:
                self.answered(place, ended_by_recovery())
            else:
                backend.relay_to(_Answer(self, step.expect_tag))
                backend.write(self._decision(backend) if decides else frontend.query(step.sql.encode()))

    def _decision(self, backend: Backend) -> bytes:
        return decision(backend, self._identity, impatient=self._impatient)

    def answered(self, place: str, error: PgError | None) -> None:
        if error is not None:
            self._errors[place] = error
        self._unanswered -= 1
        if self._unanswered:
            return
        self._session.gateway.fault(f"after_{self._step.stage}")
        if self._errors:
            self._stop()
            return
        try:
            following = self._protocol.send({})
        except StopIteration:
            self._end()
        else:
            self._perform(following)

    # --- end ---------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        session, transaction = self._session, self._transaction
        session.gateway.committing -= 1
        transaction.committed = True
        ending.finish(session, transaction, committed=True)
        if not session.closed:
            session.output.write(self._acknowledged + _COMMITTED)
        session.done()

    def _stop(self) -> None:
        session, step = self._session, self._step
        if step.stage == "decide":
            self._transaction.branches[step.places[0]].backend.forget(_NAME)
        self._transaction.stopped = Stopped(self._identity, self._protocol, step, self._errors)
        session.start(ending.answer_commit(session, self._acknowledged))
        session.gateway.committing -= 1


class _Answer:
    """The `Relay` of one place in one step."""

    __slots__ = ("_commit", "_error", "_expected", "_said")

    def __init__(self, commit: _QuickCommit, expected_tag: str | None) -> None:
        self._commit = commit
        self._expected = _ENDS[expected_tag] if expected_tag is not None else b""
        self._said = b""
        self._error: PgError | None = None

    def chunk(self, data: bytes) -> None:
        self._said += data

    def error(self, message: bytes) -> None:
        self._error = self._error or parse_error(message)

    def ready(self, backend: Backend, status: int) -> None:
        error = self._error
        if error is None and not self._said.endswith(self._expected):
            error = ending.rolled_back(backend)
        self._commit.answered(backend.place, error)

    def lost(self, backend: Backend) -> None:
        self._commit.answered(backend.place, lost_connection(backend.place))
