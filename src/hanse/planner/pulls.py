"""What the workspace needs of each table to run the client's own text: columns, rows, and whose rights apply.

Every relation that the statement touches at any depth is found: in subqueries, common table expressions, the
definitions of views (with the rights of the view's owner) and the bodies of functions that users made.

*Columns.* A column is pulled when its name occurs anywhere in the query that names the table, or in one around or
below it; all columns where there is a `*` over the table, its whole row, NATURAL, or other names for its columns. The
primary key is always pulled: PostgreSQL may need it (GROUP BY a primary key), and the workspace's tables have it.

*Rows.* Of a WHERE clause, the conjuncts that speak of one table only and that compute the same in any place become
the pull's condition; of ON, those over the nullable side of an outer join, or either side of an inner one. Not where
the table is on the nullable side and the condition in WHERE: there the condition sees null-extended rows. A table
that occurs twice is pulled by the OR of its conditions. Nothing passes from a query into a subquery.

    SELECT a.x FROM a LEFT JOIN b ON b.k = a.k AND b.y > 3 WHERE a.z = 'q' AND b.w IS NULL
        a: columns (primary key), x, k, z    where z = 'q'
        b: columns (primary key), k, y, w    where y > 3

It does not push parameters ($n), functions that users made, and anything that reads the clock; those rows are pulled
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pglast import enums

from ..catalog.model import Kind, Relation, Snapshot
from ..core.errors import not_supported
from ..sql.functions import calls as find_calls
from ..sql.scope import table_refs
from . import calls
from .clock import names_moment, reads_clock
from .grouping import aggregate_calls
from .locality import VIEW_SEARCH_PATH, view_query
from .names import Item, Scope, relation_outputs, resolve
from .plan import Context, Identity, Prune, Pull
from .tree import (
    Node,
    Unprintable,
    ast,
    changed,
    conjuncts,
    is_plain_column,
    parse_expression,
    render_expression,
    strings,
    transform,
    walk,
)

PruneOf = Callable[[Identity], Prune | None]
_SYSTEM_COLUMNS = frozenset(("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"))
_STORED = (Kind.SHARDED, Kind.PARTITION, Kind.REFERENCE, Kind.SINGLE, Kind.MATERIALIZED_VIEW)
_PUSHABLE = (
    ast.A_Expr, ast.BoolExpr, ast.NullTest, ast.BooleanTest, ast.TypeCast, ast.TypeName, ast.A_Const, ast.ColumnRef,
    ast.FuncCall, ast.CoalesceExpr, ast.A_ArrayExpr, ast.MinMaxExpr, ast.CaseExpr, ast.CaseWhen, ast.String, ast.Integer,
    ast.Float, ast.Boolean, ast.BitString, ast.RowExpr, ast.A_Indirection, ast.A_Indices,
)  # fmt: skip


@dataclass(slots=True)
class _Wanted:
    """What all occurrences of one relation need together."""

    relation: Relation
    columns: set[str] = field(default_factory=set)
    conditions: list[Node] | None = field(
        default_factory=list
    )  # one per occurrence, columns unqualified; None: all rows
    owners: set[str | None] = field(default_factory=set)
    locks: set[str] = field(default_factory=set)
    in_function: bool = False  # read by a body, of which nothing more is known
    only: set[bool] = field(default_factory=set)  # whether occurrences say ONLY, which a sharded table has no rows for


class Collector:
    """Finds everything that a statement reads. Raises PgError for what the workspace cannot be given."""

    def __init__(self, snapshot: Snapshot, context: Context) -> None:
        self.snapshot = snapshot
        self.context = context
        self.wanted: dict[Identity, _Wanted] = {}
        self.temporary: set[str] = set()  # the session's temporary tables that are read
        self._in_definer = False  # below a SECURITY DEFINER function of another role
        self._seen_views: set[tuple[Identity, str | None, bool]] = set()

    def statement(self, node: Node) -> None:
        self._query(node, self.context, None)

    def pulls(self, prune_of: PruneOf | None = None) -> tuple[Pull, ...]:
        found = []
        for identity in sorted(self.wanted):
            wanted = self.wanted[identity]
            condition = _either(wanted.conditions)
            prunable = prune_of is not None and wanted.relation.kind is Kind.SHARDED and not wanted.in_function
            found.append(
                Pull(
                    relation=identity,
                    columns=_in_order(wanted),
                    where=None if condition is None else _printed(condition),
                    prune=prune_of(identity) if prunable and prune_of is not None else None,
                    as_owner=_whose_rights(wanted),
                    lock=_lock_clause(wanted.locks),
                )
            )
        return tuple(found)

    # --- queries, views, functions -------------------------------------------------------------------------------

    def _query(self, node: Node, context: Context, owner: str | None) -> None:
        """`owner`: whose rights apply to the tables named here; None: the user's."""
        calls.check(node, self.snapshot)
        occurrences = {id(each.node): each for each in _occurrences(node)}
        mentioned = _mentioned(node)
        for reference in table_refs(node, self.snapshot, context):
            if reference.temporary:
                self.temporary.add(reference.node.relname)
            if reference.relation is None or reference.is_catalog:
                continue
            occurrence = occurrences.get(id(reference.node)) or _Occurrence(reference.node)
            self._relation(reference.relation, occurrence, mentioned, context, owner)
        self._functions(node)

    def _relation(
        self, relation: Relation, occurrence: _Occurrence, mentioned: _Mentioned, context: Context, owner: str | None
    ) -> None:
        if relation.kind is Kind.VIEW:
            self._view(relation, owner)
            return
        if relation.kind is Kind.SEQUENCE:
            raise not_supported(f"sequence {relation.name} cannot be read together with tables of several groups")
        self._check_definer(relation)
        wanted = self.wanted.setdefault(relation.identity, _Wanted(relation))
        wanted.owners.add(self._if_another(owner))
        wanted.columns |= mentioned.columns_of(relation, occurrence)
        wanted.locks |= occurrence.locks
        wanted.only.add(relation.kind is Kind.SHARDED and not occurrence.node.inh)
        if len(wanted.only) > 1:
            raise not_supported(
                f"table {relation.name} is read with and without ONLY in one statement over several groups"
            )
        condition = _FALSE if True in wanted.only else _condition(relation, occurrence, self.snapshot, context)
        if condition is None:
            wanted.conditions = None
        elif wanted.conditions is not None:
            wanted.conditions.append(condition)

    def _view(self, relation: Relation, owner: str | None) -> None:
        """The view's own query; tables below it are read with its owner's rights, unless it is security_invoker."""
        below = owner if relation.view_security_invoker else relation.owner or None
        mark = (relation.identity, below, self._in_definer)
        if mark not in self._seen_views:
            self._seen_views.add(mark)
            self._query(view_query(relation), Context(search_path=VIEW_SEARCH_PATH, user=below or ""), below)

    def _functions(self, node: Node) -> None:
        """Bodies are opaque: whole tables, as the user (a function runs with its caller's rights) or as its owner."""
        for relation, definer in calls.bodies(node, self.snapshot).reads:
            owner = self._if_another(definer)
            before, self._in_definer = self._in_definer, self._in_definer or owner is not None
            if relation.kind is Kind.VIEW:
                self._view(relation, owner)
            elif relation.kind in _STORED:
                self._check_definer(relation)
                wanted = self.wanted.setdefault(relation.identity, _Wanted(relation))
                wanted.owners.add(owner)
                wanted.columns |= set(relation.column_by_name)
                wanted.conditions = None
                wanted.in_function = True
                wanted.only.add(False)
            self._in_definer = before

    def _check_definer(self, relation: Relation) -> None:
        """A pull reads as a view of the owner's does, in which `current_user` is still the user; in the function it is not."""
        if self._in_definer and relation.row_security:
            raise not_supported(
                f"table {relation.name} has row security and is read by a function with the rights of another role",
                detail="In a statement over several groups rows are gathered with your rights.",
                hint="Read it in the statement itself, or declare the function SECURITY INVOKER.",
            )

    def _if_another(self, owner: str | None) -> str | None:
        return None if owner == self.context.user else owner


