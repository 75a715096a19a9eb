"""The checker of histories (`support/histories.py`): it finds what is planted, and nothing in what is clean."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.histories import (
    Append,
    Level,
    Operation,
    Outcome,
    ReadList,
    ReadRegister,
    Transaction,
    Write,
    check,
)

RC, SI, SER = Level.READ_COMMITTED, Level.SNAPSHOT, Level.SERIALIZABLE
ALL = (RC, SI, SER)


def history(*transactions: Sequence[Operation], level: Level = SER) -> list[Transaction]:
    return [Transaction(f"T{n}", tuple(ops), level=level) for n, ops in enumerate(transactions, start=1)]


def kinds(found: Sequence[Transaction], **more: object) -> list[str]:
    return [anomaly.kind for anomaly in check(found, **more)]  # type: ignore[arg-type]


def a(key: str, value: int) -> Append:
    return Append(key, value)


def r(key: str, *seen: int) -> ReadList:
    return ReadList(key, seen)


# name, transactions, the levels that forbid it
PLANTED: list[tuple[str, list[list[Operation]], tuple[Level, ...]]] = [
    ("G0", [[a("x", 1), a("y", 1)], [a("x", 2), a("y", 2)], [r("x", 1, 2)], [r("y", 2, 1)]], ALL),
    ("G1b", [[a("x", 1), a("x", 2)], [r("x", 1)]], ALL),
    ("G1c", [[a("x", 1), r("y", 2)], [a("y", 2), r("x", 1)]], ALL),
    ("G1c", [[a("x", 1), a("y", 1)], [r("x", 1), a("y", 2)], [r("y", 2, 1)]], ALL),
    ("G-single", [[a("x", 1), a("y", 1)], [r("x"), r("y", 1)]], (SI, SER)),
    ("G-single", [[r("x"), a("x", 1)], [r("x"), a("x", 2)], [r("x", 1, 2)]], (SI, SER)),  # lost update
    ("G-single", [[r("x"), r("x", 1)], [a("x", 1)]], (SI, SER)),
    (  # two readers see two writers in different orders
        "G-nonadjacent",
        [[a("x", 1)], [a("y", 2)], [r("x", 1), r("y")], [r("x"), r("y", 2)]],
        (SI, SER),
    ),
    ("G2-item", [[r("x"), a("y", 1)], [r("y"), a("x", 2)], [r("x", 2), r("y", 1)]], (SER,)),
    (  # the read-only anomaly (Fekete, O'Neil, O'Neil 2004)
        "G2-item",
        [[r("x"), r("y"), a("x", 1)], [a("y", 2)], [r("x"), r("y", 2)], [r("x", 1), r("y", 2)]],
        (SER,),
    ),
    ("incompatible order", [[a("x", 1)], [a("x", 2)], [r("x", 1)], [r("x", 2)]], ALL),
    ("internal", [[a("x", 1), r("x")]], ALL),
    ("duplicate", [[a("x", 1)], [r("x", 1, 1)]], ALL),
    ("unknown value", [[r("x", 7)]], ALL),
    ("G-single", [[Write("x", 1), Write("y", 1)], [ReadRegister("x", None), ReadRegister("y", 1)]], (SI, SER)),
    ("G1c", [[Write("x", 1), ReadRegister("y", 2)], [Write("y", 2), ReadRegister("x", 1)]], ALL),
    ("G1b", [[Write("x", 1), Write("x", 2)], [ReadRegister("x", 1)]], ALL),
    (
        "G2-item",
        [[ReadRegister("x", None), Write("y", 1)], [ReadRegister("y", None), Write("x", 2)]],
        (SER,),
    ),
    (
        "cyclic versions",
        [[ReadRegister("x", 2), Write("x", 1)], [ReadRegister("x", 1), Write("x", 2)]],
        ALL,
    ),
    ("internal", [[Write("x", 1), ReadRegister("x", None)]], ALL),
]


@pytest.mark.parametrize("level", ALL)
@pytest.mark.parametrize(("kind", "transactions", "forbidden"), PLANTED)
def test_what_is_planted_is_found_where_it_is_forbidden(
    kind: str, transactions: list[list[Operation]], forbidden: tuple[Level, ...], level: Level
) -> None:
    found = kinds(history(*transactions, level=level))
    assert (kind in found) == (level in forbidden), found


def timed(name: str, begun: float, ended: float, *operations: Operation, **more: object) -> Transaction:
    return Transaction(name, operations, begun=begun, ended=ended, **more)  # type: ignore[arg-type]


# Each is clean without the times.
LATE: list[tuple[str, list[Transaction], tuple[Level, ...]]] = [
    ("G0", [timed("T1", 0, 1, a("x", 1)), timed("T2", 2, 3, a("x", 2)), timed("T3", 4, 5, r("x", 2, 1))], ALL),
    ("G1c", [timed("T1", 0, 1, r("x", 2)), timed("T2", 2, 3, a("x", 2))], ALL),
    ("G-single", [timed("T1", 0, 1, a("x", 1)), timed("T2", 2, 3, r("x")), timed("T3", 0, 9, r("x", 1))], (SI, SER)),
    (  # over others that were done in between
        "G-single",
        [timed("T1", 0, 1, a("x", 1)), timed("T2", 2, 3), timed("T3", 4, 5, r("x")), timed("T4", 0, 9, r("x", 1))],
        (SI, SER),
    ),
    ("G-single", [timed("T1", 0, 1, Write("x", 1)), timed("T2", 2, 3, ReadRegister("x", None))], (SI, SER)),
    (
        "G2-item",
        [timed("T1", 0, 9, r("x"), a("y", 1)), timed("T3", 0, 2, a("x", 3)), timed("T2", 4, 8, r("y")),
         timed("T4", 10, 11, r("x", 3), r("y", 1))],
        (SER,),
    ),
]  # fmt: skip


@pytest.mark.parametrize("level", ALL)
@pytest.mark.parametrize(("kind", "transactions", "forbidden"), LATE)
def test_real_time_is_an_order(
    kind: str, transactions: list[Transaction], forbidden: tuple[Level, ...], level: Level
) -> None:
    found = [replace(t, level=level) for t in transactions]
    timeless = [replace(t, begun=-1.0, ended=99.0) for t in found]
    assert kinds(timeless) == []
    assert kinds(found) == ([f"{kind}-realtime"] if level in forbidden else [])


def test_a_session_does_not_go_back() -> None:
    one = [timed("T1", 0, 1.5, r("x", 1)), timed("T2", 1.5, 3, r("x")), timed("T3", 0, 9, a("x", 1))]
    assert kinds(one) == []
    assert kinds([replace(t, session=t.name != "T3") for t in one]) == ["G-single-session"]


def test_a_statement_has_a_snapshot_at_read_committed() -> None:
    writer = Transaction("T1", (a("x", 1), a("y", 1)), level=RC)
    torn = (r("x"), r("y", 1))
    parent = Transaction("T2", (a("z", 2), *torn), level=RC)
    statement = Transaction("T2/1", torn, level=SI, within="T2")
    assert kinds([writer, parent]) == []
    assert kinds([writer, parent, statement]) == ["G-single"]
    assert kinds([writer, replace(parent, outcome=Outcome.ABORTED), statement]) == ["G-single"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_statement_sees_what_its_parent_wrote(outcome: Outcome) -> None:
    parent = Transaction("T1", (a("x", 1), Write("v", 1)), level=RC, outcome=outcome)
    statement = Transaction("S", (r("x", 1), r("y"), ReadRegister("v", 1)), level=SI, within="T1")
    assert kinds([parent, statement]) == []


def test_levels_may_be_mixed() -> None:
    skew = history([r("x"), r("y", 2)], [a("x", 2), a("y", 2)])
    assert kinds([replace(skew[0], level=RC), replace(skew[1], level=SI)]) == []
    assert kinds([replace(skew[0], level=SI), replace(skew[1], level=RC)]) == ["G-single"]


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_aborted_reads() -> None:
    rolled_back = Transaction("T1", (a("x", 1), Write("y", 2)), outcome=Outcome.ABORTED)
    assert kinds([rolled_back, *history([], [r("x", 1)])[1:]]) == ["G1a"]
    assert kinds([rolled_back, *history([], [ReadRegister("y", 2)])[1:]]) == ["G1a"]
    assert kinds([rolled_back], final={"x": (1,)}) == ["G1a"]
    assert kinds([rolled_back, *history([], [r("x")])[1:]], final={"x": (), "y": None}) == []


def test_lost_appends() -> None:
    one = Transaction("T1", (a("x", 1), a("y", 1)))
    assert kinds([one], final={"x": (1,), "y": ()}) == ["lost append"]
    assert kinds([one], final={"x": (1,), "y": (1,)}) == []
    assert kinds([Transaction("T1", (Write("x", 1),))], final={"x": None}) == ["lost write"]
    replaced = [timed("T1", 0, 1, Write("x", 1)), timed("T2", 2, 3, Write("x", 2))]
    assert kinds(replaced, final={"x": 1}) == ["cyclic versions"]
    assert kinds(replaced, final={"x": 2}) == []


def test_unknown_outcomes() -> None:
    unknown = timed("T1", 0, 1, a("x", 1), a("y", 1), outcome=Outcome.UNKNOWN)
    assert kinds([unknown], final={"x": (), "y": ()}) == [], "it need not have been"
    assert kinds([unknown], final={"x": (1,), "y": (1,)}) == []
    assert kinds([unknown, timed("T2", 2, 3, r("x"))], final={"x": (1,), "y": (1,)}) == [], "it may come late"
    assert kinds([unknown, timed("T2", 2, 3, r("x", 1))], final={"x": (1,), "y": ()}) == ["lost append"], "half of it"
    torn = timed("T2", 2, 3, r("x", 1), r("y"))
    assert kinds([unknown, torn], final={"x": (1,), "y": (1,)}) == ["G-single"]
    early = [timed("T0", -2, -1, r("x", 1)), unknown]
    assert kinds(early, final={"x": (1,), "y": (1,)}) == ["G1c-realtime"], "not before it was sent"


def test_the_proof_is_told() -> None:
    (anomaly,) = check(history([a("x", 1), a("y", 1)], [r("x"), r("y", 1)]))
    told = str(anomaly).removeprefix("G-single: ").split("; ")
    assert sorted(told) == ["T1 wrote 1 in y, which T2 read", "T2 read x without 1 of T1"]


# --- histories that a simple system made -----------------------------------------------------------------------------


State = dict[str, tuple[int, ...] | int | None]
OUTCOMES = [Outcome.COMMITTED] * 8 + [Outcome.ABORTED, Outcome.UNKNOWN]


def serial(seed: int, count: int, outcomes: Sequence[Outcome] = OUTCOMES) -> tuple[list[Transaction], State]:
    """Transactions one after another on lists and registers; each was sent before and answered after its moment."""
    draw = random.Random(seed)
    state: State = {**{f"l{k}": () for k in range(3)}, **{f"r{k}": None for k in range(3)}}
    made = []
    for number in range(count):
        before, operations = dict(state), []
        for step in range(draw.randint(1, 4)):
            operations.append(_operation(draw, state, 10 * number + step))
        outcome = draw.choice(outcomes)
        if outcome is Outcome.ABORTED or (outcome is Outcome.UNKNOWN and draw.random() < 0.5):
            state = before
        begun, ended = number - draw.uniform(0, 3), number + draw.uniform(0, 3)
        level = draw.choice((RC, SI)) if seed % 2 else SER
        made.append(timed(f"T{number}", begun, ended, *operations, outcome=outcome, level=level))
    draw.shuffle(made)
    return made, state


def _operation(draw: random.Random, state: State, value: int) -> Operation:
    key = draw.choice(sorted(state))
    found, writes = state[key], draw.random() < 0.5
    if isinstance(found, tuple):
        if writes:
            state[key] = (*found, value)
        return Append(key, value) if writes else ReadList(key, found)
    if writes:
        state[key] = value
    return Write(key, value) if writes else ReadRegister(key, found)


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 15))
def test_serial_histories_are_clean(seed: int, count: int) -> None:
    made, final = serial(seed, count)
    assert check(made, final) == []
    assert check(made) == []


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 30))
def test_an_older_version_of_a_list_is_noticed(seed: int) -> None:
    """In a serial history, with times that leave no doubt, one read of a non-empty list loses its last element."""
    made, _ = serial(2 * seed, 40, [Outcome.COMMITTED])
    made = [replace(t, begun=int(t.name[1:]), ended=int(t.name[1:]) + 0.5) for t in made]
    assert check(made) == []
    places = [
        (n, m)
        for n, t in enumerate(made)
        for m, op in enumerate(t.operations)
        if isinstance(op, ReadList)
        and op.seen
        and not any(isinstance(o, Append) and o.key == op.key for o in t.operations)
    ]
    if places:
        n, m = random.Random(seed).choice(places)
        operations = list(made[n].operations)
        read = operations[m]
        assert isinstance(read, ReadList)
        operations[m] = ReadList(read.key, read.seen[:-1])
        assert check([*made[:n], replace(made[n], operations=tuple(operations)), *made[n + 1 :]]) != []


def test_thousands_are_checked_within_seconds() -> None:
    made, final = serial(4, 2000)
    assert len(check(made, final)) == 0


# --- histories that a store with snapshots made ----------------------------------------------------------------------


def concurrent(seed: int, count: int, *, checks_writes: bool = True, one_moment: bool = True) -> list[Transaction]:
    """Transactions at once on a store with versions: snapshots, and of two that write the same the second fails.

    Without `checks_writes` it does not fail; without `one_moment` each key is read as of a moment of its own.
    """
    draw = random.Random(seed)
    committed: dict[str, list[tuple[int, ...]]] = {f"l{k}": [()] for k in range(4)}  # each key's versions
    installed: dict[str, list[int]] = {key: [0] for key in committed}  # and when they came
    clock = itertools.count(1)
    running: list[tuple[int, int, dict[str, tuple[int, ...]], list[Operation]]] = []
    made = []
    number = 0
    while number < count or running:
        if number < count and (len(running) < 3 or draw.random() < 0.3):
            running.append((number, next(clock), {}, []))
            number += 1
            continue
        name, snapshot, own, operations = running[draw.randrange(len(running))]
        if len(operations) < 4 and draw.random() < 0.8:
            key = draw.choice(sorted(committed))
            moment = snapshot if one_moment else next(clock)
            found = own.get(key) or [v for v, t in zip(committed[key], installed[key], strict=True) if t <= moment][-1]
            if draw.random() < 0.5:
                value = 10 * name + len(operations) + 1
                own[key] = (*found, value)
                operations.append(Append(key, value))
            else:
                operations.append(ReadList(key, found))
            continue
        running = [each for each in running if each[0] != name]
        late = any(installed[key][-1] > snapshot for key in own) and checks_writes
        moment = next(clock)
        for key in () if late else own:
            committed[key].append(own[key])
            installed[key].append(moment)
        outcome = Outcome.ABORTED if late else Outcome.COMMITTED
        made.append(timed(f"T{name}", snapshot - 0.5, next(clock) + 0.0, *operations, outcome=outcome, level=SI))
    return made


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 1 << 30))
def test_a_store_with_snapshots_is_clean_at_its_level(seed: int) -> None:
    assert check(concurrent(seed, 25)) == []


def test_what_it_does_not_promise_is_found() -> None:
    found = [kind for seed in range(50) for kind in kinds([replace(t, level=SER) for t in concurrent(seed, 25)])]
    assert set(found) <= {"G2-item", "G2-item-realtime"} and len(found) > 25


@pytest.mark.parametrize("fault", ["checks_writes", "one_moment"])
def test_a_fault_of_the_store_is_found(fault: str) -> None:
    found = [bool(check(concurrent(seed, 25, **{fault: False}))) for seed in range(50)]
    assert sum(found) > 10
