"""The driver of recovery: the agent of the node that leads a group looks after the group's prepared branches.

Every RECOVERY_PERIOD_S, and as soon as the agent has started, each leader on this node is asked for branches that have been
prepared for PREPARED_AGE_S_MIN; each is ended as `transactions/recovery.py` says. Nobody waits for it: rows of such a branch
stay locked until then, everything else goes on. Every RECORDS_PERIOD_S commit records that nobody needs any more are
removed.

The control plane is asked only when there is something to do: where the deciders are, and what it has decided itself. So
a healthy cluster sees one small query per group and period. Two agents that recover one branch at once do the same thing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets as random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ..catalog.client import ControlClient
from ..catalog.model import Group, Snapshot
from ..catalog.told import services
from ..config import InstanceConfig, NodeConfig, Secrets
from ..core.errors import PgError
from ..core.limits import (
    PREPARED_AGE_S_MIN,
    RECORD_AGE_S_MIN,
    RECORDS_PER_TURN_MAX,
    RECORDS_PERIOD_S,
    RECOVERY_LOCK_WAIT_S_MAX,
    RECOVERY_PERIOD_S,
)
from ..engines.postgres.system_connection import SystemAccess, translated
from ..transactions.recovery import (
    AskCatalog,
    AskDecider,
    BranchId,
    Finish,
    old_records_sql,
    outcome_sql,
    overdue_sql,
    parse_gid,
    prepared_of_sql,
    record_abort_sql,
    recover,
    unneeded,
)
from .access import system_access

log = logging.getLogger(__name__)

Connection = Any  # asyncpg.Connection: the package has no types
_GONE = "42704"  # undefined_object: somebody else has ended the branch


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When recovery acts, in seconds; arguments for tests, and `times_of` for those of whole clusters."""

    period_s: float = RECOVERY_PERIOD_S
    prepared_age_s: float = PREPARED_AGE_S_MIN
    records_period_s: float = RECORDS_PERIOD_S
    record_age_s: float = RECORD_AGE_S_MIN


def times_of(environment: Mapping[str, str]) -> Times:
    """HANSE_RECOVERY=PERIOD,AGE in seconds: of turns, and of branches that are ended. Without it, which no user sets, `Times()`."""
    given = environment.get("HANSE_RECOVERY")
    if not given:
        return Times()
    period_s, age_s = map(float, given.split(","))
    return Times(period_s=period_s, prepared_age_s=age_s)


