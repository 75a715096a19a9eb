"""What a storage holds, as a value: what `Raft` begins with, and what every storage must hold after a `Persist`.

`after` is the definition of a write; the storage in SQLite does the same, and tests compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import configuration as configurations
from .configuration import Configuration
from .messages import Entry, HardState, Kind, Persist, Snapshot

NOTHING = Snapshot(index=0, term=0, configuration=Configuration(), data=b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """`base_index` is the entry before the first of `entries`. The snapshot's data of index 0 mean: as it begins.

    `led` is the term in which the node led when it ended in order; 0: it did not, or has written something since.
    """

    hard_state: HardState = HardState(0, None)
    snapshot: Snapshot = NOTHING
    base_index: int = 0
    base_term: int = 0
    entries: tuple[Entry, ...] = ()
    led: int = 0

    def after(self, persist: Persist) -> Saved:
        base_index, base_term, entries = self.base_index, self.base_term, self.entries
        if persist.snapshot is not None:
            kept = () if persist.reset else entries[persist.base_index - base_index :]
            base_index, base_term, entries = persist.base_index, persist.base_term, kept
        if persist.entries:
            entries = entries[: persist.entries[0].index - 1 - base_index] + persist.entries
        return Saved(
            hard_state=persist.hard_state or self.hard_state,
            snapshot=persist.snapshot or self.snapshot,
            base_index=base_index,
            base_term=base_term,
            entries=entries,
        )


def joining() -> Saved:
    """Of a node that waits to be made a member: it knows nothing, and never stands for election."""
    return Saved()


def founding(configuration: Configuration) -> Saved:
    """Of each node of a new cluster. All must be given the same `configuration`; it is the first entry, in term 1."""
    first = Entry(1, 1, Kind.CONFIGURATION, configurations.encode(configuration))
    alone = configuration.voters[0] if len(configuration.members) == 1 else None
    return Saved(hard_state=HardState(1, alone), entries=(first,))
