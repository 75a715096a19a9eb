"""The changes of the catalog that are about nodes: one joins, one says where it is, one gets labels, one is gone."""

from __future__ import annotations

import msgspec

from ..core.errors import PgError
from .labels import changed as changed_labels
from .labels import with_changed_labels
from .model import Group, Instance, Node, Snapshot


class AddNode(msgspec.Struct, frozen=True, kw_only=True, tag="add_node"):
    """A machine joins. Instances come to it as to any other node."""

    node: Node


class PlaceNode(msgspec.Struct, frozen=True, kw_only=True, tag="place_node"):
    """A node's agent tells where the node and its instances are. Instances that the catalog does not know are left out, and
    the labels are those that the catalog has.
    """

    node: Node
    instances: tuple[Instance, ...] = ()


class RemoveNode(msgspec.Struct, frozen=True, kw_only=True, tag="remove_node"):
    """Its name is never used again: its certificate is still good."""

    name: str


class LabelNode(msgspec.Struct, frozen=True, kw_only=True, tag="label_node"):
    """Labels that a node gets, or has no more where the value is empty; the others stay."""

    name: str
    changes: dict[str, str]


NodeCommand = AddNode | PlaceNode | RemoveNode | LabelNode


def change_nodes(snapshot: Snapshot, command: NodeCommand) -> Snapshot:
    """Raises PgError 42710, 42704, 22023, 55000 or 55006."""
    match command:
        case AddNode(node=node):
            changed = _add(snapshot, node)
        case PlaceNode():
            changed = _place(snapshot, command)
        case RemoveNode(name=name):
            changed = _remove(snapshot, name)
        case LabelNode(name=name, changes=changes):
            _check_exists(snapshot, name)
            changed = with_changed_labels(snapshot, name, changes)
    return msgspec.structs.replace(changed, version=snapshot.version + 1)


def _add(snapshot: Snapshot, node: Node) -> Snapshot:
    if any(each.name == node.name for each in snapshot.nodes):
        raise PgError("42710", f'node "{node.name}" already exists')
    if node.name in snapshot.removed_nodes:
        raise PgError("42710", f'a node "{node.name}" was removed, and its name is not used again')
    node = msgspec.structs.replace(node, labels=changed_labels({}, node.labels))
    return msgspec.structs.replace(snapshot, nodes=(*snapshot.nodes, node))


def _place(snapshot: Snapshot, command: PlaceNode) -> Snapshot:
    _check_exists(snapshot, command.node.name)
    nodes = tuple(
        msgspec.structs.replace(command.node, labels=each.labels) if each.name == command.node.name else each
        for each in snapshot.nodes
    )
    here = {each.name: each for each in command.instances}
    groups = tuple(_group_at(group, here) for group in snapshot.groups)
    return msgspec.structs.replace(snapshot, nodes=nodes, groups=groups)


def _group_at(group: Group, here: dict[str, Instance]) -> Group:
    return msgspec.structs.replace(group, instances=tuple(_at(each, here.get(each.name)) for each in group.instances))


def _at(known: Instance, now: Instance | None) -> Instance:
    """Roles are told by others. One that has not been placed yet has more to say than its address (`PlaceInstance`)."""
    if now is None or not known.is_placed:
        return known
    return msgspec.structs.replace(
        known, host=now.host, port=now.port, peer_port=now.peer_port, socket_directory=now.socket_directory
    )


def _remove(snapshot: Snapshot, name: str) -> Snapshot:
    _check_exists(snapshot, name)
    holds = sorted(group.name for group in snapshot.groups if any(each.node == name for each in group.instances))
    if holds:
        raise PgError(
            "55006",
            f'node "{name}" has instances of {", ".join(holds)}',
            hint=f"Move them away first: hanse drain {name}.",
        )
    if len(snapshot.nodes) == 1:
        raise PgError("55006", f'node "{name}" is the only one')
    nodes = tuple(each for each in snapshot.nodes if each.name != name)
    return msgspec.structs.replace(snapshot, nodes=nodes, removed_nodes=(*snapshot.removed_nodes, name))


def _check_exists(snapshot: Snapshot, name: str) -> None:
    if all(each.name != name for each in snapshot.nodes):
        raise PgError("42704", f'node "{name}" does not exist')
