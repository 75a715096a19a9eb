"""Statements about groups of servers: ALTER TABLESPACE. They commit by themselves, and only the database's owner may say them.

Members, durability and location (`SET (replicas = 3, durability = 'all', location = 'region=eu')`) are written to the catalog as
what is wanted; agents and the group's leader bring it about, and the statement waits and tells how far it is. A statement that
ends before, or is cancelled, takes nothing back: the same statement with the former values does. A location moves nothing: it is
refused while an instance lies elsewhere.

A switchover (`SET (leader = 'n2')`) first makes the pause short: the successor has nearly everything, and the leader has written
its dirty pages, so that its last checkpoint is quick. Then the group is held at every gateway (`holds.py`), the leader's agent is
told to hand over, and when the next leader serves, the catalog is told, which takes every gateway there before the hold ends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..catalog.commands import ChangeGroup, SetLeader
from ..catalog.labels import check, parse
from ..catalog.model import Group, Instance
from ..catalog.placement import Moves, to_have, to_leave
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
from ..engines.postgres.group_state import GroupState
from ..pgwire.diagnostics import notice_response
from ..replication.asking import HandOver, Heard, Leads, WhoLeads
from ..replication.failover import switchover_ready
from ..replication.rule import Policy, rule_of
from .grouprows import state_of
from .holds import hold_of
from .interruption import interruptible
from .leaders import peer_of
from .transaction import Transaction

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session

POLL_S = 0.01
SETTLE_POLL_S = 0.2
ACKNOWLEDGE_S_MAX = 5.0  # for every gateway to say that it has drained, beside the time that draining may take
_POSITIONS = (
    "SELECT application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), pg_wal_lsn_diff(flush_lsn, '0/0') "
    "FROM pg_stat_replication WHERE state = 'streaming'"
)
_IS_OWNER = "SELECT pg_has_role($1, datdba, 'MEMBER') FROM pg_database WHERE datname = current_database()"

_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")

OPTIONS = frozenset(("leader", "leave", "replicas", "durability", "location"))
STATEMENTS = ("AlterTableSpaceOptionsStmt",)


async def run(session: Session, verb: str, statement: Any) -> bytes:
    """Raises PgError; then what was asked for has not begun, or the message says how far it came."""
    name = statement.tablespacename
    group = session.gateway.snapshot.group_by_name.get(name)
    if group is None:
        raise PgError("42704", f'tablespace "{name}" does not exist')
    if not await is_owner(session):
        raise PgError("42501", f"must be owner of tablespace {name}")
    options = options_of(statement)
    if statement.isReset:
        raise not_supported("ALTER TABLESPACE … RESET is not supported", hint="Use SET with the value that is wanted.")
    unknown = set(options) - OPTIONS
    if unknown:
        raise PgError(
            "22023", f'unrecognized parameter "{min(unknown)}"', hint=f"There are: {', '.join(sorted(OPTIONS))}."
        )
    alone = {"leader", "leave"} & options.keys()
    if alone and len(options) > 1:
        raise not_supported(f"{min(alone)} cannot be combined with other changes", hint="Use two statements.")
    if "leave" in options:
        await _leave(session, name, options["leave"])
    elif "leader" in options:
        await locked(session, lambda: switch_over(session.gateway, _known(session, name), options["leader"]))
    elif options:
        await locked(session, lambda: _want(session, _known(session, name), options))
        await interruptible(session, until_settled(session, name))
    return verb.encode()


async def is_owner(session: Session) -> bool:
    """Of the cluster's database."""
    return bool((await session.gateway.workspace.query(_IS_OWNER, session.context.user))[0][0])


def _known(session: Session, name: str) -> Group:
    return session.gateway.snapshot.group_by_name[name]


def options_of(statement: Any) -> dict[str, str]:
    """Of a WITH or SET list: values as text. Raises 42601 for a name that comes twice."""
    found: dict[str, str] = {}
    for option in statement.options or ():
        if option.defname in found:
            raise PgError("42601", f'parameter "{option.defname}" specified more than once')
        value = option.arg
        texts = (getattr(value, name, None) for name in ("sval", "ival", "fval"))
        found[option.defname] = next((str(text) for text in texts if text is not None), "")
    return found