_FALSE = parse_expression("false")


def _in_order(wanted: _Wanted) -> tuple[str, ...]:
    """The wanted columns with the primary key, in the table's order; never none."""
    relation = wanted.relation
    names = set(wanted.columns)
    for unique in relation.unique_keys:
        if unique.primary:
            names |= set(unique.columns)
    found = tuple(column.name for column in relation.columns if column.name in names)
    return found or tuple(column.name for column in relation.columns[:1])


def _whose_rights(wanted: _Wanted) -> str | None:
    """One role for all occurrences.

    Without row security every role that may read a table reads the same rows, and the workspace checks the user's own
    rights where the text names the table: so the view's owner pulls. With row security two roles would need two tables.
    """
    if len(wanted.owners) == 1:
        return next(iter(wanted.owners))
    if wanted.relation.row_security:
        raise not_supported(
            f"table {wanted.relation.name} has row security and is read by one statement with the rights of several roles",
            hint="Read it through views of one owner only.",
        )
    return min(owner for owner in wanted.owners if owner is not None)


def _lock_clause(locks: set[str]) -> str:
    if not locks:
        return ""
    order = ("FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE", "FOR KEY SHARE")
    return min(locks, key=lambda lock: next(i for i, strength in enumerate(order) if lock.startswith(strength)))


def _either(conditions: list[Node] | None) -> Node | None:
    if not conditions:
        return None
    if len(conditions) == 1:
        return conditions[0]
    return ast.BoolExpr(boolop=enums.BoolExprType.OR_EXPR, args=tuple(conditions))


