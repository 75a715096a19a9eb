"""A member of a group while its server runs: who streams, how far it is, and how a follower is made to stop.

    member = Member(instance, access)
    await member.fence()                    # a follower: no sessions, no streaming, everything replayed
    found = await member.data()             # newest row of hanse.leadership, end of its WAL
    await member.follow(source, names)      # it streams again

Connections are made for each call, because a server that is fenced or promoted ends its sessions; only what watches it goes by a
`Line`. Errors are PgErrors; TimeoutError is raised where a server does not come to a state in the time given, and the caller
restarts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from ...core.errors import PgError
from ...core.limits import CONNECT_TIMEOUT_S
from .group_files import Source, configure_member
from .instance import Instance
from .system_connection import translated

POLL_S = 0.002
LINE_S_MAX = 10.0  # of age
FENCE_S_MAX = 2.0  # for a follower to stop streaming and replay; then it is restarted


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How Hanse's own superuser reaches the server."""

    host: str
    port: int
    user: str
    password: str
    database: str
    kept_connection: Any = None

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[Access]:
        """The same, by one connection for all that is asked inside: a login takes a hundredth of a second."""
        async with self.connected() as connection:
            yield replace(self, kept_connection=connection)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        """An asyncpg connection (the package has no types). Raises PgError."""
        with translated("it was asked", f"the server on port {self.port}"):
            if self.kept_connection is not None:
                yield self.kept_connection
                return
            connection = await self.connection()
            try:
                yield connection
            finally:
                connection.terminate()

    async def connection(self) -> Any:
        """Raises asyncpg's errors."""
        return await asyncpg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=self.database,
            ssl=False,
            timeout=CONNECT_TIMEOUT_S,
            statement_cache_size=0,
            server_settings={"application_name": "hanse agent", "search_path": "pg_catalog"},
        )


class Line:
    """One connection for questions that come again and again: a login costs more than all of them.

    It ends with the first question that fails, and after LINE_S_MAX: so a server that lets nobody in any more is found out, too.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connection: Any = None
        self._until = 0.0

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        """As `Access.connected`."""
        if time.monotonic() > self._until:
            self.close()
        try:
            with translated("it was watched", f"the server on port {self._access.port}"):
                if self._connection is None:
                    self._connection = await self._access.connection()
                    self._until = time.monotonic() + LINE_S_MAX
                yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """A row of hanse.leadership."""

    term: int
    serial: int
    leader: str
    promotion_id: str
    members: tuple[str, ...]
    k: int
    previous_members: tuple[str, ...] | None = None
    previous_k: int | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """What a fenced follower has. `row` is None where the group was not founded."""

    row: Leadership | None
    lsn: int
    system_identifier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """One that streams, as its leader sees it. Lags are zero for one that has everything."""

    name: str
    state: str
    flushed_lsn: int
    lag_bytes: int  # not flushed there yet
    flush_lag_s: float
    replay_lag_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A physical replication slot; its owner is the follower that it was made for."""

    name: str
    owner: str
    active: bool
    retained_bytes: int  # of WAL that is kept for it
    lost: bool  # what it needs is gone: the follower has to be cloned


SLOT_PREFIX = "hanse_"


def slot_of(owner: str) -> str:
    """A slot's name has lower-case letters, digits and underscores only (manual 27.2.6.1)."""
    return SLOT_PREFIX + "".join(each if each.isalnum() else f"_{ord(each):x}_" for each in owner.lower())


async def make_slot(leader: Access, owner: str) -> str:
    """The slot of a follower; it keeps WAL from now on. One that exists stays as it is, unless it was beyond its budget."""
    name = slot_of(owner)
    async with leader.connected() as connection:
        await connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
            "WHERE slot_name = $1 AND wal_status = 'lost' AND NOT active",
            name,
        )
        await connection.execute(
            "SELECT pg_create_physical_replication_slot($1, true) "
            "WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)",
            name,
        )
    return name


async def slot_is_lost(leader: Access, owner: str) -> bool:
    """Whether a leader keeps no WAL for a follower any more, whose slot went beyond its budget."""
    async with leader.connected() as connection:
        status = await connection.fetchval(
            "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", slot_of(owner)
        )
    return bool(status == "lost")


async def has_wal(leader: Access, lsn: int) -> bool:
    """Whether a leader still has the WAL from an LSN on."""
    async with leader.connected() as connection:
        return bool(
            await connection.fetchval(
                "SELECT min(right(name, 16)) <= right(pg_walfile_name($1::text::pg_lsn), 16) "
                "FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'",
                f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}",
            )
        )


