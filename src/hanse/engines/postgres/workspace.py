"""The workspace of a node: a scratch PostgreSQL server with the whole schema and no data, shared by the node's
gateway workers.

Its database "main" is *schema-complete*: every table with all its partitions, empty. Schema changes run there first, in
the session's own transaction; introspection reads it; catalog queries are answered by it. It follows the control
plane's log of schema changes (`replay.py`). Slots are clones of it in which queries join pulled rows (`slots.py`).

**Versions.** `hanse.applied` holds the version of the last *schema change* that main has; versions of the catalog
that change only the topology leave no trace there. Version 9 of the catalog with schema changes 3, 5 and 11 in the
log wants a slot of schema version 5. When main is at 11 already, because a newer change was made on this node, the
statement that was planned on version 9 gets 40001 and is planned again.

**A schema change on this node** must, in its transaction in main: lock the row (`SELECT version FROM hanse.applied FOR
UPDATE`) first, and once the control plane has decided, set it to the new version (`UPDATE hanse.applied SET version =`)
and commit. `catch_up` of all workers waits for it meanwhile: do not call it where the change waits for *you*
(`ControlClient.on_change`).

**A log that cannot be replayed** (an extension's files are missing here, say) is reported, then main is made from
scratch and the whole log replayed once; when that fails too, every `catch_up` to that version raises XX000 until the
worker is started again.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

import asyncpg
import msgspec

from ...catalog.commands import DdlEntry
from ...catalog.model import Group, Snapshot
from ...config import DEFAULT_DATABASE, DEFAULT_USER, SYSTEM_ROLE
from ...core.errors import PgError, StalePlan
from ...core.limits import WORKSPACE_BYTES_PER_QUERY_MAX, WORKSPACE_SLOTS_PER_WORKER, WORKSPACE_WAIT_S_MAX
from .main_database import MainDatabase
from .main_gate import MainGate
from .replay import applied_version, replay
from .slots import Slot
from .system_connection import Connection, SystemAccess, translated

log = logging.getLogger(__name__)

CLONES_IN_THE_WAY_MAX = 5


class Control(Protocol):
    """What the workspace needs of the control plane (`catalog.client.ControlClient`)."""

    @property
    def snapshot(self) -> Snapshot: ...
    async def ddl_log(self, since: int) -> tuple[DdlEntry, ...]: ...


class Workspace:
    """One gateway worker's view of its node's workspace. `worker` is unique among the node's workers."""

    def __init__(
        self,
        host: str,
        port: int,
        socket_directory: str | None,
        password: str,
        worker: int | str,
        control: Control,
        *,
        user: str = SYSTEM_ROLE,
        database: str = DEFAULT_DATABASE,
        owner: str = DEFAULT_USER,
        slots: int = WORKSPACE_SLOTS_PER_WORKER,
        bytes_max: int = WORKSPACE_BYTES_PER_QUERY_MAX,
        wait_s_max: float = WORKSPACE_WAIT_S_MAX,
    ) -> None:
        self.access = SystemAccess(
            host=host, port=port, socket_directory=socket_directory, user=user, password=password
        )
        self.bytes_max = bytes_max
        self._wait_s_max = wait_s_max
        self._control = control
        self._main = MainDatabase(self.access, database, owner)
        self._slots = tuple(Slot(self, f"{database}_ws_{worker}_{i}") for i in range(slots))
        self._free = list(self._slots)
        self._waiting: deque[asyncio.Future[Slot]] = deque()
        self._following = asyncio.Lock()
        self._covered = -1  # the catalog version up to which the log has been read
        self._changes: list[int] = []  # versions of schema changes that main has, those that matter to us
        self._given_up: tuple[int, PgError] | None = None
        self._cleaning: set[asyncio.Task[None]] = set()
        self._asking: Connection = None  # a session in main for `query`
        self._asking_turn = asyncio.Lock()

    async def start(self) -> None:
        """Makes what is missing, catches up with the control plane, drops what a former worker left. Waits for a server that
        does not accept connections yet. Raises PgError.
        """
        await self._main.open_when_started()
        await self._main.ensure()
        for slot in self._slots:
            await self._main.drop(slot.database)
        snapshot = self._control.snapshot
        async with self._main.connection() as connection:
            version = await applied_version(connection)
        if version > snapshot.version:
            log.error("the workspace is ahead of the catalog (%d, %d): it is made anew", version, snapshot.version)
            await self._main.make_anew(version)
            version = 0
        self._covered, self._changes = version, [version]
        await self.catch_up(snapshot.version)
        await self.refresh(snapshot)

    async def stop(self) -> None:
        """Drops this worker's slots; no query may be using them."""
        await asyncio.gather(*self._cleaning, return_exceptions=True)
        for slot in self._slots:
            await slot._disconnect()
            await self._main.drop(slot.database)
        if self._asking is not None:
            await self._asking.close(timeout=5)
        await self._main.close()

    @property
    def gate(self) -> MainGate:
        """To be passed by whoever begins something in main."""
        return self._main.gate

    async def query(self, sql: str, *arguments: Any) -> list[Any]:
        """Rows of a read-only question that Hanse itself asks main, which may be asked twice. Raises PgError."""
        await self.gate.passed()
        async with self._asking_turn:
            try:
                return await self._query(sql, arguments)
            except PgError as error:
                if error.sqlstate[:2] not in ("08", "57"):
                    raise
                return await self._query(sql, arguments)  # our idle session was ended for a clone

    async def _query(self, sql: str, arguments: tuple[Any, ...]) -> list[Any]:
        if self._asking is None or self._asking.is_closed():
            self._asking = await self.access.connect(self._main.name, default_transaction_read_only="on")
        asking, self._asking = self._asking, None
        with translated("main was asked"):
            try:
                rows: list[Any] = await asking.fetch(sql, *arguments)
            except BaseException as error:
                if isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] not in ("08", "57"):
                    self._asking = asking
                else:  # ended by the server, or given up in the middle: the connection would refuse the next question
                    asking.terminate()
                raise
        self._asking = asking
        return rows

    # --- following ---------------------------------------------------------------------------------------------------

    async def catch_up(self, version: int) -> None:
        """Returns when main has every schema change up to catalog version `version`.

        Waits for a change that is being made on this node. Raises 55P03 when that takes too long, XX000 when the log
        cannot be replayed, 57P03 when the control plane must be asked and does not answer.
        """
        if version <= self._covered:
            return
        async with self._following:
            if version <= self._covered:
                return
            if self._given_up is not None and version >= self._given_up[0]:
                raise self._given_up[1]
            entries = [e for e in await self._control.ddl_log(self._covered) if e.version <= version]
            await self._replay(entries)
            self._changes.extend(entry.version for entry in entries)
            self._covered = version

    async def _replay(self, entries: list[DdlEntry]) -> None:
        if not entries:
            return
        try:
            await self._replay_all(entries)
        except _ReplayFailed as failure:
            log.error("%s; the workspace is made anew", failure)
            await self._rebuild(failure.entry, entries[-1].version)

    async def _replay_all(self, entries: list[DdlEntry]) -> None:
        for _ in range(CLONES_IN_THE_WAY_MAX):
            try:
                await self._replay_on_a_session(entries)
            except PgError as error:
                if not error.sqlstate.startswith(("08", "57P")):
                    raise  # else our session was ended for a clone: what it had not repeated yet, another will
            else:
                return
        await self._replay_on_a_session(entries)

    async def _replay_on_a_session(self, entries: list[DdlEntry]) -> None:
        async with self._main.connection() as connection:
            for entry in entries:
                try:
                    await replay(connection, entry)
                except PgError as error:
                    if error.sqlstate in ("55P03", "57014") or error.sqlstate.startswith(("08", "57P", "53")):
                        raise  # nothing is wrong with the entry
                    raise _ReplayFailed(entry, error) from error

    async def _rebuild(self, failed: DdlEntry, version: int) -> None:
        await self._main.make_anew(failed.version - 1)
        entries = [entry for entry in await self._control.ddl_log(0) if entry.version <= version]
        try:
            await self._replay_all(entries)
        except _ReplayFailed as failure:
            log.critical("%s, also in a new workspace: this node cannot follow the schema any more", failure)
            error = PgError(
                "XX000",
                f"this node's workspace cannot follow schema change {failure.entry.version}",
                detail=str(failure.error),
                hint="The node's log has the statement. Other nodes may be able to serve.",
            )
            self._given_up = (failure.entry.version, error)
            raise error from failure

    async def refresh(self, snapshot: Snapshot) -> None:
        """Brings hanse.nodes and hanse.groups up to date. Call it with each new snapshot; it waits for no schema
        change.
        """
        for attempt in range(CLONES_IN_THE_WAY_MAX):
            await self.gate.passed()
            try:
                async with self._main.connection() as connection:
                    return await _write_topology(connection, snapshot)
            except PgError as error:  # our session was ended for a clone
                if not error.sqlstate.startswith(("08", "57P")) or attempt == CLONES_IN_THE_WAY_MAX - 1:
                    raise

    def _schema_version(self, version: int) -> int:
        """The schema change that was the newest at catalog version `version`."""
        place = bisect.bisect_right(self._changes, version)
        if place == 0:
            raise _stale()
        return self._changes[place - 1]

    # --- slots -------------------------------------------------------------------------------------------------------

    async def acquire(self, version: int | None) -> Slot:
        """A slot of the schema at catalog version `version`; None: any schema, for partial rows of built-in types.

        Raises 40001 when the schema has moved on, 53400 when no slot comes free in time, 55006 when none can be made.
        """
        wanted = None
        if version is not None:
            await self.catch_up(version)
            wanted = self._schema_version(version)
        slot = await self._take(wanted)
        try:
            await slot.lend(wanted)
            if wanted is not None and slot.version != wanted:
                raise _stale()
            return slot
        except BaseException:
            await slot.release()
            raise

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that `stop` waits for."""
        task = asyncio.create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        return task

    async def _take(self, wanted: int | None) -> Slot:
        if self._free:
            best = max(self._free, key=lambda slot: (slot.usable, wanted is None or slot.version == wanted))
            self._free.remove(best)
            return best
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._wait_s_max):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give_back(turn.result())
            if not isinstance(error, TimeoutError):
                raise
            raise PgError(
                "53400",
                f"all {len(self._slots)} workspaces of this gateway are in use",
                hint="Queries that join rows of several groups wait for each other; retry, or run them one by one.",
            ) from None

    def give_back(self, slot: Slot) -> None:
        """For `Slot.release`."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(slot)
                return
        self._free.append(slot)

    async def clone(self, slot: Slot) -> None:
        asking, self._asking = self._asking, None  # while it is asked it is not here
        if asking is not None:
            await asking.close(timeout=5)
        await self._main.clone(slot.database)

    async def drop(self, slot: Slot) -> None:
        await self._main.drop(slot.database)