def _printed(condition: Node) -> str | None:
    try:
        return render_expression(condition)
    except Unprintable:
        return None


# --- where a table stands in a query -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Occurrence:
    """One RangeVar: what conditions apply to its rows before anything else sees them. `level`: the FROM list around it."""

    node: Node
    conditions: list[Node] = field(default_factory=list)
    level: tuple[Node, ...] = ()
    sampled: bool = False
    ctes: frozenset[str] = frozenset()  # names that may be no table's
    locks: set[str] = field(default_factory=set)

    @property
    def alias(self) -> str:
        return str(self.node.alias.aliasname if self.node.alias else self.node.relname)

    @property
    def column_names_changed(self) -> bool:
        return bool(self.node.alias and self.node.alias.colnames)


def _occurrences(root: Node) -> Iterator[_Occurrence]:
    ctes = frozenset(found.ctename for found in walk(root) if isinstance(found, ast.CommonTableExpr))
    for query in walk(root):
        if isinstance(query, ast.SelectStmt) and query.fromClause:
            level = tuple(_level(query.fromClause))
            where = list(conjuncts(query.whereClause))
            for entry in query.fromClause:
                for found in _below(entry, where, level):
                    found.ctes = ctes
                    found.locks = _locks_of(query, found.alias)
                    yield found


def _level(entries: Sequence[Node]) -> Iterator[Node]:
    """The items of one FROM list, joins taken apart."""
    for entry in entries:
        if isinstance(entry, ast.JoinExpr):
            if entry.alias is not None:
                yield entry
            yield from _level((entry.larg, entry.rarg))
        else:
            yield entry


def _below(
    entry: Node, conditions: list[Node], level: tuple[Node, ...], sampled: bool = False
) -> Iterator[_Occurrence]:
    if isinstance(entry, ast.RangeVar):
        yield _Occurrence(entry, conditions, level, sampled)
    elif isinstance(entry, ast.RangeTableSample):
        yield from _below(entry.relation, [], level, True)
    elif isinstance(entry, ast.JoinExpr):
        on = list(conjuncts(entry.quals))
        kind = entry.jointype.name
        inner = kind == "JOIN_INNER"
        left = {"JOIN_INNER": conditions + on, "JOIN_LEFT": conditions, "JOIN_RIGHT": on}.get(kind, [])
        right = {"JOIN_INNER": conditions + on, "JOIN_LEFT": on, "JOIN_RIGHT": conditions}.get(kind, [])
        hidden = entry.alias is not None
        yield from _below(entry.larg, on if hidden and inner else [] if hidden else left, level)
        yield from _below(entry.rarg, on if hidden and inner else [] if hidden else right, level)


def without_locks(statement: Node, snapshot: Snapshot) -> Node:
    """The statement for the workspace, which locks nothing: the rows were locked in their groups when they were pulled.

    Where PostgreSQL refuses row locks (grouped queries …) they stay, so that it says so.
    """

    def unlocked(node: Node) -> Node | None:
        if not isinstance(node, ast.SelectStmt) or not node.lockingClause or not node.fromClause:
            return None
        grouped = node.groupClause or node.havingClause is not None or aggregate_calls(node, snapshot)
        if node.distinctClause or node.windowClause or grouped:
            return None
        return transform(changed(node, lockingClause=None), unlocked)

    return transform(statement, unlocked)


def _locks_of(query: Node, alias: str) -> set[str]:
    found = set()
    for clause in query.lockingClause or ():
        named = {reference.relname for reference in clause.lockedRels or ()}
        if not named or alias in named:
            strength = clause.strength.name.removeprefix("LCS_").replace("FORNOKEYUPDATE", "FOR NO KEY UPDATE")
            strength = {"FORUPDATE": "FOR UPDATE", "FORSHARE": "FOR SHARE", "FORKEYSHARE": "FOR KEY SHARE"}.get(
                strength, strength
            )
            wait = {"LockWaitSkip": " SKIP LOCKED", "LockWaitError": " NOWAIT"}.get(clause.waitPolicy.name, "")
            found.add(strength + wait)
    return found


# --- conditions --------------------------------------------------------------------------------------------------


def _condition(relation: Relation, occurrence: _Occurrence, snapshot: Snapshot, context: Context) -> Node | None:
    """What of the conditions speaks of this table alone, its columns written without a qualifier."""
    if occurrence.sampled or occurrence.column_names_changed or not occurrence.conditions:
        return None
    scope = _scope(relation, occurrence, snapshot, context)
    found = [_own(condition, scope, snapshot) for condition in occurrence.conditions]
    kept = tuple(condition for condition in found if condition is not None)
    if not kept:
        return None
    return kept[0] if len(kept) == 1 else ast.BoolExpr(boolop=enums.BoolExprType.AND_EXPR, args=kept)


