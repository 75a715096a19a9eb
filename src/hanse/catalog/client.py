"""A gateway's end of the control plane: the newest snapshot, and the few requests that change something.

The client keeps one connection, to the node that leads the control plane, and makes it again, with growing pauses, for as long
as it lives. What matters to a gateway:

- `snapshot` is the newest version that came. `on_change` is called with each (those that came meanwhile are skipped), one call
  at a time; when it has returned, the version is acknowledged: from then on no statement may be planned on an older one.
- `live` says whether nobody can have been told of a newer version: see `protocol.py`. It outlives a connection that broke, for
  as long as the lease lasts: leaders wait for it.
- `on_freeze` is called when relations are frozen; it lets no new transaction touch them and returns when none is left that does.
  `on_thaw` ends that. Both may be coroutines; after a reconnection `on_freeze` may be called again for the same
  relations. Between two connections what was frozen stays so: what froze it may be committed yet, and the next Welcome shows it.

**Do not wait in `on_change`** for anything that a schema change under way holds, such as `hanse.applied` in the
workspace (`Workspace.catch_up`): the change waits for this acknowledgement.

Requests fail with 57P03 when there is no connection. When it breaks before the answer, what may be asked twice is asked again, of
the next leader; a proposal fails with 08007, and `outcome` tells what became of it; the rest fails with 08006.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from ..core.clock import clock
from ..core.errors import PgError
from ..core.limits import (
    CONNECT_TIMEOUT_S,
    CONTROL_HANDSHAKE_S_MAX,
    CONTROL_LEASE_S,
    CONTROL_MARGIN_S,
    CONTROL_PING_S,
    CONTROL_RECONNECT_S_MAX,
    CONTROL_REQUEST_WAIT_S_MAX,
    DDL_LOCK_WAIT_S_MAX,
    FREEZE_WAIT_S_MAX,
)
from ..core.node_tls import NodeTls
from . import protocol as p
from .client_link import Address, Link, LinkLost, NotLeading, open_leaders_link
from .commands import Command, DdlEntry
from .known_log import KnownLog
from .model import Snapshot

OnChange = Callable[[Snapshot], Awaitable[None] | None]
OnFreeze = Callable[[tuple[p.Identity, ...]], Awaitable[None] | None]

RECONNECT_S_MIN = 0.05

log = logging.getLogger(__name__)

T = TypeVar("T")


class ControlClient:
    """Follows the catalog. `addresses`: of all control services, at first; `name` is shown in their messages: 'n1.gateway.0'."""

    def __init__(
        self,
        addresses: Sequence[Address],
        tls: NodeTls,
        name: str,
        *,
        on_change: OnChange | None = None,
        on_freeze: OnFreeze | None = None,
        on_thaw: OnFreeze | None = None,
        lease_s: float = CONTROL_LEASE_S,
        ping_s: float = CONTROL_PING_S,
    ) -> None:
        self._addresses = tuple(addresses)
        self._tls = tls
        self._name = name
        self.on_change = on_change
        self.on_freeze = on_freeze
        self.on_thaw = on_thaw
        self._lease_s = lease_s
        self._ping_s = ping_s
        self._numbers = itertools.count(1)
        self._snapshot: Snapshot | None = None
        self._taken_over = -1  # the version whose on_change has returned
        self._link: Link | None = None
        self._lease_ends = 0.0  # of what was taken over
        self._offered = 0.0  # by this connection; it counts when its first snapshot has been taken over
        self._in_force = False  # it has been
        self._log = KnownLog()
        self._freezes: dict[str, p.Freeze] = {}  # in force, as far as we know
        self._freeze_tasks: dict[str, asyncio.Task[None]] = {}
        self._returning: set[asyncio.Future[None]] = set()  # of what came too late for who had asked
        self._keeper: asyncio.Task[None] | None = None
        self._trouble = ""  # the last; said once

    async def connect(self, timeout_s: float | None = CONNECT_TIMEOUT_S) -> None:
        """Until the first snapshot is taken over. Raises PgError 28000 for a node that was removed, 57P03 when nobody answers
        in time.
        """
        self._moved = asyncio.Event()
        self._refusal: PgError | None = None
        self._keeper = asyncio.create_task(self._keep())
        try:
            await self._until(lambda: self._taken_over >= 0 or self._refusal is not None, timeout_s)
            if self._taken_over < 0:
                raise self._refusal or _unreachable()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Says goodbye, so that nobody waits for this client's lease."""
        link = self._link
        if link is not None:
            await link.goodbye()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if link is not None:
            await link.closed()
        for task in (*self._freeze_tasks.values(), *self._returning):
            task.cancel()

    # --- following ---------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        assert self._snapshot is not None, "connect() comes first"
        return self._snapshot

    @property
    def live(self) -> bool:
        """Whether nobody was told that a newer version holds: the leader waits for our word, or for this lease's end."""
        return clock() < self._lease_ends

    @property
    def assured(self) -> bool:
        """Whether a statement may be sent on this snapshot as it is: the lease goes on until it has begun."""
        return clock() + CONTROL_MARGIN_S < self._lease_ends

    async def wait_version(self, version: int, timeout_s: float = CONTROL_REQUEST_WAIT_S_MAX) -> Snapshot:
        """Until `version`, or a later one, is taken over. Raises PgError 57P03 after `timeout_s`."""
        await self._until(lambda: self._taken_over >= version, timeout_s)
        if self._taken_over < version:
            raise _unreachable(f"Catalog version {version} has not come in time.")
        return self.snapshot

    async def _until(self, condition: Callable[[], bool], timeout_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._moved.wait()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    # --- requests ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def ddl_lock(self, timeout_s: float = DDL_LOCK_WAIT_S_MAX) -> AsyncIterator[None]:
        """The cluster's lock for schema changes. Raises PgError 55P03 when it is not free in time.

        It is lost when the connection breaks; then `propose` of a CommitDdl fails with 40001.
        """
        request = p.LockDdl(request=next(self._numbers), timeout_s=timeout_s)

        async def unlock(link: Link) -> None:
            with contextlib.suppress(PgError, LinkLost):  # a broken connection has given the lock back
                await link.ask(p.UnlockDdl(request=next(self._numbers)))

        link = await self._acquired(self._linked_for(request), unlock)
        try:
            yield
        finally:
            await asyncio.shield(unlock(link))

    async def _linked_for(self, request: p.Request) -> Link:
        """The link over which `request` was answered; what a link that broke had of it ended with it."""
        while True:
            link = await self._connected()
            with contextlib.suppress(LinkLost):
                await link.ask(request)
                return link

    async def propose(self, command: Command) -> int:
        """Changes the catalog; gives the new version when no gateway plans on an older one any more.

        Raises what `commands.apply` raises, 57P03 (nothing happened), 08007 (unknown: ask `outcome`).
        """
        link = await self._connected()
        try:
            answer = await link.ask(p.Propose(request=next(self._numbers), command=command))
        except LinkLost as error:
            raise PgError(
                "08007",
                "the connection to the control plane was lost; whether the schema change was made is unknown",
                hint="outcome() of its transaction id tells.",
            ) from error
        assert isinstance(answer, p.Done)
        return answer.value

    async def freeze(self, identities: tuple[p.Identity, ...], timeout_s: float = FREEZE_WAIT_S_MAX) -> str:
        """No gateway runs a transaction on `identities` when this returns. Gives what `thaw` wants; 55P03 after
        `timeout_s`.
        """
        number = next(self._numbers)
        request = p.BeginFreeze(request=number, identities=identities, timeout_s=timeout_s)

        async def give_back(answer: p.Answer) -> None:
            assert isinstance(answer, p.Done)
            with contextlib.suppress(PgError):
                await self.thaw(answer.text)

        answer = await self._acquired(self._ask(request), give_back)
        assert isinstance(answer, p.Done)
        return answer.text

    async def _acquired(self, asking: Coroutine[Any, Any, T], give_back: Callable[[T], Awaitable[None]]) -> T:
        """What is granted to somebody who was cancelled while it asked is given back: the service knows nothing of that."""
        task = asyncio.ensure_future(asking)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            returning = asyncio.ensure_future(self._give_back(task, give_back))
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)
            raise

    async def _give_back(self, task: asyncio.Future[T], give_back: Callable[[T], Awaitable[None]]) -> None:
        with contextlib.suppress(PgError):
            await give_back(await task)

    async def thaw(self, freeze_id: str) -> None:
        await self._ask(p.EndFreeze(request=next(self._numbers), id=freeze_id))

    @contextlib.asynccontextmanager
    async def frozen(
        self, identities: tuple[p.Identity, ...], timeout_s: float = FREEZE_WAIT_S_MAX
    ) -> AsyncIterator[None]:
        """`freeze` and `thaw` around a block."""
        freeze_id = await self.freeze(identities, timeout_s)
        try:
            yield
        finally:
            with contextlib.suppress(PgError):  # the end of the connection thaws, too
                await asyncio.shield(self.thaw(freeze_id))

    async def ddl_log(self, since: int) -> tuple[DdlEntry, ...]:
        """Every schema change after version `since`, oldest first. What came with the versions is not asked again."""
        if (told := self._log.after(since)) is not None:
            return told
        entries: list[DdlEntry] = []
        while True:
            answer = await self._ask_again(p.ReadDdlLog(request=next(self._numbers), since=since))
            assert isinstance(answer, p.LogPage)
            if not answer.entries:
                return tuple(entries)
            entries.extend(answer.entries)
            since = entries[-1].version

    async def outcome(self, transaction_id: str) -> bool:
        """Whether the schema change is committed. **False is final**: a proposal with this id is refused from then
        on.
        """
        answer = await self._ask_again(p.Settle(request=next(self._numbers), transaction_id=transaction_id))
        assert isinstance(answer, p.Done)
        return bool(answer.value)

    async def look_up(self, transaction_id: str) -> str:
        """What is settled of the schema change now, which `outcome` would settle: 'c' committed, 'a' aborted, '' nothing."""
        answer = await self._ask_again(p.LookUp(request=next(self._numbers), transaction_id=transaction_id))
        assert isinstance(answer, p.Done)
        return answer.text

    async def _ask(self, request: p.Request) -> p.Answer:
        try:
            return await (await self._connected()).ask(request)
        except LinkLost as error:
            raise PgError("08006", "the connection to the control plane was lost") from error

    async def _ask_again(self, request: p.Request) -> p.Answer:
        """What may be asked twice, of whoever leads then; until there is nobody to be asked."""
        while True:
            link = await self._connected()
            with contextlib.suppress(LinkLost):
                return await link.ask(request)

    async def _connected(self) -> Link:
        await self._until(lambda: self._link is not None, CONTROL_REQUEST_WAIT_S_MAX)
        if self._link is None:
            raise _unreachable("Schema changes are not possible now.")
        return self._link

    # --- the connection ----------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        pause_s = RECONNECT_S_MIN
        while True:
            began = clock()
            try:
                await self._one_connection()
            except Exception as error:
                self._report(_first(error))
            self._move()
            if clock() - began > CONTROL_RECONNECT_S_MAX:
                pause_s = RECONNECT_S_MIN
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # jitter: gateways do not return in step
            pause_s = min(2 * pause_s, CONTROL_RECONNECT_S_MAX)

    def _report(self, error: BaseException) -> None:
        trouble, before = str(error) or type(error).__name__, self._trouble
        self._trouble = trouble
        if isinstance(error, PgError):
            self._refusal = error
        if trouble == before:
            return
        if isinstance(error, PgError):
            log.error("%s cannot follow the control plane: %s", self._name, error.message)
        elif isinstance(error, (OSError, EOFError, TimeoutError, LinkLost, NotLeading, p.ProtocolViolation)):
            log.warning("%s is not connected to the control plane: %s", self._name, trouble)
        else:
            log.error("%s could not take over what the control plane sent", self._name, exc_info=error)

    async def _one_connection(self) -> None:
        began = clock()
        async with asyncio.timeout(CONTROL_HANDSHAKE_S_MAX):
            link, welcome = await open_leaders_link(self._services(), self._tls, self._name, self._log.known)
        try:
            self._check_direction(welcome.snapshot)
            self._log.add(welcome.log, welcome.snapshot.version)
            self._offered = began + self._lease_s
            self._link = link
            over = set(self._freezes) - {freeze.id for freeze in welcome.freezes}
            for freeze in welcome.freezes:
                self._start_freeze(freeze, link)
            async with asyncio.TaskGroup() as tasks:
                versions: asyncio.Queue[Snapshot] = asyncio.Queue()  # the service has one under way at a time
                versions.put_nowait(welcome.snapshot)
                tasks.create_task(self._read(link, versions))
                tasks.create_task(self._take_over(link, versions, over))
                tasks.create_task(self._ping(link))
        finally:
            self._link = None
            self._in_force = False
            link.close()

    def _services(self) -> list[Address]:
        """Those that we were given, and those that the catalog knows: nodes come and go."""
        nodes = () if self._snapshot is None else self._snapshot.nodes
        known = ((node.name, node.host, node.control_port) for node in nodes if node.control_port)
        return list(dict.fromkeys((*self._addresses, *known)))

    def _check_direction(self, snapshot: Snapshot) -> None:
        if self._snapshot is not None and snapshot.version < self._snapshot.version:
            self._lease_ends = 0.0
            raise PgError(
                "XX001",
                f"the control plane's catalog went back from version {self._snapshot.version} to {snapshot.version}",
                hint="Its store was replaced by an older one. Restart every gateway after it is repaired.",
            )

    async def _read(self, link: Link, versions: asyncio.Queue[Snapshot]) -> None:
        while True:
            match await link.read():
                case p.Changed(snapshot=snapshot, log=log_part):
                    self._check_direction(snapshot)
                    self._log.add(log_part, snapshot.version)
                    versions.put_nowait(snapshot)
                case p.Pong(number=number):
                    self._offered = link.pinged_at(number) + self._lease_s
                    if self._in_force:
                        self._lease_ends = self._offered
                case p.FrozenNow(freeze=freeze):
                    self._start_freeze(freeze, link)
                case p.Thawed(id=freeze_id):
                    self._end_freeze(freeze_id)
                case p.Done() | p.LogPage() | p.Failed() as answer:
                    link.answered(answer)
                case unexpected:
                    raise p.ProtocolViolation(f"unexpected {type(unexpected).__name__}")

    async def _take_over(self, link: Link, versions: asyncio.Queue[Snapshot], over: set[str]) -> None:
        """`over`: freezes that ended while there was no connection, which may be by what the first version shows."""
        while True:
            snapshot = await versions.get()
            if snapshot.version > self._taken_over:
                self._snapshot = snapshot
                await self._tell(snapshot)
                self._taken_over = snapshot.version
            link.send(p.Ack(version=snapshot.version))
            self._in_force = True
            self._lease_ends = self._offered
            self._trouble = ""
            while over:
                self._end_freeze(over.pop())
            self._move()

    async def _tell(self, snapshot: Snapshot) -> None:
        if self.on_change is None:
            return
        try:
            await _maybe(self.on_change(snapshot))
        except Exception:
            self._lease_ends = 0.0  # the end of the connection, which follows, tells the service that we have stopped
            raise

    async def _ping(self, link: Link) -> None:
        while True:
            link.ping(clock())
            await asyncio.sleep(self._ping_s)
            if clock() >= self._offered:
                raise TimeoutError(f"no ping was answered for {self._lease_s:g} s")

    # --- freezes -----------------------------------------------------------------------------------------------------

    def _start_freeze(self, freeze: p.Freeze, link: Link) -> None:
        self._freezes[freeze.id] = freeze
        self._replace_task(freeze.id, self._drain(freeze, link))

    def _end_freeze(self, freeze_id: str) -> None:
        freeze = self._freezes.pop(freeze_id, None)
        if freeze is not None:
            self._replace_task(freeze_id, self._thaw(freeze))

    def _replace_task(self, freeze_id: str, work: Coroutine[Any, Any, None]) -> None:
        before = self._freeze_tasks.get(freeze_id)
        if before is not None:
            before.cancel()
        task = asyncio.create_task(work)
        self._freeze_tasks[freeze_id] = task
        task.add_done_callback(lambda _: self._freeze_done(freeze_id, task))

    def _freeze_done(self, freeze_id: str, task: asyncio.Task[None]) -> None:
        if self._freeze_tasks.get(freeze_id) is task:
            del self._freeze_tasks[freeze_id]

    async def _drain(self, freeze: p.Freeze, link: Link) -> None:
        try:
            if self.on_freeze is not None:
                await _maybe(self.on_freeze(freeze.identities))
            link.send(p.Drained(id=freeze.id))
        except Exception:
            log.exception("%s could not drain %s", self._name, freeze.identities)

    async def _thaw(self, freeze: p.Freeze) -> None:
        try:
            if self.on_thaw is not None:
                await _maybe(self.on_thaw(freeze.identities))
        except Exception:
            log.exception("%s could not thaw %s", self._name, freeze.identities)


async def _maybe(result: Awaitable[None] | None) -> None:
    if inspect.isawaitable(result):
        await result


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _unreachable(detail: str | None = None) -> PgError:
    message = "the control plane is not reachable; schema changes are not possible now"
    return PgError(
        "57P03",
        message,
        detail=detail,
        hint="Queries go on. A majority of the control plane's nodes must be up: see hanse status.",
    )
