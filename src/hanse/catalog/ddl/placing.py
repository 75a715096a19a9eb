"""Which group a table or a shard goes to.

A replica group is a tablespace (DESIGN §3), so `TABLESPACE g2` says it. Without the clause, `default_tablespace` does
where it names a group; then single tables go to the home group and shards are spread:

- HASH: remainder modulo the number of groups, in canonical order. Tables with equal shard counts and key types are then
  co-located without a word.
- RANGE and LIST: the group with the fewest shards of the table, the first in canonical order among equals. Tables whose
  partitions are made in the same order are then co-located.
- A shard of a table that foreign keys join with another goes where that table's shard of equal bounds is.
"""

from __future__ import annotations

from typing import Any

from ...core.errors import PgError
from ..model import Bound, Relation, Shard
from .checks import equal_bound, linked
from .steps import DdlContext

ORDINARY_TABLESPACES = ("pg_default", "pg_global")  # accepted, and without meaning


def chosen_group(tablespace: str | None, ctx: DdlContext) -> str | None:
    """The group that a TABLESPACE clause or default_tablespace names; None: the statement leaves it to us."""
    name = tablespace or ctx.settings.get("default_tablespace", "").strip('"')
    if not name or name in ORDINARY_TABLESPACES:
        return None
    if name in ctx.snapshot.group_by_name:
        return name
    raise PgError(
        "42704",
        f'tablespace "{name}" does not exist',
        hint=f"A group of servers is a tablespace here: {', '.join(ctx.groups)}.",
    )


def group_for_shard(parent: Relation, bound: Bound, wanted: str | None, ctx: DdlContext) -> str:
    """Where a new shard goes. `parent` is the table as it was before, `wanted` what the client named."""
    if wanted is not None:
        return wanted
    for other in linked(parent, ctx.snapshot):
        shard = equal_bound(other, bound)
        if shard is not None:
            return shard.group
    if bound.remainder is not None:
        return ctx.groups[bound.remainder % len(ctx.groups)]
    return _fewest(parent.shards, ctx)


def _fewest(shards: tuple[Shard, ...], ctx: DdlContext) -> str:
    counts = dict.fromkeys(ctx.groups, 0)
    for shard in shards:
        counts[shard.group] = counts.get(shard.group, 0) + 1
    return min(ctx.groups, key=lambda group: (counts[group], ctx.groups.index(group)))


def options_of(stmt: Any) -> dict[str, Any]:
    """The WITH options of a statement, values as str or int."""
    found: dict[str, Any] = {}
    for element in stmt.options or ():
        argument = element.arg
        for attribute in ("ival", "sval", "fval"):
            if hasattr(argument, attribute):
                argument = getattr(argument, attribute)
        if hasattr(argument, "names"):  # an unquoted word arrives as a type's name
            argument = argument.names[-1].sval
        found[element.defname] = argument
    return found
