"""What must hold in every run of a Raft cluster, seen from outside by somebody who sees all nodes at once.

=====================  =============================================================================================
election safety        one leader in a term (dissertation, figure 3.2, and so on)
log matching           an entry's index and term tell its content and the term of the entry before it
leader completeness    who leads a later term has every entry that was committed before
state machine safety   what one node applies at an index, no other node applies differently; snapshots included
linearizability        every answered operation can be put at one moment between its call and its answer
=====================  =============================================================================================

The state machine is a register with a version, as the catalog is: a write makes the next version, a compare-and-set only if
the version is the expected one, a read tells the version. So the order of operations is known, and linearizability is
exactly this: an operation that began after another was answered does not have an older version, and a write has a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hanse.consensus.raft.messages import Entry, Kind, Persist
from hanse.consensus.raft.state import State


class Violation(AssertionError):
    pass


@dataclass(slots=True)
class Operation:
    number: int
    start: float
    writes: bool
    end: float | None = None
    version: int | None = None


@dataclass(slots=True)
class Register:
    version: int = 0
    writer: int = 0

    def apply(self, data: bytes) -> bool:
        """`number` or `number:expected version`. Gives whether it wrote."""
        number, _, expected = data.decode().partition(":")
        if expected and int(expected) != self.version:
            return False
        self.version += 1
        self.writer = int(number)
        return True

    def dump(self) -> bytes:
        return b"%d %d" % (self.version, self.writer) + b" " * 60  # so that it takes several pieces

    @staticmethod
    def load(data: bytes) -> Register:
        return Register(*map(int, data.split())) if data else Register()


@dataclass
class Checks:
    leaders: dict[int, str] = field(default_factory=dict)
    seen: dict[tuple[int, int], tuple[bytes, int | None]] = field(default_factory=dict)
    committed: list[Entry] = field(default_factory=list)  # by index, from 1 on
    commit_terms: list[int] = field(default_factory=list)  # the term in which each was first known to be committed
    register: Register = field(default_factory=Register)  # after all that is committed
    states: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    operations: list[Operation] = field(default_factory=list)

    def leader(self, state: State) -> None:
        before = self.leaders.setdefault(state.term, state.node)
        if before != state.node:
            raise Violation(f"election safety: {before} and {state.node} lead term {state.term}")
        log = state.log
        for entry, term in zip(self.committed[log.base_index :], self.commit_terms[log.base_index :], strict=True):
            if term < state.term and log.term_at(entry.index) != entry.term:
                raise Violation(f"leader completeness: {state.node}, term {state.term}, lacks {entry}")

    def written(self, state: State, persist: Persist) -> None:
        if not persist.entries:
            return
        previous = state.log.term_at(persist.entries[0].index - 1)
        for entry in persist.entries:
            content = (entry.data, previous)
            if self.seen.setdefault((entry.index, entry.term), content) != content:
                raise Violation(f"log matching: {entry} on {state.node}")
            previous = entry.term

    def applied(self, state: State, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            if entry.index <= len(self.committed):
                if self.committed[entry.index - 1] != entry:
                    raise Violation(f"state machine safety: {self.committed[entry.index - 1]}, {entry} on {state.node}")
                continue
            if entry.index != len(self.committed) + 1:
                raise Violation(f"state machine safety: {state.node} leaves out entries before {entry}")
            self._commit(entry, state.term)

    def restored(self, index: int, register: Register) -> None:
        if index >= len(self.states) or self.states[index] != (register.version, register.writer):
            raise Violation(f"state machine safety: the snapshot of {index} is {register}")

    def _commit(self, entry: Entry, term: int) -> None:
        self.committed.append(entry)
        self.commit_terms.append(term)
        if entry.kind is Kind.COMMAND and self.register.apply(entry.data):
            self.operations[self.register.writer].version = self.register.version  # also of one without an answer
        self.states.append((self.register.version, self.register.writer))

    def linearizable(self) -> None:
        """Compares each operation with the highest version that was answered before it began."""
        known = [each for each in self.operations if each.version is not None]
        answered = sorted((each for each in known if each.end is not None), key=lambda each: each.end or 0.0)
        highest, position = 0, 0
        for each in sorted(known, key=lambda each: each.start):
            while position < len(answered) and (answered[position].end or 0.0) < each.start:
                highest = max(highest, answered[position].version or 0)
                position += 1
            assert each.version is not None
            if each.version < highest + each.writes:
                raise Violation(f"linearizability: {each} began after version {highest} was answered")
