"""A COMMIT over two groups without a task: what is sent, and that every error is left to the driver that knows what to do."""

from __future__ import annotations

import dataclasses
from typing import Any
from unittest.mock import Mock

import pytest

from hanse.core.errors import PgError
from hanse.core.limits import COMMIT_S_MAX
from hanse.engines.postgres.backend import Backend
from hanse.gateway import ending, quick_commit
from hanse.gateway.settings import DEFAULT
from hanse.gateway.transaction import Branch, Stopped, Transaction
from hanse.pgwire import backend as server
from hanse.pgwire import frontend
from hanse.pgwire.diagnostics import error_response
from hanse.transactions.commit import Run, new_global_id

IDLE, FAILED = server.ready_for_query(b"I"), server.ready_for_query(b"E")
LOCKED = server.command_complete("LOCK TABLE")
BOUND = server.bind_complete()
PREPARED = LOCKED + server.command_complete("PREPARE TRANSACTION") + IDLE
DECIDED = (
    BOUND + LOCKED + BOUND + server.command_complete("INSERT 0 1") + BOUND + server.command_complete("COMMIT") + IDLE
)
FOLLOWED = server.command_complete("COMMIT PREPARED") + IDLE
CLASH = PgError("23505", "duplicate key", fields={"s": "hanse", "t": "commit_record"})


class Commit:
    """A session whose transaction has written in g1 and g2, at its COMMIT."""

    def __init__(self) -> None:
        self.backends = {place: Backend(place, "u", "d") for place in ("g1", "g2")}
        self.sent: dict[str, list[bytes]] = {place: [] for place in self.backends}
        for place, backend in self.backends.items():
            backend.attach(Mock(write=self.sent[place].append), b"")
        self.transaction = Transaction("", DEFAULT)
        self.transaction.branches = {p: Branch(b, wrote=True) for p, b in reversed(self.backends.items())}
        self.session: Any = Mock(
            transaction=self.transaction,
            state=DEFAULT,
            closed=False,
            pinned={},
            unit=0,
            credentials=None,
            custom_names=frozenset(),
        )
        self.session.gateway.snapshot = Mock(group_names=("g1", "g2"), home_group="g1", has_deferrable=False)
        self.session.gateway.committing = 0
        self.session.start = lambda work: work.close()

    def begin(self) -> bool:
        return quick_commit.start(self.session, self.transaction, b"")

    def answer(self, place: str, answer: bytes) -> None:
        self.backends[place].data_received(answer)

    @property
    def stopped(self) -> Stopped:
        assert self.transaction.stopped is not None
        return self.transaction.stopped

    @property
    def sqlstates(self) -> dict[str, str]:
        return {place: error.sqlstate for place, error in self.stopped.errors.items()}


def test_three_messages_one_after_another_and_then_the_client_is_told() -> None:
    commit = Commit()
    assert commit.begin()
    assert b"PREPARE TRANSACTION 'hanse:g2:" in commit.sent["g1"][0]
    assert not commit.sent["g2"]
    commit.answer("g1", PREPARED)
    assert b"INSERT INTO hanse.commit_record" in commit.sent["g2"][0]
    assert len(commit.sent["g1"]) == 1
    commit.answer("g2", (server.close_complete() + server.parse_complete()) * 3 + DECIDED)
    assert b"COMMIT PREPARED 'hanse:g2:" in commit.sent["g1"][1]
    commit.session.output.write.assert_not_called()
    commit.answer("g1", FOLLOWED)
    commit.session.output.write.assert_called_once_with(server.command_complete("COMMIT") + IDLE)
    commit.session.done.assert_called_once_with()
    assert commit.session.gateway.committing == 0
    assert commit.transaction.committed


def test_the_record_is_parsed_once_for_a_backend() -> None:
    backend = Backend("g2", "u", "d")
    first, second = (quick_commit.decision(backend, new_global_id("g2")) for _ in range(2))
    assert b"INSERT INTO" in first
    assert b"INSERT INTO" not in second
    assert second.endswith(frontend.execute() + frontend.sync())


@pytest.mark.parametrize(
    ("answers", "stage", "sqlstate"),
    [
        ([error_response(PgError("53400", "too many prepared transactions")) + FAILED], "prepare", "53400"),
        ([LOCKED + server.command_complete("ROLLBACK") + IDLE], "prepare", "40000"),
        ([None], "prepare", "08006"),
        ([PREPARED, error_response(CLASH) + FAILED], "decide", "23505"),
        ([PREPARED, None], "decide", "08006"),
        ([PREPARED, DECIDED, None], "finish", "08006"),
        ([PREPARED, DECIDED, error_response(PgError("42704", "does not exist")) + IDLE], "finish", "42704"),
    ],
)
def test_an_error_is_left_to_the_driver_with_the_step_it_came_in(
    answers: list[bytes | None], stage: str, sqlstate: str
) -> None:
    commit = Commit()
    assert commit.begin()
    for place, answer in zip(("g1", "g2", "g1"), answers, strict=False):
        if answer is None:
            commit.backends[place].connection_lost(None)
        else:
            commit.answer(place, answer)
    assert commit.stopped.step.stage == stage
    assert list(commit.sqlstates.values()) == [sqlstate]
    assert not commit.transaction.committed
    commit.session.output.write.assert_not_called()


