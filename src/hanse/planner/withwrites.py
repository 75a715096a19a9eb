"""A WITH clause that writes, where no single group can run the whole: `WithWrites`.

PostgreSQL runs all parts of such a statement on one snapshot: none sees what another has written, they tell each other
only through RETURNING (manual, 7.8.4). Run one after another, a part would see the writes of those before it. So this is
done only when that cannot matter, else refused:

- no statement reads a table that one before it writes (its own target counts as read, unless it only inserts); tables
  that foreign keys may change along with it count as written, and a table with triggers as all of them;
- no table is written by two of them, where the second does more than insert;
- foreign keys, which PostgreSQL checks at the end of the whole, hold after each: the referenced table is written first when
  rows are inserted, last when they are deleted;
- a WITH query that only reads is evaluated where it is used; with volatile functions it may be used once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums

from ..catalog.model import Kind, Relation, Snapshot
from ..core.errors import PgError, not_supported
from ..core.ids import quote_identifier
from ..sql.render import NotRenderable, clone, render
from ..sql.walk import walk
from .analysis import Analysis
from .forward import plan_forward
from .operands import parameters
from .plan import Identity, Planned, WithItem, WithWrites
from .restrict import Restriction

WRITES = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)


def writes_within(node: Any) -> bool:
    clause = getattr(node, "withClause", None)
    return clause is not None and any(isinstance(cte.ctequery, WRITES) for cte in clause.ctes)


def plan_with_writes(analysis: Analysis) -> Planned:
    """The plan of a statement with a WITH query that writes."""
    node = analysis.parsed.node
    planned = None if _routes_rows(analysis) else plan_forward(analysis)
    if planned is not None:
        return planned
    if node.withClause.recursive:
        raise _refused("WITH RECURSIVE cannot be divided.")
    order = _Order(analysis)
    items: list[WithItem] = []
    for cte in node.withClause.ctes:
        item = _item(cte, items)
        order.add(cte.ctequery, item)
        items.append(item)
    final = _item_of(_without_with(node), "", "", items)
    order.add(_without_with(node), final)
    _check_items(analysis, node, items, final)
    return analysis.planned(WithWrites(items=tuple(items), final=final))


def _routes_rows(analysis: Analysis) -> bool:
    """An INSERT whose rows must be looked at: keys to be computed, several shards."""
    if not isinstance(analysis.parsed.node, ast.InsertStmt):
        return False
    relation = analysis.target().ref.relation
    return relation is not None and relation.kind in (Kind.SHARDED, Kind.REFERENCE, Kind.VIEW)


def _refused(detail: str) -> PgError:
    return not_supported(
        "this WITH query that writes cannot be part of a statement over several groups",
        detail=detail,
        hint="Run the statements one after another in a transaction.",
    )


# --- texts -------------------------------------------------------------------------------------------------------


def _without_with(node: Any) -> Any:
    found = clone(node)
    found.withClause = None
    return found


def _item(cte: Any, before: list[WithItem]) -> WithItem:
    name = quote_identifier(cte.ctename)
    columns = ", ".join(quote_identifier(column.sval) for column in cte.aliascolnames or ())
    query = cte.ctequery
    writes = isinstance(query, WRITES)
    if writes and query.withClause is not None:
        raise _refused(f"WITH query {name} has a WITH clause of its own.")
    option = {
        enums.CTEMaterialize.CTEMaterializeAlways: "MATERIALIZED ",
        enums.CTEMaterialize.CTEMaterializeNever: "NOT MATERIALIZED ",
    }.get(cte.ctematerialized, "")
    return _item_of(query, name, f" ({columns})" if columns else "", before, writes=writes, option=option)


def _item_of(
    query: Any, name: str, columns: str, before: list[WithItem], *, writes: bool = False, option: str = ""
) -> WithItem:
    try:
        sql = render(query)
    except NotRenderable as error:
        raise _refused(str(error)) from error
    return WithItem(name=name, columns=columns, sql=sql, writes=writes, option=option, needs=_needs(query, before))


def _needs(query: Any, before: list[WithItem]) -> tuple[int, ...]:
    """The items that a query names, and those that they need, if they are not rows yet."""
    named = {
        quote_identifier(found.relname or "")
        for found in walk(query)
        if isinstance(found, ast.RangeVar) and found.schemaname is None
    }
    found: set[int] = set()
    for number, item in enumerate(before):
        if item.name in named:
            found.add(number)
            if not item.writes:
                found.update(item.needs)
    return tuple(sorted(found))


def _check_items(analysis: Analysis, node: Any, items: list[WithItem], final: WithItem) -> None:
    for number, item in enumerate(items):
        uses = sum(number in other.needs for other in (*items, final))
        query = node.withClause.ctes[number].ctequery
        if item.writes and uses and query.returningClause is None:
            raise PgError(
                "0A000", f'WITH query "{node.withClause.ctes[number].ctename}" does not have a RETURNING clause'
            )
        if not item.writes and uses > 1 and analysis.volatile(query):
            raise _refused(f"WITH query {item.name} is volatile and would be evaluated {uses} times.")


# --- what may run after what ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Order:
    """The statements so far: what they have written.

    A WITH query that only reads is evaluated within each statement that needs it, hence reads its tables as late as that.
    """

    analysis: Analysis
    reads: list[frozenset[Identity]] = field(default_factory=list)  # by item: what whoever needs it reads
    written: set[Identity] = field(default_factory=set)  # changed by a statement or along with it
    targets: list[tuple[Relation, bool]] = field(default_factory=list)  # (written table, only inserted into)
    triggered: bool = False

    @property
    def _snapshot(self) -> Snapshot:
        return self.analysis.snapshot

    def add(self, node: Any, item: WithItem) -> None:
        """The next statement. Raises 0A000 if it would see what one before it has done."""
        restriction = Restriction(self._snapshot, self.analysis.context, parameters(node))
        known = self.analysis.parsed.node.withClause.ctes[: len(self.reads)]
        restriction.statement(node, ctes={cte.ctename: None for cte in known})
        refs = [table.ref for table in restriction.tables if table.ref.relation is not None]
        only_inserts = isinstance(node, ast.InsertStmt) and node.onConflictClause is None
        own = {_whole(ref.relation) for ref in refs if ref.relation and not (ref.target and only_inserts)}
        read = own.union(*(self.reads[number] for number in item.needs))
        if restriction.unseen or (self.triggered and read) or read & self.written:
            raise _refused("A part of it reads what a part before it writes.")
        self.reads.append(frozenset() if item.writes else frozenset(read))
        for ref in refs:
            if ref.target and ref.relation is not None and ref.relation.kind is not Kind.VIEW:
                self._write(ref.relation, only_inserts)

    def _write(self, relation: Relation, only_inserts: bool) -> None:
        whole = self._snapshot.relation_by_identity.get(_whole(relation), relation)
        for before, inserted in self.targets:
            late = _refers(before, whole) if inserted else _refers(whole, before) or _refers(before, whole)
            if late and before.identity != whole.identity:
                raise _refused(f'Tables "{before.name}" and "{whole.name}" refer to each other by a foreign key.')
        self.targets.append((whole, only_inserts))
        self.triggered |= whole.has_triggers
        self._spread(whole.identity)

    def _spread(self, identity: Identity) -> None:
        """The table, and those that ON DELETE and ON UPDATE actions may change."""
        if identity in self.written:
            return
        self.written.add(identity)
        for other in self._snapshot.relations:
            if any((key.referenced_schema, key.referenced_name) == identity for key in other.foreign_keys):
                self._spread(_whole(other))


def _refers(one: Relation, other: Relation) -> bool:
    return any((key.referenced_schema, key.referenced_name) == other.identity for key in one.foreign_keys)


def _whole(relation: Relation) -> Identity:
    """A partition is a part of its table."""
    return relation.parent or relation.identity
