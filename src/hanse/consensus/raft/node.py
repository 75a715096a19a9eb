"""One node of a Raft cluster, with its clock, disk and network: the driver of `core.Raft`, and a `Consensus`.

One task carries out effects in their order; the write goes to a thread, and what arrives or is proposed meanwhile is the next
batch: many proposals, one fsync. While a disk does not answer, nothing is sent, so that a leader with a hung disk is replaced
like one that is dead. When a write fails, the node ends (`failed`), for only a restart knows what is on the disk.

A proposal is placed in the leader's log, by message where the leader is another node, and then followed *here*: when the entry
of that index is applied, it is ours if it has the term in which it was placed, and else was surely lost. So the answer is the local
state machine's, which has applied it.

Where the others listen is what `addresses` says, which whoever starts the node knows; what the log says counts for the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ...core.clock import clock
from ...core.errors import PgError
from ...core.limits import (
    RAFT_ANSWER_S_MAX,
    RAFT_COMMAND_BYTES_MAX,
    RAFT_RETRY_PAUSE_S,
    RAFT_SNAPSHOT_ENTRIES,
    RAFT_SNAPSHOT_LOG_BYTES,
)
from ...core.node_tls import NodeTls
from ..contract import Leadership, StateMachine, unavailable, unknown_outcome
from ..watched import Watched
from . import wire
from .configuration import Configuration
from .core import Raft
from .messages import Effects, Entry, Kind
from .saved import Saved
from .state import Busy, ChangeRefused, NotLeader, Role, Settings
from .storage import Storage
from .transport import Transport

log = logging.getLogger(__name__)

Place = tuple[int, int]  # index and term of an entry


class Lost(Exception):
    """Another entry took the place of the proposal: it was not done, and will not be."""


class NotPlaced(Exception):
    """The proposal is in no log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Names and addresses; `leader` is None where this node knows of none."""

    voters: tuple[str, ...]
    learners: tuple[str, ...]
    addresses: dict[str, str]
    leader: str | None


class Node(Watched):
    """`initial` is what a new storage begins with: `saved.founding`, or `saved.joining`."""

    def __init__(
        self,
        name: str,
        directory: Path,
        initial: Saved,
        machine: StateMachine,
        tls: NodeTls,
        *,
        cluster: str,
        address: str,
        addresses: Mapping[str, str] | None = None,
        settings: Settings = Settings(),  # noqa: B008
        snapshot_entries: int = RAFT_SNAPSHOT_ENTRIES,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._directory = directory
        self._initial = initial
        self._machine = machine
        self._settings = settings
        self._snapshot_entries = snapshot_entries
        self._random = random
        self._listen_on = address
        self._addresses = addresses or {}
        self._transport = Transport(name, cluster, tls, self._arrived)
        self._requests = itertools.count(1)
        self._forwarded: dict[int, tuple[str, asyncio.Future[Place]]] = {}
        self._followed: dict[int, list[tuple[int, asyncio.Future[bytes]]]] = {}
        self._reads: dict[int, asyncio.Future[None]] = {}
        self._disk = ThreadPoolExecutor(1, thread_name_prefix=f"raft-{name}")

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens the log, listens, takes part. Raises UserMistake."""
        loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._begin()
        try:
            self._storage = await loop.run_in_executor(self._disk, Storage, self._directory, self.name, self._initial)
        except BaseException:
            self._disk.shutdown(wait=False)
            raise
        saved = self._storage.saved
        self._raft = Raft(self.name, saved, self._settings, self._random, clock())
        self._noted = self.leadership
        self.version = saved.snapshot.index
        self._applied_bytes = 0  # since the last snapshot
        if saved.snapshot.index:
            self._machine.restore(saved.snapshot.index, saved.snapshot.data)
        try:
            self.address = await self._transport.listen(self._listen_on)
        except BaseException:
            self._disk.shutdown()
            self._storage.close()
            raise
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        healthy = not self.failed.done()
        if healthy:
            self.failed.set_result(None)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._transport.close()
        self._fail_all()
        if healthy and self._raft.role is Role.LEADER:
            with contextlib.suppress(PgError):  # then the others find out that nobody leads
                await asyncio.get_running_loop().run_in_executor(self._disk, self._storage.note_led)
        self._disk.shutdown()  # a write under way ends first
        self._storage.close()

    # --- the contract ------------------------------------------------------------------------------------------------

    @property
    def leads(self) -> bool:
        return self._raft.role is Role.LEADER and not self.failed.done()

    @property
    def leadership(self) -> Leadership:
        return Leadership(term=self._raft.term, leader=self._raft.leader, leads=self.leads)

    @property
    def membership(self) -> Membership:
        configuration = self._raft.configuration
        return Membership(
            voters=configuration.voters,
            learners=configuration.learners,
            addresses=configuration.addresses,
            leader=self._raft.leader,
        )

    async def propose(self, command: bytes, *, term: int | None = None) -> bytes:
        if len(command) > RAFT_COMMAND_BYTES_MAX:
            raise PgError("54000", f"a change of the control plane is too large ({len(command)} bytes)")
        deadline = clock() + RAFT_ANSWER_S_MAX
        while clock() < deadline and not self.failed.done():
            if term is not None and not (self.leads and self._raft.term == term):
                raise unavailable(f"{self.name} does not lead it any more.")
            try:
                index, placed_in = await self._place(command, deadline)
                return await self._follow(index, placed_in, deadline)
            except (NotPlaced, Lost):
                await asyncio.sleep(RAFT_RETRY_PAUSE_S)
        raise unavailable()

    async def read(self, *, lease: bool = True) -> None:
        deadline = clock() + RAFT_ANSWER_S_MAX
        while clock() < deadline and not self.failed.done():
            try:
                ticket = self._raft.read(clock(), lease=lease)
            except (NotLeader, Busy):
                await asyncio.sleep(RAFT_RETRY_PAUSE_S)
                continue
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._reads[ticket] = answer
            self._wake.set()
            with contextlib.suppress(Lost, TimeoutError):
                try:
                    async with asyncio.timeout(self._settings.election_timeout_s):  # a message may be lost: ask again
                        return await answer
                finally:
                    self._reads.pop(ticket, None)
        raise unavailable()

    async def add(self, node: str, address: str) -> None:
        current = self._raft.configuration
        if node in current.voters and current.addresses.get(node) == address:
            return
        addresses = {**current.addresses, node: address}
        if node not in current.voters:
            learners = tuple(sorted({*current.learners, node}))
            await self._change(Configuration(voters=current.voters, learners=learners, addresses=addresses))
            await self._until(lambda: self._raft.caught_up(node))
        current = self._raft.configuration
        voters = tuple(sorted({*current.voters, node}))
        learners = tuple(name for name in current.learners if name != node)
        await self._change(Configuration(voters=voters, learners=learners, addresses=addresses))

    async def remove(self, node: str) -> None:
        current = self._raft.configuration
        if node not in current.members:
            return
        addresses = {name: address for name, address in current.addresses.items() if name != node}
        voters, learners = (tuple(n for n in names if n != node) for names in (current.voters, current.learners))
        await self._change(Configuration(voters=voters, learners=learners, addresses=addresses))

    async def reshape(self, voters: Mapping[str, str]) -> None:
        """These vote, at these addresses, and there are no learners: in one change, when those that are new have caught up."""
        current = self._raft.configuration
        if set(voters) == set(current.voters) and not current.learners:
            return
        new = tuple(sorted(set(voters) - set(current.voters)))
        addresses = {**current.addresses, **{name: voters[name] for name in new}}
        if new != current.learners:
            await self._change(Configuration(voters=current.voters, learners=new, addresses=addresses))
        await self._until(lambda: all(self._raft.caught_up(name) for name in new))
        kept = {name: addresses[name] for name in voters if name in addresses}
        await self._change(Configuration(voters=tuple(sorted(voters)), addresses=kept))

    async def transfer(self, node: str) -> None:
        """Asks `node` to lead. Raises PgError 55000 where that cannot be, 57P03 when it did not come to pass."""
        try:
            self._raft.transfer(node, clock())
        except (NotLeader, Busy, ChangeRefused) as error:
            raise _refused(error) from error
        self._wake.set()
        await self._until(lambda: self._raft.leader == node)

    # --- proposals ---------------------------------------------------------------------------------------------------

    async def _place(self, command: bytes, deadline: float) -> Place:
        """Raises NotPlaced, PgError 08007."""
        if self.leads:
            try:
                place = self._raft.propose(command, clock())
            except (NotLeader, Busy) as error:
                raise NotPlaced from error
            self._wake.set()
            return place
        leader = self._raft.leader
        if leader is None:
            raise NotPlaced
        request = next(self._requests)
        message = wire.Forward(
            sender=self.name, receiver=leader, term=self._raft.term, request=request, command=command
        )
        answer: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._forwarded[request] = (leader, answer)
        try:
            if not self._transport.send(message, self._address_of(leader)):
                raise NotPlaced
            async with asyncio.timeout(max(0.0, deadline - clock())):
                return await answer
        except TimeoutError:
            raise unknown_outcome() from None
        finally:
            del self._forwarded[request]

    async def _follow(self, index: int, term: int, deadline: float) -> bytes:
        """What the entry gave when it was applied here. Raises Lost, PgError 08007."""
        if index <= self.version:  # the leader's answer was overtaken by the entry
            raise unknown_outcome()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._followed.setdefault(index, []).append((term, answer))
        try:
            async with asyncio.timeout(max(0.0, deadline - clock())):
                return await answer
        except TimeoutError:
            raise unknown_outcome() from None
        finally:
            if not answer.done():
                answer.cancel()

    def _forward_arrived(self, message: wire.Forward) -> None:
        index = term = 0
        if message.term == self._raft.term:
            with contextlib.suppress(NotLeader, Busy):
                index, term = self._raft.propose(message.command, clock())
        answer = wire.Forwarded(
            sender=self.name,
            receiver=message.sender,
            term=message.term,
            request=message.request,
            index=index,
            entry_term=term,
        )
        self._transport.send(answer, self._address_of(message.sender))

    def _forwarded_arrived(self, message: wire.Forwarded) -> None:
        leader, answer = self._forwarded.get(message.request, (None, None))
        if answer is None or answer.done() or leader != message.sender:
            return
        if message.index:
            answer.set_result((message.index, message.entry_term))
        else:
            answer.set_exception(NotPlaced())

    def _give_up_forwarded(self) -> None:
        """The leader is another one: nobody will say where a proposal is."""
        for leader, answer in self._forwarded.values():
            if leader != self._raft.leader and not answer.done():
                answer.set_exception(unknown_outcome())

    # --- effects -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                if clock() >= self._raft.wake_at:
                    self._raft.tick(clock())
                self._wake.clear()
                effects = self._raft.take(clock())
                self._note_leadership()
                if effects:
                    await self._carry_out(effects)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._raft.wake_at - clock())):
                        await self._wake.wait()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._end(error)

    async def _carry_out(self, effects: Effects) -> None:
        for message in effects.send_first:
            self._transport.send(message, self._address_of(message.receiver))
        if effects.persist is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk, self._storage.write, effects.persist)
            if any(entry.kind is Kind.CONFIGURATION for entry in effects.persist.entries):
                self._transport.keep(self._raft.configuration.members)
        for message in effects.send:
            self._transport.send(message, self._address_of(message.receiver))
        if effects.restore is not None:
            self._restore(effects.restore.index, effects.restore.data)
        for entry in effects.apply:
            self._apply(entry)
        for ready in effects.reads:
            answer = self._reads.get(ready.ticket)
            if answer is not None and not answer.done():
                answer.set_exception(Lost()) if ready.lost else answer.set_result(None)
        if effects.persist is not None:
            self._raft.persisted(clock())
        if effects.apply or effects.restore is not None:
            self._tell_version()
            self._compact()
        self._give_up_forwarded()

    def _apply(self, entry: Entry) -> None:
        result = self._machine.apply(entry.index, entry.data) if entry.kind is Kind.COMMAND else b""
        self.version = entry.index
        self._applied_bytes += len(entry.data)
        for term, answer in self._followed.pop(entry.index, ()):
            if answer.done():
                continue
            if term == entry.term:
                answer.set_result(result)
            else:
                answer.set_exception(Lost())

    def _restore(self, index: int, data: bytes) -> None:
        self._machine.restore(index, data)
        self.version = index
        for passed in [at for at in self._followed if at <= index]:
            for _, answer in self._followed.pop(passed):
                if not answer.done():
                    answer.set_exception(unknown_outcome())

    def _compact(self) -> None:
        entries = self.version - self._raft.state.log.snapshot.index
        if entries >= self._snapshot_entries or self._applied_bytes >= RAFT_SNAPSHOT_LOG_BYTES:
            self._applied_bytes = 0
            self._raft.compact(self.version, self._machine.snapshot())
            self._wake.set()

    # --- parts -------------------------------------------------------------------------------------------------------

    def _arrived(self, message: wire.BetweenNodes) -> None:
        if self.failed.done():
            return
        if isinstance(message, wire.Forward):
            self._forward_arrived(message)
        elif isinstance(message, wire.Forwarded):
            self._forwarded_arrived(message)
        else:
            try:
                self._raft.step(message, clock())
            except ValueError as error:
                raise wire.WireError(str(error)) from error
            except AssertionError as error:  # what is in memory cannot be trusted any more; what is on disk can
                self._end(error)
                self._task.cancel()
        self._note_leadership()  # now: the next turn waits for the disk
        self._wake.set()

    def _note_leadership(self) -> None:
        if self.leadership != self._noted:
            self._noted = self.leadership
            self._tell_leadership()

    def _address_of(self, node: str) -> str | None:
        return self._addresses.get(node) or self._raft.configuration.addresses.get(node)

    async def _change(self, target: Configuration) -> None:
        deadline = clock() + RAFT_ANSWER_S_MAX
        while True:
            try:
                index = self._raft.change(target, clock())
                break
            except Busy as error:
                if clock() >= deadline:
                    raise unavailable() from error
                await asyncio.sleep(RAFT_RETRY_PAUSE_S)
            except (NotLeader, ChangeRefused) as error:
                raise _refused(error) from error
        self._wake.set()
        await self._until(lambda: self.version >= index and not self._raft.configuration.joint)

    async def _until(self, reached: Callable[[], bool]) -> None:
        deadline = clock() + RAFT_ANSWER_S_MAX
        while not reached():
            if clock() >= deadline or self.failed.done():
                raise unavailable()
            await asyncio.sleep(RAFT_RETRY_PAUSE_S)

    def _end(self, error: Exception) -> None:
        log.error("%s takes part in the control plane no more", self.name, exc_info=error)
        self._fail_all()
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # nobody need watch it

    def _fail_all(self) -> None:
        self._tell_end()
        for _, forwarded in self._forwarded.values():
            if not forwarded.done():
                forwarded.set_exception(unknown_outcome())
        for followed in [answer for each in self._followed.values() for _, answer in each]:
            if not followed.done():
                followed.set_exception(unknown_outcome())
        for reading in self._reads.values():
            if not reading.done():
                reading.set_exception(Lost())


def _refused(error: Exception) -> PgError:
    return PgError("55000", f"the members of the control plane cannot be changed here: {error}")