async def locked(session: Session, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Under the cluster's lock for schema changes; the snapshot is the newest."""
    gateway = session.gateway
    lock = Transaction("", session.state, explicit=False)
    try:
        await interruptible(session, gateway.lock_ddl(lock))
        await interruptible(session, work())
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
        leads = await _who_leads(gateway, leader)
        if leads is None or not leads.serving:
            raise PgError("55000", f"instance {leader.name} does not serve as the leader of {group.name} now")
        if await _who_leads(gateway, successor) is None:  # its server may follow while its agent hangs
            raise PgError("55000", f"the agent of {successor.name} does not answer", hint="Nothing has changed.")
        async with gateway.control.frozen((hold_of(group.name),), SWITCHOVER_DRAIN_S_MAX + ACKNOWLEDGE_S_MAX):
            streaming = tuple(str(name) for name, *_ in await backend.query(_POSITIONS))
            await _hand_over(gateway, leader, HandOver(leads.term, successor.name, streaming))
            found = await _next_leader(gateway, group, leads.term)
    finally:
        backend.close()
    if found.name != successor.name:
        raise PgError(
            "55000",
            f"instance {found.name} leads {group.name} now, and not {successor.name}",
            detail="It had what the other one lacked.",
        )


def _successor(group: Group, to: str) -> Instance:
    for instance in group.wanted:
        if instance.node == to:
            return instance
    raise PgError(
        "22023",
        f'group {group.name} has no instance on node "{to}"',
        hint=f"It has instances on {', '.join(sorted(each.node for each in group.wanted))}.",
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
    return await gateway.asker.ask(peer_of(instance), question, timeout_s=PEER_ANSWER_S_MAX)


async def _hand_over(gateway: Gateway, leader: Instance, message: HandOver) -> None:
    try:
        answer = await _ask(gateway, leader, message)
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        raise PgError("55000", f"the agent of {leader.name} does not answer", detail=str(error) or None) from None
    if not isinstance(answer, Heard):
        raise PgError("55000", f"instance {leader.name} cannot hand over now", hint="Try again.")


async def _next_leader(gateway: Gateway, group: Group, term: int) -> Leads:
    """One of a later term that serves, and that every gateway knows.

    They are told when it has its record, while that goes to the quorum: what its server says before it serves is held
    (`leaders.py`), and should it never serve, a later term is told of.
    """
    deadline = asyncio.get_running_loop().time() + SWITCHOVER_S_MAX
    telling: asyncio.Task[None] | None = None
    try:
        while asyncio.get_running_loop().time() < deadline:
            answers = await asyncio.gather(*(_who_leads(gateway, each) for each in group.instances))
            leads = [each for each in answers if each is not None and (each.begins or each.serving)]
            newest = max(leads, key=lambda each: each.term, default=None)
            if newest is not None and newest.term > term:
                _give_up(telling)
                telling, term = asyncio.create_task(_tell_leader(gateway, group, newest)), newest.term
            if telling is not None and newest is not None and newest.serving and newest.term == term:
                await telling
                return newest
            await asyncio.sleep(POLL_S)
    finally:
        _give_up(telling)
    raise PgError(
        "55000",
        f"group {quote_identifier(group.name)} has no leader yet",
        detail="Its leader was stopped for a switchover; its members choose another when they can.",
    )


def _give_up(telling: asyncio.Task[None] | None) -> None:
    if telling is not None:
        telling.cancel()


async def _tell_leader(gateway: Gateway, group: Group, leads: Leads) -> None:
    await gateway.control.propose(SetLeader(group=group.name, leader=leads.name, term=leads.term))


# --- members, durability, location


async def _want(session: Session, group: Group, options: dict[str, str]) -> None:
    gateway = session.gateway
    durability = durability_of(options)
    location = location_of(options["location"]) if "location" in options else None
    moves = Moves()
    replicas = replicas_of(options)
    if replicas is not None:
        after = group if location is None else msgspec.structs.replace(group, location=location)
        leader = gateway.leaders.of(group).name
        state = await state_of(gateway, group)
        names = [each.name for each in group.wanted]
        away = [] if state is None else [name for name in names if state.member(name).state in ("away", "lost")]
        moves = to_have(gateway.snapshot, after, replicas, leader, away)
    await _propose(gateway, group, moves, durability, location)


def durability_of(options: Mapping[str, str]) -> str | None:
    """Raises 22023."""
    durability = options.get("durability")
    if durability not in (None, *Policy):
        raise PgError("22023", f'invalid durability "{durability}"', hint=f"Available values: {', '.join(Policy)}.")
    return durability


def replicas_of(options: Mapping[str, str]) -> int | None:
    """Raises 22023."""
    replicas = options.get("replicas")
    if replicas is not None and not _WHOLE_NUMBER.fullmatch(replicas):
        raise PgError("22023", f'invalid value for integer option "replicas": {replicas}')
    return None if replicas is None else int(replicas)


def location_of(text: str) -> dict[str, str]:
    """Raises 22023."""
    try:
        location = parse(text.split(",")) if text.strip() else {}
        check(location)
    except ValueError as error:
        why = str(error)
        raise PgError(
            "22023",
            f'invalid location "{text}"',
            detail=f"{why[0].upper()}{why[1:]}.",
            hint="A tablespace is a group of servers. Its location is labels of the nodes that they are on, as 'region=eu'.",
        ) from None
    return location


async def _propose(
    gateway: Gateway,
    group: Group,
    moves: Moves,
    durability: str | None = None,
    location: dict[str, str] | None = None,
) -> None:
    command = ChangeGroup(
        group=group.name, add=moves.add, remove=moves.remove, durability=durability, location=location
    )
    if group.is_replicated or not moves.add:
        await gateway.control.propose(command)
        return
    # Its server starts anew as a member.
    async with gateway.control.frozen((hold_of(group.name),), SWITCHOVER_DRAIN_S_MAX + ACKNOWLEDGE_S_MAX):
        await gateway.control.propose(command)
        await _until_enrolled(gateway, group.name)


async def _leave(session: Session, name: str, node: str) -> None:
    """The group's instance on a node is replaced by one elsewhere; said again, it goes on where it was."""
    gateway = session.gateway
    if all(each.name != node for each in gateway.snapshot.nodes):
        raise PgError("22023", f'node "{node}" does not exist')

    async def want() -> None:
        group = _known(session, name)
        await _propose(gateway, group, to_leave(gateway.snapshot, group, node))

    async def lead_elsewhere() -> None:
        group = _known(session, name)
        if gateway.leaders.of(group).node == node and any(each.node == node for each in group.instances):
            successor = min((each for each in group.wanted if each.is_placed), key=lambda each: each.node, default=None)
            if successor is None:
                raise PgError("55000", f"group {name} has no instance that could lead in place of the one on {node}")
            await switch_over(gateway, group, successor.node)

    if any(each.node == node for each in _known(session, name).wanted):
        await locked(session, want)
    await interruptible(session, until_settled(session, name, led_from=node))
    await locked(session, lead_elsewhere)
    await interruptible(session, until_settled(session, name))


async def _until_enrolled(gateway: Gateway, name: str) -> None:
    deadline = asyncio.get_running_loop().time() + SWITCHOVER_S_MAX
    while asyncio.get_running_loop().time() < deadline:
        group = gateway.snapshot.group_by_name[name]
        if group.leader.peer_port:
            leads = await _who_leads(gateway, group.leader)
            if leads is not None and leads.serving:
                return
        await asyncio.sleep(POLL_S)
    raise PgError(
        "55000",
        f"the server of group {name} is not a member yet",
        detail="Its agent goes on, and the other instances follow.",
        hint="See hanse.groups.",
    )


async def until_settled(session: Session, name: str, *, led_from: str | None = None) -> None:
    """Until the group's rule and the catalog are as wanted; the client is told how far each instance is.

    `led_from`: a leader on this node may still be counted, although it is not wanted.
    """
    gateway = session.gateway
    told: dict[str, str] = {}
    while True:
        group = gateway.snapshot.group_by_name.get(name)
        if group is None:
            raise PgError("55000", f'tablespace "{name}" was dropped meanwhile')
        state = await state_of(gateway, group)
        if not group.is_replicated:
            return
        if state is not None and _is_settled(group, state, led_from):
            return
        for instance in group.instances:
            now = _stage(instance, state)
            if now != told.get(instance.name):
                told[instance.name] = now
                notify(session, f"instance {instance.name} on {instance.node} {now}")
        await asyncio.sleep(SETTLE_POLL_S)


def notify(session: Session, message: str) -> None:
    session.write(notice_response(PgError("00000", message, severity="NOTICE")))
    session.flush()


def _is_settled(group: Group, state: GroupState, led_from: str | None) -> bool:
    leads = [each for each in group.instances if each.leaving and each.name == state.leader and each.node == led_from]
    names = [instance.name for instance in (*group.wanted, *leads)]
    rule = rule_of(Policy(group.durability), names)
    gone = len(names) == len(group.instances)
    return not state.changes and set(state.members) == rule.members and state.k == rule.k and gone


def _stage(instance: Instance, state: GroupState | None) -> str:
    if instance.leaving:
        return "leaves"
    if state is not None and instance.name in state.members:
        return "is a member"
    if not instance.is_placed:
        return "is to be made"
    found = None if state is None else state.member(instance.name)
    return "streams" if found is not None and found.state == "streaming" else "is being copied"
