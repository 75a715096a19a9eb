"""What a schema change asks of its driver: a small closed set of steps, sent by generators that do no I/O themselves.

A *procedure* is a generator: it yields steps and is sent each step's answer (psycopg's `generators.py` has the idea).
The driver runs all steps of a statement inside one distributed transaction with a branch in the workspace and one in
every group; an error of any step ends the procedure and the transaction, so that a statement reaches every place or
none.

================ ================================================= ==============================================
step             what the driver does                              answer
================ ================================================= ==============================================
`Ask`            runs a query in the workspace's branch            rows; nothing is logged
`RunWorkspace`   runs a statement in the workspace's branch and    rows
                 logs it (with user and search_path) for the
                 other nodes' workspaces
`RunGroups`      runs each group's statements, in order            group → rows of its last statement
`Introspect`     reads the catalog in the workspace's branch       Snapshot
`MoveRows`       streams rows of a table between groups            number of rows
`Fill`           runs a query through the session's planner and    number of rows
                 loads its rows into a table of some groups
`Freeze`         drains and holds other sessions' statements on    None
                 these tables until the transaction ends
`Notice`         sends the client a NoticeResponse                 None
================ ================================================= ==============================================

**As whom.** A step's SQL runs as the session's user with the session's settings, unless `system` is set: then it runs as
Hanse's own superuser in the same transaction, with search_path = '', so that no operator or function of a client is
found. SQL with `system` is written here, never by a client, and qualifies all names; `Ask` is never `system`.

**Notices** of the workspace are the client's; those of groups repeat them and are dropped by the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import PgError
from ..model import Relation, Snapshot

Row = tuple[str | None, ...]
Rows = list[Row]
Identity = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ask:
    sql: str


@dataclass(frozen=True, slots=True)
class RunWorkspace:
    sql: str
    system: bool = False


@dataclass(frozen=True, slots=True)
class RunGroups:
    """`sql` maps a group to its statements; groups that are missing run nothing. Groups may run in parallel."""

    sql: Mapping[str, tuple[str, ...]]
    system: bool = False


@dataclass(frozen=True, slots=True)
class Introspect:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRows:
    """Rows of `source` in `source_groups` go to `target`: to all of `target_groups`, or, None, where it routes them."""

    source: Identity
    source_groups: tuple[str, ...]
    target: Identity
    columns: tuple[str, ...]  # of both, in this order; generated columns are not among them
    target_groups: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """The rows of `query`, planned by the session against the catalog as it was, go to `target` in each of `groups`."""

    query: str
    target: Identity
    columns: tuple[str, ...]
    groups: tuple[str, ...]
    as_role: str | None = None  # None: the session's user


@dataclass(frozen=True, slots=True)
class Freeze:
    identities: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    notice: PgError


Step = Ask | RunWorkspace | RunGroups | Introspect | MoveRows | Fill | Freeze | Notice
Procedure = Generator[Step, Any, "DdlResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DdlResult:
    """`tag` None: the command tag that PostgreSQL gives for the statement. `columns`: names of the result row."""

    tag: str | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DdlContext:
    """What a procedure knows when it starts. `snapshot` is the catalog as this transaction sees it."""

    snapshot: Snapshot
    search_path: tuple[str, ...] = ("public",)  # `$user` already replaced
    user: str = ""
    default_shard_count: int = 16
    make_verifier: Callable[[str], str] | None = None  # password → 'SCRAM-SHA-256$…'
    in_transaction_block: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)  # default_tablespace, standard_conforming_strings …

    @property
    def groups(self) -> tuple[str, ...]:
        return self.snapshot.group_names

    def find(self, name: Any) -> Relation | None:
        """The relation that a RangeVar names."""
        return self.snapshot.find(name.schemaname, name.relname, self.search_path)

    def target(self, name: Any) -> Identity:
        """(schema, name) of what CREATE would make for this RangeVar; schema '' where PostgreSQL will say 3F000."""
        if name.schemaname is not None:
            return (name.schemaname, name.relname)
        existing = set(self.snapshot.schemas)
        return (next((schema for schema in self.search_path if schema in existing), ""), name.relname)


def everywhere(groups: tuple[str, ...], *sql: str) -> dict[str, tuple[str, ...]]:
    return {group: sql for group in groups}
