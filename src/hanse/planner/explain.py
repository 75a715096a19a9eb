"""What EXPLAIN says of a plan above PostgreSQL's own lines: the route, the places, the statements sent.

Hanse: two phases over g1, g2
  Each group: SELECT city AS g0, count(*) AS p0 FROM users GROUP BY 1
  Workspace: SELECT g0 AS city, CAST(COALESCE(sum(p0), 0) AS bigint) AS count FROM hanse_partial GROUP BY g0
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..catalog.model import Snapshot
from ..core.ids import quote_identifier, quote_qualified
from .plan import (
    AnyOf,
    Between,
    Broadcast,
    Equal,
    Explain,
    FillTemporary,
    Forward,
    Gather,
    Identity,
    InsertRows,
    Merge,
    Param,
    Planned,
    Prune,
    Pull,
    Replicate,
    Scatter,
    TwoPhase,
    WithWrites,
    WriteBack,
)


def describe(planned: Planned, snapshot: Snapshot) -> list[str]:
    """The lines for one plan, without a line break at their ends. `snapshot` tells which shards there are."""
    plan = planned.plan
    handler = _DESCRIBERS.get(type(plan))
    if handler is None:
        return [f"Hanse: {type(plan).__name__.lower()}"]
    first, *rest = handler(plan, snapshot)
    return [f"Hanse: {first}", *(f"  {line}" for line in rest)]


def _forward(plan: Forward, snapshot: Snapshot) -> Iterator[str]:
    if plan.place is not None:
        yield f"forwarded to {plan.place}"
    elif plan.any_group:
        yield "forwarded to any group"
    else:
        yield "forwarded to the group of the key"
    yield from (_prune(prune, snapshot) for prune in plan.prunes)


def _scatter(plan: Scatter, snapshot: Snapshot) -> Iterator[str]:
    yield f"scattered to {_list(plan.groups)}, rows {_merge(plan.merge)}"
    yield from (_prune(prune, snapshot) for prune in plan.prunes)
    if plan.clock:
        yield "Time: the transaction's, written into the statement once for all groups"
    yield f"Each group: {plan.sql}" if plan.sql is not None else "Each group: the statement as it is"


def _two_phase(plan: TwoPhase, snapshot: Snapshot) -> Iterator[str]:
    yield f"two phases over {_list(plan.groups)}"
    yield from (_prune(prune, snapshot) for prune in plan.prunes)
    yield f"Each group: {plan.partial_sql}"
    yield f"Workspace: {plan.final_sql}"


def _gather(plan: Gather, snapshot: Snapshot) -> Iterator[str]:
    yield f"gathered into the workspace{f', because of {plan.reason}' if plan.reason else ''}"
    for pull in plan.pulls:
        yield from _pull(pull, snapshot)
    yield from (f"Copy of temporary table {name}" for name in plan.temporary)
    yield f"Workspace: {plan.sql}" if plan.sql is not None else "Workspace: the statement as it is"


def _fill_temporary(plan: FillTemporary, snapshot: Snapshot) -> Iterator[str]:
    yield f"rows of another statement are copied into a temporary table: {plan.query_sql}"
    yield f"Temporary table: {plan.insert_sql or plan.create_head}"


def _pull(pull: Pull, snapshot: Snapshot) -> Iterator[str]:
    columns = ", ".join(quote_identifier(name) for name in pull.columns)
    where = f" WHERE {pull.where}" if pull.where else ""
    lock = f" {pull.lock}" if pull.lock else ""
    rights = f" as {pull.as_owner}" if pull.as_owner else ""
    yield f"Pull{rights}: SELECT {columns} FROM {quote_qualified(*pull.relation)}{where}{lock}"
    yield f"  {_places(pull.relation, snapshot)}"
    if pull.prune is not None:
        yield f"  {_prune(pull.prune, snapshot)}"


def _places(identity: Identity, snapshot: Snapshot) -> str:
    relation = snapshot.relation_by_identity.get(identity)
    if relation is None:
        return "Place: unknown"
    if relation.shards:
        return f"Shards: {len(relation.shards)} in {_list(relation.groups)}"
    return f"Place: {relation.group or 'any group'}"


def _prune(prune: Prune, snapshot: Snapshot) -> str:
    relation = snapshot.relation_by_identity.get(prune.relation)
    key = ", ".join(relation.key) if relation is not None else "key"
    name = quote_identifier(prune.relation[1])
    condition = prune.condition
    if condition is None:
        return f"Shards of {name}: all"
    if isinstance(condition, Equal):
        return f"Shards of {name}: the one of ({key})"
    if isinstance(condition, AnyOf):
        return f"Shards of {name}: those of {len(condition.alternatives)} values of ({key})"
    assert isinstance(condition, Between)
    return f"Shards of {name}: those of a range of ({key})"


def _merge(merge: Merge) -> str:
    parts = [f"merged by {_list(_key(merge, i) for i in range(len(merge.keys)))}" if merge.keys else "put together"]
    if merge.limit is not None:
        parts.append(f"limit {_bound(merge.limit)}")
    if merge.offset != 0:
        parts.append(f"offset {_bound(merge.offset)}")
    return ", ".join(parts)


def _key(merge: Merge, index: int) -> str:
    key = merge.keys[index]
    column = f"column {key.column + 1}" if key.column >= 0 else f"added column {key.column + merge.drop_columns + 1}"
    nulls = "" if key.nulls_first == key.descending else " nulls first" if key.nulls_first else " nulls last"
    return column + (" descending" if key.descending else "") + nulls


def _bound(bound: int | Param) -> str:
    return f"${bound.index + 1}" if isinstance(bound, Param) else str(bound)


def _list(names: Any) -> str:
    found: Sequence[str] = list(names)
    return ", ".join(found) or "no group"


def _insert(plan: InsertRows, snapshot: Snapshot) -> Iterator[str]:
    where = "to every group" if plan.replicated else "split by shard"
    yield f"{len(plan.rows)} rows into {quote_qualified(*plan.relation)}, {where}"


def _replicate(plan: Replicate, snapshot: Snapshot) -> Iterator[str]:
    how = "; rows made in the first are sent to the others" if plan.volatile else ""
    yield f"the same in every group, one after another: {quote_qualified(*plan.relation)}{how}"


def _write_back(plan: WriteBack, snapshot: Snapshot) -> Iterator[str]:
    yield f"{plan.verb} of {quote_qualified(*plan.relation)} by rows that a query computes"
    yield f"Query: {plan.query_sql}"


def _with_writes(plan: WithWrites, snapshot: Snapshot) -> Iterator[str]:
    yield "one statement after another"
    for item in plan.items:
        if item.writes:
            yield f"Kept as {item.name}: {item.sql}"
    yield f"Then: {plan.final.sql}"


def _broadcast(plan: Broadcast, snapshot: Snapshot) -> Iterator[str]:
    yield f"in each of {_list(plan.groups)}{' and the workspace' if plan.workspace else ''}"


def _explain(plan: Explain, snapshot: Snapshot) -> Iterator[str]:
    yield f"explanation of: {plan.inner_sql}"


_DESCRIBERS: dict[type, Callable[[Any, Snapshot], Iterator[str]]] = {
    Forward: _forward,
    Scatter: _scatter,
    TwoPhase: _two_phase,
    Gather: _gather,
    FillTemporary: _fill_temporary,
    InsertRows: _insert,
    Replicate: _replicate,
    WriteBack: _write_back,
    WithWrites: _with_writes,
    Broadcast: _broadcast,
    Explain: _explain,
}
