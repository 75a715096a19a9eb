"""A table's definition, read back from the workspace as statements: to make it again elsewhere, or in another form.

PostgreSQL has no SHOW CREATE TABLE, but it deparses every part (pg_get_constraintdef and its relatives, as pg_dump uses
them). Names are qualified and stay valid while the old table waits in another schema, since the new one takes its name.

Order matters when the statements run: columns, then identity, then (rows here) keys and indexes, then everything that
must not notice the rows being moved: foreign keys, triggers, rules, policies; views at the end.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib import resources
from typing import Any

import msgspec

from ...core.ids import quote_identifier, quote_literal
from .places import qualified
from .steps import Ask, DdlContext, Identity, RunWorkspace, Step

_SQL = resources.files(__package__).joinpath("definition.sql").read_text("utf-8")


class Identities(msgspec.Struct, frozen=True, array_like=True):
    """An identity column's sequence, and the statement that adds both."""

    schema: str
    name: str
    add: str


class Serial(msgspec.Struct, frozen=True, array_like=True):
    """A sequence that a column owns without being an identity column."""

    disown: str
    own: str
    schema: str
    name: str
    create: str
    give: str


class Pair(msgspec.Struct, frozen=True, array_like=True):
    drop: str
    create: str


class ForeignKeyPair(msgspec.Struct, frozen=True, array_like=True):
    drop: str
    create: str
    schema: str  # of the referencing table
    name: str


class View(msgspec.Struct, frozen=True, array_like=True):
    drop: str
    create: tuple[str, ...]


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    schema: str
    name: str
    owner: str
    unlogged: bool
    storage: str  # reloptions: 'fillfactor=70'
    partition_key: str | None  # 'HASH (a)'
    obstacles: tuple[str, ...]  # why the table cannot be made again faithfully
    columns: tuple[str, ...]
    column_settings: tuple[str, ...]
    identities: tuple[Identities, ...]
    serials: tuple[Serial, ...]
    constraints: tuple[str, ...]
    indexes: tuple[str, ...]
    statistics: tuple[Pair, ...]
    foreign_keys: tuple[ForeignKeyPair, ...]  # in both directions
    behaviour: tuple[str, ...]  # rules, triggers, policies, row security flags
    rights: tuple[str, ...]
    comments: tuple[str, ...]
    replica_identity: str | None
    views: tuple[View, ...]  # lowest first

    @property
    def identity(self) -> Identity:
        return (self.schema, self.name)


def capture(relation: Identity, ctx: DdlContext) -> Generator[Step, Any, Definition]:
    """The definition of a table as the workspace has it now."""
    yield Ask("SET LOCAL search_path = ''")
    rows = yield Ask(_SQL.replace("{relation}", quote_literal(qualified(relation))))
    path = ", ".join(quote_identifier(schema) for schema in ctx.search_path) or "''"
    yield Ask(f"SET LOCAL search_path = {path}")
    return msgspec.json.decode(rows[0][0], type=Definition)


def create_table(definition: Definition, *, partition_by: str | None) -> str:
    """CREATE TABLE with columns only. A partitioned table has no storage parameters: its partitions do."""
    parts = ["CREATE"]
    if definition.unlogged and partition_by is None:
        parts.append("UNLOGGED")
    parts += ["TABLE", qualified(definition.identity), f"({', '.join(definition.columns)})"]
    if partition_by is not None:
        parts.append(f"PARTITION BY {partition_by}")
    elif definition.storage:
        parts.append(f"WITH ({definition.storage})")
    return " ".join(parts)


def create_statements(definition: Definition) -> list[str]:
    """Everything for an empty copy of the table in a place that has nothing of it, but for foreign keys to it."""
    table = create_table(definition, partition_by=definition.partition_key)
    own_keys = [k.create for k in definition.foreign_keys if (k.schema, k.name) == definition.identity]
    return [
        *(serial.create for serial in definition.serials),
        table,
        *(serial.give for serial in definition.serials),
        *(serial.own for serial in definition.serials),
        *definition.column_settings,
        *(identity.add for identity in definition.identities),
        *definition.constraints,
        *definition.indexes,
        *(pair.create for pair in definition.statistics),
        *own_keys,
        *([definition.replica_identity] if definition.replica_identity else []),
        *definition.behaviour,
        *definition.rights,
        *definition.comments,
    ]


__all__ = ["Definition", "RunWorkspace", "capture", "create_statements", "create_table"]