class Recovery:
    """Of one group, by the agent of its leader's node. `run` goes on until it is cancelled."""

    def __init__(
        self,
        config: NodeConfig,
        secrets: Secrets,
        instance: InstanceConfig,
        times: Times | None = None,
        *,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self.group = instance.group
        self._config = config
        self._secrets = secrets
        self._times = times or Times()
        self._local = system_access(self._secrets, config.host, instance.port, config.socket_directory)
        self._connection: Connection | None = None

    async def run(self) -> None:
        records_due = 0.0
        try:
            while True:
                records_due = await self._turn(records_due)
                await asyncio.sleep(self._times.period_s)
        finally:
            self.close()

    async def _turn(self, records_due: float) -> float:
        now = asyncio.get_running_loop().time()
        if not self._leads():
            self.close()
            return records_due
        try:
            await self.end_overdue()
            if now >= records_due:
                records_due = now + self._times.records_period_s
                await self.remove_records()
        except PgError as error:
            log.info("recovery of %s waits: %s", self.group, error.message)
            self.close()
        except Exception:  # the agent lives on: this group's branches wait for the next turn
            log.exception("recovery of %s", self.group)
            self.close()
        return records_due

    def close(self) -> None:
        """Ends the connection to the group; the next turn makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    # --- branches --------------------------------------------------------------------------------------------------

    async def end_overdue(self) -> int:
        """Ends the branches that nobody else has; how many are left for later."""
        connection = await self._connected()
        with translated("looking for prepared transactions"):
            rows = await connection.fetch(overdue_sql(self._times.prepared_age_s))
        branches = [branch for row in rows if (branch := parse_gid(row[0])) is not None]
        if not branches:
            return 0
        async with self._control() as control:
            ended = [await self._end(branch, control) for branch in branches]
        return ended.count(False)

    async def _end(self, branch: BranchId, control: ControlClient) -> bool:
        protocol = recover(branch)
        try:
            step = next(protocol)
            while True:
                step = protocol.send(await self._perform(step, control))
        except StopIteration as end:
            return bool(end.value)

    async def _perform(self, step: AskDecider | AskCatalog | Finish, control: ControlClient) -> str | None:
        if isinstance(step, Finish):
            await self._finish(step)
            return None
        try:
            if isinstance(step, AskCatalog):
                return "c" if await control.outcome(step.transaction_id) else "a"
            return await self._ask(step, control.snapshot)
        except PgError as error:
            log.warning("the outcome of %s is not known yet: %s", step, error.message)
            return None

    async def _ask(self, step: AskDecider, snapshot: Snapshot) -> str | None:
        group = snapshot.group_by_name.get(step.place)
        if group is None:
            log.error("prepared transaction %s names group %s, which does not exist", step.gid, step.place)
            return None
        async with self._leader(group) as decider:
            with translated(f"asking {step.place} for a decision"):
                await decider.execute(record_abort_sql(step.gid))
                rows = await decider.fetch(outcome_sql(step.gid))
        return str(rows[0][0])

    async def _finish(self, step: Finish) -> None:
        connection = await self._connected()
        try:
            with translated("ending a prepared transaction"):
                await connection.execute(step.sql)
        except PgError as error:
            if error.sqlstate != _GONE:
                raise
        else:
            log.warning("in %s: %s", self.group, step.sql)

    # --- records ---------------------------------------------------------------------------------------------------

    async def remove_records(self) -> int:
        """Removes this group's records that nobody needs any more; how many."""
        connection = await self._connected()
        with translated("looking for old commit records"):
            rows = await connection.fetch(old_records_sql(self._times.record_age_s, RECORDS_PER_TURN_MAX))
        if not rows:
            return 0
        async with self._control() as control:
            snapshot = control.snapshot
        prepared = [await self._prepared(group) for group in snapshot.groups]  # every one must answer
        gone = unneeded([str(row[0]) for row in rows], prepared)
        with translated("removing old commit records"):
            await connection.execute("DELETE FROM hanse.commit_record WHERE gid = ANY ($1::text[])", gone)
        return len(gone)

    async def _prepared(self, group: Group) -> set[str]:
        async with self._leader(group) as connection:
            with translated(f"asking {group.name} for prepared transactions"):
                return {str(row[0]) for row in await connection.fetch(prepared_of_sql(self.group))}

    # --- connections -----------------------------------------------------------------------------------------------

    async def _connect(self, access: SystemAccess) -> Connection:
        """READ COMMITTED, whatever is the default: the decision is read by a snapshot of its own."""
        return await access.connect(
            self._config.database,
            application_name="hanse recovery",
            default_transaction_isolation="read committed",
            default_transaction_read_only="off",
            lock_timeout=f"{int(RECOVERY_LOCK_WAIT_S_MAX * 1000)}",
        )

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect(self._local)
        return self._connection

    @asynccontextmanager
    async def _leader(self, group: Group) -> AsyncIterator[Connection]:
        leader = group.leader
        local = leader.socket_directory if leader.node == self._config.name else None
        connection = await self._connect(system_access(self._secrets, leader.host, leader.port, local))
        try:
            yield connection
        finally:
            connection.terminate()

    @asynccontextmanager
    async def _control(self) -> AsyncIterator[ControlClient]:
        config = self._config
        name = f"{config.name}.recovery.{self.group}.{random.token_hex(2)}"
        control = ControlClient(services(config), config.tls_among_nodes(), name)
        await control.connect()
        try:
            yield control
        finally:
            await control.close()
