"""Where a group's instances go: on nodes of its location that have none of it, spread over their zones.

Of nodes that are possible, one in a zone with the fewest instances of the group is taken, and among those one with the fewest
instances of all groups. What leaves is from a zone with the most, so that the counts of the zones stay as equal as nodes allow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..core.errors import PgError
from ..core.limits import INSTANCES_PER_GROUP_MAX
from .labels import lies_in, written, zone_of
from .model import Group, Instance, Snapshot, group_order, number_of

_LABELS = "hanse.nodes shows the labels of nodes, and hanse label changes them."


@dataclass(frozen=True, slots=True)
class Moves:
    add: tuple[str, ...] = ()  # nodes
    remove: tuple[str, ...] = ()  # instances' names


def to_have(snapshot: Snapshot, group: Group, replicas: int, leader: str, away: Collection[str] = ()) -> Moves:
    """What makes a group have so many instances; `leader` stays, those that are `away` go first.

    Raises 22023 or 55000 where that cannot be.
    """
    if not 1 <= replicas <= INSTANCES_PER_GROUP_MAX:
        raise PgError("22023", f"replicas must be between 1 and {INSTANCES_PER_GROUP_MAX}, not {replicas}")
    count = replicas - len(group.wanted)
    if count >= 0:
        return Moves(add=free_nodes(snapshot, group, count))
    used = _instances_by_node(snapshot)
    zones = {node.name: zone_of(node) for node in snapshot.nodes}
    stay = list(group.wanted)
    leave: list[str] = []

    def order(each: Instance) -> tuple[bool, int, int, int]:
        crowd = sum(zones.get(other.node) == zones.get(each.node) for other in stay)
        return each.name not in away, -crowd, -used[each.node], -number_of(each.name)

    while len(stay) > replicas:
        first = min((each for each in stay if each.name != leader), key=order)
        stay.remove(first)
        leave.append(first.name)
    return Moves(remove=tuple(leave))


def to_leave(snapshot: Snapshot, group: Group, node: str) -> Moves:
    """What takes a group from a node, with as many instances as before. Raises 55000 where there is no other node for it."""
    here = [each.name for each in group.wanted if each.node == node]
    if not here:
        return Moves()
    try:
        return Moves(add=free_nodes(snapshot, group, 1, leaving=node), remove=tuple(here))
    except PgError as error:
        if error.sqlstate != "22023":
            raise
        raise _nowhere_else(group, node) from None


def free_nodes(snapshot: Snapshot, group: Group, count: int, *, leaving: str | None = None) -> tuple[str, ...]:
    """`count` nodes for new instances, when the one on node `leaving` will be gone. Raises 22023 or 55000 where there are not
    so many.
    """
    taken = {each.node for each in group.instances}
    used = _instances_by_node(snapshot)
    possible = [node for node in snapshot.nodes if lies_in(node, group.location)]
    free = [node for node in possible if node.name not in taken]
    if len(free) < count:
        raise _too_few(group, count, len(possible))
    stay = {each.node for each in group.wanted} - {leaving}
    in_zone = Counter(zone_of(node) for node in snapshot.nodes if node.name in stay)
    chosen: list[str] = []
    for _ in range(count):
        best = min(free, key=lambda node: (in_zone[zone_of(node)], used[node.name], group_order(node.name)))
        free.remove(best)
        in_zone[zone_of(best)] += 1
        chosen.append(best.name)
    return tuple(chosen)


def possible_origins(snapshot: Snapshot, location: Mapping[str, str]) -> tuple[str, ...]:
    """The groups of which one may be copied to make another. All of its rows are copied at first, so those that are to be in
    another place are for it only where there are no others.
    """
    fitting = tuple(
        name for name in snapshot.group_names if snapshot.group_by_name[name].location in ({}, dict(location))
    )
    return fitting or snapshot.group_names


def _nowhere_else(group: Group, node: str) -> PgError:
    if len(group.wanted) == 1:
        return PgError(
            "55000",
            f"group {group.name} cannot leave node {node}: there is no other node{_in(group)}",
            hint=_LABELS if group.location else None,
        )
    return PgError(
        "55000",
        f"group {group.name} cannot leave node {node}: every other node{_in(group)} has an instance of it",
        hint=f"Take one away first: ALTER TABLESPACE {group.name} SET (replicas = {len(group.wanted) - 1}).",
    )


def _too_few(group: Group, count: int, possible: int) -> PgError:
    leaving = [each.name for each in group.instances if each.leaving]
    if leaving:
        return PgError(
            "55000", f"instance {leaving[0]} of group {group.name} is still being removed", hint="Try again."
        )
    nodes = "1 node" if possible == 1 else f"{possible} nodes"
    return PgError(
        "22023",
        f"group {group.name} cannot have {len(group.wanted) + count} instances on {nodes}{_in(group)}",
        detail="Each instance of a group is on a node of its own.",
        hint=_LABELS if group.location else None,
    )


def _in(group: Group) -> str:
    return f" with {written(group.location)}" if group.location else ""


def _instances_by_node(snapshot: Snapshot) -> Counter[str]:
    groups = (*snapshot.groups, *(each.group for each in snapshot.coming))
    return Counter(instance.node for group in groups for instance in group.instances)
