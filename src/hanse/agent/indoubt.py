"""Prepared transactions by an operator's hand: the list of them, and an end for one. For `hanse transactions`.

It goes to the groups' servers and to the control service itself, so that it works where no gateway and no agent runs. The end of
one is recovery's (`transactions/recovery.py`): the decider's word is asked for, made final, and carried out. What the
operator wants is only compared with it, for his word cannot change what the decider has done with its own rows. Where the
decider is lost for ever nobody's word can be asked, and his is all there is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ..catalog.client import ControlClient
from ..catalog.model import group_order
from ..config import SYSTEM_ROLE, WORKSPACE_PLACE, ClusterConfig, Secrets
from ..core.errors import PgError, UserMistake
from ..core.ids import quote_literal
from ..core.limits import IN_DOUBT_ASK_S_MAX, RECOVERY_LOCK_WAIT_S_MAX
from ..core.node_tls import NodeTls
from ..engines.postgres.system_connection import SystemAccess, translated
from ..transactions.commit import CATALOG_DECIDER
from ..transactions.indoubt import (
    ABORTED,
    COMMITTED,
    IN_DOUBT,
    PREPARED,
    UNKNOWN,
    USERS,
    Branch,
    Prepared,
    records_sql,
    rows_of,
    undecided,
)
from ..transactions.recovery import outcome_sql, parse_gid, record_abort_sql

Rows = Sequence[Sequence[Any]]
_GONE = "42704"  # somebody else has ended the branch: an agent, or the gateway


@dataclass(frozen=True, slots=True)
class Listing:
    transactions: list[Prepared]
    away: list[str]  # groups that did not answer, and 'catalog'


class Operator:
    """Of one local cluster, which need not run whole."""

    def __init__(self, cluster: ClusterConfig, secrets: Secrets, tls: NodeTls) -> None:
        self._cluster = cluster
        self._tls = tls
        self._secrets = secrets
        ports: dict[str, list[int]] = {}
        for instance in (each for node in cluster.nodes for each in node.instances):
            if instance.group != WORKSPACE_PLACE:
                ports.setdefault(instance.group, []).append(instance.port)
        self._ports = dict(sorted(ports.items(), key=lambda item: group_order(item[0])))

    async def look(self) -> Listing:
        """What is prepared anywhere."""
        names = list(self._ports)
        answers = await asyncio.gather(*(self._ask(name, PREPARED) for name in names), return_exceptions=True)
        found, away = {}, []
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, PgError):
                away.append(name)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[name] = [Branch(*row) for row in answer]
        outcomes: dict[str, dict[str, str]] = {}
        for decider, gids in undecided(found).items():
            try:
                outcomes[decider] = await self._outcomes(decider, sorted(gids))
            except PgError:
                away += [decider] if decider not in away else []
        return Listing(rows_of(found, outcomes), away)

    async def find(self, gid: str) -> Prepared:
        listing = await self.look()
        for row in listing.transactions:
            if row.gid == gid:
                return row
        unheard = f" ({', '.join(listing.away)} did not answer)" if listing.away else ""
        raise UserMistake(f"no group holds a prepared transaction {gid}{unheard}")

    async def settle(self, row: Prepared) -> str:
        """Makes the decider's word final and gives it: 'c' or 'a'. Raises PgError where it does not answer."""
        identity = parse_gid(row.gid)
        assert identity is not None
        if identity.decided_by_catalog:
            async with self._control() as control:
                return "c" if await control.outcome(identity.transaction_id) else "a"
        await self._ask(identity.decider, record_abort_sql(row.gid))
        rows = await self._ask(identity.decider, outcome_sql(row.gid))
        return str(rows[0][0])

    async def end(self, row: Prepared, *, commit: bool) -> dict[str, str]:
        """Ends the branches that are known; group → what became of it."""
        sql = f"{'COMMIT' if commit else 'ROLLBACK'} PREPARED {quote_literal(row.gid)}"
        done = "committed" if commit else "rolled back"
        found = {}
        for group in row.groups:
            try:
                await self._ask(group, sql)
                found[group] = done
            except PgError as error:
                found[group] = "ended by somebody else meanwhile" if error.sqlstate == _GONE else f"failed: {error}"
        return found

    # --- connections -----------------------------------------------------------------------------------------------

    async def _outcomes(self, decider: str, gids: Sequence[str]) -> dict[str, str]:
        if decider != CATALOG_DECIDER:
            return {str(row[0]): str(row[1]) for row in await self._ask(decider, records_sql(gids))}
        async with self._control() as control:
            identities = {gid: parse_gid(gid) for gid in gids}
            return {gid: await control.look_up(each.transaction_id) for gid, each in identities.items() if each}

    async def _ask(self, group: str, sql: str) -> Rows:
        """READ COMMITTED and its own transaction, as recovery needs it."""
        if group not in self._ports:
            raise PgError("08001", f"there is no group {group}")
        try:
            async with (
                asyncio.timeout(IN_DOUBT_ASK_S_MAX + RECOVERY_LOCK_WAIT_S_MAX),
                self._leader(group) as connection,
            ):
                with translated(f"asking {group}"):
                    rows: Rows = await connection.fetch(sql)
                    return rows
        except TimeoutError:
            raise PgError("57014", f"group {group} does not answer") from None

    @asynccontextmanager
    async def _leader(self, group: str) -> AsyncIterator[Any]:
        """Of the group's servers the one that takes writes: who leads is not in any configuration."""
        trouble = PgError("08001", f"no server of group {group} leads")
        for port in self._ports[group]:
            access = SystemAccess(
                host=self._cluster.host,
                port=port,
                socket_directory=None,
                user=SYSTEM_ROLE,
                password=self._secrets.system_password,
            )
            try:
                connection = await access.connect(
                    self._cluster.database,
                    application_name="hanse transactions",
                    default_transaction_isolation="read committed",
                    default_transaction_read_only="off",
                    lock_timeout=f"{int(RECOVERY_LOCK_WAIT_S_MAX * 1000)}",
                )
            except PgError as error:
                trouble = error
                continue
            try:
                with translated(f"asking {group}"):
                    follows = await connection.fetchval("SELECT pg_is_in_recovery()")
                if not follows:
                    yield connection
                    return
            finally:
                connection.terminate()
        raise trouble

    @asynccontextmanager
    async def _control(self) -> AsyncIterator[ControlClient]:
        cluster = self._cluster
        name = f"transactions.{os.getpid()}"
        control = ControlClient(cluster.control_addresses, self._tls, name)
        try:
            await control.connect(IN_DOUBT_ASK_S_MAX)
        except (OSError, TimeoutError) as error:
            raise PgError("08001", "the catalog does not answer") from error
        try:
            yield control
        finally:
            await control.close()


