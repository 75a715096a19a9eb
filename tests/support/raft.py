"""Raft nodes around one table: time passes, messages travel and writes end only when the test says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.core import Raft
from hanse.consensus.raft.messages import AnyMessage, Effects, Entry, HardState, Kind, ReadState, Snapshot
from hanse.consensus.raft.saved import Saved, founding, joining
from hanse.consensus.raft.state import Role, Settings

SETTINGS = Settings(election_timeout_s=1.0, heartbeat_s=0.2, clock_drift=0.1, caught_up_entries_max=2)


def commands(*terms: int, first: int = 2) -> tuple[Entry, ...]:
    """Entries of these terms, from index `first` on."""
    return tuple(Entry(first + i, term, Kind.COMMAND, b"%d.%d" % (first + i, term)) for i, term in enumerate(terms))


def with_log(founders: tuple[str, ...], *terms: int, term: int | None = None, vote: str | None = None) -> Saved:
    """A founding member that has entries of these terms after the first."""
    saved = founding(Configuration(voters=founders))
    hard = HardState(term if term is not None else max(terms, default=1), vote)
    return dataclasses.replace(saved, hard_state=hard, entries=saved.entries + commands(*terms))


class Table:
    """`mail` is what was sent and has not arrived; `applied`, `reads` and `restored` are what state machines were given."""

    def __init__(self, founders: tuple[str, ...], *others: str, settings: Settings = SETTINGS, **disks: Saved) -> None:
        self.now = 100.0
        self.settings = settings
        self.mail: list[AnyMessage] = []
        self.held: set[str] = set()  # disks whose writes do not end by themselves
        self.writing: dict[str, Effects] = {}
        self.nodes: dict[str, Raft] = {}
        self.applied: dict[str, list[Entry]] = {}
        self.restored: dict[str, list[Snapshot]] = {}
        self.reads: dict[str, list[ReadState]] = {}
        self.disks = {name: founding(Configuration(voters=founders)) for name in founders}
        self.disks |= {name: joining() for name in others}
        self.disks |= disks
        for name in self.disks:
            self.start(name)

    def __getitem__(self, name: str) -> Raft:
        return self.nodes[name]

    # --- nodes -------------------------------------------------------------------------------------------------------

    def start(self, name: str, random: Callable[[], float] = lambda: 0.5) -> None:
        self.nodes[name] = Raft(name, self.disks[name], self.settings, random, self.now)
        self.applied[name], self.restored[name], self.reads[name] = [], [], []
        self.writing.pop(name, None)

    def crash(self, *names: str) -> None:
        """What was not written is lost; messages that were sent are under way."""
        for name in names:
            del self.nodes[name]
            self.writing.pop(name, None)

    def do(self, name: str, what: Callable[[Raft, float], Any]) -> Any:
        """Calls a node and carries out what it asks for."""
        result = what(self.nodes[name], self.now)
        self.pump(name)
        return result

    def pump(self, name: str) -> None:
        raft = self.nodes[name]
        while name not in self.writing and (effects := raft.take(self.now)):
            self.mail += effects.send_first
            if effects.persist is not None:
                self.writing[name] = effects
                if name not in self.held:
                    self.write(name)
            else:
                self._finish(name, effects)

    def write(self, name: str) -> None:
        """Ends the write that is under way."""
        effects = self.writing.pop(name)
        assert effects.persist is not None
        self.disks[name] = self.disks[name].after(effects.persist)
        self._finish(name, effects)
        self.nodes[name].persisted(self.now)
        self.pump(name)

    def _finish(self, name: str, effects: Effects) -> None:
        self.mail += effects.send
        if effects.restore is not None:
            self.restored[name].append(effects.restore)
        self.applied[name] += effects.apply
        self.reads[name] += effects.reads

    # --- messages ----------------------------------------------------------------------------------------------------

    def deliver(self, wanted: Callable[[AnyMessage], bool] = lambda message: True) -> int:
        """Messages that are wanted arrive, and what they cause, until there are none; gives how many."""
        count = 0
        while message := next((m for m in self.mail if wanted(m) and m.receiver in self.nodes), None):
            self.mail.remove(message)
            self.arrive(message)
            count += 1
        return count

    def arrive(self, message: AnyMessage) -> None:
        self.do(message.receiver, lambda raft, now: raft.step(message, now))

    def among(self, *names: str) -> int:
        """Messages between these arrive; all others are lost."""
        count = self.deliver(lambda m: m.sender in names and m.receiver in names)
        self.mail.clear()
        return count

    def sent(self, kind: type[Any], receiver: str | None = None) -> list[Any]:
        return [m for m in self.mail if isinstance(m, kind) and receiver in (None, m.receiver)]

    # --- time --------------------------------------------------------------------------------------------------------

    def wait(self, seconds: float, *names: str) -> None:
        """Time passes; these nodes notice."""
        self.now += seconds
        for name in names:
            self.do(name, lambda raft, now: raft.tick(now))

    def elect(self, name: str, *among: str) -> Raft:
        """`name` stands, after everybody has forgotten former leaders; only these talk (nobody given: all)."""
        others = among or tuple(self.nodes)
        self.wait(2.5, name)
        self.among(name, *others)
        assert self[name].role is Role.LEADER
        return self[name]

    def propose(self, name: str, data: bytes) -> tuple[int, int]:
        result = self.do(name, lambda raft, now: raft.propose(data, now))
        assert isinstance(result, tuple)
        return result

    def beat(self, name: str) -> None:
        """A round of heartbeats is sent."""
        self.wait(self.settings.heartbeat_s, name)

    def log(self, name: str) -> list[int]:
        """The terms of a node's entries."""
        return [entry.term for entry in self.nodes[name].state.log.entries]

    def commands(self, name: str) -> list[bytes]:
        return [entry.data for entry in self.applied[name] if entry.kind is Kind.COMMAND]
