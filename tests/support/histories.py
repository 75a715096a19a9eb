"""Does a history of transactions keep what its isolation levels promise? A checker in the manner of Elle.

Clients note what they sent and what they were answered. From that alone, knowing nothing of the system, the checker infers which
transaction must have come before which, and a cycle in that order is an anomaly, with the cycle as its proof
(Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020; Adya, "Weak
Consistency", 1999).

**What can be inferred.** Every written value is unique for its key.

* A *list* is only ever appended to, so the longest one that was read tells the order of all its versions, and every other
  one must be a prefix of it.
* A *register* is overwritten. Its order is known in part: nothing comes first; a transaction that read v and then wrote w made
  w after v; of two writers, one of which had ended before the other began, the later one's value is later; what is there in
  the end is last.

=========== ===============================================================
edge        a → b
=========== ===============================================================
ww          b's version comes right after a's
wr          b read a's version
rw          a read the version right before b's (an anti-dependency)
session     a and b followed one another in one session
time        a had been acknowledged before b sent its first statement
=========== ===============================================================

**What a level promises is that a graph of moments has no cycle.** Each transaction has two moments, its snapshot s and its
commit c, and s comes before c. An edge says which moment came first:

========================= ======================== ================================
edge a → b                moments                  because
========================= ======================== ================================
ww, wr; b READ COMMITTED  c(a) before c(b)         each statement sees what is committed
ww, wr; b above           c(a) before s(b)         b sees and overwrites only what its snapshot has
rw; a READ COMMITTED      none                     a promises nothing about what it read before
rw; a above               s(a) before c(b)         a's snapshot did not have b
rw; both SERIALIZABLE     c(a) before c(b)         as if one after the other
session, time             c(a) before s(b)         acknowledged is visible
========================= ======================== ================================

For snapshots it is the theorem that a history is snapshot isolation exactly if each of its cycles has two adjacent rw edges
(Fekete et al. 2005; Cerone and Gotsman 2016): with s and c apart only such a cycle closes no circle of moments. Levels may be
mixed in one history (Adya's mixing graph), but do not mix SERIALIZABLE with others: its promise is one among its own.

A *statement* that is promised a snapshot of its own inside a READ COMMITTED transaction is noted as one more transaction, at
SNAPSHOT, with `within` naming its parent: what the parent had written itself is taken out of what it read. Example: T moves
from x to y, and one statement reads y after T and x before it::

    T  append(x, 1)  append(y, 1)                    T ──wr(y)──▶ S
    S  x = ()  y = (1,)                              S ──rw(x)──▶ T      c(T) before s(S) before c(T): G-single

**Names.** A cycle of ww alone is G0, with wr also G1c; with one rw G-single; with more, of which no two are adjacent,
G-nonadjacent; else G2-item. `-session` or `-realtime` follows where the cycle needs these edges. What needs no cycle: G1a (read
from an aborted transaction), G1b (read of a version that its writer replaced), `internal` (own writes not seen),
`incompatible order` (two lists, none a prefix of the other), `cyclic versions`, `duplicate` and `unknown value`, `lost append`
and `lost write` (acknowledged, and not there in the end).

**Unknown outcomes.** A transaction whose COMMIT was not answered counts as committed if anybody has seen something of it, at no
known time; else as if it had never been. Seen at one key and absent in the end from another, it is a lost append: that is how
half a transaction shows. Aborted ones count for nothing but G1a.

*Not done:* predicates. Only reads of keys that were named are judged, absent keys among them (an empty list, no value).
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from itertools import pairwise

Key = Hashable


class Level(IntEnum):
    READ_COMMITTED = 1
    SNAPSHOT = 2
    SERIALIZABLE = 3


class Outcome(Enum):
    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Append:
    key: Key
    value: int


@dataclass(frozen=True, slots=True)
class ReadList:
    key: Key
    seen: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Write:
    key: Key
    value: int


@dataclass(frozen=True, slots=True)
class ReadRegister:
    key: Key
    seen: int | None  # None: never written


Operation = Append | ReadList | Write | ReadRegister


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one client did in one transaction, in its order."""

    name: str
    operations: tuple[Operation, ...]
    level: Level = Level.SERIALIZABLE
    outcome: Outcome = Outcome.COMMITTED
    session: Hashable = None
    begun: float = -math.inf  # seconds on one clock: before its first statement was sent
    ended: float = math.inf  # after its commit was acknowledged
    within: str | None = None  # a statement's parent