def check(row: Prepared, *, commit: bool, decider_lost: bool) -> None:
    """Raises UserMistake where the operator's word cannot be carried out, with what to do in its place."""
    if row.state == USERS:
        raise UserMistake(
            f"{row.gid} was prepared by a user: end it with COMMIT PREPARED or ROLLBACK PREPARED, on a gateway"
        )
    if row.state == UNKNOWN and not decider_lost:
        raise UserMistake(
            f"{row.decider}, which decided {row.gid}, does not answer. When it is back the cluster ends the transaction by "
            "itself. Only where it is lost for ever, with its data, use --decider-lost"
        )
    if row.state != UNKNOWN and decider_lost:
        raise UserMistake(f"{row.decider} answers, so its word holds: leave out --decider-lost")
    if row.state == COMMITTED and not commit:
        raise UserMistake(f"{row.decider} has recorded that {row.gid} is committed: only --commit ends it")
    if row.state == ABORTED and commit:
        raise UserMistake(f"{row.decider} has recorded that {row.gid} is rolled back: only --rollback ends it")
    if row.state == IN_DOUBT and commit:
        raise UserMistake(
            f"{row.decider} has recorded no commit of {row.gid}, and its own part cannot be committed for it: "
            "only --rollback ends it"
        )


def check_outcome(row: Prepared, outcome: str, *, commit: bool) -> None:
    """The decider's final word may be another than the one that was looked at before."""
    if (outcome == "c") != commit:
        word = "committed" if outcome == "c" else "rolled back"
        raise UserMistake(f"{row.gid} was {word} meanwhile, by its decider {row.decider}: the cluster ends it so")
