"""Code that PostgreSQL runs beside a statement: triggers, row security policies, rules, checks, defaults, indexes.

It runs inside one group, or in every one, and sees the rows there (findings-gateway 2). So it may only touch what it finds in
*each* place where it may run:

==================== ============================ ===================================================================
the code is of       it runs                      it may touch
==================== ============================ ===================================================================
a sharded table      in its row's group           reference tables (read only), rows of co-located tables with its
                                                  row's partition key
a reference table    in every group               reference tables; what it writes there must be the same in each
a single table,      in one group                 reference tables (read only), what that group has all rows of
a named partition
a view               where its tables are         as for these
==================== ============================ ===================================================================

`refuse_new` asks this of the catalog after each schema change, whatever the change was: CREATE TRIGGER, another body for an old
function, a table that is sharded or moved under its readers. `refuse_at_use` asks it again when a statement is planned, with
that session's search path, by which bodies without one of their own find their tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pglast.parser import ParseError, parse_sql

from ..catalog.model import Code, Function, Kind, Relation, Snapshot
from ..core.errors import PgError, not_supported
from ..core.ids import quote_qualified
from ..sql.walk import names
from .effects import Effects, Reader, Touch, row_of, sequence
from .operands import Uses
from .plan import Context
from .restrict import Restriction

_COPIED = (Kind.REFERENCE, Kind.MATERIALIZED_VIEW)
_PLACED = (Kind.SINGLE, Kind.PARTITION, Kind.SEQUENCE)
_OWN_SESSIONS = frozenset(("currval", "lastval", "setval"))


@dataclass(frozen=True, slots=True)
class Violation:
    relation: Relation
    code: Code
    message: str
    hint: str

    @property
    def mark(self) -> tuple[object, ...]:
        return (self.relation.oid, self.code.kind, self.code.name, self.message)

    def error(self) -> PgError:
        what = self.code.kind if self.code.kind in ("trigger", "policy", "rule") else _CALLED[self.code.kind]
        named = f'{what} "{self.code.name}" of {_kind_name(self.relation)} "{self.relation.name}"'
        return not_supported(f"{named} {self.message}", detail=_WHERE[self.relation.kind], hint=self.hint)


_CALLED = {
    "check": "check constraint",
    "default": "default of column",
    "generated": "generated column",
    "index": "index",
}
_EVERYWHERE = "It runs in the group that has the row, and sees only that group's rows of other tables."
_WHERE = {
    Kind.SHARDED: _EVERYWHERE,
    Kind.PARTITION: "It runs in the partition's group.",
    Kind.REFERENCE: "It runs in every group.",
    Kind.SINGLE: "It runs in the table's group.",
}
_WHERE |= dict.fromkeys((Kind.VIEW, Kind.MATERIALIZED_VIEW, Kind.SEQUENCE), _EVERYWHERE)


def _kind_name(relation: Relation) -> str:
    return "view" if relation.kind is Kind.VIEW else "table"


# --- when --------------------------------------------------------------------------------------------------------


def refuse_new(before: Snapshot, after: Snapshot, path: tuple[str, ...]) -> None:
    """Raises 0A000 for code that would be wrong in the catalog after a schema change, and was not before."""
    if after is before or len(after.group_names) < 2:
        return
    found = list(violations(after, path))
    if not found:
        return
    known = {violation.mark for violation in violations(before, path)}
    for violation in found:
        if violation.mark not in known:
            raise violation.error()


def violations(snapshot: Snapshot, path: tuple[str, ...]) -> Iterator[Violation]:
    for relation in snapshot.relations:
        if relation.code:
            yield from of_relation(relation, snapshot, path)


def refuse_at_use(relation: Relation, snapshot: Snapshot, path: tuple[str, ...], *, writes: bool) -> None:
    """Raises 0A000 where code beside this table would be wrong in a session with this search path."""
    if not relation.code or len(snapshot.group_names) < 2:
        return
    for violation in of_relation(relation, snapshot, path):
        if writes or violation.code.kind in ("policy", "generated"):
            raise violation.error()


def of_relation(relation: Relation, snapshot: Snapshot, path: tuple[str, ...]) -> tuple[Violation, ...]:
    """Remembered with the snapshot: every statement that names the table asks."""
    memory: dict[Any, tuple[Violation, ...]] = snapshot.__dict__.setdefault("_attached_code", {})
    key = (relation.identity, path)
    known = memory.get(key)
    if known is None:
        found = (_judge(relation, code, snapshot, path) for code in relation.code)
        known = memory[key] = tuple(each for each in found if each is not None)
    return known


# --- one piece of code ---------------------------------------------------------------------------------------------


def _judge(relation: Relation, code: Code, snapshot: Snapshot, path: tuple[str, ...]) -> Violation | None:
    found = _Judgement(relation, code, snapshot, path).verdict()
    return None if found is None else Violation(relation, code, *found)


def place_of(relation: Relation, snapshot: Snapshot) -> str | None:
    """The one group that has all rows of a relation, None where several have some."""
    if relation.kind in _PLACED:
        return relation.group or snapshot.home_group
    if relation.kind is Kind.SHARDED and len(relation.groups) == 1:
        return relation.groups[0]
    return None


Verdict = tuple[str, str]  # message, hint
_APART = "Do it in a statement of its own, or make the table a reference table or co-locate it and join by its key."


@dataclass(slots=True)
class _Judgement:
    relation: Relation
    code: Code
    snapshot: Snapshot
    path: tuple[str, ...]

    def verdict(self) -> Verdict | None:
        reader = Reader(self.snapshot, self.path)
        try:
            refused = self._read(reader)
        except (ParseError, IndexError):
            return "cannot be read", "Please report it with its definition."
        return refused or self._of(reader.effects)

    def effects(self) -> Effects:
        reader = Reader(self.snapshot, self.path)
        try:
            self._read(reader)
        except (ParseError, IndexError):
            reader.effects.opaque = (self.code.name, "cannot be read")
        return reader.effects

    @property
    def place(self) -> str | None:
        if self.relation.kind is Kind.VIEW:
            return _place_of_view(self.relation, self.snapshot)
        if self.relation.kind is Kind.SHARDED and self.code.kind == "default":
            return None  # the gateway asks it of the home group
        return place_of(self.relation, self.snapshot)

    # --- reading -----------------------------------------------------------------------------------------------

    def _read(self, reader: Reader) -> Verdict | None:
        if self.code.kind == "trigger":
            return self._trigger(parse_sql(self.code.source)[0].stmt, reader)
        if self.code.kind == "rule":
            self._rule(parse_sql(self.code.source)[0].stmt, reader)
        elif self.code.kind == "default":
            reader.tree(parse_sql(f"SELECT {self.code.source}")[0].stmt)
        else:
            self._expression(reader)
        return None

    def _trigger(self, trigger: Any, reader: Reader) -> Verdict | None:
        if trigger.whenClause is not None:
            reader.tree(trigger.whenClause)
        if trigger.transitionRels and self.relation.kind is Kind.SHARDED and self.place is None:
            return (
                "would see the changed rows of one group only",
                "Use a row trigger: a statement may change rows in several groups.",
            )
        for function in _named(names(trigger.funcname), self.snapshot):
            reader.function(function, row_of(self.relation, frozenset()) if trigger.row else None)
        return None

    def _rule(self, rule: Any, reader: Reader) -> None:
        row = row_of(self.relation, frozenset())
        for action in rule.actions or ():
            reader.tree(action, row)
        if rule.whereClause is not None:
            reader.tree(_select(rule.whereClause), row)

    def _expression(self, reader: Reader) -> None:
        """Of a row of the table: subqueries see it under the table's name."""
        name = quote_qualified(*self.relation.identity)
        query: Any = parse_sql(f"SELECT 1 FROM {name} WHERE ROW({self.code.source}) IS NOT NULL")[0].stmt
        reader.expression(query, self.relation)

    # --- judging -----------------------------------------------------------------------------------------------

    def _of(self, effects: Effects) -> Verdict | None:
        if effects.opaque is not None and not self._all_at_place():
            name, why = effects.opaque
            return (
                f'calls function "{name}", which {why} and may touch tables of other groups',
                "Write the function in SQL or PL/pgSQL without EXECUTE.",
            )
        for touch in effects.touches:
            refused = self._touch(touch, effects)
            if refused is not None:
                return refused
        return self._session(effects) or self._steady(effects)

    def _all_at_place(self) -> bool:
        place = self.place
        tables = (r for r in self.snapshot.relations if r.kind not in (Kind.VIEW, Kind.SEQUENCE))
        return place is not None and all(place_of(relation, self.snapshot) == place for relation in tables)

    def _touch(self, touch: Touch, effects: Effects) -> Verdict | None:
        relation, verb = touch.relation, "change" if touch.writes else "read"
        if relation.kind in _COPIED:
            if not touch.writes or self._same_everywhere(relation, effects):
                return None
            return f'would change reference table "{relation.name}" in one group only', _WRITE_ELSEWHERE
        if touch.own:
            return None
        place = self.place
        if place is not None and place_of(relation, self.snapshot) == place:
            return None
        what = "sequence" if relation.kind is Kind.SEQUENCE else "table"
        home = place_of(relation, self.snapshot)
        where = "has rows in several groups" if home is None else f"is in group {home}"
        return f'would {verb} {what} "{relation.name}", which {where}', _APART

    def _same_everywhere(self, written: Relation, effects: Effects) -> bool:
        """Every group does the same to its copy."""
        if self.relation.kind is not Kind.REFERENCE or effects.unsteady or effects.calls:
            return False
        return not any(column.default_volatile or column.identity for column in written.columns)

    def _session(self, effects: Effects) -> Verdict | None:
        """Sequences, notifications and locks, which one server has for itself."""
        place = self.place
        for name in sorted(effects.calls - {"nextval"}):
            if name not in _OWN_SESSIONS and place == self.snapshot.home_group:
                continue
            if name in _OWN_SESSIONS and place is not None and self._drawn_at(place, effects):
                continue
            return f"calls {name}(), which is known in one group only", "Call it in a statement of its own."
        if effects.draws and place is not None and not self._drawn_at(place, effects):
            return (
                f"draws from a sequence of another group than {place}",
                "Use a default with nextval() for the column.",
            )
        return None

    def _drawn_at(self, place: str, effects: Effects) -> bool:
        found = (sequence(name, self.snapshot, self.path) for name in effects.sequences if name)
        return all(each is None or (each.group or self.snapshot.home_group) == place for each in found)

    def _steady(self, effects: Effects) -> Verdict | None:
        if self.relation.kind is Kind.REFERENCE and self.code.kind in ("trigger", "rule", "generated"):
            if effects.unsteady or effects.calls:
                return (
                    "may compute another value in each group",
                    "Copies of a reference table must be equal: use a column's default in place of now(), random() and the like.",
                )
        return None


