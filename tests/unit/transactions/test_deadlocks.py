"""Cycles of waits over several groups: found, named, and never found where there is none."""

from __future__ import annotations

import random

from hanse.transactions.deadlocks import PATIENT, Process, Waiting, deadlocked


def transaction(name: str, started: float, *processes: Process) -> Waiting:
    return Waiting(name, started, frozenset(processes))


T1 = transaction("t1", 1.0, ("g1", 11), ("g2", 21))
T2 = transaction("t2", 2.0, ("g1", 12), ("g2", 22))
T3 = transaction("t3", 3.0, ("g2", 23), ("g3", 33))


def test_the_youngest_of_a_cycle_is_named_with_the_cycle() -> None:
    (found,) = deadlocked([T1, T2], {("g2", 21): [22], ("g1", 12): [11]})
    assert found.victim == "t2"
    assert found.detail == (
        "Transaction t1 waits in g2 for transaction t2.\nTransaction t2 waits in g1 for transaction t1."
    )


def test_waiting_in_a_row_is_no_deadlock() -> None:
    assert deadlocked([T1, T2, T3], {("g2", 21): [22, 23], ("g2", 22): [23]}) == []
    assert deadlocked([T1], {("g1", 11): [11]}) == []
    assert deadlocked([], {}) == []


def test_a_transaction_of_one_group_may_close_the_circle() -> None:
    """t1 waits in g2 for t2, which waits in g1 for process 19, which waits there for t1."""
    (found,) = deadlocked([T1, T2], {("g2", 21): [22], ("g1", 12): [19], ("g1", 19): [11]})
    assert found.victim == "t2" and found.members == ("g1/19", "t1", "t2")


def test_a_schema_change_lets_go_by_itself() -> None:
    """It waits in g1 for t1, which waits in g2 for it; and it may stand between t1 and t2 without their waiting for each other."""
    change = transaction("change", PATIENT, ("g1", 19), ("g2", 29))
    assert deadlocked([T1, change], {("g1", 19): [11], ("g2", 21): [29]}) == []
    (found,) = deadlocked([T1, T2, change], {("g2", 21): [22, 29], ("g1", 12): [11], ("g1", 19): [11, 12]})
    assert found.members == ("t1", "t2")


def test_a_cycle_inside_one_group_of_others_is_the_groups_own_affair() -> None:
    assert deadlocked([T1], {("g1", 18): [19], ("g1", 19): [18]}) == []


def test_a_prepared_transaction_ends_by_itself() -> None:
    assert deadlocked([T1, T2], {("g2", 21): [0], ("g1", 12): [11]}) == []


def test_two_cycles_have_two_victims() -> None:
    t4 = transaction("t4", 4.0, ("g1", 14), ("g3", 34))
    waits = {("g2", 21): [22], ("g1", 12): [11], ("g3", 33): [34], ("g1", 14): [17], ("g1", 17): [14], ("g3", 34): [33]}
    assert {each.victim for each in deadlocked([T1, T2, T3, t4], waits)} == {"t2", "t4"}


def test_random_graphs_against_reachability() -> None:
    for seed in range(300):
        draw = random.Random(seed)
        count = draw.randint(2, 8)
        waiting = [transaction(f"t{i}", i, ("g1", i + 1), ("g2", i + 1)) for i in range(count)]
        waits: dict[Process, list[int]] = {}
        edges: set[tuple[int, int]] = set()
        for _ in range(draw.randint(1, 2 * count)):
            one, other = draw.randrange(count), draw.randrange(count)
            waits.setdefault((draw.choice(("g1", "g2")), one + 1), []).append(other + 1)
            if one != other:
                edges.add((one, other))
        reach = set(edges)
        for _ in range(count):
            reach |= {(a, d) for a, b in reach for c, d in edges if b == c}
        inside = {f"t{i}" for i in range(count) if (i, i) in reach}
        found = deadlocked(waiting, waits)
        assert {member for each in found for member in each.members} == inside, f"seed {seed}"
        for each in found:
            assert each.victim == max(each.members, key=lambda name: int(name[1:]))
