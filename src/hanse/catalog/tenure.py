"""What a control service has while its node leads: clients, their leases, the lock for schema changes, freezes.

A *tenure* is one term of one node as the leader of the control plane. Nothing of it outlives the term: on its end all
connections are dropped, and with them the lock and the freezes; clients find the next leader. What must outlive it is in the
state machine (`machine.py`).

A change is made in this order: decided by the consensus, told to all watchers, acknowledged by all of them (or their leases have
run out), answered. A connection that ends takes with it what it held, but never a proposal, which runs on to its end.

**Why no gateway with a lease plans on an old catalog**, whoever leads. Say a change was answered at time t; nobody may plan on the
catalog before it after t.

1. *In one tenure* the argument is `protocol.py`'s: a watcher has acknowledged, or its lease was waited for.
2. *A lease that an earlier leader gave.* Welcome and Pong are sent only after a `read` of the consensus that began when the
   question was here, and while this node still leads in the tenure's term. So at some moment between question and answer nobody
   of a later term had been elected; and a client counts its lease from before the question. Hence every lease of an earlier tenure
   ends within `lease_s` of this tenure's beginning, and all of them are waited for (`Watchers.haunt`). This is left out only when
   the state machine says that there can be none (`machine.Attend`), or when the tenure of the term before was this node's own and
   had none when it ended (`vacated`): all nodes may have ended together, and no majority was left to be told.
3. *A lease that a leader gives who was deposed and does not know it.* There is none, for a read tells him, or fails: Raft's
   need a majority, or the leader's lease of Raft, during which nobody is elected; etcd's tell who leads.
4. *A change that a deposed leader still finishes.* A command is proposed only under the term in which its client held the
   lock. It is in the log of the next leader, or it is lost for ever; the next tenure begins with a `read` and so after all such
   commands. Its first Welcome already shows them, and gateways keep freezes until then. So a schema change commits while its
   lock and its freezes last, as far as anybody can see, or not at all; its client asks `outcome`.

A gateway that is between two leaders goes on planning while its lease lasts: nobody has been told that a newer catalog holds.

Two clocks are never compared; they must run about equally fast, as `Settings.clock_drift` says of Raft's own lease.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from ..core.clock import clock
from ..core.errors import PgError
from ..core.limits import DDL_LOCK_WAIT_S_MAX, FREEZE_WAIT_S_MAX
from . import protocol as p
from .commands import Command, CommitDdl, DdlEntry
from .ddl_lock import DdlLock
from .group_commands import DropGroup, OpenGroup
from .machine import AnyCommand, Attend, CatalogMachine, Settle, decode_outcome, encode
from .model import Snapshot
from .service_session import ServiceSession
from .watchers import Watchers

T = TypeVar("T")
log = logging.getLogger(__name__)


class Leadership(Protocol):
    """See `consensus.contract`."""

    @property
    def term(self) -> int: ...
    @property
    def leader(self) -> str | None: ...
    @property
    def leads(self) -> bool: ...


class Consensus(Protocol):
    """What the catalog needs of `consensus.contract.Consensus`."""

    async def propose(self, command: bytes, *, term: int | None = None) -> bytes: ...
    async def read(self, *, lease: bool = True) -> None: ...
    @property
    def version(self) -> int: ...
    async def changed(self, since: int) -> int: ...
    @property
    def leadership(self) -> Leadership: ...
    async def leadership_changed(self, known: Any) -> Leadership: ...


class Tenure:
    """Of `term`. `begin` comes first; `end` when the node does not lead any more, or ends."""

    def __init__(
        self,
        consensus: Consensus,
        machine: CatalogMachine,
        term: int,
        *,
        ack_wait_s: float,
        lease_s: float,
        vacated: int | None = None,
    ) -> None:
        self.term = term
        self._vacated = vacated  # the last tenure that ended here with nobody to be waited for
        self.lease_s = lease_s
        self.ddl_lock = DdlLock()
        self.watchers = Watchers(clock, lease_s)
        self._consensus = consensus
        self._machine = machine
        self._ack_wait_s = ack_wait_s
        self._sessions: set[ServiceSession] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._freezes: dict[str, tuple[p.Freeze, object]] = {}

    @property
    def snapshot(self) -> Snapshot:
        return self._machine.catalog

    async def begin(self) -> None:
        """Until clients may be answered. Raises PgError where this node cannot say what is decided."""
        await self.confirm(lease=False)
        if self._machine.attended:
            if self._vacated != self.term - 1:  # else nobody's tenure was between
                self.watchers.haunt()
        else:
            await self._decide(Attend(attended=True))
        while not self.snapshot.groups:  # its first topology is not there yet
            await self._consensus.changed(self._consensus.version)

    async def tell_versions(self) -> None:
        """Sends each new version to everybody, also those that were not proposed here. Goes on until it is cancelled."""
        while True:
            seen = self._consensus.version
            self._push()
            await self._consensus.changed(seen)

    def end(self) -> None:
        """Drops everybody. What is proposed is left to whoever leads next."""
        for session in tuple(self._sessions):
            session.drop()
        for task in tuple(self._tasks):
            task.cancel()

    def leave(self) -> bool:
        """As `end`, when the node stops. Whether there is nobody to be waited for; then `say_vacant` tells the next leader."""
        vacant = not self.watchers.any_lease
        self.end()
        return vacant

    async def say_vacant(self) -> None:
        await self._decide(Attend(attended=False))

    async def confirm(self, *, lease: bool = True) -> None:
        """That nobody of a later term led when this was called. Raises PgError 57P03."""
        await self._consensus.read(lease=lease)
        leadership = self._consensus.leadership
        if not leadership.leads or leadership.term != self.term:
            raise PgError("57P03", "another node leads the control plane now")

    async def _decide(self, command: AnyCommand) -> int:
        return decode_outcome(await self._consensus.propose(encode(command), term=self.term)).value()

    # --- what may be asked; sessions call these ----------------------------------------------------------------------

    async def propose(self, command: Command, *, holder: object) -> int:
        """Makes a change; gives its version when no gateway plans on an older one. `holder`: whose lock covers it."""
        if isinstance(command, CommitDdl | OpenGroup | DropGroup) and self.ddl_lock.holder is not holder:
            await self._refuse_unlocked(command)
        return await self._finish(self._propose(command))

    async def _propose(self, command: Command) -> int:
        version = await self._decide(command)
        self._push()
        await self._taken_over(version)
        return version

    async def _refuse_unlocked(self, command: CommitDdl | OpenGroup | DropGroup) -> None:
        # Proposed again, a change is answered as it was the first time.
        if not isinstance(command, CommitDdl) or await self.look_up(command.transaction_id) != "c":
            raise PgError("40001", "the catalog changed meanwhile", detail="The lock for schema changes was lost.")

    async def _taken_over(self, version: int) -> None:
        late = await self.watchers.wait(lambda: self.watchers.behind(version), self._ack_wait_s)
        for session in tuple(self._sessions):
            if session.watcher in late:
                log.warning("%s did not take over catalog version %d in time", session.watcher.name, version)
                session.drop()
                # At once: the session's own end comes later, and its lease must be waited for now.
                self.watchers.leave(session.watcher, certainly_stopped=False)
        await self.watchers.wait_for_ghosts()

    async def freeze(self, identities: tuple[p.Identity, ...], holder: object, timeout_s: float) -> str:
        """Until every client has drained `identities`; gives the freeze's id. Raises PgError 55P03 after
        `timeout_s`.
        """
        freeze = p.Freeze(id=secrets.token_hex(8), identities=identities)
        self._freezes[freeze.id] = (freeze, holder)
        try:
            self._tell(p.FrozenNow(freeze=freeze))
            wait_s = min(timeout_s, FREEZE_WAIT_S_MAX)
            late = await self.watchers.wait(lambda: self.watchers.undrained(freeze.id), wait_s)
            if late:
                names = ", ".join(sorted(watcher.name for watcher in late))
                raise PgError(
                    "55P03",
                    "canceling statement due to lock timeout",
                    detail=f"Transactions on the relation are still open at {names}.",
                )
            await self.watchers.wait_for_ghosts()
        except BaseException:
            self.thaw(freeze.id)
            raise
        return freeze.id

    def thaw(self, freeze_id: str) -> None:
        if self._freezes.pop(freeze_id, None) is not None:
            self._tell(p.Thawed(id=freeze_id))

    async def lock_ddl(self, holder: object, timeout_s: float) -> None:
        await self.confirm(lease=False)  # a change that nobody can decide would keep what it prepares in the groups
        await self.watchers.wait_for_ghosts()  # the change would wait for them at its end, with its tables locked
        await self.ddl_lock.acquire(holder, min(timeout_s, DDL_LOCK_WAIT_S_MAX))

    async def settle(self, transaction_id: str) -> bool:
        """Whether the transaction was committed; if not, it never will be (see `machine.py`)."""
        return bool(await self._finish(self._decide(Settle(transaction_id=transaction_id))))

    async def look_up(self, transaction_id: str) -> str:
        """'c': committed, 'a': it never will be, '': neither is settled."""
        await self.confirm()
        return self._machine.look_up(transaction_id)

    def log_part(self, since: int) -> p.LogPart:
        """What led from version `since` to the snapshot; nothing, which is to be asked for, where that is much."""
        entries = self._machine.ddl_log(since) if since >= 0 else ()
        if since < 0 or (entries and self._machine.ddl_log(entries[-1].version)):
            return p.LogPart(since=self.snapshot.version)
        return p.LogPart(since=since, entries=entries)

    async def ddl_log(self, since: int) -> tuple[DdlEntry, ...]:
        """The first page of the schema changes after version `since`; empty when there is none."""
        await self.confirm()
        return self._machine.ddl_log(since)

    # --- connections -------------------------------------------------------------------------------------------------

    @property
    def freezes(self) -> tuple[p.Freeze, ...]:
        return tuple(freeze for freeze, _ in self._freezes.values())

    def _tell(self, message: p.ServiceMessage) -> None:
        for session in tuple(self._sessions):
            session.send(message)

    def _push(self) -> None:
        for session in tuple(self._sessions):
            session.push(self.snapshot)

    async def serve(self, session: ServiceSession, known: int) -> None:
        """One client, which has the log up to version `known`, until it goes away or the tenure ends."""
        self._sessions.add(session)
        self.watchers.join(session.watcher)
        session.welcome(known)
        certainly_stopped = False
        try:
            certainly_stopped = await session.run()
        finally:
            self._sessions.discard(session)
            session.end()
            for freeze_id in [i for i, (_, holder) in self._freezes.items() if holder is session]:
                self.thaw(freeze_id)
            self.ddl_lock.release(session)
            self.watchers.leave(session.watcher, certainly_stopped=certainly_stopped)

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end even when whoever waits for it goes away."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it, or is gone
