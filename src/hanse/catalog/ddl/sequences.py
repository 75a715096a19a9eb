"""Sequences are in every place, but values are drawn in one group; the copies elsewhere must never repeat a value.

The real sequence is in the group of `Relation.group`: the home group, or, when a single table owns it, that table's.
The gateway draws from there. But a trigger or a function may call nextval() in any group (findings-gateway 19), so
each other copy is *parked*: moved to a range of its own, n * 2**48 for the group of number n (`Snapshot.group_numbers`),
far above what the real one reaches: at a million values a second it arrives after nine years. A sequence that has no
such room (integer, smallint, a small MAXVALUE, a descending one) is parked at its end, so that nextval() there fails
(2200H) instead of repeating a value. CYCLE repeats values by definition and is left to do so.

Only the position of a copy differs, never its definition: so ALTER SEQUENCE runs everywhere and the copies are parked
again, from where they were. A copy whose position in its range is not known (it was parked at its end, or was the real
sequence for a while) is parked at its end: an error is better than a value that was given before.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from ...core.ids import quote_literal
from ..model import Kind, Relation, Snapshot
from . import text as surgery
from .places import groups_of, place, qualified, run_groups
from .steps import Ask, DdlContext, DdlResult, Identity, Procedure, RunGroups, RunWorkspace, Step

RANGE_BITS = 48
ROOM_MIN = 1 << 32  # values that a parked copy must have left

_PARK = """
DECLARE
    before bigint := {before};
    base bigint := {base};
    sequence record;
BEGIN
    {change}
    EXECUTE {restart};
    SELECT s.seqmax, s.seqmin, s.seqincrement INTO STRICT sequence
    FROM pg_catalog.pg_sequence s WHERE s.seqrelid = {name}::pg_catalog.regclass;
    IF sequence.seqincrement > 0 AND sequence.seqmax - {room} >= base AND coalesce(before, base) >= base THEN
        PERFORM pg_catalog.setval({name}::pg_catalog.regclass, coalesce(before, base), true);
    ELSIF sequence.seqincrement > 0 THEN
        PERFORM pg_catalog.setval({name}::pg_catalog.regclass, sequence.seqmax, true);
    ELSE
        PERFORM pg_catalog.setval({name}::pg_catalog.regclass, sequence.seqmin, true);
    END IF;
