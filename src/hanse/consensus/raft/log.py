"""The log as it is in memory: all entries after `base_index`, the snapshot, and what of them is durable.

    snapshot.index ≥ base_index          base_index < handed ≤ last_index, stable ≤ handed

Entries up to the snapshot are kept for a while after it was made, for followers that are a little behind. `handed`
entries have been given to the storage, `stable` ones are known to be durable. The newest configuration in the log is the
one in force, committed or not (section 4.1); one that is truncated gives way to its predecessor.
"""

from __future__ import annotations

from . import configuration as configurations
from .configuration import Configuration
from .messages import Entry, Kind, Persist, Snapshot


class Log:
    def __init__(self, snapshot: Snapshot, base_index: int, base_term: int, entries: tuple[Entry, ...]) -> None:
        assert base_index <= snapshot.index
        self.snapshot = snapshot
        self.base_index = base_index
        self.base_term = base_term
        self.entries = list(entries)
        self.handed = self.stable = self.last_index
        self._configurations = [(snapshot.index, snapshot.configuration)]
        self._note_configurations(entries)
        self._snapshot_due = False
        self._reset_due = False

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.base_term

    @property
    def configuration(self) -> Configuration:
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        return self._configurations[-1][0]

    def configuration_at(self, index: int) -> Configuration:
        """The one in force after the entry `index`, which is not before the snapshot's."""
        return next(c for at, c in reversed(self._configurations) if at <= index)

    def configurations_since(self, index: int) -> list[Configuration]:
        """The one in force after the entry `index`, and all later ones."""
        return [self.configuration_at(index)] + [c for at, c in self._configurations if at > index]

    def term_at(self, index: int) -> int | None:
        """None where the entry is not, or no longer, here."""
        if index == self.base_index:
            return self.base_term
        if not self.base_index < index <= self.last_index:
            return None
        return self.entries[index - self.base_index - 1].term

    def between(self, after: int, last: int) -> tuple[Entry, ...]:
        """The entries after `after` up to `last`."""
        assert after >= self.base_index
        return tuple(self.entries[after - self.base_index : last - self.base_index])

    def batch(self, after: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries after `after`, as many as `bytes_max` allow, but one if there is any."""
        size = 0
        start = after - self.base_index
        for stop in range(start, len(self.entries)):
            size += len(self.entries[stop].data)
            if size > bytes_max and stop > start:
                return tuple(self.entries[start:stop])
        return tuple(self.entries[start:])

    def agreeing(self, index: int, term: int) -> int:
        """The last index up to `index` whose term is at most `term`: before it two logs may agree (section 5.3)."""
        index = min(index, self.last_index)
        while index > self.base_index and self.entries[index - self.base_index - 1].term > term:
            index -= 1
        return index

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Puts entries at their places; what was there and after gives way."""
        first = entries[0].index
        assert self.base_index < first <= self.last_index + 1
        if first <= self.last_index:
            del self.entries[first - self.base_index - 1 :]
            self.handed = min(self.handed, first - 1)
            self.stable = min(self.stable, first - 1)
            self._configurations = [self._configurations[0]] + [c for c in self._configurations[1:] if c[0] < first]
        self.entries.extend(entries)
        self._note_configurations(entries)

    def compact(self, snapshot: Snapshot, trailing: int, trailing_bytes: int) -> None:
        """Keeps `snapshot`, made here, and at most `trailing` entries before its end, of so many bytes."""
        assert self.snapshot.index < snapshot.index and self.term_at(snapshot.index) == snapshot.term
        current = (snapshot.index, snapshot.configuration)
        self._configurations = [current] + [c for c in self._configurations if c[0] > snapshot.index]
        self.snapshot = snapshot
        base, size = snapshot.index, 0
        for entry in reversed(self.between(self.base_index, snapshot.index)[-trailing:] if trailing else ()):
            size += len(entry.data)
            if size > trailing_bytes:
                break
            base = entry.index - 1
        self._drop_before(base)
        self._snapshot_due = True

    def restore(self, snapshot: Snapshot) -> None:
        """Takes a snapshot of the leader's. Entries after it stay where the log agrees with it (section 5.1)."""
        assert snapshot.index > self.snapshot.index
        if self.term_at(snapshot.index) == snapshot.term:
            self.compact(snapshot, 0, 0)
            self.handed = max(self.handed, snapshot.index)
            return
        self.snapshot = snapshot
        self.base_index, self.base_term, self.entries = snapshot.index, snapshot.term, []
        self.handed = self.stable = snapshot.index
        self._configurations = [(snapshot.index, snapshot.configuration)]
        self._snapshot_due = self._reset_due = True

    def take(self) -> Persist | None:
        """What the storage does not have yet."""
        entries = self.between(self.handed, self.last_index)
        if not entries and not self._snapshot_due:
            return None
        persist = Persist(
            snapshot=self.snapshot if self._snapshot_due else None,
            base_index=self.base_index,
            base_term=self.base_term,
            reset=self._reset_due,
            entries=entries,
        )
        self.handed = self.last_index
        self._snapshot_due = self._reset_due = False
        return persist

    def persisted(self) -> None:
        self.stable = self.handed

    def _drop_before(self, base: int) -> None:
        term = self.term_at(base)
        assert term is not None
        del self.entries[: base - self.base_index]
        self.base_index, self.base_term = base, term

    def _note_configurations(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            if entry.kind is Kind.CONFIGURATION and entry.index > self.snapshot.index:
                self._configurations.append((entry.index, configurations.decode(entry.data)))
