"""The catalog's values: one immutable, numbered `Snapshot` of everything that planning and routing need to know.

Two sources make a snapshot. *Topology* (nodes, groups, instances) is decided by the control plane. *Relations* are what
PostgreSQL itself says about the schema-complete database (see `introspection.py`) joined with the placement that
table `hanse.placement` in that same database records. A change returns a new snapshot; nothing here is ever modified.

Every group holds the whole schema; placement says where *rows* are:

========== ===========================================================================================
kind       rows
========== ===========================================================================================
sharded    in its shards: partitions, each attached in exactly one group; the parent exists everywhere
partition  a shard addressed by its own name: in the one group that has it
reference  the same rows in every group
single     in one group, `Relation.group`; the table exists, empty, in the others
view       nowhere: expanded by PostgreSQL (pushed down) or by the workspace
sequence   its values are drawn in one group, `Relation.group`
catalog    pg_catalog, information_schema and hanse.*: answered by the schema-complete database
========== ===========================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property

import msgspec


class Kind(StrEnum):
    SHARDED = "sharded"
    PARTITION = "partition"
    REFERENCE = "reference"
    SINGLE = "single"
    VIEW = "view"
    MATERIALIZED_VIEW = "matview"  # rows in every group, as a reference table
    SEQUENCE = "sequence"


class Strategy(StrEnum):
    HASH = "hash"
    RANGE = "range"
    LIST = "list"


class Column(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    type_oid: int
    type_name: str  # format_type(): 'bigint', 'character varying(20)', 'public.mood'
    not_null: bool = False
    default: str | None = None  # pg_get_expr() of the default; None without one
    default_volatile: bool = False  # the default must be evaluated once per row, by one party
    default_sequence: str | None = None  # 'schema.name' (quoted as needed) when the default is nextval() of it
    identity: str = ""  # '', 'a' (ALWAYS) or 'd' (BY DEFAULT); default_sequence names its sequence
    generated: bool = False  # GENERATED ALWAYS AS (…) STORED: never given a value
    collation_deterministic: bool = True
    collation: str = ""  # '' : the cluster's own ("default") or "C", both of which compare bytes; else its name


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A partition's bound. Exactly one of the three forms; values are in PostgreSQL's text form of the key's type.

    None inside `lower` is MINVALUE, inside `upper` MAXVALUE; None inside `values` is NULL.
    """

    modulus: int | None = None
    remainder: int | None = None
    lower: tuple[str | None, ...] | None = None
    upper: tuple[str | None, ...] | None = None
    values: tuple[str | None, ...] | None = None
    default: bool = False


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    schema: str
    name: str
    group: str
    bound: Bound
    nameable: bool = True  # equal column order to the parent, not itself partitioned


