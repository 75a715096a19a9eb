"""Deadlocks that no single server sees: two transactions hold a row in one group each and wait for the other's.

Each group knows who waits for whom in it (`pg_blocking_pids`). The waits of all groups together, with the branches of a
transaction as one node, are the wait-for graph of the cluster; a cycle in it never ends by itself. `deadlocked` finds the cycles
and names for each the youngest transaction, whose end costs least.

The groups are not asked at the same instant, so that a cycle may be one of waits that were never there together. A real one
does not go away: the driver acts on what it has found twice in a row. A transaction of one group is a node, too, under the
name of its server process; it cannot be chosen, but whoever is closes the circle. A schema change is *patient*: it lets go of
everything when it has waited for a moment (`gateway/patience.py`), so that what it waits for closes no circle.

Worked example: t1 holds a row in g1 and waits in g2 for process 22; t2 has process 22 in g2, and its process 12 in g1 waits for 11,
which is t1's.

>>> waiting = [Waiting("t1", 1.0, frozenset({("g1", 11), ("g2", 21)})), Waiting("t2", 2.0, frozenset({("g1", 12), ("g2", 22)}))]
>>> [(cycle.victim, cycle.members) for cycle in deadlocked(waiting, {("g2", 21): [22], ("g1", 12): [11]})]
[('t2', ('t1', 't2'))]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Process = tuple[str, int]  # (group, server process)
PATIENT = -1.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A transaction with branches in several groups, one of which waits for a lock. `started`: seconds; PATIENT: its waits end."""

    name: str
    started: float
    processes: frozenset[Process]

    @property
    def patient(self) -> bool:
        return self.started == PATIENT


@dataclass(frozen=True, slots=True)
class Deadlock:
    victim: str
    members: tuple[str, ...]
    waits: tuple[tuple[str, str, str], ...]  # (who, in which group, for whom)

    @property
    def detail(self) -> str:
        return "\n".join(
            f"Transaction {who} waits in {group} for transaction {whom}." for who, group, whom in self.waits
        )


def deadlocked(waiting: Iterable[Waiting], blockers: Mapping[Process, Sequence[int]]) -> list[Deadlock]:
    """`blockers`: each process that waits for a lock, with the processes of its group that it waits for."""
    transactions = {each.name: each for each in waiting}
    owner = {process: each.name for each in transactions.values() for process in each.processes}
    edges: dict[str, dict[str, str]] = {}  # who → whom → in which group
    for (group, pid), others in blockers.items():
        who = owner.get((group, pid), f"{group}/{pid}")
        if who in transactions and transactions[who].patient:
            continue
        for other in others:
            whom = owner.get((group, other), f"{group}/{other}")
            if whom != who:
                edges.setdefault(who, {})[whom] = group
    found = []
    for members in _cycles(edges):
        candidates = [transactions[name] for name in members if name in transactions]
        if candidates:
            victim = max(candidates, key=lambda each: (each.started, each.name)).name
            inside = set(members)
            waits = [(who, edges[who][whom], whom) for who in sorted(members) for whom in edges[who] if whom in inside]
            found.append(Deadlock(victim, tuple(sorted(members)), tuple(waits)))
    return found


def _cycles(edges: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    work.append((other, iter(edges.get(other, ()))))
                    break
                if other in stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = stack[stack.index(node) :]
                    del stack[stack.index(node) :]
                    if len(component) > 1:
                        found.append(component)
    return found
