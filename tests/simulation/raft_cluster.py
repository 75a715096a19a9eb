"""A cluster of Raft nodes on one thread, from a seed: modelled network, disks, clocks, clients and faults.

One event happens at a time. Messages are lost, doubled, late and overtaken; links break in one direction or both; nodes crash,
with a write under way that is then on the disk or is not, and start again; they pause; disks are slow; clocks run faster
and slower, up to what the settings allow; members come and go, leadership is handed over, logs are compacted. Then all that is
healed, and the cluster must serve again. `raft_checks.py` judges.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from raft_checks import Checks, Operation, Register, Violation

from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.core import Raft
from hanse.consensus.raft.messages import AnyMessage, Effects, Kind
from hanse.consensus.raft.saved import Saved, founding, joining
from hanse.consensus.raft.state import Busy, NotLeader, Role, Settings

FAULTS_S = 20.0
HEALING_S = 30.0
TICK_S = 0.05
DRIFT = 0.1


@dataclass(eq=False)
class Machine:
    name: str
    disk: Saved
    rate: float = 1.0  # of its clock
    local: float = 0.0  # its clock at the moment `at`
    at: float = 0.0
    raft: Raft | None = None
    life: int = 0
    writing: Effects | None = None
    write_s: float = 0.002
    paused_until: float = 0.0
    register: Register = field(default_factory=Register)
    applied: int = 0
    proposals: dict[int, tuple[int, Operation]] = field(default_factory=dict)  # index → (term, …)
    reads: dict[int, Operation] = field(default_factory=dict)
    leading: object = None
    compact_after: int = 20

    def clock(self, now: float) -> float:
        return self.local + (now - self.at) * self.rate


@dataclass(frozen=True)
class Flaws:
    """What a driver or a disk could do wrong; the checks must find each."""

    sends_before_write: bool = False


class Cluster:
    def __init__(self, seed: int, flaws: Flaws = Flaws(), *, hard_on: str = "") -> None:  # noqa: B008
        self.draw = random.Random(seed)
        self.flaws = flaws
        self.now = 0.0
        self.checks = Checks()
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.blocked: set[tuple[str, str]] = set()
        self.loss, self.doubling, self.delay_s = 0.0, 0.0, 0.01
        # Election timeouts that hardly differ make votes split; clocks at their bounds make leases end too late.
        self.spread = 0.03 if hard_on == "leases" else self.draw.choice((1.0, 0.2, 0.03))
        self.extreme_clocks = hard_on == "leases" or self.draw.random() < 0.5
        self.settings = Settings(
            election_timeout_s=1.0,
            heartbeat_s=0.2,
            clock_drift=DRIFT,
            append_bytes_max=self.draw.choice((1, 20, 10_000)),
            in_flight_max=self.draw.choice((1, 3, 16)),
            chunk_bytes=self.draw.choice((20, 1000)),
            trailing_entries=self.draw.choice((0, 3, 30)),
            trailing_bytes=self.draw.choice((5, 10_000)),
            caught_up_entries_max=5,
        )
        names = [f"n{i}" for i in range(1, self.draw.choice((2, 3, 4, 5, 5, 6)) + 1)]
        if hard_on:
            names = ["n1", "n2", "n3"]
        founders = names if hard_on else names[: self.draw.choice((1, 2, 3, 3, 4, 5))]
        saved = founding(Configuration(voters=tuple(founders)))
        self.machines = {name: Machine(name, saved if name in founders else joining()) for name in names}
        for machine in self.machines.values():
            machine.rate = self.some_rate()
            machine.local = self.draw.uniform(0, 1000)
            machine.write_s = 0.4 if hard_on == "disks" else 0.002
            machine.compact_after = self.draw.choice((8, 25, 1000))
            self.start(machine)

    # --- time --------------------------------------------------------------------------------------------------------

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (self.now + delay_s, next(self.order), what))

    def run_until(self, end: float, done: Callable[[], bool] = lambda: False) -> bool:
        while self.queue and self.queue[0][0] < end:
            self.now, _, what = heapq.heappop(self.queue)
            what()
            if done():
                return True
        self.now = end
        return False

    def spread_random(self) -> float:
        return self.draw.random() * self.spread

    def some_rate(self) -> float:
        return (
            self.draw.choice((1 - DRIFT, 1 + DRIFT)) if self.extreme_clocks else self.draw.uniform(1 - DRIFT, 1 + DRIFT)
        )

    # --- nodes -------------------------------------------------------------------------------------------------------

    def start(self, machine: Machine) -> None:
        machine.life += 1
        now = machine.clock(self.now)
        machine.raft = Raft(machine.name, machine.disk, self.settings, self.spread_random, now)
        machine.register = Register.load(machine.disk.snapshot.data)
        machine.applied = machine.disk.snapshot.index
        machine.writing, machine.leading = None, None
        self._tick_later(machine, machine.life)

    def crash(self, machine: Machine, *, in_order: bool = False) -> None:
        if machine.raft is None:
            return
        if machine.writing is not None and (in_order or self.draw.random() < 0.5):
            self._write(machine, machine.writing)
        if in_order and machine.raft.role is Role.LEADER:
            machine.disk = replace(machine.disk, led=machine.disk.hard_state.term)
        machine.raft, machine.writing = None, None
        machine.proposals.clear()  # nobody will ever know
        machine.reads.clear()

    def _tick_later(self, machine: Machine, life: int) -> None:
        def tick() -> None:
            if machine.life != life or machine.raft is None:
                return
            if machine.paused_until <= self.now:
                machine.raft.tick(machine.clock(self.now))
                self.pump(machine)
            self._tick_later(machine, life)

        self.after(TICK_S, tick)

    def pump(self, machine: Machine) -> None:
        """The driver: takes effects and carries them out, while there are any."""
        raft = machine.raft
        assert raft is not None
        leading = raft.state.leading
        if leading is not machine.leading:
            machine.leading = leading
            if leading is not None:
                self.checks.leader(raft.state)
        while machine.writing is None and (effects := raft.take(machine.clock(self.now))):
            for message in effects.send_first:
                self.send(message)
            if effects.persist is None:
                self._finish(machine, effects)
                continue
            self.checks.written(raft.state, effects.persist)
            if self.flaws.sends_before_write:
                for message in effects.send:
                    self.send(message)
            machine.writing = effects
            self._written_later(machine, effects, machine.life)

    def _written_later(self, machine: Machine, effects: Effects, life: int) -> None:
        def written() -> None:
            if machine.life != life or machine.raft is None:
                return
            if machine.paused_until > self.now:
                self.after(machine.paused_until - self.now, written)
                return
            self._write(machine, effects)
            machine.writing = None
            self._finish(machine, effects)
            machine.raft.persisted(machine.clock(self.now))
            self.pump(machine)

        self.after(machine.write_s * self.draw.random(), written)

    def _write(self, machine: Machine, effects: Effects) -> None:
        assert effects.persist is not None
        machine.disk = machine.disk.after(effects.persist)

    def _finish(self, machine: Machine, effects: Effects) -> None:
        raft = machine.raft
        assert raft is not None
        if not (self.flaws.sends_before_write and effects.persist is not None):
            for message in effects.send:
                self.send(message)
        if effects.restore is not None:
            machine.register = Register.load(effects.restore.data)
            machine.applied = effects.restore.index
            self.checks.restored(effects.restore.index, machine.register)
        self.checks.applied(raft.state, effects.apply)
        for entry in effects.apply:
            if entry.index != machine.applied + 1:
                raise Violation(f"state machine safety: {machine.name} applies {entry} after {machine.applied}")
            machine.applied = entry.index
            if entry.kind is Kind.COMMAND:
                machine.register.apply(entry.data)
            term, operation = machine.proposals.pop(entry.index, (0, None))
            if operation is not None and term == entry.term:
                operation.end = self.now
                operation.writes = machine.register.writer == operation.number
                operation.version = machine.register.version
        for ready in effects.reads:
            operation = machine.reads.pop(ready.ticket)
            if not ready.lost:
                operation.end, operation.version = self.now, machine.register.version
        if machine.applied - raft.state.log.snapshot.index >= machine.compact_after:
            raft.compact(machine.applied, machine.register.dump())

    # --- network -----------------------------------------------------------------------------------------------------

    def send(self, message: AnyMessage) -> None:
        if message.receiver not in self.machines:
            raise Violation(f"{message} is for nobody")
        draw = self.draw
        if self.loss and draw.random() < self.loss:
            return
        self.after(self.delay_s * (0.1 + draw.random()), lambda: self._arrive(message))
        if self.doubling and draw.random() < self.doubling:
            self.after(self.delay_s * 20 * draw.random(), lambda: self._arrive(message))

    def _arrive(self, message: AnyMessage) -> None:
        machine = self.machines[message.receiver]
        if machine.raft is None or (message.sender, message.receiver) in self.blocked:
            return
        if machine.paused_until > self.now:
            self.after(machine.paused_until - self.now, lambda: self._arrive(message))
            return
        machine.raft.step(message, machine.clock(self.now))
        self.pump(machine)

    # --- clients -----------------------------------------------------------------------------------------------------

    def leaders(self) -> list[Machine]:
        return [m for m in self.machines.values() if m.raft is not None and m.raft.role is Role.LEADER]

    def operate(self) -> None:
        """One operation of a client that does not know much: often at a leader, else anywhere."""
        draw = self.draw
        leaders = sorted(self.leaders(), key=lambda each: each.raft.state.term if each.raft else 0)
        if len(leaders) > 1 and leaders[-1].paused_until <= self.now:
            self.write(leaders[-1])  # and whoever has not heard of it must not answer reads as if there were nothing
            leaders = [each for each in leaders[:-1] if each.paused_until <= self.now and each.raft is not None]
            for each in leaders:
                self.read(each, lease=draw.random() < 0.8)
            return
        choice = self.leaders() if draw.random() < 0.7 else list(self.machines.values())
        if not choice:
            return
        machine = draw.choice(choice)
        if machine.raft is None or machine.paused_until > self.now:
            return
        if draw.random() < 0.5:
            self.write(machine, compare=draw.random() < 0.3)
        else:
            self.read(machine, lease=draw.random() < 0.7)

    def write(self, machine: Machine, *, compare: bool = False) -> Operation | None:
        assert machine.raft is not None
        operation = Operation(len(self.checks.operations), self.now, True)
        data = b"%d:%d" % (operation.number, machine.register.version) if compare else b"%d" % operation.number
        try:
            index, term = machine.raft.propose(data, machine.clock(self.now))
        except (NotLeader, Busy):
            return None
        self.checks.operations.append(operation)
        machine.proposals[index] = (term, operation)
        self.pump(machine)
        return operation

    def read(self, machine: Machine, *, lease: bool) -> None:
        assert machine.raft is not None
        operation = Operation(len(self.checks.operations), self.now, False)
        try:
            ticket = machine.raft.read(machine.clock(self.now), lease=lease)
        except (NotLeader, Busy):
            return
        self.checks.operations.append(operation)
        machine.reads[ticket] = operation
        self.pump(machine)

    def keep_operating(self, end: float) -> None:
        self.operate()
        if self.now < end:
            self.after(self.draw.uniform(0, 0.1 if len(self.leaders()) < 2 else 0.02), lambda: self.keep_operating(end))
