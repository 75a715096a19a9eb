"""A gateway's end of the control plane: the newest snapshot, and the few requests that change something.

The client keeps one connection and makes it again, with growing pauses, for as long as it lives. What matters to a
gateway:

- `snapshot` is the newest version that came. `on_change` is called with each (those that came meanwhile are skipped),
one call
  at a time; when it has returned, the version is acknowledged: from then on no statement may be planned on an older
  one.
- `live` says whether planning is allowed *now*: see `protocol.py`. It costs two comparisons, ask it for every
statement.
- `on_freeze` is called when relations are frozen; it lets no new transaction touch them and returns when none is left
that does.
  `on_thaw` ends that. Both may be coroutines; after a reconnection `on_freeze` may be called again for the same
  relations.

**Do not wait in `on_change`** for anything that a schema change under way holds, such as `hanse.applied` in the
workspace (`Workspace.catch_up`): the change waits for this acknowledgement.

Requests fail with 57P03 when there is no connection, and with 08006 when it breaks before the answer. A proposal that
is not answered fails with 08007, and `outcome` tells what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import logging
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from ..core.errors import PgError
from ..core.limits import (
    CONNECT_TIMEOUT_S,
    CONTROL_HANDSHAKE_S_MAX,
    CONTROL_LEASE_S,
    CONTROL_PING_S,
    CONTROL_RECONNECT_S_MAX,
    CONTROL_REQUEST_WAIT_S_MAX,
    DDL_LOCK_WAIT_S_MAX,
    FREEZE_WAIT_S_MAX,
)
from . import protocol as p
from .client_link import Link, LinkLost, open_link
from .commands import Command, DdlEntry
from .model import Snapshot

OnChange = Callable[[Snapshot], Awaitable[None] | None]
OnFreeze = Callable[[tuple[p.Identity, ...]], Awaitable[None] | None]

RECONNECT_S_MIN = 0.05

log = logging.getLogger(__name__)


class ControlClient:
    """Follows the catalog. `name` is shown in the service's messages: 'n1.gateway.0'."""

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        name: str,
        *,
        on_change: OnChange | None = None,
        on_freeze: OnFreeze | None = None,
        on_thaw: OnFreeze | None = None,
        lease_s: float = CONTROL_LEASE_S,
        ping_s: float = CONTROL_PING_S,
    ) -> None:
        self._address = (host, port)
        self._token = token
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
        self._lease_ends = 0.0
        self._in_force = False  # this connection's newest snapshot has been taken over at least once
        self._freezes: dict[str, p.Freeze] = {}  # in force, as far as we know
        self._freeze_tasks: dict[str, asyncio.Task[None]] = {}
        self._returning: set[asyncio.Future[None]] = set()  # of what came too late for who had asked
        self._keeper: asyncio.Task[None] | None = None

    async def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Until the first snapshot is taken over. Raises PgError 28P01 for a wrong token, 57P03 when nobody answers
        in time.
        """
        self._moved = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
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
        if self._link is not None:
            await self._link.goodbye()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        for task in (*self._freeze_tasks.values(), *self._returning):
            task.cancel()

    # --- following ---------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        assert self._snapshot is not None, "connect() comes first"
        return self._snapshot

    @property
    def live(self) -> bool:
        """Whether statements may be planned: the newest version is taken over, and the service counts on us to say
        so.
        """
        return self._in_force and self._clock() < self._lease_ends

    async def next_change(self) -> Snapshot:
        """The next version that is taken over after this call."""
        known = self._taken_over
        await self._until(lambda: self._taken_over > known, None)
        return self.snapshot

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
        number = next(self._numbers)
        link = await self._connected()

        async def unlock(_: p.Answer | None = None) -> None:
            with contextlib.suppress(PgError):  # a broken connection has given the lock back
                await self._ask(p.UnlockDdl(request=next(self._numbers)), link)

        await self._acquired(self._ask(p.LockDdl(request=number, timeout_s=timeout_s), link), unlock)
        try:
            yield
        finally:
            await asyncio.shield(unlock())

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

    async def _acquired(
        self, asking: Coroutine[Any, Any, p.Answer], give_back: Callable[[p.Answer], Awaitable[None]]
    ) -> p.Answer:
        """What is granted to somebody who was cancelled while it asked is given back: the service knows nothing of that."""
        task = asyncio.ensure_future(asking)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            returning = asyncio.ensure_future(self._give_back(task, give_back))
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)
            raise

    async def _give_back(
        self, task: asyncio.Future[p.Answer], give_back: Callable[[p.Answer], Awaitable[None]]
    ) -> None:
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
        """Every schema change after version `since`, oldest first."""
        entries: list[DdlEntry] = []
        while True:
            answer = await self._ask(p.ReadDdlLog(request=next(self._numbers), since=since))
            assert isinstance(answer, p.LogPage)
            if not answer.entries:
                return tuple(entries)
            entries.extend(answer.entries)
            since = entries[-1].version

    async def outcome(self, transaction_id: str) -> bool:
        """Whether the schema change is committed. **False is final**: a proposal with this id is refused from then
        on.
        """
        answer = await self._ask(p.Settle(request=next(self._numbers), transaction_id=transaction_id))
        assert isinstance(answer, p.Done)
        return bool(answer.value)

    async def look_up(self, transaction_id: str) -> str:
        """What is settled of the schema change now, which `outcome` would settle: 'c' committed, 'a' aborted, '' nothing."""
        answer = await self._ask(p.LookUp(request=next(self._numbers), transaction_id=transaction_id))
        assert isinstance(answer, p.Done)
        return answer.text

    async def _ask(self, request: p.Request, link: Link | None = None) -> p.Answer:
        try:
            return await (link or await self._connected()).ask(request)
        except LinkLost as error:
            raise PgError("08006", "the connection to the control plane was lost") from error

    async def _connected(self) -> Link:
        await self._until(lambda: self._link is not None, CONTROL_REQUEST_WAIT_S_MAX)
        if self._link is None:
            raise _unreachable("Schema changes are not possible now.")
        return self._link

    # --- the connection ----------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        pause_s = RECONNECT_S_MIN
        while True:
            began = self._clock()
            try:
                await self._one_connection()
            except Exception as error:
                self._report(_first(error))
            self._move()
            if self._clock() - began > CONTROL_RECONNECT_S_MAX:
                pause_s = RECONNECT_S_MIN
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # jitter: gateways do not return in step
            pause_s = min(2 * pause_s, CONTROL_RECONNECT_S_MAX)

    def _report(self, error: BaseException) -> None:
        if isinstance(error, PgError):
            self._refusal = error
            log.error("%s cannot follow the control plane: %s", self._name, error.message)
        elif isinstance(error, (OSError, EOFError, TimeoutError, LinkLost, p.ProtocolViolation)):
            log.warning("%s is not connected to the control plane: %s", self._name, error or type(error).__name__)
        else:
            log.error("%s could not take over what the control plane sent", self._name, exc_info=error)

    async def _one_connection(self) -> None:
        began = self._clock()
        async with asyncio.timeout(CONTROL_HANDSHAKE_S_MAX):
            link, welcome = await open_link(self._address, self._token, self._name, secrets.token_bytes)
        try:
            self._check_direction(welcome.snapshot)
            self._lease_ends = began + self._lease_s
            self._link = link
            self._resume_freezes(welcome.freezes, link)
            async with asyncio.TaskGroup() as tasks:
                versions: asyncio.Queue[Snapshot] = asyncio.Queue()  # the service has one under way at a time
                versions.put_nowait(welcome.snapshot)
                tasks.create_task(self._read(link, versions))
                tasks.create_task(self._take_over(link, versions))
                tasks.create_task(self._ping(link))
        finally:
            self._link = None
            self._in_force = False
            link.close()

    def _check_direction(self, snapshot: Snapshot) -> None:
        if self._snapshot is not None and snapshot.version < self._snapshot.version:
            raise PgError(
                "XX001",
                f"the control plane's catalog went back from version {self._snapshot.version} to {snapshot.version}",
                hint="Its store was replaced by an older one. Restart every gateway after it is repaired.",
            )

    async def _read(self, link: Link, versions: asyncio.Queue[Snapshot]) -> None:
        while True:
            match await link.read():
                case p.Changed(snapshot=snapshot):
                    self._check_direction(snapshot)
                    versions.put_nowait(snapshot)
                case p.Pong(number=number):
                    self._lease_ends = link.pinged_at(number) + self._lease_s
                case p.FrozenNow(freeze=freeze):
                    self._start_freeze(freeze, link)
                case p.Thawed(id=freeze_id):
                    self._end_freeze(freeze_id)
                case p.Done() | p.LogPage() | p.Failed() as answer:
                    link.answered(answer)
                case unexpected:
                    raise p.ProtocolViolation(f"unexpected {type(unexpected).__name__}")

    async def _take_over(self, link: Link, versions: asyncio.Queue[Snapshot]) -> None:
        while True:
            snapshot = await versions.get()
            if snapshot.version > self._taken_over:
                self._snapshot = snapshot
                if self.on_change is not None:
                    await _maybe(self.on_change(snapshot))
                self._taken_over = snapshot.version
            link.send(p.Ack(version=snapshot.version))
            self._in_force = True
            self._move()

    async def _ping(self, link: Link) -> None:
        while True:
            link.ping(self._clock())
            await asyncio.sleep(self._ping_s)

    # --- freezes -----------------------------------------------------------------------------------------------------

    def _resume_freezes(self, freezes: tuple[p.Freeze, ...], link: Link) -> None:
        for freeze_id in set(self._freezes) - {freeze.id for freeze in freezes}:
            self._end_freeze(freeze_id)
        for freeze in freezes:
            self._start_freeze(freeze, link)

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
        "57P03", message, detail=detail, hint="Queries go on. Look at the node that hosts the control plane."
    )