async def system_identifier(server: Access) -> int:
    """Equal on all copies of one instance, and on no others."""
    async with server.connected() as connection:
        return int(await connection.fetchval("SELECT system_identifier FROM pg_control_system()"))


# Those that a former leader made for its followers: nobody reads them any more, and they would keep WAL for ever.
_DROP_OLD_SLOTS = (
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
    "WHERE slot_type = 'physical' AND NOT active AND slot_name LIKE 'hanse\\_%'"
)


def source_of(access: Access, name: str, slot: str) -> Source:
    return Source(host=access.host, port=access.port, user=access.user, password=access.password, name=name, slot=slot)


# One transaction, as statements of one message are.
_PROBE = (
    "SET LOCAL synchronous_commit = local; SELECT pg_export_snapshot(), pg_logical_emit_message(true, 'hanse', 'alive')"
)


class Member:
    """See the module's docstring."""

    def __init__(self, instance: Instance, access: Access) -> None:
        self.instance = instance
        self.access = access
        self._told: tuple[int | None, Source | None, str] | None = None  # which server, and what it was told
        self._probing, self._looking = Line(access), Line(access)

    def hang_up(self) -> None:
        """Ends the connections that are kept."""
        self._probing.close()
        self._looking.close()

    # --- settings

    async def reload(self, access: Access | None = None) -> None:
        """Tell the server that its files have changed. Every process of it was signalled when this returns.

        The postmaster reads the files and signals in one go, so a session that it starts with the new settings is the proof.
        """
        async with (access or self.access).connected() as connection:
            before = await connection.fetchval("SELECT pg_conf_load_time()")
            await connection.execute("SELECT pg_reload_conf()")
        while True:
            async with self.access.connected() as connection:
                if await connection.fetchval("SELECT pg_conf_load_time() <> $1", before):
                    return
            await asyncio.sleep(POLL_S)

    async def follow(self, source: Source | None, synchronous_standby_names: str, access: Access | None = None) -> None:
        """None: it streams from nobody, which is in force when this returns. A source it finds out about soon."""
        telling = (self.instance.pid, source, synchronous_standby_names)
        if telling == self._told:
            return
        self._told = None
        await asyncio.to_thread(
            configure_member, self.instance, source=source, synchronous_standby_names=synchronous_standby_names
        )
        if source is None:
            await self.reload(access)
        else:
            async with self.access.connected() as connection:
                await connection.execute(_DROP_OLD_SLOTS)
                await connection.execute("SELECT pg_reload_conf()")
        self._told = telling

    async def require(self, synchronous_standby_names: str) -> None:
        """On a leader: commits wait for this from now on, at every walsender, and at every backend.

        Walsenders read the setting each at its own time, so those that are older than the reload are ended; their
        followers come back at once. Whether commits wait at all is in shared memory, where the checkpointer writes
        it when it has read the files, which it does before it serves a CHECKPOINT.
        """
        async with self.access.connected() as connection:
            waited = bool(await connection.fetchval("SHOW synchronous_standby_names"))
        await self.follow(None, synchronous_standby_names)
        async with self.access.connected() as connection:
            if synchronous_standby_names and not waited:
                await connection.execute("CHECKPOINT")
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_replication WHERE backend_start < pg_conf_load_time()"
            )

    # --- a follower

    async def probe(self) -> None:
        """Write something that nobody waits for but this disk. Raises PgError.

        WAL goes into a file that has its full length already; an exported snapshot is a new one, which a full disk refuses.
        """
        async with self._probing.connected() as connection:
            await connection.execute(_PROBE)

    async def fence(self, timeout_s: float = FENCE_S_MAX) -> Data:
        """No user's session, no streaming, and all WAL at hand replayed: what it has. Raises TimeoutError: restart it.

        An empty primary_conninfo is in force when the startup process has read it, and it reads it before it confirms a
        pause. A WAL receiver that it was starting at that moment has been ended when it has come to the end of its
        WAL again; hence the second pause, after which nothing may have changed.
        """
        async with asyncio.timeout(timeout_s), self.access.kept() as access, access.connected() as connection:
            names = str(await connection.fetchval("SELECT current_setting('synchronous_standby_names')"))
            await self.follow(None, names, access)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            await _pause(connection)
            while True:
                end = await _end_of_replay(connection)
                await _pause(connection)
                if end is not None and end == await _end_of_replay(connection):
                    return await _data(connection)
                await asyncio.sleep(POLL_S)

    async def data(self) -> Data:
        """Of a leader, or of a follower that streams from nobody; waits until that one has replayed what it has.

        A follower that was restarted serves before it has replayed everything, and its receive position is unknown.
        """
        async with self.access.connected() as connection:
            return await _data(connection)

    async def newest(self) -> Leadership | None:
        """The newest record that can be seen here now."""
        async with self.access.connected() as connection:
            return await _newest(connection)

    async def streams(self) -> bool:
        async with self._looking.connected() as connection:
            rows = await connection.execute("SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'")
            return bool(rows == "SELECT 1")

    async def is_consistent(self) -> bool:
        """Whether it serves: a follower does so from its point of consistency on."""
        try:
            async with self.access.connected():
                return True
        except PgError as error:
            if error.sqlstate in ("57P03", "08006"):
                return False
            raise

    # --- a leader

    async def followers(self) -> list[Follower]:
        async with self.access.connected() as connection:
            rows = await connection.fetch(
                "SELECT application_name, state, coalesce(flush_lsn - '0/0'::pg_lsn, 0) AS flushed, "
                "coalesce(pg_current_wal_lsn() - flush_lsn, 0) AS behind, "
                "coalesce(extract(epoch FROM flush_lag), 0) AS flush_lag, "
                "coalesce(extract(epoch FROM replay_lag), 0) AS replay_lag "
                "FROM pg_stat_replication ORDER BY application_name"
            )
        return [
            Follower(
                name=row["application_name"],
                state=row["state"],
                flushed_lsn=int(row["flushed"]),
                lag_bytes=max(0, int(row["behind"])),
                flush_lag_s=float(row["flush_lag"]),
                replay_lag_s=float(row["replay_lag"]),
            )
            for row in rows
        ]

    async def drop_slot(self, name: str) -> None:
        """Of an owner that does not stream. One that is gone is no error."""
        async with self.access.connected() as connection:
            await connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", name
            )

    async def slots(self, owners: Collection[str]) -> list[Slot]:
        """The slots of the group; a slot that belongs to none of `owners` has the owner ''."""
        known = {slot_of(owner): owner for owner in owners}
        async with self.access.connected() as connection:
            rows = await connection.fetch(
                "SELECT slot_name, active, wal_status, CASE WHEN restart_lsn IS NULL THEN 0 ELSE "
                "(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END) - restart_lsn "
                "END AS retained FROM pg_replication_slots WHERE slot_type = 'physical' AND slot_name LIKE 'hanse\\_%' "
                "ORDER BY slot_name"
            )
        return [
            Slot(
                name=row["slot_name"],
                owner=known.get(row["slot_name"], ""),
                active=row["active"],
                retained_bytes=max(0, int(row["retained"])),
                lost=row["wal_status"] in ("lost", "unreserved"),
            )
            for row in rows
        ]


