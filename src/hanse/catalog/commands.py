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
from .model import Function, Group, Node, Relation, Snapshot


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


Command = CommitDdl | SetTopology | SetLeader


class DdlEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What the log keeps of a CommitDdl: enough to repeat the change in an empty database."""

    version: int
    transaction_id: str
    role: str
    settings: dict[str, str]
    statements: tuple[str, ...]


def apply(snapshot: Snapshot, command: Command) -> Snapshot:
    """The snapshot after `command`. Raises PgError 40001 for a stale CommitDdl, 22023 or 2BP01 for an impossible
    topology.
    """
    match command:
        case CommitDdl():
            return _commit_ddl(snapshot, command)
        case SetTopology():
            return _set_topology(snapshot, command)
        case SetLeader():
            return _set_leader(snapshot, command)


def _set_leader(snapshot: Snapshot, command: SetLeader) -> Snapshot:
    known = snapshot.group_by_name.get(command.group)
    if known is None:
        raise PgError("22023", f'group "{command.group}" does not exist')
    group = known
    if command.term > known.term:
        try:
            group = known.led_by(command.leader, command.term)
        except LookupError:
            raise PgError("22023", f'group "{command.group}" has no instance "{command.leader}"') from None
    groups = tuple(group if each.name == group.name else each for each in snapshot.groups)
    return msgspec.structs.replace(snapshot, version=snapshot.version + 1, groups=groups)


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
