"""One client's session, behind its connection: the order of things, and the statements that need no thought.

Input comes in *units*: a Query message, or the extended-protocol messages up to Sync or Flush. One unit runs at a time; what
arrives meanwhile waits in the framer, and the client's socket is not read while too much waits. A unit takes one of two
ways:

* **The fast way**, without a task or an await: the text is in the plan cache, its plan is a Forward, a backend in the right state
  is idle (or the transaction has a branch there). The bytes go to the backend and its answer is relayed to the client
  unparsed. Most statements of a running application take it.
* **The thorough way**, a task: `simple.py` and `extended.py` interpret the unit, `statements.py` runs each statement's plan.

Sans-I/O: the session writes through `Output` (the client's transport, or a list in a test) and owns no socket.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Coroutine
from typing import Any, Protocol

from ..config import WORKSPACE_PLACE
from ..core.errors import FatalError, PgError
from ..core.ids import parse_identifier_list
from ..core.limits import CLIENT_BUFFER_BYTES_MAX, CUSTOM_SETTINGS_MAX
from ..engines.postgres.backend import Backend, lost_connection
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.diagnostics import error_response
from ..pgwire.framing import Framer, Message
from ..planner.plan import Context, Identity, Planned
from . import analysis, copyinput, cursors, drawing, follower_reads, holding, intake, longmessages, pins
from .encoding import Codec, Recoder, codec_of
from .environment import SessionEnvironment
from .fast import FastPath
from .follower_reads import FollowerFastPath, FollowerReads
from .gateway import Gateway
from .interruption import NOBODY
from .plans import Plans
from .prepared import Analysis, Portal, Statement
from .roles import Login
from .setconfig import PARSED_BY, PLANNED_BY
from .settings import UNKNOWN, SessionState, intern, with_names, with_setting
from .transaction import Branch, Transaction, open_branch

OUTPUT_BYTES_AT_ONCE = 1 << 15


class Output(Protocol):
    """The way to the client."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    async def drain(self) -> None: ...