async def _pause(connection: Any) -> None:
    """Replay pauses, which the startup process confirms after it has read new settings; then it goes on."""
    await connection.execute("SELECT pg_wal_replay_pause()")
    while await connection.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":
        await asyncio.sleep(POLL_S)
    await connection.execute("SELECT pg_wal_replay_resume()")


async def _end_of_replay(connection: Any) -> str | None:
    """The LSN up to which a follower has replayed, if that is all it has and nobody brings it more.

    What it has received may end within a record, which is never replayed; that replay does not move may be a slow disk. So
    the startup process itself tells: it waits for more WAL.
    """
    end: str | None = await connection.fetchval(
        "SELECT pg_last_wal_replay_lsn()::text "
        "WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walreceiver') "
        "AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver) "
        "AND EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' "
        "AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream'))"
    )
    return end


async def _data(connection: Any) -> Data:
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        end = None
        while end is None or end != await _end_of_replay(connection):
            await asyncio.sleep(POLL_S)
            end = await _end_of_replay(connection)
        lsn = await connection.fetchval("SELECT $1::text::pg_lsn - '0/0'::pg_lsn", end)
    else:
        lsn = await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    identifier = await connection.fetchval("SELECT system_identifier FROM pg_control_system()")
    return Data(await _newest(connection), int(lsn), int(identifier))


async def _newest(connection: Any) -> Leadership | None:
    if await connection.fetchval("SELECT to_regclass('hanse.leadership')") is None:
        return None
    row = await connection.fetchrow("SELECT * FROM hanse.leadership ORDER BY term DESC, serial DESC LIMIT 1")
    return None if row is None else leadership_of(row)


def leadership_of(row: Any) -> Leadership:
    previous = row["previous_members"]
    return Leadership(
        term=row["term"],
        serial=row["serial"],
        leader=row["leader"],
        promotion_id=row["promotion_id"],
        members=tuple(row["members"]),
        k=row["k"],
        previous_members=None if previous is None else tuple(previous),
        previous_k=row["previous_k"],
    )