def test_after_an_error_the_record_is_prepared_again() -> None:
    """The backend may have lost the statements with the message that brought them."""
    commit = Commit()
    commit.begin()
    commit.answer("g1", PREPARED)
    commit.answer("g2", error_response(PgError("53200", "out of memory")) + FAILED)
    assert b"INSERT INTO" in quick_commit.decision(commit.backends["g2"], commit.stopped.identity)


def test_a_backend_that_is_gone_already_is_not_written_to() -> None:
    commit = Commit()
    commit.backends["g1"].connection_lost(None)
    assert commit.begin()
    assert (commit.stopped.step.stage, commit.sqlstates) == ("prepare", {"g1": "08006"})
    assert not commit.sent["g1"]


def test_a_decision_that_comes_too_late_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    old = new_global_id("g2")
    old = dataclasses.replace(old, made=old.made - COMMIT_S_MAX - 1)
    monkeypatch.setattr(quick_commit, "new_global_id", lambda _: old)
    commit = Commit()
    commit.begin()
    commit.answer("g1", PREPARED)
    assert (commit.stopped.step.stage, commit.sqlstates) == ("decide", {"g2": "40001"})
    assert not commit.sent["g2"]


def test_a_client_who_is_gone_is_not_told_and_his_commit_goes_on() -> None:
    commit = Commit()
    commit.begin()
    commit.session.closed = True
    for place, answer in (("g1", PREPARED), ("g2", DECIDED), ("g1", FOLLOWED)):
        commit.answer(place, answer)
    assert commit.transaction.committed
    commit.session.output.write.assert_not_called()
    commit.session.done.assert_called_once_with()


def test_a_clients_lock_timeout_is_not_for_the_gates() -> None:
    commit = Commit()
    commit.transaction.local.append("SET LOCAL lock_timeout = 5")
    commit.begin()
    assert commit.sent["g1"][0][5:].startswith(b"SET LOCAL lock_timeout = 0; LOCK TABLE")
    commit.answer("g1", PREPARED)
    decision = commit.sent["g2"][0]
    assert decision.index(b"\x00hanse_patiently\x00\x00") < decision.index(b"\x00hanse_gate_over_groups\x00\x00")


def test_constraints_are_checked_in_all_groups_before_the_first_prepares() -> None:
    commit = Commit()
    commit.session.gateway.snapshot.has_deferrable = True
    commit.begin()
    checked = server.command_complete("SET CONSTRAINTS") + IDLE
    assert commit.sent == {place: [frontend.query(b"SET CONSTRAINTS ALL IMMEDIATE")] for place in ("g1", "g2")}
    commit.answer("g2", checked)
    assert len(commit.sent["g1"]) == 1
    commit.answer("g1", checked)
    assert b"PREPARE TRANSACTION" in commit.sent["g1"][1]


def test_all_groups_have_answered_before_an_error_is_left_to_the_driver() -> None:
    commit = Commit()
    commit.session.gateway.snapshot.has_deferrable = True
    commit.begin()
    commit.answer("g1", error_response(PgError("23503", "foreign key")) + FAILED)
    assert commit.transaction.stopped is None
    commit.backends["g2"].connection_lost(None)
    assert (commit.stopped.step.stage, commit.sqlstates) == ("constraints", {"g1": "23503", "g2": "08006"})


@pytest.mark.parametrize("other", ["reader", "serializable", "early", "one group"])
def test_other_cases_are_left_alone(other: str) -> None:
    commit = Commit()
    if other == "reader":
        commit.transaction.branches["g1"].wrote = False
    elif other == "early":
        commit.transaction.identity = new_global_id("g2")
    elif other == "one group":
        del commit.transaction.branches["g2"]
    else:
        commit.transaction.serializable = True
    assert not commit.begin()
    assert not any(commit.sent.values())
    assert not commit.transaction.ending


async def test_the_driver_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind an error at PREPARE it undoes, and behind a lost COMMIT PREPARED it does that again."""
    steps: list[Run] = []
    repeated: list[str] = []

    async def perform(_: object, step: Run) -> dict[str, PgError]:
        steps.append(step)
        return {}

    async def finish(_: object, place: str, sql: str) -> None:
        repeated.append(f"{place}: {sql[:15]}")

    monkeypatch.setattr(ending, "_perform", perform)
    monkeypatch.setattr(ending, "_finish", finish)
    commit = Commit()
    commit.begin()
    commit.backends["g1"].connection_lost(None)
    with pytest.raises(PgError) as caught:
        await ending._commit_several(commit.session, commit.transaction)
    assert caught.value.sqlstate == "40001"  # who alone could have decided never will
    assert [(step.places, step.sql) for step in steps] == [(("g1", "g2"), "ROLLBACK")]
    commit = Commit()
    commit.begin()
    commit.answer("g1", PREPARED)
    commit.answer("g2", DECIDED)
    commit.backends["g1"].connection_lost(None)
    await ending._commit_several(commit.session, commit.transaction)
    assert repeated == ["g1: COMMIT PREPARED"]
