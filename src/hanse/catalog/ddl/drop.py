"""DROP of anything.

The workspace has every object, so it decides what exists and what depends on it. A group is told only of the objects
that it has, under their qualified names, since an unqualified name of a partition might mean another table where it is
missing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from ..model import Kind, Snapshot
from . import text as surgery
from .places import FORGET_DROPPED, Located, groups_of, locate, qualified, run, run_groups
from .steps import DdlContext, DdlResult, Freeze, Introspect, Procedure, RunWorkspace, Step

_RELATIONS = {
    "OBJECT_TABLE": "TABLE",
    "OBJECT_VIEW": "VIEW",
    "OBJECT_MATVIEW": "TABLE",  # in the groups it is one
    "OBJECT_INDEX": "INDEX",
    "OBJECT_SEQUENCE": "SEQUENCE",
}
_ON_RELATION = ("OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY")


def drop(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    kind = stmt.removeType.name
    plain = surgery.without_word(text, "CONCURRENTLY")
    if kind in _RELATIONS:
        yield from _drop_relations(stmt, _RELATIONS[kind], plain, ctx)
        return DdlResult()
    if kind in _ON_RELATION:
        groups = yield from groups_of(_owner(stmt.objects[0]), ctx)
        return (yield from run(plain, ctx, groups=groups))
    yield RunWorkspace(plain)
    yield from run_groups({group: (plain,) for group in ctx.groups})
    yield from _forget(ctx)
    return DdlResult()


def _drop_relations(stmt: Any, keyword: str, text: str, ctx: DdlContext) -> Generator[Step, Any, None]:
    names = [_split(name) for name in stmt.objects]
    found = yield from locate(names, ctx)
    held = tuple(item.identity for item in found if item.identity in ctx.snapshot.relation_by_identity)
    if held:
        yield Freeze(held)
    yield RunWorkspace(text)
    behavior = " CASCADE" if stmt.behavior.name == "DROP_CASCADE" else ""
    sql = {group: _statement(keyword, found, group, behavior) for group in ctx.groups}
    yield from run_groups(sql)
    yield from _forget(ctx)


def _statement(keyword: str, found: Sequence[Located], group: str, behavior: str) -> tuple[str, ...]:
    # The same object named twice is dropped once (PostgreSQL allows it).
    names = dict.fromkeys(qualified(item.identity) for item in found if group in item.groups)
    return (f"DROP {keyword} {', '.join(names)}{behavior}",) if names else ()


def _split(name: Any) -> tuple[str | None, str]:
    parts = [part.sval for part in name]
    return (parts[-2] if len(parts) > 1 else None, parts[-1])


class _Name:
    """A name list in the form of a RangeVar."""

    def __init__(self, schema: str | None, name: str) -> None:
        self.schemaname = schema
        self.relname = name


def _owner(name: Any) -> _Name:
    """The table of `DROP TRIGGER name ON [schema.]table`: PostgreSQL's parser puts the trigger's name last."""
    return _Name(*_split(name[:-1]))


def _forget(ctx: DdlContext) -> Generator[Step, Any, None]:
    """Placement of what is gone, and the groups' tables of materialized views that a CASCADE took in the workspace."""
    yield FORGET_DROPPED
    after: Snapshot = yield Introspect()
    gone = [
        relation
        for relation in ctx.snapshot.relations
        if relation.kind is Kind.MATERIALIZED_VIEW and relation.identity not in after.relation_by_identity
    ]
    if gone:
        names = ", ".join(qualified(relation.identity) for relation in gone)
        yield from run_groups({group: (f"DROP TABLE IF EXISTS {names} CASCADE",) for group in ctx.groups}, system=True)
