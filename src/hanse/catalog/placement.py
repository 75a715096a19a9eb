"""Where a group's instances go: on nodes that have none of it, those with the fewest instances first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from ..core.errors import PgError
from ..core.limits import INSTANCES_PER_GROUP_MAX
from .model import Group, Snapshot, group_order, number_of


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
    candidates = [each for each in group.wanted if each.name != leader]
    candidates.sort(key=lambda each: (each.name not in away, -used[each.node], -number_of(each.name)))
    return Moves(remove=tuple(each.name for each in candidates[:-count]))


def to_leave(snapshot: Snapshot, group: Group, node: str) -> Moves:
    """What takes a group from a node, with as many instances as before. Raises 55000 where there is no other node for it."""
    here = [each.name for each in group.wanted if each.node == node]
    if not here:
        return Moves()
    try:
        return Moves(add=free_nodes(snapshot, group, 1), remove=tuple(here))
    except PgError as error:
        if error.sqlstate != "22023":
            raise
        raise PgError(
            "55000",
            f"group {group.name} cannot leave node {node}: every other node has an instance of it",
            hint=f"Take one away first: ALTER TABLESPACE {group.name} SET (replicas = {len(group.wanted) - 1}).",
        ) from None


def free_nodes(snapshot: Snapshot, group: Group, count: int) -> tuple[str, ...]:
    """`count` nodes for new instances. Raises 22023 or 55000 where there are not so many."""
    taken = {each.node for each in group.instances}
    used = _instances_by_node(snapshot)
    free = [node.name for node in snapshot.nodes if node.name not in taken]
    free.sort(key=lambda name: (used[name], group_order(name)))
    if len(free) >= count:
        return tuple(free[:count])
    leaving = [each.name for each in group.instances if each.leaving]
    if leaving:
        raise PgError("55000", f"instance {leaving[0]} of group {group.name} is still being removed", hint="Try again.")
    raise PgError(
        "22023",
        f"group {group.name} cannot have {len(group.wanted) + count} instances on {len(snapshot.nodes)} nodes",
        detail="Each instance of a group is on a node of its own.",
    )


def _instances_by_node(snapshot: Snapshot) -> Counter[str]:
    groups = (*snapshot.groups, *(each.group for each in snapshot.coming))
    return Counter(instance.node for group in groups for instance in group.instances)