class UniqueKey(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    columns: tuple[str, ...]
    primary: bool = False


class ForeignKey(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    columns: tuple[str, ...]
    referenced_schema: str
    referenced_name: str
    referenced_columns: tuple[str, ...]


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """What runs, inside one server, beside a statement that reads or writes a relation.

    `source` is the statement that made a trigger or a rule, and the expression of anything else. Of checks, defaults,
    generated columns and indexes only those are here that call what a user made.
    """

    kind: str  # 'trigger', 'policy', 'rule', 'check', 'default', 'generated', 'index'
    name: str  # a default's and a generated column's: the column
    source: str


class Relation(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    schema: str
    name: str
    kind: Kind
    oid: int = 0  # in the schema-complete database that made this snapshot: a handle, not for the wire
    owner: str = ""
    columns: tuple[Column, ...] = ()
    group: str | None = None  # single, partition, sequence: the one place its rows are
    # sharded tables
    strategy: Strategy | None = None
    key: tuple[str, ...] = ()  # the partition key's column names, in order
    key_types: tuple[int, ...] = ()  # their type oids
    shards: tuple[Shard, ...] = ()
    parent: tuple[str, str] | None = None  # partition: (schema, name) of the sharded table at the top
    # what decides whether a statement may name the partition (findings-gateway 1)
    nameable: bool = False  # no row security, no rules, no statement-level triggers
    row_security: bool = False
    has_triggers: bool = False  # user triggers of any kind
    has_deferrable: bool = False  # a constraint or trigger whose check may wait for the commit
    unique_keys: tuple[UniqueKey, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    view_definition: str | None = None  # pg_get_viewdef(), without the trailing semicolon
    view_security_invoker: bool = False
    code: tuple[Code, ...] = ()

    @cached_property
    def column_by_name(self) -> Mapping[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def identity(self) -> tuple[str, str]:
        return (self.schema, self.name)

    @property
    def awaits_shards(self) -> bool:
        """A HASH table that gets its shards with its first row."""
        return self.kind is Kind.SHARDED and self.strategy is Strategy.HASH and not self.shards

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The groups that hold rows of a sharded table, sorted."""
        return tuple(sorted({shard.group for shard in self.shards}))

    @cached_property
    def colocation(self) -> tuple[object, ...] | None:
        """Equal for tables whose equal keys always lie in the same group: same strategy, types, bounds, placement."""
        if self.kind is not Kind.SHARDED or not self.shards:
            return None
        bounds = tuple(sorted((msgspec.json.encode(s.bound).decode(), s.group) for s in self.shards))
        return (self.strategy, self.key_types, bounds)


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function or procedure that a user made."""

    schema: str
    name: str
    kind: str  # 'f' function, 'p' procedure, 'a' aggregate, 'w' window
    language: str
    volatility: str  # 'i', 's', 'v'
    argument_count: int
    returns_set: bool = False
    source: str = ""  # SQL and PL/pgSQL bodies; '' for others
    arguments: str = ""  # PL/pgSQL only: the argument list and the result, as CREATE FUNCTION has them
    result: str = ""
    search_path: str | None = None  # SET search_path = … of the function itself
    settings: tuple[str, ...] = ()  # names in its SET clauses
    security_definer: bool = False
    owner: str = ""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One PostgreSQL server of a group."""

    name: str  # 'g1.1'
    node: str
    host: str
    port: int
    role: str = "leader"  # 'leader' or 'follower'
    socket_directory: str | None = None  # where local processes find its Unix socket
    peer_port: int = 0  # of its agent, where it is one of several
    leaving: bool = False  # it is wanted no more, and goes when the group's rule does not count it any more

    @property
    def is_placed(self) -> bool:
        """Whether its node's agent has said where it is."""
        return self.port != 0


class Group(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    instances: tuple[Instance, ...]
    durability: str = "quorum"
    term: int = 0  # of the leader; 0: it is the only instance, or nobody has said so yet
    location: dict[str, str] = {}  # labels that each node with an instance has (labels.py)
    made: int = 0  # the highest number in an instance's name so far, if higher than those of today: none is used twice
    number: int = (
        0  # no other group ever has it; 0: as its place in the canonical order, while no group was added or dropped
    )

    def led_by(self, leader: str, term: int) -> Group:
        """Raises LookupError where `leader` is none of its instances."""
        if all(instance.name != leader for instance in self.instances):
            raise LookupError(leader)
        instances = tuple(
            msgspec.structs.replace(each, role="leader" if each.name == leader else "follower")
            for each in self.instances
        )
        return msgspec.structs.replace(self, instances=instances, term=term)

    @property
    def wanted(self) -> tuple[Instance, ...]:
        """The instances that the group is to have. Which it has, its leader's record says."""
        return tuple(instance for instance in self.instances if not instance.leaving)

    @property
    def numbers_used(self) -> int:
        return max(self.made, *(number_of(instance.name) for instance in self.instances))

    @property
    def is_replicated(self) -> bool:
        """Whether its servers are members: one that was never more than one server has no rule."""
        return any(instance.peer_port for instance in self.instances)

    @property
    def leader(self) -> Instance:
        for instance in self.instances:
            if instance.role == "leader":
                return instance
        raise LookupError(f"group {self.name} has no leader")


class Coming(msgspec.Struct, frozen=True, kw_only=True):
    """A group that is being made, as a copy of another; nobody uses it yet. Its first instance makes it."""

    group: Group
    origin: str  # the group whose leader is copied
    attempt: str = ""  # the one that is under way, or was: no earlier one can end well any more

    @property
    def founder(self) -> Instance:
        return self.group.instances[0]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    host: str
    gateway_port: int
    labels: dict[str, str] = {}
    control_port: int = 0  # of its control service, and of its Raft, on nodes that may have a vote; else 0
    raft_port: int = 0
    http_port: int = 0  # where balancers ask; 0: it has not said


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    version: int = 0
    schema_version: int = 0  # that changed the schema, or opened a group, last: gateway/versions.py
    database: str = "hanse"
    home_group: str = "g1"  # where single tables, sequences and statements without tables go
    nodes: tuple[Node, ...] = ()
    groups: tuple[Group, ...] = ()
    coming: tuple[Coming, ...] = ()
    dropped: dict[str, int] = {}  # name of a group that was → the highest number in the names of its instances
    numbers_given: int = 0  # the highest `Group.number` so far; 0: none was needed
    relations: tuple[Relation, ...] = ()
    functions: tuple[Function, ...] = ()
    schemas: tuple[str, ...] = ("public",)
    removed_nodes: tuple[str, ...] = ()

    @cached_property
    def relation_by_identity(self) -> Mapping[tuple[str, str], Relation]:
        return {relation.identity: relation for relation in self.relations}

    @cached_property
    def function_names(self) -> Mapping[str, tuple[Function, ...]]:
        found: dict[str, list[Function]] = {}
        for function in self.functions:
            found.setdefault(function.name, []).append(function)
        return {name: tuple(overloads) for name, overloads in found.items()}

    @cached_property
    def has_deferrable(self) -> bool:
        """Somewhere in the schema a check may wait for the commit."""
        return any(relation.has_deferrable for relation in self.relations)

    @cached_property
    def group_by_name(self) -> Mapping[str, Group]:
        return {group.name: group for group in self.groups}

    @cached_property
    def node_by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def coming_by_name(self) -> Mapping[str, Coming]:
        return {each.group.name: each for each in self.coming}

    @cached_property
    def group_numbers(self) -> Mapping[str, int]:
        """From 1; a group keeps its number, and a later one never has it."""
        return {name: self.group_by_name[name].number or place for place, name in enumerate(self.group_names, 1)}

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """Canonical order: sorted by the number in the name where there is one, then by name."""
        return tuple(sorted(self.group_by_name, key=group_order))

    def find(self, schema: str | None, name: str, search_path: tuple[str, ...]) -> Relation | None:
        """The relation that PostgreSQL would find for this name, or None (a catalog table, or nothing at all)."""
        if schema is not None:
            return self.relation_by_identity.get((schema, name))
        for candidate in search_path:
            found = self.relation_by_identity.get((candidate, name))
            if found is not None:
                return found
        return None


def number_of(instance: str) -> int:
    """2 for 'g1.2'."""
    return int(instance.rpartition(".")[2])


def group_order(name: str) -> tuple[int, str]:
    digits = "".join(character for character in name if character.isdigit())
    return (int(digits) if digits else 0, name)