class _ReplayFailed(Exception):
    def __init__(self, entry: DdlEntry, error: PgError) -> None:
        super().__init__(f"schema change {entry.version} of role {entry.role} cannot be replayed: {error}")
        self.entry = entry
        self.error = error


def _stale() -> PgError:
    return StalePlan()


async def _write_topology(connection: Connection, snapshot: Snapshot) -> None:
    with translated("the topology was written"):
        async with connection.transaction():
            version = await connection.fetchval("SELECT version FROM hanse.topology FOR UPDATE")
            if version >= snapshot.version:
                return
            await connection.execute("DELETE FROM hanse.nodes; DELETE FROM hanse.groups")
            await connection.executemany(
                "INSERT INTO hanse.nodes VALUES ($1, $2, $3, $4::text::jsonb)",
                [(node.name, node.host, node.gateway_port, _json(node.labels)) for node in snapshot.nodes],
            )
            await connection.executemany(
                "INSERT INTO hanse.groups (name, leader, durability, instances, term, location) "
                "VALUES ($1, $2, $3, $4::text::jsonb, nullif($5::bigint, 0), $6::text::jsonb)",
                [
                    (g.name, leader_of(g), g.durability, _json(g.instances), g.term, _json(g.location))
                    for g in snapshot.groups
                ],
            )
            await connection.execute(
                "UPDATE hanse.topology SET version = $1, home_group = $2", snapshot.version, snapshot.home_group
            )


def leader_of(group: Group) -> str | None:
    return next((instance.name for instance in group.instances if instance.role == "leader"), None)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