_WRITE_ELSEWHERE = "Write to reference tables in statements of the session's own."


def _select(condition: Any) -> Any:
    query: Any = parse_sql("SELECT WHERE true")[0].stmt
    query.whereClause = condition
    return query


def _named(path: tuple[str, ...], snapshot: Snapshot) -> list[Function]:
    found = snapshot.function_names.get(path[-1], ())
    return [function for function in found if len(path) == 1 or function.schema == path[-2]]


def _place_of_view(view: Relation, snapshot: Snapshot) -> str | None:
    """The group of all tables under a view; the home group where these are reference tables, or none."""
    try:
        query: Any = parse_sql(view.view_definition or "")[0].stmt
    except (ParseError, IndexError):
        return None
    restriction = Restriction(snapshot, Context(search_path=()), Uses())
    restriction.statement(query)
    places = {
        place_of(table.ref.relation, snapshot)
        for table in restriction.tables
        if table.ref.relation is not None and table.ref.relation.kind not in (*_COPIED, Kind.VIEW)
    }
    if not places:
        return snapshot.home_group
    return places.pop() if len(places) == 1 else None


def draws_beside(relation: Relation, snapshot: Snapshot, path: tuple[str, ...]) -> tuple[Relation, ...] | None:
    """The sequences that triggers and rules of a table may draw from; None: they draw from none."""
    found: list[Relation] = []
    draws = False
    for code in relation.code:
        if code.kind in ("trigger", "rule", "default"):
            judgement = _Judgement(relation, code, snapshot, path)
            effects = judgement.effects()
            draws = draws or may_draw(effects)
            found += sequences_of(effects, snapshot, path)
    return tuple(dict.fromkeys(found)) if draws else None


def may_draw(effects: Effects) -> bool:
    return effects.opaque is not None or effects.draws or any(touch.writes for touch in effects.touches)


def sequences_of(effects: Effects, snapshot: Snapshot, path: tuple[str, ...]) -> list[Relation]:
    """Those that are named, and those behind the defaults of tables that are written."""
    named = [sequence(name, snapshot, path) for name in effects.sequences if name]
    written = [
        each for touch in effects.touches if touch.writes for each in default_sequences(touch.relation, snapshot)
    ]
    return [each for each in (*named, *written) if each is not None]


def default_sequences(relation: Relation, snapshot: Snapshot) -> list[Relation]:
    names_of = (column.default_sequence for column in relation.columns if column.default_sequence is not None)
    found = (sequence(name, snapshot, ()) for name in names_of)
    return [each for each in found if each is not None]