def _scope(relation: Relation, occurrence: _Occurrence, snapshot: Snapshot, context: Context) -> Scope:
    """Item 0 is the table in question; the others only say which unqualified names could be theirs."""
    items = [Item(0, occurrence.alias, relation_outputs(relation), relation)]
    for number, entry in enumerate(occurrence.level, start=1):
        if entry is occurrence.node or (isinstance(entry, ast.RangeTableSample) and entry.relation is occurrence.node):
            continue
        if isinstance(entry, ast.RangeVar) and not (entry.alias and entry.alias.colnames):
            unclear = entry.schemaname is None and entry.relname in occurrence.ctes
            other = None if unclear else snapshot.find(entry.schemaname, entry.relname, context.search_path)
            alias = entry.alias.aliasname if entry.alias else entry.relname
            items.append(Item(number, alias, relation_outputs(other) if other is not None and other.columns else None))
            continue
        alias = getattr(entry, "alias", None)
        items.append(Item(number, alias.aliasname if alias else "", None))
    return Scope(tuple(items))


def _own(condition: Node, scope: Scope, snapshot: Snapshot) -> Node | None:
    for found in walk(condition):
        if not isinstance(found, _PUSHABLE) or (isinstance(found, ast.FuncCall) and not _is_plain_call(found)):
            return None
        if isinstance(found, ast.ColumnRef):
            column = resolve(scope, found)
            if column is None or column[0] != 0:
                return None
    if calls.volatile_here(condition, snapshot) or any(call.kind == "user" for call in find_calls(condition, snapshot)):
        return None
    if (
        reads_clock(condition)
        or names_moment(condition)
        or not any(isinstance(f, ast.ColumnRef) for f in walk(condition))
    ):
        return None
    return transform(condition, _unqualified)


def _is_plain_call(call: Node) -> bool:
    return call.over is None and not (call.agg_star or call.agg_distinct or call.agg_filter or call.agg_order)


def _unqualified(node: Node) -> Node | None:
    return ast.ColumnRef(fields=(node.fields[-1],)) if isinstance(node, ast.ColumnRef) else None


# --- columns -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mentioned:
    """Every name that could be a column's in a query, its subqueries included."""

    names: frozenset[str]
    starred: frozenset[int]  # id() of RangeVars that a `*` covers
    starred_aliases: frozenset[str]  # qualified stars, and names used alone that may be whole rows
    everything: bool  # NATURAL JOIN, or a join with an alias: any column may be compared or seen under another name

    def columns_of(self, relation: Relation, occurrence: _Occurrence) -> set[str]:
        self._require_no_system_column(relation)
        columns = set(relation.column_by_name)
        whole = self.everything or occurrence.column_names_changed or id(occurrence.node) in self.starred
        if whole or occurrence.alias in self.starred_aliases or relation.name in self.starred_aliases:
            return columns
        return columns & self.names

    def _require_no_system_column(self, relation: Relation) -> None:
        for name in self.names & _SYSTEM_COLUMNS:
            if name not in relation.column_by_name:
                raise not_supported(
                    f'system column "{name}" cannot be used in a statement that joins rows of several groups',
                    hint="System columns are available where the statement is sent to the groups as it is.",
                )


def _mentioned(root: Node) -> _Mentioned:
    names: set[str] = set()
    starred: set[int] = set()
    aliases: set[str] = set()
    everything = False
    for node in walk(root):
        if isinstance(node, ast.ColumnRef):
            parts = strings(node.fields)
            if len(parts) == len(node.fields):
                names.update(parts)
                aliases.update(parts[-1:])  # perhaps a whole row
            else:
                aliases.update(parts)
        elif isinstance(node, ast.A_Indirection):
            names.update(strings(node.indirection))
        elif isinstance(node, ast.JoinExpr):
            names.update(strings(node.usingClause))
            everything = everything or bool(node.isNatural) or node.alias is not None
        elif isinstance(node, ast.FuncCall):
            names.update(strings(node.funcname)[-1:])  # column.name may be written name(column)
        elif isinstance(node, ast.SelectStmt):
            starred |= _starred(node)
    return _Mentioned(frozenset(names), frozenset(starred), frozenset(aliases), everything)


def _starred(query: Node) -> set[int]:
    """The tables directly in FROM of a SELECT whose list has an unqualified `*`."""
    for target in query.targetList or ():
        value = target.val
        if isinstance(value, ast.ColumnRef) and len(value.fields) == 1 and not is_plain_column(value):
            return {id(entry) for entry in _tables(query.fromClause or ())}
    return set()


def _tables(entries: Sequence[Node]) -> Iterator[Node]:
    for entry in _level(entries):
        if isinstance(entry, ast.RangeTableSample):
            yield entry.relation
        else:
            yield entry
