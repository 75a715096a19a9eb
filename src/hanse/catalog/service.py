"""The control service: owns the catalog's store, and tells every gateway of every version. `protocol.py` has the rules.

One asyncio process, one store. A change is made in this order: durable, then told to all watchers, then acknowledged
by all of them (or by the end of their leases), then answered. A connection that ends takes with it what it held: the
lock for schema changes and its freezes, but never a proposal, which runs on to its end so that its outcome is one or
the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import PgError, UserMistake
from ..core.limits import (
    AUTH_MESSAGE_BYTES_MAX,
    CATALOG_ACK_WAIT_S_MAX,
    CONTROL_CLIENTS_MAX,
    CONTROL_HANDSHAKE_S_MAX,
    CONTROL_LEASE_S,
    DDL_LOCK_WAIT_S_MAX,
    FREEZE_WAIT_S_MAX,
)
from . import protocol as p
from .commands import Command, CommitDdl, DdlEntry
from .ddl_lock import DdlLock
from .model import Snapshot
from .service_session import ServiceSession
from .store import ControlStore
from .watchers import Watchers

T = TypeVar("T")
log = logging.getLogger(__name__)


class ControlService:
    """The catalog's owner. Times are arguments for tests; everybody must use the same `lease_s`."""

    def __init__(
        self,
        store_dir: Path,
        token: str,
        initial: Snapshot,
        *,
        ack_wait_s: float = CATALOG_ACK_WAIT_S_MAX,
        lease_s: float = CONTROL_LEASE_S,
    ) -> None:
        self.token = token
        self.lease_s = lease_s
        self.ddl_lock = DdlLock()
        self._store_dir = store_dir
        self._initial = initial
        self._ack_wait_s = ack_wait_s
        self._sessions: set[ServiceSession] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._freezes: dict[str, tuple[p.Freeze, object]] = {}

    async def start(self, host: str, port: int) -> None:
        """Opens the store and listens. Raises UserMistake when either is impossible."""
        self._store = await asyncio.to_thread(ControlStore, self._store_dir, self._initial)
        self._writing = asyncio.Lock()
        self.watchers = Watchers(asyncio.get_running_loop().time, self.lease_s)
        if not (self._store.fresh or self._store.clean):
            self.watchers.haunt()
        try:
            self._server = await asyncio.start_server(self._accept, host, port)
        except OSError as error:
            self._store.close(clean=self._store.fresh or self._store.clean)
            raise UserMistake(f"the control service cannot listen on {host}:{port}: {error.strerror}") from error

    @property
    def port(self) -> int:
        """The port in use, where `start` was given 0."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def snapshot(self) -> Snapshot:
        return self._store.snapshot

    async def stop(self) -> None:
        """Ends every connection; a proposal under way is finished first."""
        self._server.close()
        clean = not self.watchers.any_lease
        for session in tuple(self._sessions):
            session.drop()
        # Nobody may hold back the end; what waits for acknowledgements is cancelled, what writes has the lock.
        async with self._writing:
            for task in tuple(self._tasks):
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.to_thread(self._store.close, clean=clean)

    # --- what may be asked; sessions and the node's own agent call these ----------------------------------------------

    async def propose(self, command: Command, *, holder: object | None = None) -> int:
        """Makes a change; gives its version when no gateway plans on an older one. `holder`: whose lock covers it."""
        if isinstance(command, CommitDdl) and holder is not None and self.ddl_lock.holder is not holder:
            await self._refuse_unlocked(command)
        return await self._finish(self._propose(command))

    async def _propose(self, command: Command) -> int:
        async with self._writing:
            version = await asyncio.to_thread(self._store.append, command)
            for session in self._sessions:
                session.push(self.snapshot)
        await self._taken_over(version)
        return version

    async def _refuse_unlocked(self, command: CommitDdl) -> None:
        async with self._writing:
            known = await asyncio.to_thread(self._store.outcome, command.transaction_id)
        if not known:  # a repeated proposal is answered as it was the first time
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
        await self.ddl_lock.acquire(holder, min(timeout_s, DDL_LOCK_WAIT_S_MAX))

    async def settle(self, transaction_id: str) -> bool:
        """Whether the transaction was committed; if not, it never will be (see `store.py`)."""
        async with self._writing:
            return await asyncio.to_thread(self._store.settle, transaction_id)

    async def look_up(self, transaction_id: str) -> str:
        """'c': committed, 'a': it never will be, '': neither is settled."""
        async with self._writing:
            return await asyncio.to_thread(self._store.look_up, transaction_id)

    async def ddl_log(self, since: int) -> tuple[DdlEntry, ...]:
        """The first page of the schema changes after version `since`; empty when there is none."""
        async with self._writing:
            return await asyncio.to_thread(self._store.ddl_log, since)

    # --- connections -------------------------------------------------------------------------------------------------

    @property
    def freezes(self) -> tuple[p.Freeze, ...]:
        return tuple(freeze for freeze, _ in self._freezes.values())

    def _tell(self, message: p.ServiceMessage) -> None:
        for session in tuple(self._sessions):
            session.send(message)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) > CONTROL_CLIENTS_MAX:
                return
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # stop(): raised further it would be logged as an error by asyncio's server
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONTROL_HANDSHAKE_S_MAX):
                hello, proof = await self._authenticate(reader, writer)
        except (OSError, EOFError, TimeoutError, p.ProtocolViolation) as error:
            log.warning("a connection to the control service was refused: %s", error or type(error).__name__)
            return
        session = ServiceSession(self, reader, writer, hello.name)
        self._sessions.add(session)
        self.watchers.join(session.watcher)
        session.welcome(proof)
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

    async def _authenticate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[p.Hello, bytes]:
        nonce = secrets.token_bytes(p.NONCE_BYTES)
        writer.write(p.encode(p.Challenge(format=p.FORMAT, nonce=nonce), AUTH_MESSAGE_BYTES_MAX))
        length = await p.read_length(reader, AUTH_MESSAGE_BYTES_MAX)
        hello = p.decode_from_client(await reader.readexactly(length))
        if not isinstance(hello, p.Hello):
            raise p.ProtocolViolation("the first message is not Hello")
        wanted = p.proof_of("client", self.token, nonce, hello.nonce, hello.name)
        if not secrets.compare_digest(wanted, hello.proof):
            refusal = p.Refused(sqlstate="28P01", message="the control plane's token is wrong")
            writer.write(p.encode(refusal, AUTH_MESSAGE_BYTES_MAX))
            with contextlib.suppress(OSError):
                await writer.drain()
                writer.write_eof()  # the refusal is read before the connection's end
            raise p.ProtocolViolation(f"wrong token from a client that calls itself {hello.name!r}")
        return hello, p.proof_of("service", self.token, nonce, hello.nonce, hello.name)

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