END
"""


def park(sequence: Identity, group_number: int, *, before: str = "NULL", change: str = "") -> str:
    """Moves a group's copy to where it is harmless; `change` runs after `before` was evaluated.

    `before` is an SQL expression for the copy's position: NULL for a new one; one below the group's range for a copy
    that was parked at its end or was the real sequence, so that nobody knows which values of the range were used.
    """
    body = _PARK.format(
        name=quote_literal(qualified(sequence)),
        restart=quote_literal(_undoable(sequence)).strip(),
        base=group_number << RANGE_BITS,
        room=ROOM_MIN,
        before=before,
        change=f"EXECUTE {quote_literal(change).strip()};" if change else "",
    )
    return "DO " + quote_literal(body).strip()


def _undoable(sequence: Identity) -> str:
    """setval() is not undone by a rollback; in a sequence that this transaction has restarted it is."""
    return f"ALTER SEQUENCE {qualified(sequence)} RESTART"


def _park_again(sequence: Identity, group_number: int, change: str = "") -> str:
    return park(sequence, group_number, before=f"(SELECT last_value FROM {qualified(sequence)})", change=change)


def numbers(ctx: DdlContext) -> dict[str, int]:
    return dict(ctx.snapshot.group_numbers)


def park_elsewhere(sequences: Iterable[Relation], ctx: DdlContext) -> Generator[Step, Any, None]:
    """Parks the copies of these sequences, wherever their values are not drawn."""
    found = tuple(sequences)
    number = numbers(ctx)
    yield from run_groups(
        {
            group: tuple(_park_again(s.identity, number[group]) for s in found if s.group != group)
            for group in ctx.groups
        },
        system=True,
    )


def settle_new(
    before: Snapshot, after: Snapshot, home: str, ctx: DdlContext, *, groups: tuple[str, ...] | None = None
) -> Generator[Step, Any, None]:
    """Sequences that a statement made (serial, identity): values are drawn in `home`, the other copies are parked."""
    made = [
        relation
        for relation in after.relations
        if relation.kind is Kind.SEQUENCE and relation.identity not in before.relation_by_identity
    ]
    number = numbers(ctx)
    if home != ctx.snapshot.home_group:
        for sequence in made:
            yield place(sequence.identity, Kind.SEQUENCE, home)
    parked = {
        group: tuple(park(sequence.identity, number[group]) for sequence in made)
        for group in (ctx.groups if groups is None else groups)
        if group != home
    }
    yield from run_groups(parked, system=True)


def create(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    identity = ctx.target(stmt.sequence)
    existed = identity in ctx.snapshot.relation_by_identity
    yield RunWorkspace(text)
    if existed:  # IF NOT EXISTS: the workspace has said so
        return DdlResult()
    yield from run_groups({group: (text,) for group in ctx.groups})
    number = numbers(ctx)
    yield from run_groups(
        {group: (park(identity, number[group]),) for group in ctx.groups if group != ctx.snapshot.home_group},
        system=True,
    )
    return DdlResult()


def alter(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """ALTER SEQUENCE: where the copy is parked, RESTART is replaced by a valid one, then the copy is parked again."""
    relation = ctx.find(stmt.sequence)
    groups = yield from groups_of(stmt.sequence, ctx)
    yield RunWorkspace(text)
    if relation is None or relation.kind is not Kind.SEQUENCE:  # IF EXISTS
        return DdlResult()
    number = numbers(ctx)
    sql: dict[str, tuple[str, ...]] = {}
    for group in groups:
        sql[group] = (text,)
        if group != relation.group:
            change = _restarted(text, stmt)
            sql[group] = (_park_again(relation.identity, number[group], change),)
    # As the user: setval() and ALTER need the owner's rights, which the user has just shown in the workspace.
    yield from run_groups(sql)
    owner = _owner(stmt, ctx)
    if owner is not None and owner.kind is Kind.SINGLE and owner.group is not None and owner.group != relation.group:
        yield from move(relation, owner.group, ctx)
    return DdlResult()


def _owner(stmt: Any, ctx: DdlContext) -> Relation | None:
    """The table of OWNED BY [schema.]table.column."""
    option = next((o for o in stmt.options or () if o.defname == "owned_by"), None)
    if option is None or len(option.arg) < 2:  # OWNED BY NONE
        return None
    names = [part.sval for part in option.arg]
    return ctx.snapshot.find(names[-3] if len(names) > 2 else None, names[-2], ctx.search_path)


def move(sequence: Relation, group: str, ctx: DdlContext) -> Generator[Step, Any, None]:
    """From now on its values are drawn in `group`, going on where they were."""
    old = sequence.group or ctx.snapshot.home_group
    last_value, is_called = yield from position(sequence.identity, old)
    yield place(sequence.identity, Kind.SEQUENCE, group)
    sql: dict[str, tuple[str, ...]] = {
        group: (_undoable(sequence.identity), set_position(sequence.identity, last_value, is_called)),
        old: (park(sequence.identity, numbers(ctx)[old], before="-1"),),
    }
    yield from run_groups(sql, system=True)


def _restarted(text: str, stmt: Any) -> str:
    """The statement with a bare RESTART, which is valid under any new limits, in place of the client's."""
    found = surgery.words(text)
    cuts = []
    for i, word in enumerate(found):
        if word.name == "RESTART" and word.depth == 0:
            end = i + 1
            while end < len(found) and found[end].name in ("WITH", "ICONST", "FCONST", "ASCII_45", "ASCII_43"):
                end += 1
            cuts.append(surgery.Cut(word.start, found[end - 1].end))
    changed = surgery.trimmed(surgery.apply(text, cuts))
    only_owner = all(option.defname == "owned_by" for option in stmt.options or ())
    return changed if only_owner and not cuts else changed + " RESTART"


def remember(sequences: Iterable[Identity]) -> list[str]:
    """Notes positions in the transaction's settings, before a statement that may move them."""
    return [
        f"SELECT pg_catalog.set_config('hanse.parked_{n}', (SELECT last_value::text FROM {qualified(sequence)}), true)"
        for n, sequence in enumerate(sequences)
    ]


def park_remembered(sequences: Iterable[Identity], group_number: int) -> list[str]:
    return [
        park(sequence, group_number, before=f"pg_catalog.current_setting('hanse.parked_{n}')::bigint")
        for n, sequence in enumerate(sequences)
    ]


def position(sequence: Identity, group: str) -> Generator[Step, Any, tuple[str, str]]:
    """(last_value, is_called) of a sequence in the group that draws its values."""
    answer = yield RunGroups({group: (f"SELECT last_value, is_called FROM {qualified(sequence)}",)}, system=True)
    last_value, is_called = answer[group][0]
    return last_value, is_called


def set_position(sequence: Identity, last_value: str, is_called: str) -> str:
    name = quote_literal(qualified(sequence))
    called = "true" if is_called in ("t", "true", True) else "false"
    return f"SELECT pg_catalog.setval({name}::pg_catalog.regclass, {last_value}, {called})"


def owned_by(relation: Identity) -> Ask:
    """Asks for schema and name of the sequences that belong to a table's columns."""
    return Ask(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_depend d"
        " JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
        f" AND d.refobjid = {quote_literal(qualified(relation))}::pg_catalog.regclass"
        " AND d.refclassid = d.classid AND d.deptype IN ('a', 'i') ORDER BY 1, 2"
    )
