"""What all sessions of one gateway worker share: the catalog as it is now, pools, plan caches, cancel keys, freezes.

Everything here runs on one event loop, so a change of the snapshot is one assignment: statements planned before it are
in flight on their backends, statements after it see the new plan caches. A plan is never used across versions.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets as random
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..catalog.client import ControlClient
from ..catalog.commands import CommitDdl
from ..catalog.model import Snapshot
from ..config import SYSTEM_ROLE, WORKSPACE_PLACE, NodeConfig, Secrets
from ..core.errors import PgError
from ..core.ids import quote_literal
from ..core.limits import BACKENDS_PER_PLACE_MAX, CONTEXTS_MAX, DDL_LOCK_WAIT_S_MAX
from ..engines.postgres.backend import Backend
from ..engines.postgres.connect import Address, cancel, connect_backend, unreachable
from ..engines.postgres.pool import Pool
from ..engines.postgres.workspace import Workspace
from ..pgwire.scram import Password
from ..planner.plan import Context, Planned
from ..replication.asking import Asker
from . import cancelling, witnesses
from .barriers import Barriers
from .deadlocks import Watch
from .doorway import Doorway
from .faults import Fault, no_fault
from .followers import PLACE as FOLLOWER
from .followers import Followers
from .holding import Prober
from .leaders import Leaders
from .longmessages import LongMessages
from .lost_commits import Positions
from .plans import Plans
from .prepared import Analysis
from .role_slots import RoleSlots
from .roles import Login, Logins
from .shared_commits import SharedCommits
from .standing import differences
from .system_sessions import SystemSessions
from .transaction import Savepoint, Transaction

if TYPE_CHECKING:
    from .session import Session
    from .tls import Certificates

log = logging.getLogger(__name__)

STATEMENTS_KNOWN_MAX = 65_536
LONG_STATEMENT_BYTES = 16_384  # a longer one is prepared for its own session only
CANCEL_PID_BITS = 22  # of a cancel key's process id: a counter; the bits above name the worker


@dataclass(slots=True)
class Gateway:
    config: NodeConfig
    secrets: Secrets
    worker: int
    control: ControlClient
    workspace: Workspace
    snapshot: Snapshot
    asker: Asker
    backends_max: int = BACKENDS_PER_PLACE_MAX
    fault: Fault = no_fault
    committing: int = 0  # atomic commits under way
    sessions: dict[int, Session] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    plans: dict[Context, Plans] = field(default_factory=dict)
    frozen: frozenset[tuple[str, str]] = frozenset()
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    clients: int = 0
    doorway: Doorway = field(default_factory=Doorway)
    long_messages: LongMessages = field(default_factory=LongMessages)
    mock_secret: bytes = b""
    certificates: Certificates | None = None  # None: no TLS
    asked_for_drawn: bool = False  # some client has asked for currval() or lastval(): see drawing.py
    analyses: dict[tuple[object, ...], Analysis] = field(default_factory=dict)
    _next_pid: int = 0
    _next_statement: int = 0
    _statement_numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    _contexts: dict[Context, Context] = field(default_factory=dict)
    logins: Logins = field(default_factory=Logins)
    role_slots: RoleSlots = field(default_factory=RoleSlots)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _ddl_locks: dict[int, AsyncExitStack] = field(default_factory=dict)
    _ddl_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _system_key: str = ""
    barriers: Barriers = field(init=False)
    witnesses: SystemSessions = field(init=False)
    snapshot_watchers: SystemSessions = field(init=False)
    shared_commits: SharedCommits = field(default_factory=SharedCommits)
    watch: Watch = field(init=False)
    prober: Prober = field(init=False)
    leaders: Leaders = field(init=False)
    followers: Followers = field(init=False)
    positions: Positions = field(init=False)

    def __post_init__(self) -> None:
        self.barriers = Barriers(self)
        self.witnesses = SystemSessions(self, witnesses.SETTINGS)
        self.snapshot_watchers = SystemSessions(self, "SET application_name = 'hanse snapshot watch'")
        self.watch = Watch(self)
        self.prober = Prober(self)
        self.leaders = Leaders(self)
        self.followers = Followers(self)
        self.positions = Positions(self)

    # --- catalog -----------------------------------------------------------------------------------------------

    def take_over(self, snapshot: Snapshot) -> None:
        """From now on statements are planned on this snapshot. Changed addresses retire their pools."""
        old = self.snapshot
        self.snapshot = snapshot
        self.plans = {}
        self.analyses.clear()
        if snapshot.groups != old.groups:
            self.barriers.sessions.forget()
            self.witnesses.forget()
            self.snapshot_watchers.forget()
            self.followers.forget()
        for group in old.groups:
            later = snapshot.group_by_name.get(group.name)
            if later is None or later.number != group.number != 0:  # it was dropped; this may be another of its name
                self.leave(group.name)
                self.leaders.forget(group.name)
        for name, pool in self.pools.items():
            now, before = snapshot.group_by_name.get(name), old.group_by_name.get(name)
            if name == WORKSPACE_PLACE or now == before:
                continue
            if now is None or before is None:
                continue
            leader, former = self.leaders.of(now), self.leaders.of(before)
            if leader.name != former.name:
                self.leave(name)
            elif (leader.host, leader.port) != (former.host, former.port) or len(now.instances) != len(
                before.instances
            ):
                pool.retire()  # also connections to what was the only instance: from now on there are leases

    def plans_for(self, context: Context, snapshot: Snapshot | None = None) -> Plans:
        """The plan cache of everything that shares this context; a transaction's own catalog gets its own."""
        if snapshot is not None and snapshot is not self.snapshot:
            return Plans(snapshot, context)
        plans = self.plans.get(context)
        if plans is None:
            if len(self.plans) >= CONTEXTS_MAX:
                self.plans.clear()
            plans = self.plans[context] = Plans(self.snapshot, context)
        return plans

    def leave(self, group: str) -> None:
        """The group has another leader: what the former one still answers is not to be heard."""
        self.leaders.leave(group)
        for sessions in (self.barriers.sessions, self.witnesses, self.snapshot_watchers):
            sessions.leave(group)
        self.positions.leave(group)
        self.pool(group).abandon()
        self.prober.hurry(group)

    @property
    def is_replicated(self) -> bool:
        return any(len(group.instances) > 1 for group in self.snapshot.groups)

    # --- backends ----------------------------------------------------------------------------------------------

    def pool(self, place: str) -> Pool:
        pool = self.pools.get(place)
        if pool is None:
            pool = self.pools[place] = Pool(place, self._connect, size_max=self.backends_max)
        return pool

    def leave_main(self) -> None:
        """Ends the idle sessions in the schema-complete database, which is to be copied."""
        self.pool(WORKSPACE_PLACE).close_idle(database=self.config.database)

    async def _connect(self, place: str, user: str, database: str, credentials: Any) -> Backend:
        """For a pool. A client's begins with what stood for him when he logged in."""
        if not isinstance(credentials, Login):
            return await self._open(place, user, database, credentials)
        backend = await self._open(place, user, database, credentials.keys)
        private = bool(credentials.standing) and database != self.snapshot.database
        if private or credentials.version != self.snapshot.version:
            try:
                parameters = await differences(self, backend, credentials.standing)
            except BaseException as error:
                backend.close()
                if isinstance(error, PgError) and error.sqlstate.startswith(("08", "57P")):
                    # It has begun nothing: as one that cannot be reached. In the workspace a clone may have ended it.
                    raise unreachable(place, error) from error
                raise
            if parameters:
                backend.close()
                backend = await self._open(place, user, database, credentials.keys, parameters)
        backend.standing = credentials.standing
        return backend

    async def _open(
        self, place: str, user: str, database: str, credentials: Any, parameters: dict[str, str] | None = None
    ) -> Backend:
        """A group's server that has become a follower is not asked: what it says may be old."""
        cover = self.leaders.cover(place)
        backend = await connect_backend(self.address(place), place, user, database, credentials, parameters)
        follows = backend.parameters.get("in_hot_standby") == "on" and not place.startswith(FOLLOWER)
        if follows or cover is not self.leaders.cover(place):
            backend.close()
            raise PgError("57P03", f"the server of {place} that was asked does not lead", hint="Try again.")
        backend.cover, backend.made_at = cover, time.monotonic()
        return backend

    def address(self, place: str) -> Address:
        if place == WORKSPACE_PLACE:
            for instance in self.config.instances:
                if instance.group == WORKSPACE_PLACE:
                    return Address("127.0.0.1", instance.port, self.config.socket_directory)
            raise PgError("XX000", "this node has no workspace")
        if place.startswith(FOLLOWER):
            server = self.followers.find(place)
        else:
            group = self.snapshot.group_by_name.get(place)
            server = None if group is None else self.leaders.of(group)
        if server is None:
            raise PgError("XX000", f"{place} does not exist")
        local = server.socket_directory if server.node == self.config.name else None
        return Address(server.host, server.port, local)

    async def system_backend(self, place: str) -> Backend:
        """A connection of Hanse's own superuser, not from the pool: it must never serve a client."""
        return await self._open(place, SYSTEM_ROLE, self.snapshot.database, Password(self.secrets.system_password))

    # --- sessions ----------------------------------------------------------------------------------------------

    def register(self, session: Session) -> tuple[int, int]:
        """Gives the session its cancel key: (process id, secret). The id names this worker in its upper bits."""
        while True:
            self._next_pid = (self._next_pid + 1) & ((1 << CANCEL_PID_BITS) - 1)
            pid = (self.worker + 1) << CANCEL_PID_BITS | self._next_pid
            if pid not in self.sessions:
                break
        self.sessions[pid] = session
        return pid, int.from_bytes(random.token_bytes(4), "big", signed=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that nobody waits for; its failure is reported, not lost."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.report_bug(task.exception())

    def report_bug(self, error: BaseException | None) -> None:
        log.error("unexpected error", exc_info=error)

    def intern_context(self, context: Context) -> Context:
        if len(self._contexts) >= CONTEXTS_MAX:
            self._contexts.clear()
        return self._contexts.setdefault(context, context)

    def statement_number(self, text: bytes, types: tuple[int, ...], state: object) -> int:
        """Equal for statements that may share what is prepared on a backend."""
        if len(text) > LONG_STATEMENT_BYTES:
            return self.new_statement_number()
        key = (text, types, state)
        number = self._statement_numbers.get(key)
        if number is None:
            if len(self._statement_numbers) >= STATEMENTS_KNOWN_MAX:
                self._statement_numbers.clear()
            number = self._statement_numbers[key] = self.new_statement_number()
        return number

    def new_statement_number(self) -> int:
        self._next_statement += 1
        return self._next_statement

    async def cancel(self, pid: int, secret: int) -> None:
        """A client's cancel request. One for another worker of this node is passed on to it."""
        worker = ((pid & 0xFFFFFFFF) >> CANCEL_PID_BITS) - 1
        if worker != self.worker:
            if 0 <= worker < self.config.gateway_workers:
                await cancelling.pass_on(self.config, worker, pid, secret)
            return
        await self.cancel_own(pid, secret)

    async def cancel_own(self, pid: int, secret: int) -> None:
        session = self.sessions.get(pid & 0xFFFFFFFF)
        if session is not None and session.secret & 0xFFFFFFFF == secret & 0xFFFFFFFF:
            await session.cancel()

    def start_cancel(self, backend: Backend) -> asyncio.Future[None]:
        """Marks the backend at once: between this moment and the request's end nobody else may get it (findings-gateway 24)."""
        if backend.cancelling is None or backend.cancelling.done():
            backend.cancelling = asyncio.ensure_future(cancel(backend))
        return backend.cancelling

    async def cancel_backend(self, backend: Backend) -> None:
        await asyncio.shield(self.start_cancel(backend))

    # --- schema changes ----------------------------------------------------------------------------------------

    def new_transaction_id(self) -> str:
        return random.token_hex(8)

    async def lock_ddl(self, holder: object) -> None:
        """The cluster's DDL lock, held until `unlock_ddl`; by then our snapshot is the newest.

        The control plane gives it to one worker, this worker to one of its sessions at a time.
        """
        try:
            await asyncio.wait_for(self._ddl_turn.acquire(), DDL_LOCK_WAIT_S_MAX)
        except TimeoutError:
            raise PgError("55P03", "could not obtain the lock for schema changes in time") from None
        stack = AsyncExitStack()
        stack.callback(self._ddl_turn.release)
        try:
            await stack.enter_async_context(self.control.ddl_lock())
        except BaseException:
            await stack.aclose()
            raise
        self._ddl_locks[id(holder)] = stack

    def has_ddl_lock(self, holder: object) -> bool:
        return id(holder) in self._ddl_locks

    def unlock_ddl(self, holder: object) -> None:
        stack = self._ddl_locks.pop(id(holder), None)
        if stack is not None:
            self.spawn(stack.aclose())

    async def freeze_everywhere(
        self, transaction: Transaction, identities: tuple[tuple[str, str], ...], wait_s: float
    ) -> AsyncExitStack:
        """Closing what it gives thaws; the transaction's end does in any case."""
        stack = AsyncExitStack()
        if identities:
            await stack.enter_async_context(self.control.frozen(identities, wait_s))
            self._ddl_locks[id(transaction)].push_async_callback(stack.aclose)
        return stack

    async def commit_change(self, transaction: Transaction) -> None:
        """Makes the transaction's schema change the cluster's. When this returns nobody plans on an older catalog."""
        change = transaction.change
        assert change is not None
        backend = transaction.branches[WORKSPACE_PLACE].backend
        applied = f"UPDATE hanse.applied SET version = {change.version + 1}"
        proof = await self.system_proof(backend.pid, applied)
        await backend.query(f"SELECT hanse.run_as_system({quote_literal(applied)}, {quote_literal(proof)})")
        command = CommitDdl(
            transaction_id=change.transaction_id,
            expected_version=change.version,
            role=SYSTEM_ROLE,
            statements=tuple(change.statements),
            relations=change.snapshot.relations,
            functions=change.snapshot.functions,
            schemas=change.snapshot.schemas,
        )
        await self.control.propose(command)

    def forget_change(self, transaction: Transaction) -> None:
        """The transaction is over, one way or the other."""
        transaction.change = None
        self.unlock_ddl(transaction)

    def rewind_change(self, transaction: Transaction, savepoint: Savepoint) -> None:
        """ROLLBACK TO: the catalog is again as it was at the savepoint. The DDL lock stays until the end."""
        change = transaction.change
        if change is not None:
            change.snapshot = savepoint.snapshot if savepoint.snapshot is not None else self.snapshot
            del change.statements[savepoint.statements :]
            change.recorded &= savepoint.recorded

    async def system_proof(self, pid: int, statement: str) -> str:
        """What `hanse.run_as_system` wants to see: only who can read the system role's verifier can make it."""
        if not self._system_key:
            rows = await self.workspace.query(
                "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1", SYSTEM_ROLE
            )
            self._system_key = str(rows[0][0])
        inner = hashlib.sha256(f"{self._system_key}:{pid}:{statement}".encode()).digest()
        return hashlib.sha256(inner + self._system_key.encode()).hexdigest()

    # --- freezes -----------------------------------------------------------------------------------------------

    async def freeze(self, relations: frozenset[tuple[str, str]]) -> None:
        """Holds new statements on these relations and returns when no running one uses them (findings-gateway 3)."""
        self.frozen |= relations
        self.thawed.clear()
        while relations & self.frozen and any(session.uses(relations) for session in self.sessions.values()):
            await asyncio.sleep(0.005)

    def thaw(self, relations: frozenset[tuple[str, str]]) -> None:
        self.frozen -= relations
        self.thawed.set()
        self.thawed = asyncio.Event()

    async def wait_thawed(self, planned: Planned, own: frozenset[tuple[str, str]]) -> bool:
        """Waits while a relation of the statement is frozen by somebody else. True: the catalog may have changed."""
        waited = False
        while planned.relations & (self.frozen - own):
            waited = True
            event = self.thawed
            await event.wait()
        return waited
