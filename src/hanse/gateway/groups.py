"""Statements about groups of servers: ALTER TABLESPACE. They commit by themselves, and only the database's owner may say them.

A switchover (`SET (leader = 'n2')`) first makes the pause short: the successor has nearly everything, and the leader has written
its dirty pages, so that its last checkpoint is quick. Then the group is held at every gateway (`holds.py`), the leader's agent is
told to hand over, and when the next leader serves, the catalog is told, which takes every gateway there before the hold ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..catalog.commands import SetLeader
from ..catalog.model import Group, Instance
from ..core.errors import PgError, not_supported
from ..core.ids import quote_identifier
from ..core.limits import (
    PEER_ANSWER_S_MAX,
    SWITCHOVER_BEHIND_BYTES_MAX,
    SWITCHOVER_DRAIN_S_MAX,
    SWITCHOVER_READY_S_MAX,
    SWITCHOVER_S_MAX,
)
from ..engines.postgres.backend import Backend
from ..executor.request import Sink
from ..replication.asking import HandOver, Heard, Leads, WhoLeads, ask
from ..replication.failover import switchover_ready
from .holds import hold_of
from .interruption import interruptible
from .transaction import Transaction

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

POLL_S = 0.01
ACKNOWLEDGE_S_MAX = 5.0  # for every gateway to say that it has drained, beside the time that draining may take
_POSITIONS = (
    "SELECT application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), pg_wal_lsn_diff(flush_lsn, '0/0') "
    "FROM pg_stat_replication WHERE state = 'streaming'"
)
_IS_OWNER = "SELECT pg_has_role($1, datdba, 'MEMBER') FROM pg_database WHERE datname = current_database()"

OPTIONS = frozenset(("leader",))
STATEMENTS = ("AlterTableSpaceOptionsStmt",)


async def run(session: Session, verb: str, statement: Any, sink: Sink) -> bytes:
    """Raises PgError; then what was asked for has not begun, or the message says how far it came."""
    name = statement.tablespacename
    group = session.gateway.snapshot.group_by_name.get(name)
    if group is None:
        raise PgError("42704", f'tablespace "{name}" does not exist')
    if not (await session.gateway.workspace.query(_IS_OWNER, session.context.user))[0][0]:
        raise PgError("42501", f"must be owner of tablespace {name}")
    options = options_of(statement)
    if statement.isReset:
        raise not_supported("ALTER TABLESPACE … RESET is not supported", hint="Use SET with the value that is wanted.")
    unknown = set(options) - OPTIONS
    if unknown:
        raise PgError(
            "22023", f'unrecognized parameter "{min(unknown)}"', hint=f"There are: {', '.join(sorted(OPTIONS))}."
        )
    await _locked(session, group.name, options["leader"])
    return verb.encode()


def options_of(statement: Any) -> dict[str, str]:
    """Of a WITH or SET list: values as text. Raises 42601 for a name that comes twice."""
    found: dict[str, str] = {}
    for option in statement.options or ():
        if option.defname in found:
            raise PgError("42601", f'parameter "{option.defname}" specified more than once')
        value = option.arg
        found[option.defname] = str(getattr(value, "sval", getattr(value, "ival", "")))
    return found


async def _locked(session: Session, group: str, to: str) -> None:
    gateway = session.gateway
    lock = Transaction("", session.state, explicit=False)
    await interruptible(session, gateway.lock_ddl(lock))
    try:
        await interruptible(session, switch_over(gateway, gateway.snapshot.group_by_name[group], to))
    finally:
        gateway.unlock_ddl(lock)


async def switch_over(gateway: Gateway, group: Group, to: str) -> None:
    """The instance on node `to` leads next. Nothing happens where it does already."""
    leader = gateway.leaders.of(group)
    successor = _successor(group, to)
    if successor.name == leader.name:
        return
    backend = await gateway.system_backend(group.name)
    try:
        await _until_near(backend, group, successor)
        await backend.query("CHECKPOINT")
        await _until_near(backend, group, successor)
    finally:
        backend.close()
    leads = await _who_leads(gateway, leader)
    if leads is None or not leads.serving:
        raise PgError("55000", f"instance {leader.name} does not serve as the leader of {group.name} now")
    async with gateway.control.frozen((hold_of(group.name),), SWITCHOVER_DRAIN_S_MAX + ACKNOWLEDGE_S_MAX):
        await _hand_over(gateway, leader, successor, leads.term)
        found = await _next_leader(gateway, group, leads.term)
        await gateway.control.propose(SetLeader(group=group.name, leader=found.name, term=found.term))
    if found.name != successor.name:
        raise PgError(
            "55000",
            f"instance {found.name} leads {group.name} now, and not {successor.name}",
            detail="It had what the other one lacked.",
        )


def _successor(group: Group, to: str) -> Instance:
    for instance in group.instances:
        if instance.node == to:
            return instance
    raise PgError(
        "22023",
        f'group {group.name} has no instance on node "{to}"',
        hint=f"It has instances on {', '.join(sorted(each.node for each in group.instances))}.",
    )


async def _until_near(backend: Backend, group: Group, successor: Instance) -> None:
    deadline = asyncio.get_running_loop().time() + SWITCHOVER_READY_S_MAX
    while True:
        rows = await backend.query(_POSITIONS)
        positions = {name: (int(float(end or 0)), int(float(flushed or 0))) for name, end, flushed in rows}
        end, flushed = positions.get(successor.name, (0, None))
        if switchover_ready(end, flushed, behind_bytes_max=SWITCHOVER_BEHIND_BYTES_MAX):
            return
        if asyncio.get_running_loop().time() > deadline:
            lag = "does not follow" if flushed is None else f"lacks {end - flushed} bytes"
            raise PgError(
                "55000",
                f"instance {successor.name} cannot lead {group.name} yet: it {lag}",
                hint="See hanse.groups.",
            )
        await asyncio.sleep(POLL_S)


async def _who_leads(gateway: Gateway, instance: Instance) -> Leads | None:
    try:
        answer = await _ask(gateway, instance, WhoLeads())
    except (OSError, EOFError, ValueError, TimeoutError):
        return None
    return answer if isinstance(answer, Leads) else None


async def _ask(gateway: Gateway, instance: Instance, question: WhoLeads | HandOver) -> object:
    key = gateway.secrets.control_token.encode()
    return await ask(instance.host, instance.peer_port, key, question, timeout_s=PEER_ANSWER_S_MAX)


async def _hand_over(gateway: Gateway, leader: Instance, successor: Instance, term: int) -> None:
    try:
        answer = await _ask(gateway, leader, HandOver(term, successor.name))
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        raise PgError("55000", f"the agent of {leader.name} does not answer", detail=str(error) or None) from None
    if not isinstance(answer, Heard):
        raise PgError("55000", f"instance {leader.name} cannot hand over now", hint="Try again.")


async def _next_leader(gateway: Gateway, group: Group, term: int) -> Leads:
    """One of a later term that serves."""
    deadline = asyncio.get_running_loop().time() + SWITCHOVER_S_MAX
    while asyncio.get_running_loop().time() < deadline:
        answers = await asyncio.gather(*(_who_leads(gateway, each) for each in group.instances))
        for answer in answers:
            if answer is not None and answer.serving and answer.term > term:
                return answer
        await asyncio.sleep(POLL_S)
    raise PgError(
        "55000",
        f"group {quote_identifier(group.name)} has no leader yet",
        detail="Its leader was stopped for a switchover; its members choose another when they can.",
    )