class Session:
    """State of one client between and during his statements. `backend` the relay is on, if one is."""

    def __init__(self, gateway: Gateway, output: Output, user: str, database: str, credentials: object) -> None:
        self.gateway = gateway
        self.output = output
        self.user = user
        self.database = database
        self.credentials = credentials
        self.state = intern((), standing=credentials.standing if isinstance(credentials, Login) else ())
        self.context = gateway.intern_context(Context(user=user))
        self.transaction: Transaction | None = None
        self.pinned: dict[str, Backend] = {}
        self.pin_reasons: set[str] = set()
        self.statements: dict[bytes, Statement] = {}
        self.portals: dict[bytes, Portal] = {}
        self.cursors: dict[str, Portal] = {}
        self.cursors_declared = 0
        self.codec: Codec | None = None  # the client does not speak UTF-8
        self.copy_decoder: codecs.IncrementalDecoder | None = None
        self.drawn = drawing.Values()
        self.sql_statements: dict[str, tuple[str, str]] = {}  # PREPARE name → (types, inner SQL)
        self.busy = False
        self.closed = False
        self.blocked = False  # the client does not read his answers: no unit begins
        self.framer = Framer(large=intake.LARGE)
        self.batch: list[Message] = []
        self.batch_bytes = 0
        self.long_bytes = 0  # of long messages, counted in the worker's room for them
        self.skip_to_sync = False
        self.copy_waiter: asyncio.Future[None] | None = None  # COPY FROM STDIN waits for the client's next message
        self.copied = False  # the running batch has taken COPY data: its Sync came before the data, and means nothing
        self.running: dict[str, Backend] = {}  # what a cancel request must reach
        self.task: asyncio.Task[None] | None = None
        self.pid = 0
        self.secret = 0
        self.fast = FastPath(self)
        self.environment = SessionEnvironment(self)
        self.reads: FollowerReads | None = None  # it reads from followers
        self.custom_names: frozenset[str] = frozenset()
        self.base_state = self.state  # what RESET goes back to: the startup packet's settings
        self.default_search_path = '"$user", public'
        self.temporary: frozenset[str] = frozenset()
        self.reported: dict[str, str] = {}
        self.settings_backend: Backend | None = None
        self.unit = 0  # counts units of input, so that one that does not end can be told from many
        self.sentence: PgError | None = None  # this unit is being cancelled for a reason of ours
        self.interruption: asyncio.Future[None] | None = None  # of a wait that no backend takes part in
        self.unit_to_cancel = NOBODY
        self._plans: Plans | None = None
        self._reading_paused = False
        self._unsent: list[bytes] = []  # answers of the running unit that have not gone out yet
        self._unsent_bytes = 0

    def another(self, output: Output) -> Session:
        """Of the same user, with backends and settings of its own."""
        return Session(self.gateway, output, self.user, self.database, self.credentials)

    # --- plans -------------------------------------------------------------------------------------------------

    @property
    def plans(self) -> Plans:
        """The plan cache for the catalog as it is at this moment (a transaction that changed it has its own)."""
        plans = self._plans
        change = self.transaction.change if self.transaction is not None else None
        snapshot = self.gateway.snapshot if change is None else change.snapshot
        if plans is None or plans.snapshot is not snapshot or plans.context is not self.context:
            plans = self._plans = self.gateway.plans_for(self.context, snapshot)
        return plans

    def uses(self, relations: frozenset[tuple[str, str]]) -> bool:
        """Whether a statement or transaction that is under way has touched one of these relations."""
        if self.transaction is not None:
            own = self.transaction.change
            if own is not None and own.frozen & relations:
                return False
            if any(self._used(planned) & relations for planned in self.transaction.touched.values()):
                return True
        return self.fast.uses(relations)

    def _used(self, planned: Planned) -> frozenset[tuple[str, str]]:
        """Without tables that get their shards with the first row: a write to one has not begun, and may wait for its turn to
        make them while somebody else does.
        """
        if not planned.writes:
            return planned.relations
        known = self.gateway.snapshot.relation_by_identity
        return frozenset(each for each in planned.relations if each not in known or not known[each].awaits_shards)

    def works_in(self, place: str) -> bool:
        """Whether a statement or transaction that is under way has a backend there."""
        if self.transaction is not None and place in self.transaction.branches:
            return True
        return place in self.running

    @property
    def exempt(self) -> frozenset[Identity]:
        """Relations whose freeze this session need not wait for: its own, and those its transaction already holds up."""
        transaction = self.transaction
        if transaction is None:
            return frozenset()
        held = frozenset().union(*(planned.relations for planned in transaction.touched.values()))
        return held | (transaction.change.frozen if transaction.change is not None else frozenset())

    @property
    def changes_schema(self) -> bool:
        """Its transaction has, and so the cluster's lock for it: nobody else can."""
        return self.transaction is not None and self.transaction.change is not None

    # --- input -------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        try:
            if self.busy or self.blocked:
                self._backlog(data)
            elif not len(self.framer) and not self.batch and self.codec is None and self.fast.try_chunk(data):
                return
            else:
                self.framer.feed(data)
                self.advance()
        except Exception as error:
            self._fail_by_bug(error)

    def set_blocked(self, blocked: bool) -> None:
        """The client reads too slowly for what he has been sent; or he reads again."""
        self.blocked = blocked
        backend = self.fast.backend
        if backend is not None and blocked:
            backend.pause_reading()
        elif backend is not None:
            backend.resume_reading()
        if not blocked and not self.busy and not self.closed:
            self.advance()

    def _backlog(self, data: bytes) -> None:
        self.framer.feed(data)
        waiter, self.copy_waiter = self.copy_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        elif len(self.framer) > CLIENT_BUFFER_BYTES_MAX:
            self._pause()

    def _pause(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self.output.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self.output.resume_reading()

    async def next_copy_message(self) -> Message:
        """The next message of the client during COPY FROM STDIN."""
        return await copyinput.next_message(self)

    async def hold(self, size: int) -> None:
        await longmessages.hold(self, size)

    def start_copy_input(self) -> None:
        copyinput.start(self)

    def stop_copy_input(self) -> None:
        copyinput.stop(self)

    def advance(self) -> None:
        """Starts the next unit, if one is whole and none runs."""
        intake.advance(self)

    # --- running -----------------------------------------------------------------------------------------------

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a unit the thorough way."""
        self.busy = True
        self.unit += 1
        self.sentence = None
        self.task = asyncio.get_running_loop().create_task(self._run(work))
        self.task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except PgError as error:
            self.fail(FatalError(error.sqlstate, error.message, detail=error.detail))
        except Exception as error:
            self._fail_by_bug(error)
        finally:
            self.task = None
        self.done()

    def _fail_by_bug(self, error: Exception) -> None:
        """A bug of ours: the client gets an error, not silence; the session cannot go on."""
        self.gateway.report_bug(error)
        self.fail(FatalError("XX000", "internal error of the gateway", detail=f"{type(error).__name__}: {error}"))

    def done(self) -> None:
        """A unit has ended."""
        self.flush()
        self.busy = False
        self.fast.forget()
        if self.long_bytes:
            longmessages.release(self)
        if self.closed:
            self.end_backends()
        elif len(self.framer):
            self.advance()
        elif self._reading_paused:
            self.resume_reading()

    # --- output ------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """While a unit runs its answers are collected, as PostgreSQL does: the client waits for its end anyway."""
        if not self.busy or self.codec is not None:  # a translation that fails is the error of this very message
            self.output.write(data)
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes >= OUTPUT_BYTES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            large = self._unsent_bytes > 2 * OUTPUT_BYTES_AT_ONCE
            self._unsent_bytes = 0
            for data in unsent if large else (b"".join(unsent),):
                self.output.write(data)

    @property
    def status(self) -> bytes:
        transaction = self.transaction
        if transaction is None or not transaction.explicit:
            return b"I"
        return b"E" if transaction.failed else b"T"

    def write_ready(self) -> None:
        self.write(server_messages.ready_for_query(self.status))
        self.flush()

    def fail(self, error: FatalError) -> None:
        """Ends the session with an error."""
        if not self.closed:
            self.write(error_response(error))
            self.flush()
            self.close()

    # --- backends ----------------------------------------------------------------------------------------------

    async def acquire(self, place: str, database: str | None = None) -> Backend:
        """A backend in `place` that is in this session's state, outside any transaction."""
        pinned = self.pinned.get(place) if database is None else None
        if pinned is not None and pinned.closed:
            pins.lose(self, place)
            raise lost_connection(place)
        if pinned is not None:
            if pinned.state is not self.state:
                await self.bring_to_state(pinned)
            return pinned
        if place == WORKSPACE_PLACE and database is None:
            await self.gateway.workspace.gate.passed()
        return await holding.acquire(self, place, database or self.database)

    async def acquire_spare(self, place: str) -> Backend | None:
        """An idle backend in this session's state, for a question of our own beside his statements; None: not now."""
        return self.gateway.pool(place).take(self.user, self.database, self.state)

    async def bring_to_state(self, backend: Backend) -> None:
        backend.state = None
        backend.names |= self.state.names
        await backend.query(self.state.sync_sql)
        backend.state = self.state

    def give_back(self, backend: Backend) -> None:
        """A backend that is outside a transaction and has answered everything."""
        if self.closed:
            backend.close()  # `end_backends` is about to end it: nobody else may have it by then
            return
        if self.pinned.get(backend.place) is backend:
            return
        if backend.names != self.custom_names:  # what was made known to it since it came, or may have been
            backend.names |= self.custom_names
            backend.state = None
        self.gateway.pool(backend.place).release(backend)

    async def branch(self, place: str) -> Branch:
        """The transaction's branch in `place`; opened now if this is its first statement there."""
        transaction = self.transaction
        assert transaction is not None
        branch = transaction.branches.get(place)
        if branch is None:
            branch = transaction.branches[place] = Branch(await open_branch(transaction, place, self.acquire))
            self.note_branch(transaction)
        branch.used = True
        return branch

    def note_branch(self, transaction: Transaction) -> None:
        """The transaction has a branch more: with two it can be part of a deadlock that no group sees."""
        if len(transaction.branches) == 2:
            self.gateway.watch.spread.add(self)

    def judged(self, error: PgError) -> PgError:
        """What the client is told instead of an error that is only the way in which his statement was ended."""
        sentence, self.sentence = self.sentence, None
        return sentence if sentence is not None and error.sqlstate == "57014" else error

    async def settle(self, backend: Backend) -> None:
        """Stops what a failed statement left running in a backend, and reads its answer to the end.

        A server in COPY FROM STDIN does not hear a cancel request while it waits for data; any other ignores CopyFail.
        """
        try:
            backend.write(frontend.copy_fail(b"the statement has failed"))
            await self.gateway.cancel_backend(backend)
            while backend.answering:
                await backend.next()
        except PgError:
            backend.close()

    def any_place(self) -> str:
        """Where a statement runs that any group can answer: where the transaction already is, else the home group."""
        transaction = self.transaction
        home = self.gateway.snapshot.home_group
        if transaction is None or not transaction.branches or home in transaction.branches:
            return home
        return next(iter(transaction.branches))

    async def statement_backend(self) -> Backend:
        """A backend for a statement that any place can answer: the transaction's first branch, else the home group's."""
        home = self.gateway.snapshot.home_group
        transaction = self.transaction
        if transaction is not None and home not in transaction.branches and transaction.branches:
            home = next(place for place in transaction.branches)
        backend = (await self.branch(home)).backend if transaction is not None else await self.acquire(home)
        self.running[backend.place] = backend
        return backend

    def end_statement_backend(self, backend: Backend) -> None:
        self.running.pop(backend.place, None)
        if self.transaction is None:
            self.give_back(backend)

    # --- settings ----------------------------------------------------------------------------------------------

    def set_state(self, state: SessionState) -> None:
        """The session's settings from now on; plans depend on some of them."""
        state = with_names(state, self.custom_names)
        if state is not self.state:
            self.state = state
            self.use_encoding()
            self.refresh_context()
            self._note_reads()

    def base_state_with_role(self) -> SessionState:
        state = with_setting(self.base_state, "role", self.state.role)
        return with_setting(state, "session_authorization", self.state.get("session_authorization"))

    def begin_with(self, settings: tuple[tuple[str, str], ...]) -> None:
        """The startup packet's settings: RESET goes back to them."""
        self.custom_names = frozenset(name for name, _ in settings if "." in name)
        self.base_state = self.state = intern(settings, None, self.custom_names, standing=self.state.standing)
        self.use_encoding()
        self._note_reads()

    def _note_reads(self) -> None:
        reads = follower_reads.reads_of(self.state, self.reads)
        if (reads is None) != (self.reads is None):
            self.fast = FastPath(self) if reads is None else FollowerFastPath(self)
        self.reads = reads

    def note_unknown_names(self) -> None:
        """Dynamic SQL may have made custom settings: only this session's backends can be right for it from now on."""
        self.custom_names |= {f"{UNKNOWN}{self.pid}"}
        self.set_state(self.state)

    def note_custom(self, name: str) -> None:
        """A setting has been made, if only for the transaction: a custom one is known from now on."""
        if "." in name and len(self.custom_names) < CUSTOM_SETTINGS_MAX:
            self.custom_names |= {name}

    def note_local(self, name: str, value: str | None) -> None:
        """A setting of the transaction's own (None: no longer). Few of them matter for plans."""
        transaction = self.transaction
        if transaction is not None and name in PARSED_BY:
            transaction.parses_alone = True
        if transaction is not None and name in PLANNED_BY:
            rest = tuple(pair for pair in transaction.planned_by if pair[0] != name)
            transaction.planned_by = rest if value is None else (*rest, (name, value))
            self.refresh_context()

    def use_encoding(self) -> None:
        """Puts the translation of the client's encoding, if he needs one, between him and this session."""
        name = self.state.get("client_encoding")
        if name == (self.codec.name if self.codec is not None else None):
            return
        self.flush()
        self.codec = codec_of(name)
        plain = self.output.output if isinstance(self.output, Recoder) else self.output
        self.output = plain if self.codec is None else Recoder(plain, self.codec)

    def refresh_context(self) -> None:
        """Search path and role, as the planner must see them."""
        local = dict(self.transaction.planned_by) if self.transaction is not None else {}
        role = local.get("role") or self.state.role
        if role in (None, "none"):
            role = local.get("session_authorization") or self.state.get("session_authorization") or self.user
        names = tuple(role if name == "$user" else name for name in parse_identifier_list(self.search_path))
        context = Context(search_path=names, user=role, temporary=self.temporary)
        if context != self.context:
            self.context = self.gateway.intern_context(context)

    @property
    def search_path(self) -> str:
        """As SHOW would give it: the transaction's own, the session's, or the role's default."""
        local = dict(self.transaction.planned_by) if self.transaction is not None else {}
        path = local.get("search_path", self.state.get("search_path"))
        return self.default_search_path if path is None else path

    def report_parameters(self, backend: Backend) -> None:
        """Tells the client of every setting it is to be told of that has changed."""
        for name, value in backend.parameters.items():
            if name == "client_encoding":
                value = self.state.get(name) or value
            self.report(name, value)

    def report(self, name: str, value: str) -> None:
        if self.reported.get(name) != value:
            self.reported[name] = value
            self.write(server_messages.parameter_status(name, value))

    # --- pins --------------------------------------------------------------------------------------------------

    async def pin(self, place: str, reason: str) -> None:
        await pins.pin(self, place, reason)

    async def pin_what_is_left(self, place: str, backend: Backend) -> None:
        await pins.pin_what_is_left(self, place, backend)

    async def unpin_if_free(self) -> None:
        await pins.unpin_if_free(self)

    def after_transaction(self, *, committed: bool) -> None:
        """Portals end with their transaction, and cursors without HOLD."""
        cursors.end_transaction(self, committed=committed)
        self.end_portals()

    def end_portals(self) -> None:
        for portal in self.portals.values():
            portal.close()
        self.portals.clear()

    # --- prepared statements -----------------------------------------------------------------------------------

    def make_statement(self, text: bytes, types: tuple[int, ...]) -> Statement:
        """Equal text, types and settings share a number, and with it the statements prepared on backends."""
        return Statement(text, types, self.gateway.statement_number(text, types, self.state), self.state)

    async def analyze(self, statement: Statement) -> Analysis:
        return await analysis.analyze(self, statement)

    # --- end ---------------------------------------------------------------------------------------------------

    async def cancel(self) -> None:
        """A cancel request with this session's key: passed on to every backend that works for it."""
        if self.interruption is not None and not self.interruption.done():
            self.interruption.set_result(None)
        if self.busy and not self.running:
            self.unit_to_cancel = self.unit
        under_way = [self.gateway.start_cancel(backend) for backend in list(self.running.values())]
        await asyncio.gather(*map(asyncio.shield, under_way))

    def close(self) -> None:
        """The client is gone, or must go. Open transactions are rolled back by ending their backends."""
        if self.closed:
            return
        self.closed = True
        self.gateway.sessions.pop(self.pid, None)
        longmessages.release(self)
        self.output.close()
        if self.transaction is not None and (self.transaction.ending or self.transaction.identity is not None):
            self.unit_to_cancel = self.unit
            for backend in self.running.values():  # of the statement itself, where that came together with the commit
                self.gateway.start_cancel(backend)
            return  # what may be prepared goes on to its end; then it calls end_backends
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        self.end_backends()

    def end_backends(self) -> None:
        """Ends every backend that the session still has, and forgets its results."""
        self.fast.abandon()
        self.gateway.watch.spread.discard(self)
        backends = set(self.pinned.values()) | set(self.running.values())
        if self.transaction is not None:
            backends |= {branch.backend for branch in self.transaction.branches.values()}
            self.gateway.forget_change(self.transaction)
        for backend in backends:
            self.gateway.spawn(_end(self.gateway, backend))
        for portal in (*self.portals.values(), *self.cursors.values()):
            portal.close()


async def _end(gateway: Gateway, backend: Backend) -> None:
    """Cancels what the backend still does, then ends it: its locks must not outlive the client."""
    if not backend.closed:
        await gateway.cancel_backend(backend)
    backend.close()
