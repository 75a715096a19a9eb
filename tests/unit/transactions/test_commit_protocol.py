"""The commit protocol against every combination of answers: what it sends, and what it tells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import pytest

from hanse.core.errors import PgError
from hanse.transactions.commit import (
    CATALOG_DECIDER,
    CHECK_CONSTRAINTS,
    GATE_OVER_GROUPS,
    PATIENTLY,
    Decide,
    Errors,
    GlobalId,
    OutcomeUnknown,
    Resolve,
    Run,
    Step,
    commit,
    ended_by_recovery,
    new_global_id,
    told,
)
from hanse.transactions.recovery import parse_gid

FAILED, LOST = PgError("40P01", "deadlock detected"), PgError("08006", "the connection was lost")
TOMBSTONE = PgError("23505", "duplicate key", fields={"s": "hanse", "t": "commit_record", "n": "commit_record_pkey"})
ANSWERS = (None, FAILED, LOST)


@dataclass
class Path:
    """One run of the protocol: its steps, the answers, and how it ended."""

    writers: tuple[str, ...]
    catalog: bool
    deferrable: bool = False
    steps: list[tuple[Step, Errors]] = field(default_factory=list)
    failure: PgError | None = None

    @property
    def prepared(self) -> tuple[str, ...]:
        return self.writers if self.catalog else self.writers[:-1]

    def sent(self, words: str) -> list[str]:
        """The places that were sent a statement beginning with these words."""
        return [
            place
            for step, _ in self.steps
            if isinstance(step, Run)
            and step.sql.removeprefix(PATIENTLY).removeprefix(f"{GATE_OVER_GROUPS}; ").startswith(words)
            for place in step.places
        ]

    def answer_of(self, stage: str) -> Errors | None:
        """Of all steps of the stage together."""
        answers = [errors for step, errors in self.steps if step.stage == stage]
        return {place: error for errors in answers for place, error in errors.items()} if answers else None


def possible_answers(step: Step) -> Iterator[Errors]:
    if isinstance(step, Decide):
        yield from ({}, {CATALOG_DECIDER: FAILED}, {CATALOG_DECIDER: LOST})
    elif isinstance(step, Resolve):
        yield from ({}, {step.decider: ended_by_recovery()}, {step.decider: LOST})
    elif step.stage in ("constraints", "prepare", "decide"):
        extra = (TOMBSTONE,) if step.stage == "decide" else ()
        for answers in product((*ANSWERS, *extra), repeat=len(step.places)):
            yield {place: error for place, error in zip(step.places, answers, strict=True) if error is not None}
    else:
        yield {}
        yield dict.fromkeys(step.places, LOST)


def paths(writers: tuple[str, ...], catalog: bool, deferrable: bool = False) -> Iterator[Path]:
    """Every run there can be; each is begun anew and led by a list of answers."""
    waiting: list[list[Errors]] = [[]]
    while waiting:
        answers = waiting.pop()
        path = Path(writers, catalog, deferrable)
        identity = GlobalId(CATALOG_DECIDER if catalog else writers[-1], "secret", "hanse:d:1:hash")
        protocol = commit(writers, identity, catalog_decides=catalog, deferrable=deferrable)
        try:
            step = next(protocol)
            for answer in answers:
                path.steps.append((step, answer))
                step = protocol.send(answer)
        except StopIteration:
            yield path
        except PgError as error:
            path.failure = error
            yield path
        else:
            waiting += [[*answers, answer] for answer in possible_answers(step)]


CASES = [
    (("g1", "g2"), False, False),
    (("g1", "g2", "g3"), False, False),
    (("g1", "g2"), True, False),
    (("g1", "g2", "g3", "g4"), False, False),
    (("g1", "g2", "g3"), False, True),
    (("g1", "g2"), True, True),
]


@pytest.mark.parametrize(("writers", "catalog", "deferrable"), CASES)
def test_every_path(writers: tuple[str, ...], catalog: bool, deferrable: bool) -> None:
    ends = set()
    for path in paths(writers, catalog, deferrable):
        _check_order(path)
        _check_end(path)
        ends.add(None if path.failure is None else path.failure.sqlstate)
    assert {None, "40P01", "08006", "08007", "40001"} <= ends


def _check_order(path: Path) -> None:
    """Nobody is asked to decide before everybody has prepared; nothing is ended both ways."""
    asked, decide = path.sent("PREPARE TRANSACTION"), path.answer_of("decide")
    assert asked == list(path.prepared)[: len(asked)], "gates are taken in the global order"
    assert all(len(step.places) == 1 for step, _ in path.steps if step.stage == "prepare"), "and one after another"
    assert asked.count("g1") <= 1
    failed = bool(path.answer_of("constraints") or path.answer_of("prepare"))
    assert (decide is None) == failed, "the decision is asked for when all have prepared, and only then"
    assert path.sent(CHECK_CONSTRAINTS) == (list(path.writers) if path.deferrable else [])
    assert not (path.sent("COMMIT PREPARED") and path.sent("ROLLBACK PREPARED"))
    decide_steps = [step for step, _ in path.steps if step.stage == "decide"]
    assert len(decide_steps) <= 1
    assert all(step.sql.endswith("; COMMIT") for step in decide_steps if isinstance(step, Run))


def _decision(path: Path) -> str:
    """What the answers say: 'committed', 'aborted' or 'unknown'."""
    decide, resolve = path.answer_of("decide"), path.answer_of("resolve")
    answer = resolve if resolve is not None else decide
    if answer is None:
        return "aborted"
    if not answer:
        return "committed"
    return "unknown" if LOST in answer.values() else "aborted"


def _check_end(path: Path) -> None:
    decision = _decision(path)
    if decision == "committed":
        assert path.failure is None
        assert path.sent("COMMIT PREPARED") == list(path.prepared)
    elif decision == "unknown":
        assert isinstance(path.failure, OutcomeUnknown)
        assert not path.sent("COMMIT PREPARED") and not path.sent("ROLLBACK PREPARED")
    else:
        assert path.failure is not None and not isinstance(path.failure, OutcomeUnknown)
        assert not path.sent("COMMIT PREPARED")
        prepare = path.answer_of("prepare") or {}
        asked = path.sent("PREPARE TRANSACTION")
        assert path.sent("ROLLBACK PREPARED") == [place for place in asked if place not in prepare]
        if not path.catalog:
            assert path.writers[-1] in path.sent("ROLLBACK"), "its backend must not stay in the transaction"


def test_a_tombstone_is_not_told_as_a_duplicate() -> None:
    assert told(TOMBSTONE).sqlstate == "40001"
    own = PgError("23505", "duplicate key", fields={"s": "public", "t": "commit_record"})
    assert told(own) is own


def test_a_gid_names_its_decider_and_hides_its_secret() -> None:
    identity = new_global_id("g2")
    branch = parse_gid(identity.gid)
    assert branch is not None and branch.decider == "g2" and not branch.decided_by_catalog
    assert identity.gid.endswith(":" + hashlib.sha256(identity.secret.encode()).hexdigest())
    assert identity.secret not in identity.gid
    assert len(identity.gid) < 200, "PostgreSQL's limit on a gid"
    assert new_global_id("g2").gid != identity.gid


@pytest.mark.parametrize("gid", ["", "mine", "hanse:", "hanse:g1:x", "hanse::x:y", "hanse:g1:x:y:z", "Hanse:g1:x:y"])
def test_other_gids_are_left_alone(gid: str) -> None:
    assert parse_gid(gid) is None