@dataclass(frozen=True, slots=True)
class Anomaly:
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Edge:
    kind: str  # ww, wr, rw, session, time
    before: int
    after: int
    key: Key = None
    value: int | None = None  # wr: what was read; ww, rw: the later version


Final = Mapping[Key, tuple[int, ...] | int | None]


def check(history: Iterable[Transaction], final: Final | None = None) -> list[Anomaly]:
    """Every anomaly that the levels of the transactions forbid; cycles once for each knot of them.

    `final`: each key's list or register, read when all had ended.
    """
    judged = _Judged(tuple(history), final or {})
    edges = [*_list_edges(judged), *_register_edges(judged)]
    return judged.anomalies + _cycles(judged.counted, edges)


@dataclass(slots=True)
class _Judged:
    """The history, who wrote what, and what was found on the way."""

    history: tuple[Transaction, ...]
    final: Final
    counted: tuple[Transaction, ...] = ()
    number: dict[str, int] = field(default_factory=dict)  # of a counted transaction, by name
    writer: dict[tuple[Key, int], Transaction] = field(default_factory=dict)
    writes: dict[tuple[str, Key], list[int]] = field(default_factory=lambda: defaultdict(list))
    anomalies: list[Anomaly] = field(default_factory=list)

    def __post_init__(self) -> None:
        for transaction in self.history:
            for operation in transaction.operations:
                if isinstance(operation, Append | Write):
                    assert (operation.key, operation.value) not in self.writer, f"written twice: {operation}"
                    self.writer[operation.key, operation.value] = transaction
                    self.writes[transaction.name, operation.key].append(operation.value)
        seen = self._seen()
        self.counted = tuple(t for t in self.history if t.outcome is Outcome.COMMITTED or t.name in seen)
        self.number = {t.name: index for index, t in enumerate(self.counted)}
        assert len(self.number) == len(self.counted), "names of transactions are unique"
        for transaction in self.counted:
            self._look_inside(transaction)
        for key, found in self.final.items():
            self._look_at_foreign(Transaction("the final state", ()), key, _values(found))

    def _seen(self) -> set[str]:
        """Unknown transactions of which something was seen."""
        values = {(key, value) for key, found in self.final.items() for value in _values(found)}
        for transaction in self.history:
            if transaction.outcome is not Outcome.ABORTED:
                own = transaction.within or transaction.name
                for operation in transaction.operations:
                    if isinstance(operation, ReadList | ReadRegister):
                        read = ((operation.key, value) for value in _values(operation.seen))
                        values |= {each for each in read if each in self.writer and self.writer[each].name != own}
        return {
            self.writer[each].name
            for each in values
            if each in self.writer and self.writer[each].outcome is Outcome.UNKNOWN
        }

    def note(self, kind: str, detail: str) -> None:
        self.anomalies.append(Anomaly(kind, detail))

    def of(self, key: Key, value: int) -> int | None:
        """The number of the counted transaction that wrote a value."""
        writer = self.writer.get((key, value))
        return None if writer is None else self.number.get(writer.name)

    def _look_inside(self, transaction: Transaction) -> None:
        """Own writes are seen; foreign ones are known, committed, and the last of their writer."""
        own: dict[Key, list[int]] = defaultdict(list)
        for operation in transaction.operations:
            key = operation.key
            if isinstance(operation, Append | Write):
                own[key].append(operation.value)
                continue
            seen = _values(operation.seen)
            expected = own[key] if isinstance(operation, ReadList) else own[key][-1:]
            if expected and list(seen[-len(expected) :]) != expected:
                self.note("internal", f"{transaction.name} wrote {expected} to {key} and then read {seen}")
            self._look_at_foreign(transaction, key, seen)

    def _look_at_foreign(self, transaction: Transaction, key: Key, seen: tuple[int, ...]) -> None:
        if len(set(seen)) < len(seen):
            self.note("duplicate", f"{transaction.name} read {key} = {seen}")
        for place, value in enumerate(seen):
            writer = self.writer.get((key, value))
            if writer is None:
                self.note("unknown value", f"{transaction.name} read {value} in {key}, which nobody wrote")
            elif writer.name in (transaction.name, transaction.within):
                continue
            elif writer.outcome is Outcome.ABORTED:
                self.note("G1a", f"{transaction.name} read {value} in {key}, of {writer.name}, which was rolled back")
            elif place == len(seen) - 1 and self.writes[writer.name, key][-1] != value:
                self.note("G1b", f"{transaction.name} read {value} in {key}, which {writer.name} itself replaced")


