"""Groups that come and go, as changes of the catalog.

    AddGroup ──► coming ──FoundGroup (each attempt)──► coming ──OpenGroup (of that attempt)──► one of the groups
                                                                              DropGroup ──► gone, its names are never used again

An attempt that was cut off may have proposed `OpenGroup` without hearing of it. So each attempt says `FoundGroup` before it throws
away what an earlier one has left: then the group is open already, and nothing is thrown away, or no earlier proposal opens it.

`OpenGroup` and `DropGroup` are accepted under the lock for schema changes only (`tenure.py`).
"""

from __future__ import annotations

import msgspec

from ..core.errors import PgError
from ..core.limits import GROUPS_MAX
from .labels import check_location
from .model import Coming, Group, Instance, Snapshot


class AddGroup(msgspec.Struct, frozen=True, kw_only=True, tag="add_group"):
    """A new group, with instances on `nodes`; the first of them makes it, as a copy of group `origin`."""

    group: str
    nodes: tuple[str, ...]
    durability: str
    origin: str
    location: dict[str, str] = {}


class FoundGroup(msgspec.Struct, frozen=True, kw_only=True, tag="found_group"):
    """The first instance begins to make its group, and says where it can be reached."""

    group: str
    attempt: str
    host: str
    port: int
    peer_port: int
    socket_directory: str | None


class OpenGroup(msgspec.Struct, frozen=True, kw_only=True, tag="open_group"):
    """The group has everything that a group has, and its first instance leads it."""

    group: str
    attempt: str
    term: int


class DropGroup(msgspec.Struct, frozen=True, kw_only=True, tag="drop_group"):
    """The group is no more. One that is being made is given up."""

    group: str


GroupCommand = AddGroup | FoundGroup | OpenGroup | DropGroup


def apply_to_groups(snapshot: Snapshot, command: GroupCommand) -> Snapshot:
    """The snapshot after `command`. Raises PgError where that cannot be."""
    match command:
        case AddGroup():
            return _add(_numbered(snapshot), command)
        case FoundGroup():
            return _found(snapshot, command)
        case OpenGroup():
            return _open(snapshot, command)
        case DropGroup():
            return _drop(_numbered(snapshot), command)


def _numbered(snapshot: Snapshot) -> Snapshot:
    """From the first change on each group's number is written down: its place among the others may change."""
    if snapshot.numbers_given:
        return snapshot
    groups = tuple(msgspec.structs.replace(each, number=snapshot.group_numbers[each.name]) for each in snapshot.groups)
    return msgspec.structs.replace(snapshot, groups=groups, numbers_given=len(groups))


def _add(snapshot: Snapshot, command: AddGroup) -> Snapshot:
    if command.group in snapshot.group_by_name or command.group in snapshot.coming_by_name:
        raise PgError("42710", f'tablespace "{command.group}" already exists')
    if command.origin not in snapshot.group_by_name:
        raise PgError("22023", f'group "{command.origin}" does not exist')
    if len(snapshot.groups) + len(snapshot.coming) >= GROUPS_MAX:
        raise PgError("54000", f"a cluster has at most {GROUPS_MAX} groups")
    nodes = {node.name: node for node in snapshot.nodes}
    used = snapshot.dropped.get(command.group, 0)
    instances = []
    for place, name in enumerate(command.nodes, 1):
        node = nodes.get(name)
        if node is None:
            raise PgError("22023", f'node "{name}" does not exist')
        role = "leader" if place == 1 else "follower"
        instances.append(Instance(name=f"{command.group}.{used + place}", node=name, host=node.host, port=0, role=role))
    number = snapshot.numbers_given + 1
    group = Group(
        name=command.group,
        instances=tuple(instances),
        durability=command.durability,
        location=command.location,
        made=used + len(instances),
        number=number,
    )
    check_location(snapshot, group)
    coming = (*snapshot.coming, Coming(group=group, origin=command.origin))
    return _next(snapshot, coming=coming, numbers_given=number)


def _found(snapshot: Snapshot, command: FoundGroup) -> Snapshot:
    known = snapshot.coming_by_name.get(command.group)
    if known is None:
        raise PgError("55000", f'group "{command.group}" is not being made')
    founder = msgspec.structs.replace(
        known.founder,
        host=command.host,
        port=command.port,
        peer_port=command.peer_port,
        socket_directory=command.socket_directory,
    )
    group = msgspec.structs.replace(known.group, instances=(founder, *known.group.instances[1:]))
    begun = msgspec.structs.replace(known, group=group, attempt=command.attempt)
    return _next(snapshot, coming=tuple(begun if each is known else each for each in snapshot.coming))


def _open(snapshot: Snapshot, command: OpenGroup) -> Snapshot:
    known = snapshot.coming_by_name.get(command.group)
    if known is None or known.attempt != command.attempt:
        raise PgError("55000", f'group "{command.group}" is not being made by this attempt')
    group = msgspec.structs.replace(known.group, term=command.term)
    coming = tuple(each for each in snapshot.coming if each is not known)
    version = snapshot.version + 1
    return _next(snapshot, schema_version=version, groups=(*snapshot.groups, group), coming=coming)


def _drop(snapshot: Snapshot, command: DropGroup) -> Snapshot:
    coming = snapshot.coming_by_name.get(command.group)
    group = snapshot.group_by_name.get(command.group) if coming is None else coming.group
    if group is None:
        raise PgError("42704", f'tablespace "{command.group}" does not exist')
    check_droppable(snapshot, group.name)
    return _next(
        snapshot,
        groups=tuple(each for each in snapshot.groups if each is not group),
        coming=tuple(each for each in snapshot.coming if each is not coming),
        dropped=snapshot.dropped | {group.name: group.numbers_used},
    )


def check_droppable(snapshot: Snapshot, name: str) -> None:
    """Raises 55006 or 55000 where something needs the group."""
    if name == snapshot.home_group:
        raise PgError("55006", f'tablespace "{name}" cannot be dropped', detail="It is the home group.")
    copies = [each.group.name for each in snapshot.coming if each.origin == name]
    if copies:
        raise PgError("55006", f'tablespace "{name}" is being used', detail=f"Group {copies[0]} is being made from it.")
    for relation in snapshot.relations:
        if relation.group == name or name in relation.groups:
            raise PgError(
                "55000",
                f'tablespace "{name}" is not empty',
                detail=f"Rows of {relation.schema}.{relation.name} are in it.",
                hint="ALTER TABLE … SET TABLESPACE moves single tables and partitions.",
            )


def _next(snapshot: Snapshot, **changes: object) -> Snapshot:
    return msgspec.structs.replace(snapshot, version=snapshot.version + 1, **changes)
