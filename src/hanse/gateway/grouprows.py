"""`hanse.groups`, with what each group's leader tells of it at this moment. The catalog's words where it does not answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from ..catalog.model import Group
from ..core.errors import PgError
from ..core.limits import GROUP_STATE_S_MAX
from ..engines.postgres.group_state import QUESTION, GroupState, decode
from ..engines.postgres.workspace import leader_of

if TYPE_CHECKING:
    from .gateway import Gateway

Row = tuple[str | None, ...]


async def rows(gateway: Gateway) -> list[Row]:
    groups = gateway.snapshot.groups
    states = await asyncio.gather(*(state_of(gateway, group) for group in groups))
    return [_row(group, state) for group, state in zip(groups, states, strict=True)]


async def state_of(gateway: Gateway, group: Group) -> GroupState | None:
    """None: it is one server, or its leader does not answer within GROUP_STATE_S_MAX."""
    if not group.is_replicated:
        return None
    try:
        async with asyncio.timeout(GROUP_STATE_S_MAX):
            backend = await gateway.system_backend(group.name)
            try:
                (row,) = await backend.query(QUESTION)
            finally:
                backend.close()
    except (PgError, TimeoutError):
        return None
    return decode(str(row[0]))


def _row(group: Group, state: GroupState | None) -> Row:
    instances = []
    for instance in group.instances:
        shown = msgspec.to_builtins(instance)
        if state is not None:
            shown["role"] = "leader" if instance.name == state.leader else "follower"
            shown |= msgspec.to_builtins(state.member(instance.name))
            shown["member"] = instance.name in state.members
        instances.append(shown)
    told: tuple[str | None, ...] = (str(group.term) if group.term else None, None, None)
    leader = leader_of(group)
    if state is not None:
        told = (str(state.term), "{" + ",".join(state.members) + "}", str(state.k))
        leader = state.leader
    location = msgspec.json.encode(group.location).decode()
    return (group.name, leader, group.durability, msgspec.json.encode(instances).decode(), *told, location)