def _values(seen: tuple[int, ...] | int | None) -> tuple[int, ...]:
    return seen if isinstance(seen, tuple) else () if seen is None else (seen,)


# --- lists -----------------------------------------------------------------------------------------------------------


def _list_edges(judged: _Judged) -> Iterator[Edge]:
    reads: dict[Key, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
    appended: dict[Key, list[int]] = defaultdict(list)
    for number, transaction in enumerate(judged.counted):
        for operation in transaction.operations:
            if isinstance(operation, ReadList):
                reads[operation.key].append((number, _foreign(judged, transaction, operation)))
            elif isinstance(operation, Append):
                appended[operation.key].append(operation.value)
    for key in {**reads, **appended}:
        yield from _edges_of_list(judged, key, reads[key], appended[key])


def _foreign(judged: _Judged, transaction: Transaction, read: ReadList) -> tuple[int, ...]:
    """The list without what the reader, or its parent, had appended at its end."""
    own, seen = {transaction.name, transaction.within}, read.seen
    while seen and (writer := judged.writer.get((read.key, seen[-1]))) is not None and writer.name in own:
        seen = seen[:-1]
    return seen


def _edges_of_list(
    judged: _Judged, key: Key, reads: Sequence[tuple[int, tuple[int, ...]]], appended: Sequence[int]
) -> Iterator[Edge]:
    final = judged.final.get(key)
    longest = max([seen for _, seen in reads] + [_values(final)], key=len)
    if key in judged.final:
        for value in appended:
            if value not in _values(final):
                judged.note(
                    "lost append", f"{judged.writer[key, value].name} appended {value} to {key}; it is not there"
                )
    unread = [value for value in appended if value not in longest]  # they come after it, in an order that nobody saw
    for before, after in pairwise(longest):
        yield from _edge(judged, "ww", judged.of(key, before), judged.of(key, after), key, after)
    for value in unread:
        yield from _edge(
            judged, "ww", judged.of(key, longest[-1]) if longest else None, judged.of(key, value), key, value
        )
    for reader, seen in [*reads, (None, _values(final))]:
        if seen != longest[: len(seen)]:
            name = "the final state" if reader is None else judged.counted[reader].name
            judged.note("incompatible order", f"{name} read {key} = {seen}, another one {longest}")
        elif reader is not None:
            if seen:
                yield from _edge(judged, "wr", judged.of(key, seen[-1]), reader, key, seen[-1])
            for value in longest[len(seen) : len(seen) + 1] or unread:
                yield from _edge(judged, "rw", reader, judged.of(key, value), key, value)


def _edge(
    judged: _Judged, kind: str, before: int | None, after: int | None, key: Key, value: int | None
) -> Iterator[Edge]:
    if before is not None and after is not None and before != after:
        yield Edge(kind, before, after, key, value)


# --- registers -------------------------------------------------------------------------------------------------------


def _register_edges(judged: _Judged) -> Iterator[Edge]:
    reads: dict[Key, list[tuple[int, int | None]]] = defaultdict(list)
    versions: dict[Key, dict[int, int]] = defaultdict(dict)  # key → value → its writer, of what others could see
    follows: dict[Key, set[tuple[int, int]]] = defaultdict(set)
    for number, transaction in enumerate(judged.counted):
        base: dict[Key, int] = {}
        own: set[Key] = set()
        for operation in transaction.operations:
            if isinstance(operation, ReadRegister):
                if not _is_own(judged, transaction, operation):
                    reads[operation.key].append((number, operation.seen))
                    if operation.seen is not None and operation.key not in own:
                        base[operation.key] = operation.seen
            elif isinstance(operation, Write):
                own.add(operation.key)
                last = judged.writes[transaction.name, operation.key][-1]
                versions[operation.key][last] = number
                if operation.key in base:
                    follows[operation.key].add((base[operation.key], last))
    for key in {**reads, **versions}:
        yield from _edges_of_register(judged, key, reads[key], versions[key], follows[key])


def _is_own(judged: _Judged, transaction: Transaction, read: ReadRegister) -> bool:
    writer = None if read.seen is None else judged.writer.get((read.key, read.seen))
    return writer is not None and writer.name in (transaction.name, transaction.within)


def _edges_of_register(
    judged: _Judged,
    key: Key,
    reads: Sequence[tuple[int, int | None]],
    versions: Mapping[int, int],
    follows: Iterable[tuple[int, int]],
) -> Iterator[Edge]:
    after: dict[int | None, set[int]] = defaultdict(set)
    for before, value in follows:
        if before in versions:
            after[before].add(value)
    writers = {number: value for value, number in versions.items()}
    for first, second in _in_time({number: judged.counted[number] for number in writers}):
        after[writers[first]].add(writers[second])
    last = judged.final.get(key)
    if isinstance(last, int) and last in versions:
        for value in versions:
            if value != last and not after[value]:
                after[value].add(last)
    elif key in judged.final and last is None and versions:
        judged.note("lost write", f"{key} was written by {len(versions)} transactions and has no value")
    if any(len(knot) > 1 for knot in _knots({value: list(after[value]) for value in versions})):
        judged.note("cyclic versions", f"{key}: {dict(after)}")
        return
    later = {value for found in after.values() for value in found}
    after[None] = {value for value in versions if value not in later}
    for value, number in versions.items():
        for next_value in sorted(after[value]):
            yield from _edge(judged, "ww", number, versions[next_value], key, next_value)
    for reader, seen in reads:
        if seen is not None and seen in versions:
            yield from _edge(judged, "wr", versions[seen], reader, key, seen)
        if seen is None or seen in versions:
            for next_value in sorted(after[seen]):
                yield from _edge(judged, "rw", reader, versions[next_value], key, next_value)


# --- time ------------------------------------------------------------------------------------------------------------


def _in_time(transactions: Mapping[int, Transaction]) -> Iterator[tuple[int, int]]:
    """Pairs of which the first had ended before the second began, without those that follow from others."""
    by_end = sorted((t.ended, t.begun, n) for n, t in transactions.items() if _has_an_end(t))
    ended, newest, first = 0, -math.inf, 0
    for number, transaction in sorted(transactions.items(), key=lambda item: item[1].begun):
        while ended < len(by_end) and by_end[ended][0] < transaction.begun:
            newest = max(newest, by_end[ended][1])  # the latest begin among those that have ended
            ended += 1
        while first < ended and by_end[first][0] < newest:
            first += 1
        yield from ((by_end[place][2], number) for place in range(first, ended))


def _has_an_end(transaction: Transaction) -> bool:
    return transaction.outcome is Outcome.COMMITTED and transaction.ended < math.inf


def _time_edges(counted: Sequence[Transaction]) -> Iterator[Edge]:
    for before, after in _in_time(dict(enumerate(counted))):
        yield Edge("time", before, after)
    sessions: dict[Hashable, list[int]] = defaultdict(list)
    for number, transaction in enumerate(counted):
        if transaction.session is not None and transaction.within is None:
            sessions[transaction.session].append(number)
    for numbers in sessions.values():
        for before, after in pairwise(sorted(numbers, key=lambda n: counted[n].begun)):
            if counted[before].outcome is Outcome.COMMITTED:
                yield Edge("session", before, after)


# --- cycles ----------------------------------------------------------------------------------------------------------

Graph = dict[
    int, list[tuple[int, Edge | None]]
]  # moment → (later moment, why); 2n is the snapshot of n, 2n + 1 its commit


def _moments(edge: Edge, counted: Sequence[Transaction]) -> tuple[int, int] | None:
    """Which moment comes before which, as the table above says."""
    before, after = counted[edge.before].level, counted[edge.after].level
    snapshot, commit = 2 * edge.before, 2 * edge.before + 1
    if edge.kind == "rw":
        if before is Level.READ_COMMITTED:
            return None
        both = before is after is Level.SERIALIZABLE
        return (commit if both else snapshot, 2 * edge.after + 1)
    if edge.kind in ("ww", "wr") and after is Level.READ_COMMITTED:
        return commit, 2 * edge.after + 1
    return commit, 2 * edge.after


def _cycles(counted: Sequence[Transaction], edges: Sequence[Edge]) -> list[Anomaly]:
    """The simplest names first: each knot is told once, by the fewest kinds of edges that tie it."""
    found: list[Anomaly] = []
    told: set[int] = set()
    edges = [*edges, *_time_edges(counted)]
    for order in ((), ("session",), ("session", "time")):
        for kinds in (("ww",), ("ww", "wr"), ("ww", "wr", "rw")):
            graph = _graph(counted, edges, {*kinds, *order})
            for knot in _knots({node: [target for target, _ in out] for node, out in graph.items()}):
                if len(knot) > 1 and not told & set(knot):
                    told |= set(knot)
                    found.append(_anomaly(counted, _shortest(graph, knot)))
    return found


def _graph(counted: Sequence[Transaction], edges: Iterable[Edge], kinds: set[str]) -> Graph:
    graph: Graph = {2 * number: [(2 * number + 1, None)] for number in range(len(counted))}
    graph |= {2 * number + 1: [] for number in range(len(counted))}
    for edge in edges:
        if edge.kind in kinds and (moments := _moments(edge, counted)) is not None:
            graph[moments[0]].append((moments[1], edge))
    return graph


def _knots(graph: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """Strongly connected components (Tarjan 1972), without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in graph:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(graph[root]))]
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(graph[target])))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = [stack.pop()]
                    while knot[-1] != node:
                        knot.append(stack.pop())
                    on_stack.difference_update(knot)
                    found.append(knot)
    return found


STARTS_MAX = 200  # moments of one knot from which a shortest cycle is sought


def _shortest(graph: Graph, knot: Sequence[int]) -> list[Edge]:
    """A cycle of the knot with the fewest rw edges, and among those the shortest."""
    inside = set(knot)
    best: tuple[int, int, list[Edge]] | None = None
    for start in knot[:STARTS_MAX]:
        cycle = _back_to(graph, start, inside)
        cost = sum(edge.kind == "rw" for edge in cycle), len(cycle)
        if best is None or cost < best[:2]:
            best = *cost, cycle
    assert best is not None
    return best[2]


def _back_to(graph: Graph, start: int, inside: set[int]) -> list[Edge]:
    """Breadth first, an rw edge costing more than any path without one."""
    queue: deque[tuple[int, tuple[int, int]]] = deque([(start, (0, 0))])
    cost: dict[int, tuple[int, int]] = {}
    came: dict[int, tuple[int, Edge | None]] = {}
    while queue:
        node, (rws, length) = queue.popleft()
        if node != start and cost[node] != (rws, length):
            continue
        for target, edge in graph[node]:
            if target not in inside:
                continue
            new = (rws + (edge is not None and edge.kind == "rw"), length + (edge is not None))
            if target not in cost or new < cost[target]:
                cost[target] = new
                came[target] = (node, edge)
                if target != start:
                    queue.append((target, new))
    cycle: list[Edge] = []
    node = start
    while True:
        node, edge = came[node]
        if edge is not None:
            cycle.append(edge)
        if node == start:
            return cycle[::-1]


def _anomaly(counted: Sequence[Transaction], cycle: Sequence[Edge]) -> Anomaly:
    kinds = [edge.kind for edge in cycle]
    rws = kinds.count("rw")
    if rws == 0:
        name = "G1c" if "wr" in kinds else "G0"
    elif rws == 1:
        name = "G-single"
    else:
        adjacent = any(first == second == "rw" for first, second in pairwise([*kinds, kinds[0]]))
        name = "G2-item" if adjacent else "G-nonadjacent"
    if "time" in kinds:
        name += "-realtime"
    elif "session" in kinds:
        name += "-session"
    return Anomaly(name, "; ".join(_told(counted, edge) for edge in cycle))


def _told(counted: Sequence[Transaction], edge: Edge) -> str:
    before, after = counted[edge.before].name, counted[edge.after].name
    match edge.kind:
        case "ww":
            return f"{before} wrote {edge.key} before {after} wrote {edge.value}"
        case "wr":
            return f"{before} wrote {edge.value} in {edge.key}, which {after} read"
        case "rw":
            return f"{before} read {edge.key} without {edge.value} of {after}"
        case "session":
            return f"{before} came before {after} in their session"
        case _:
            return f"{before} had ended before {after} began"
