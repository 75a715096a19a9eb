"""One client's connection, seen from the control service: reads its messages, runs its requests, sends it versions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from ..core.clock import clock
from ..core.errors import PgError
from ..core.limits import CONTROL_MESSAGE_BYTES_MAX, CONTROL_REQUESTS_PER_CLIENT_MAX
from . import protocol as p
from .commands import Command, DdlEntry
from .ddl_lock import DdlLock
from .model import Snapshot
from .watchers import Watcher, Watchers

log = logging.getLogger(__name__)


class Service(Protocol):
    """What a session needs of the service."""

    term: int
    lease_s: float
    ddl_lock: DdlLock
    watchers: Watchers

    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def freezes(self) -> tuple[p.Freeze, ...]: ...
    def log_part(self, since: int) -> p.LogPart: ...
    async def confirm(self) -> None: ...
    async def propose(self, command: Command, *, holder: object) -> int: ...
    async def freeze(self, identities: tuple[p.Identity, ...], holder: object, timeout_s: float) -> str: ...
    def thaw(self, freeze_id: str) -> None: ...
    async def lock_ddl(self, holder: object, timeout_s: float) -> None: ...
    async def settle(self, transaction_id: str) -> bool: ...
    async def look_up(self, transaction_id: str) -> str: ...
    async def ddl_log(self, since: int) -> tuple[DdlEntry, ...]: ...


class ServiceSession:
    """`watcher` is what the service knows of the client. Everything here runs on the service's event loop."""

    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        self._service = service
        self._reader = reader
        self._writer = writer
        self._requests: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(CONTROL_REQUESTS_PER_CLIENT_MAX)
        self._dropped = False
        self.watcher = Watcher(name, pinged_at=clock())

    # --- to the client -----------------------------------------------------------------------------------------------

    def welcome(self, known: int) -> None:
        snapshot, log = self._service.snapshot, self._service.log_part(known)
        self.watcher.sent = snapshot.version
        self.send(p.Welcome(term=self._service.term, snapshot=snapshot, log=log, freezes=self._service.freezes))

    def push(self, snapshot: Snapshot) -> None:
        """Sends a version unless one is under way: then its acknowledgement sends the newest."""
        if self.watcher.sent <= self.watcher.acknowledged < snapshot.version:
            log = self._service.log_part(self.watcher.sent)
            self.watcher.sent = snapshot.version
            self.send(p.Changed(snapshot=snapshot, log=log))

    def send(self, message: p.ServiceMessage) -> None:
        """Never waits: what is unsent is bounded by one snapshot and the answers to a bounded number of requests."""
        if self._dropped or self._writer.is_closing():
            return
        try:
            self._writer.write(p.encode(message, CONTROL_MESSAGE_BYTES_MAX))
        except PgError as error:
            log.error("%s: %s", self.watcher.name, error)
            self.drop()

    def drop(self) -> None:
        """Ends the connection at once. The client notices, or its lease runs out."""
        self._dropped = True
        self._writer.transport.abort()

    def end(self) -> None:
        for task in self._requests:
            task.cancel()

    # --- from the client ---------------------------------------------------------------------------------------------

    async def run(self) -> bool:
        """Until the connection ends. True when the client has certainly stopped using what it was told."""
        try:
            while not isinstance(message := await self._read(), p.Goodbye):
                await self._handle(message)
        except asyncio.IncompleteReadError as error:
            return not error.partial and not self._dropped  # end-of-file between messages
        except (OSError, TimeoutError, p.ProtocolViolation) as error:
            if not self._dropped:
                log.warning("the connection of %s ended: %s", self.watcher.name, error or type(error).__name__)
            return False
        return True

    async def _read(self) -> p.ClientMessage:
        async with asyncio.timeout(self._service.lease_s):  # it pings more often than that
            length = await p.read_length(self._reader, CONTROL_MESSAGE_BYTES_MAX)
        return p.decode_from_client(await self._reader.readexactly(length))

    async def _handle(self, message: p.ClientMessage) -> None:
        watchers = self._service.watchers
        match message:
            case p.Ping(number=number):
                self.watcher.pinged_at = clock()
                self._start(self._pong(number))
            case p.Ack(version=version):
                if version != self.watcher.sent:
                    raise p.ProtocolViolation(f"version {version} was acknowledged, {self.watcher.sent} was sent")
                self.watcher.acknowledged = version
                self.push(self._service.snapshot)
                watchers.moved()
            case p.Drained(id=freeze_id):
                self.watcher.drained = {f.id for f in self._service.freezes} & (self.watcher.drained | {freeze_id})
                watchers.moved()
            case p.Hello() | p.Goodbye() | p.AskAuthority() | p.Join():
                raise p.ProtocolViolation("Hello was sent twice")
            case _:
                await self._slots.acquire()
                self._start(self._answer(message))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _pong(self, number: int) -> None:
        """It is a lease, and so only from who surely leads."""
        with contextlib.suppress(PgError):
            await self._service.confirm()
            self.send(p.Pong(number=number))

    async def _answer(self, request: p.Request) -> None:
        try:
            self.send(await self._perform(request))
        except PgError as error:
            failed = p.Failed(
                request=request.request,
                sqlstate=error.sqlstate,
                message=error.message,
                detail=error.detail,
                hint=error.hint,
            )
            self.send(failed)
        except Exception:
            log.exception("a request of %s failed", self.watcher.name)
            self.send(p.Failed(request=request.request, sqlstate="XX000", message="the control service failed"))
        finally:
            self._slots.release()

    async def _perform(self, request: p.Request) -> p.Answer:
        service = self._service
        number = request.request
        match request:
            case p.LockDdl(timeout_s=timeout_s):
                await service.lock_ddl(self, timeout_s)
            case p.UnlockDdl():
                service.ddl_lock.release(self)
            case p.BeginFreeze(identities=identities, timeout_s=timeout_s):
                return p.Done(request=number, text=await service.freeze(identities, self, timeout_s))
            case p.EndFreeze(id=freeze_id):
                service.thaw(freeze_id)
            case p.Propose(command=command):
                return p.Done(request=number, value=await service.propose(command, holder=self))
            case p.ReadDdlLog(since=since):
                return p.LogPage(request=number, entries=await service.ddl_log(since))
            case p.Settle(transaction_id=transaction_id):
                return p.Done(request=number, value=int(await service.settle(transaction_id)))
            case p.LookUp(transaction_id=transaction_id):
                return p.Done(request=number, text=await service.look_up(transaction_id))
        return p.Done(request=number)
