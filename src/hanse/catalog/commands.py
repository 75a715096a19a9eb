"""The changes of the catalog: each command is a value, and `apply` is the only place that knows what it does.

    snapshot 7 ── CommitDdl(expected_version=7, …) ──► snapshot 8
    snapshot 8 ── CommitDdl(expected_version=7, …) ──► 40001: somebody else's command came between

`apply` is a pure function: the state machine (`machine.py`) calls it on every voter of the control plane, commands in log order,
and comes to the same snapshots. It therefore reads no clock, draws no random number, asks nobody.

A `CommitDdl` carries the whole new set of relations and not a difference: the gateway that ran the statements has
read it back from the schema-complete database (introspection), which is the only party that knows what a statement did.
"""

from __future__ import annotations

import msgspec

from ..core.errors import PgError
from .group_commands import GroupCommand, apply_to_groups
from .labels import check_location
from .model import Function, Group, Instance, Node, Relation, Snapshot
from .node_commands import AddNode, LabelNode, NodeCommand, PlaceNode, RemoveNode, change_nodes


class CommitDdl(msgspec.Struct, frozen=True, kw_only=True, tag="commit_ddl"):
    """A schema change that has been run, and is prepared, everywhere: this command is its decision.

    `statements` are replayed, in order and as `role` with `settings` (search_path …), by every schema-complete database
    that did not take part; see `engines.postgres.replay` for how. `transaction_id` is unique for ever.
    """

    transaction_id: str
    expected_version: int  # the version that the statements were planned on
    role: str
    settings: dict[str, str] = {}
    statements: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()
    functions: tuple[Function, ...] = ()
    schemas: tuple[str, ...] = ("public",)


class SetTopology(msgspec.Struct, frozen=True, kw_only=True, tag="set_topology"):
    """Which nodes and groups there are, and who leads. Says nothing of the schema, and conflicts with no schema
    change.
    """

    nodes: tuple[Node, ...]
    groups: tuple[Group, ...]
    home_group: str | None = None  # None: as before


class SetLeader(msgspec.Struct, frozen=True, kw_only=True, tag="set_leader"):
    """Who leads a group. Leaders say so themselves; what an earlier one says late changes nothing."""

    group: str
    leader: str  # an instance's name
    term: int


class ChangeGroup(msgspec.Struct, frozen=True, kw_only=True, tag="change_group"):
    """What a group is to become: new instances on nodes, others that leave, another durability, another location. Its
    members follow.
    """

    group: str
    add: tuple[str, ...] = ()  # nodes
    remove: tuple[str, ...] = ()  # instances' names
    durability: str | None = None  # None: as before
    location: dict[str, str] | None = None  # likewise


class PlaceInstance(msgspec.Struct, frozen=True, kw_only=True, tag="place_instance"):
    """A node's agent tells where an instance of its own can be reached, or that it is one of several now."""

    group: str
    name: str
    host: str
    port: int
    peer_port: int
    socket_directory: str | None


class SettleGroup(msgspec.Struct, frozen=True, kw_only=True, tag="settle_group"):
    """The group's rule counts these members only: who leaves and is none of them is gone."""

    group: str
    members: tuple[str, ...]


Command = CommitDdl | SetTopology | SetLeader | ChangeGroup | PlaceInstance | SettleGroup | GroupCommand | NodeCommand


class DdlEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What the log keeps of a CommitDdl: enough to repeat the change in an empty database."""

    version: int
    transaction_id: str
    role: str
    settings: dict[str, str]
    statements: tuple[str, ...]


def apply(snapshot: Snapshot, command: Command) -> Snapshot:
    """The snapshot after `command`. Raises PgError 40001 for a stale CommitDdl, 22023 or 2BP01 for an impossible
    topology, and what `change_nodes` raises.
    """
    match command:
        case CommitDdl():
            return _commit_ddl(snapshot, command)
        case SetTopology():
            return _set_topology(snapshot, command)
        case SetLeader():
            return _set_leader(snapshot, command)
        case ChangeGroup():
            return _change_group(snapshot, command)
        case PlaceInstance():
            return _place_instance(snapshot, command)
        case SettleGroup():
            return _settle_group(snapshot, command)
        case AddNode() | PlaceNode() | RemoveNode() | LabelNode():
            return change_nodes(snapshot, command)
        case _:
            return apply_to_groups(snapshot, command)


def _known_group(snapshot: Snapshot, name: str) -> Group:
    known = snapshot.group_by_name.get(name)
    if known is None:
        raise PgError("22023", f'group "{name}" does not exist')
    return known


def _with_group(snapshot: Snapshot, group: Group) -> Snapshot:
    groups = tuple(group if each.name == group.name else each for each in snapshot.groups)
    return msgspec.structs.replace(snapshot, version=snapshot.version + 1, groups=groups)


def _change_group(snapshot: Snapshot, command: ChangeGroup) -> Snapshot:
    group = _known_group(snapshot, command.group)
    names = {instance.name for instance in group.instances}
    if missing := sorted(set(command.remove) - names):
        raise PgError("22023", f'group "{group.name}" has no instance "{missing[0]}"')
    nodes = {node.name: node for node in snapshot.nodes}
    instances = [
        msgspec.structs.replace(each, leaving=each.leaving or each.name in command.remove) for each in group.instances
    ]
    number = group.numbers_used
    for name in command.add:
        node = nodes.get(name)
        if node is None:
            raise PgError("22023", f'node "{name}" does not exist')
        if any(each.node == name for each in instances):
            raise PgError("22023", f'group "{group.name}" has an instance on node "{name}"')
        number += 1
        instances.append(Instance(name=f"{group.name}.{number}", node=name, host=node.host, port=0, role="follower"))
    changed = msgspec.structs.replace(
        group,
        instances=tuple(instances),
        made=number,
        durability=command.durability or group.durability,
        location=group.location if command.location is None else command.location,
    )
    if not changed.wanted:
        raise PgError("22023", f'group "{group.name}" needs an instance')
    check_location(snapshot, changed)
    return _with_group(snapshot, changed)


def _place_instance(snapshot: Snapshot, command: PlaceInstance) -> Snapshot:
    """What an agent says late of an instance that is gone changes nothing."""
    group = _known_group(snapshot, command.group)
    instances = tuple(
        msgspec.structs.replace(
            each,
            host=command.host,
            port=command.port,
            peer_port=command.peer_port,
            socket_directory=command.socket_directory,
        )
        if each.name == command.name
        else each
        for each in group.instances
    )
    return _with_group(snapshot, msgspec.structs.replace(group, instances=instances))


def _settle_group(snapshot: Snapshot, command: SettleGroup) -> Snapshot:
    group = _known_group(snapshot, command.group)
    stay = tuple(each for each in group.instances if not each.leaving or each.name in command.members)
    return _with_group(snapshot, msgspec.structs.replace(group, instances=stay))


def _set_leader(snapshot: Snapshot, command: SetLeader) -> Snapshot:
    known = _known_group(snapshot, command.group)
    group = known
    if command.term > known.term:
        try:
            group = known.led_by(command.leader, command.term)
        except LookupError:
            raise PgError("22023", f'group "{command.group}" has no instance "{command.leader}"') from None
    return _with_group(snapshot, group)


def entry_of(command: CommitDdl, version: int) -> DdlEntry:
    return DdlEntry(
        version=version,
        transaction_id=command.transaction_id,
        role=command.role,
        settings=command.settings,
        statements=command.statements,
    )


def _commit_ddl(snapshot: Snapshot, command: CommitDdl) -> Snapshot:
    if command.expected_version != snapshot.version:
        raise PgError(
            "40001",
            "the catalog changed meanwhile",
            detail=f"The statement was planned on version {command.expected_version}; now it is {snapshot.version}.",
            hint="The transaction might succeed if retried.",
        )
    return msgspec.structs.replace(
        snapshot,
        version=snapshot.version + 1,
        schema_version=snapshot.version + 1,
        relations=command.relations,
        functions=command.functions,
        schemas=command.schemas,
    )


def _set_topology(snapshot: Snapshot, command: SetTopology) -> Snapshot:
    _check_unique("node", [node.name for node in command.nodes])
    groups = [group.name for group in command.groups]
    _check_unique("group", groups)
    home = command.home_group or snapshot.home_group
    if home not in groups:
        raise PgError("22023", f'the home group "{home}" is not among the groups')
    for relation, group in _places(snapshot):
        if group not in groups:
            raise PgError(
                "2BP01",
                f'cannot remove group "{group}" because relations have rows in it',
                detail=f"{relation.schema}.{relation.name} is one of them.",
            )
    return msgspec.structs.replace(
        snapshot, version=snapshot.version + 1, nodes=command.nodes, groups=command.groups, home_group=home
    )


def _check_unique(kind: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PgError("22023", f'{kind} "{twice[0]}" is named twice')


def _places(snapshot: Snapshot) -> list[tuple[Relation, str]]:
    """Every (relation, group) pair that says where rows are."""
    shards = [(relation, shard.group) for relation in snapshot.relations for shard in relation.shards]
    return shards + [(relation, relation.group) for relation in snapshot.relations if relation.group is not None]
