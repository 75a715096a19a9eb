"""For each table of a statement: which rows of it can matter at all?

A statement may run in one group as it is when every row of a sharded table that can matter lies in that group. This
module finds out what the statement says of each sharded table's partition key; `forward` and `write` decide with it.

**What is computed.** For each table R of the statement, wherever it stands, a set of facts that hold for every row of
R that can have an effect on the result. If they fix R's key, the rows of all other shards may as well be missing,
which is just how a group sees the table.

**How.** Facts go down the tree of each FROM list. Let F be the facts given from above (WHERE, and whatever the
surrounding query already guarantees): rows of the list's result that contradict F are thrown away later, so nothing
that only makes such rows matters.

================== ========================= ========================= ====================
node               to the left side          to the right side         known of its result
================== ========================= ========================= ====================
L, R / INNER JOIN  F, ON, facts(R)           F, ON, facts(L)           facts(L), facts(R), ON
L LEFT JOIN R      F                         F, ON, facts(L)           facts(L)
L RIGHT JOIN R     F, ON, facts(R)           F                         facts(R)
L FULL JOIN R      F                         F                         nothing
================== ========================= ========================= ====================

*Why the LEFT JOIN's right side may use F and ON.* A row r of R has two effects: it makes pairs (l, r), and it keeps
(l, NULL) from being made. A pair must satisfy ON, facts(L) and F to matter. Where r keeps (l, NULL) away, that row
would have had to satisfy F to matter; all facts are strict, so those of F that touch R cannot be true of it: either
there are none, and F speaks of l only, which is the same l as in the pair; or (l, NULL) never mattered. *Why the left
side may not use ON*: (l, NULL) is made for rows that fail it.

Worked example: `FROM orders o LEFT JOIN order_lines l ON l.customer_id = o.customer_id WHERE o.customer_id = 7`. F =
{o.customer_id = 7}. orders gets F: fixed. order_lines gets F and ON: l.customer_id = o.customer_id = 7: fixed as
well. With `ON … AND o.customer_id = 7` and no WHERE, orders gets nothing: all its rows come out.

*Subqueries.* A subquery in an expression is evaluated for rows of its query; those that matter satisfy that level's
facts, so it may use them, and its own. A subquery in FROM is looked into when it neither groups, limits, nor windows
(then it is as if its FROM stood in its place); what it fixes is known of its output columns in any case. Views are
subqueries. Common table expressions are looked at alone, since several places may read them; what they fix is known
of their output columns.

Not looked at, hence never fixed: renamed columns (`t AS x(a, b)`), columns seen through a join's alias, rows of
functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums
from pglast.parser import ParseError, parse_sql

from ..catalog.model import Kind, Relation, Snapshot
from ..sql.scope import Named, TableRef, resolve
from ..sql.walk import children, names, walk
from .facts import Closure, Fact, Facts, OneOf, Same, Scope, Source, Term, comparable, facts_of
from .operands import Uses
from .plan import Context

_VIEW_DEPTH_MAX = 20
_JOIN = enums.JoinType


@dataclass(frozen=True, slots=True)
class Table:
    """A table that the statement reads or writes, in views too, with all that holds for its rows that matter."""

    ref: TableRef[Relation]
    source: Source
    facts: Facts
    via_view: bool

    def closure(self) -> Closure:
        return Closure(self.facts)

    def key_terms(self) -> list[Term] | None:
        relation, columns = self.ref.relation, self.source.columns
        if relation is None or columns is None or any(name not in columns for name in relation.key):
            return None
        return [columns[name] for name in relation.key]


@dataclass(slots=True)
class _Item:
    """A node of a FROM list's tree: what is known of its result, and how to hand facts down to its tables."""

    facts: Facts = ()
    sources: list[Source] = field(default_factory=list)
    merged: dict[str, Term | None] = field(default_factory=dict)
    below: list[tuple[_Item, Facts]] = field(default_factory=list)  # sides, with the facts this node adds for each
    quals: list[tuple[Any, Scope]] = field(default_factory=list)  # expressions that may hold subqueries
    quals_facts: Facts = ()
    tables: list[tuple[TableRef[Relation], Source, bool]] = field(default_factory=list)
    strict: bool = True  # facts from above may be used for the subqueries in `quals`
    deferred: Callable[[Facts], None] | None = None  # a subquery in FROM, looked into when the facts for it are known


@dataclass(slots=True)
class Restriction:
    """One walk over one statement. `tables` is the answer."""

    snapshot: Snapshot
    context: Context
    uses: Uses
    tables: list[Table] = field(default_factory=list)
    unseen: bool = False  # a view could not be looked into
    _views: int = 0
    _writing_view: bool = False  # what a view reads is what a statement writes through it

    # --- statements --------------------------------------------------------------------------------------------

    def statement(self, node: Any, outer: Scope | None = None, given: Facts = (), ctes: Ctes | None = None) -> None:
        """Look at any SELECT, INSERT, UPDATE, DELETE or MERGE."""
        ctes = self._with(node, outer, given, ctes or {})
        if isinstance(node, ast.SelectStmt):
            self._select(node, outer, given, ctes)
        elif isinstance(node, ast.UpdateStmt | ast.DeleteStmt):
            self._change(node, outer, given, ctes)
        elif isinstance(node, ast.InsertStmt):
            self._insert(node, outer, given, ctes)
        elif isinstance(node, ast.MergeStmt):
            self._merge(node, outer, given, ctes)

    def _with(self, node: Any, outer: Scope | None, given: Facts, ctes: Ctes) -> Ctes:
        clause = node.withClause
        if clause is None:
            return ctes
        visible = dict(ctes)
        if clause.recursive:
            visible.update({cte.ctename: None for cte in clause.ctes})
        for cte in clause.ctes:
            output = self._body(cte.ctequery, outer, given, visible)
            renamed = bool(cte.aliascolnames) or clause.recursive
            visible[cte.ctename] = None if renamed else output
        return visible

    def _body(self, query: Any, outer: Scope | None, given: Facts, ctes: Ctes) -> Output | None:
        """A query on its own: its tables are recorded; what it fixes of its output columns is returned."""
        if not _plain(query):
            self.statement(query, outer, given, ctes)
            return None
        scope, item, facts = self._from(query.fromClause, query.whereClause, outer, given, ctes)
        self._finish(query, scope, item, facts, ctes)
        return _output(query, scope, facts)

    def _opaque(self, query: Any, alias: _Alias, outer: Scope | None, given: Facts, ctes: Ctes) -> _Item:
        """A subquery in FROM that groups, limits …: LATERAL references in it may use what is known of its neighbours."""
        if not _plain(query):
            item = _of_output(alias.name, None)
            item.deferred = lambda known: self.statement(query, outer, known, ctes)
            return item
        scope, inner, facts = self._from(query.fromClause, query.whereClause, outer, given, ctes)
        item = _of_output(alias.name, None if alias.renamed else _output(query, scope, facts))
        item.deferred = lambda known: self._finish(query, scope, inner, (*known, *facts), ctes)
        return item

    def _select(self, node: Any, outer: Scope | None, given: Facts, ctes: Ctes) -> None:
        if node.op != enums.SetOperation.SETOP_NONE:
            self.statement(node.larg, outer, given, ctes)
            self.statement(node.rarg, outer, given, ctes)
            self._subqueries((node.sortClause, node.limitCount, node.limitOffset), outer or Scope(), given, ctes)
            return
        scope, item, facts = self._from(node.fromClause, node.whereClause, outer, given, ctes)
        self._finish(node, scope, item, facts, ctes)

    def _finish(self, node: Any, scope: Scope, item: _Item, facts: Facts, ctes: Ctes) -> None:
        """Hand the facts down, and look into the subqueries of the level's expressions."""
        self._down(item, facts, ctes)
        skipped = {id(node.fromClause), id(node.withClause)}
        rest = [value for name in node for value in (getattr(node, name),) if id(value) not in skipped]
        self._subqueries(rest, scope, (*facts, *item.facts), ctes)

    def _change(self, node: Any, outer: Scope | None, given: Facts, ctes: Ctes) -> None:
        others = node.fromClause if isinstance(node, ast.UpdateStmt) else node.usingClause
        target = self._table(node.relation, {}, target=True)
        scope, item, facts = self._from(others, node.whereClause, outer, given, ctes, target)
        self._down(item, facts, ctes)
        level = (*facts, *item.facts)
        for part in (node.whereClause, getattr(node, "targetList", None), node.returningClause):
            self._subqueries((part,), scope, level, ctes)

    def _insert(self, node: Any, outer: Scope | None, given: Facts, ctes: Ctes) -> None:
        target = self._table(node.relation, {}, target=True)
        facts = self._new_rows(node, target.sources[0], outer, given, ctes) if node.selectStmt else ()
        self._record_below(target, facts)
        scope = Scope(outer)
        self._subqueries((node.onConflictClause, node.returningClause), scope, given, ctes)

    def _new_rows(self, node: Any, target: Source, outer: Scope | None, given: Facts, ctes: Ctes) -> Facts:
        """What the rows to be inserted say of the target's columns."""
        query = node.selectStmt
        if query.withClause is not None or query.op != enums.SetOperation.SETOP_NONE:
            self.statement(query, outer, given, ctes)
            return ()
        scope, item, facts = self._from(query.fromClause, query.whereClause, outer, given, ctes)
        self._finish(query, scope, item, facts, ctes)
        values: Any = query.valuesLists or (_output_list(query, scope),)
        if query.valuesLists and outer is not None:  # a trigger's INSERT … VALUES (NEW.k)
            values = tuple(tuple(_known(value, outer) for value in row) for row in values)
        columns = [column.name for column in node.cols or ()] or list(target.columns or ())
        assigned = [fact for at, name in enumerate(columns) for fact in self._assigned(target, name, at, values)]
        return (*assigned, *facts, *item.facts)

    def _assigned(self, target: Source, column: str, at: int, rows: Any) -> Iterator[Fact]:
        term = (target.columns or {}).get(column)
        if term is None or any(row is None or at >= len(row) for row in rows):
            return
        values = tuple(row[at] for row in rows)
        if all(isinstance(value, Term) for value in values):
            if comparable(term, values[0]):
                yield Same(term, values[0])
        elif not any(isinstance(value, Term | ast.ColumnRef) for value in values):
            for value in values:
                self.uses.note(value, term.type_oid)
            yield OneOf(term, values)

    def _merge(self, node: Any, outer: Scope | None, given: Facts, ctes: Ctes) -> None:
        """The source is preserved (WHEN NOT MATCHED), the target is joined to it: target RIGHT JOIN source."""
        target = self._table(node.relation, {}, target=True)
        source = self._item(node.sourceRelation, _Names(outer, Scope(outer)), given, ctes)
        scope = Scope(outer, [*target.sources, *source.sources])
        on = facts_of(node.joinCondition, scope, self.uses)
        self._down(target, (*given, *on, *source.facts), ctes)
        self._down(source, given, ctes)
        self._subqueries((node.joinCondition, node.mergeWhenClauses), scope, given, ctes)

    # --- FROM ---------------------------------------------------------------------------------------------------

    def _from(
        self,
        items: Any,
        where: Any,
        outer: Scope | None,
        given: Facts,
        ctes: Ctes,
        target: _Item | None = None,
    ) -> tuple[Scope, _Item, Facts]:
        """The scope of a level, its FROM list as one item, and the facts from WHERE and above."""
        scope = Scope(outer)
        product: _Item | None = None
        for node in (target, *(items or ())):
            if node is not None:
                item = node if isinstance(node, _Item) else self._item(node, _Names(outer, scope), given, ctes)
                product = item if product is None else _combine(_JOIN.JOIN_INNER, product, item, ())
                scope.sources.extend(item.sources)
                scope.merged.update(item.merged)
        return scope, product or _Item(), (*given, *facts_of(where, scope, self.uses))

    def _item(self, node: Any, seen: _Names, given: Facts, ctes: Ctes) -> _Item:
        if isinstance(node, ast.RangeVar):
            return self._table(node, ctes)
        if isinstance(node, ast.JoinExpr):
            return self._join(node, seen, given, ctes)
        if isinstance(node, ast.RangeSubselect):
            around = seen.lateral if node.lateral else seen.outer
            return self._subselect(node.subquery, _alias(node.alias), around, given, ctes)
        if isinstance(node, ast.RangeTableSample):
            item = self._item(node.relation, seen, given, ctes)
            item.quals.append((node.args, seen.lateral))
            return item
        item = _Item(sources=[Source(_alias(getattr(node, "alias", None)).name)])
        item.quals.append((tuple(children(node)), seen.lateral))
        return item

    def _table(self, node: Any, ctes: Ctes, *, target: bool = False) -> _Item:
        alias = _alias(node.alias)
        name = alias.name or node.relname
        if not target and node.schemaname is None and node.relname in ctes:
            return _of_output(name, None if alias.renamed else ctes[node.relname])
        ref = resolve(Named(node, 0, target or self._writing_view), self.snapshot, self.context)
        relation = ref.relation
        if relation is not None and relation.kind is Kind.VIEW:
            return self._view(relation, name, ref, alias.renamed)
        source = Source(name, relation, node)
        if relation is not None and not alias.renamed:
            source.columns = {
                column.name: Term(source, column.name, column.type_oid, column.collation_deterministic)
                for column in relation.columns
            }
        return _Item(sources=[source], tables=[(ref, source, self._views > 0)])

    def _view(self, relation: Relation, name: str, ref: TableRef[Relation], renamed: bool) -> _Item:
        """A view is the subquery it stands for; names in it are qualified."""
        query = _definition(relation) if self._views < _VIEW_DEPTH_MAX else None
        if query is None:
            self.unseen = True
            return _Item(sources=[Source(name)], tables=[(ref, Source(name), self._views > 0)])
        before, self._writing_view = self._writing_view, ref.target
        self._views += 1
        item = self._subselect(query, _Alias(name, renamed), None, (), {})
        self._views -= 1
        self._writing_view = before
        item.tables.append((ref, Source(name), self._views > 0))
        return item

    def _subselect(self, query: Any, alias: _Alias, outer: Scope | None, given: Facts, ctes: Ctes) -> _Item:
        if not _transparent(query):
            return self._opaque(query, alias, outer, given, ctes)
        ctes = self._with(query, outer, given, ctes)
        scope, item, facts = self._from(query.fromClause, query.whereClause, outer, (), ctes)
        source = Source(alias.name)
        if not alias.renamed:
            source.columns = _output_terms(query, scope)
        rest = (query.targetList, query.whereClause, query.sortClause)
        return _Item(
            facts=(*facts, *item.facts),
            sources=[source],
            below=[(item, facts)],
            quals=[(rest, scope)],
            quals_facts=facts,
        )

    def _join(self, node: Any, seen: _Names, given: Facts, ctes: Ctes) -> _Item:
        left = self._item(node.larg, seen, given, ctes)
        right = self._item(node.rarg, seen.beside(left), given, ctes)
        scope = Scope(seen.outer, [*left.sources, *right.sources], left.merged | right.merged)
        shared, merged = self._using(node, left, right)
        on = (*facts_of(node.quals, scope, self.uses), *shared)
        joined = _combine(node.jointype, left, right, on)
        joined.merged = left.merged | right.merged | merged
        joined.quals.append(((node.quals,), scope))
        joined.quals_facts = (*on, *left.facts, *right.facts)
        joined.strict = node.jointype != _JOIN.JOIN_FULL
        if node.alias is not None:
            joined.sources, joined.merged = [Source(node.alias.aliasname)], {}
        return joined

    def _using(self, node: Any, left: _Item, right: _Item) -> tuple[Facts, dict[str, Term | None]]:
        """The equalities of USING and NATURAL, and what the merged columns mean above."""
        columns = names(node.usingClause)
        if node.isNatural:
            columns = tuple(_columns(left) & _columns(right))
        facts: list[Fact] = []
        merged: dict[str, Term | None] = {}
        for column in columns:
            one = Scope(None, left.sources, left.merged)._column(column)
            other = Scope(None, right.sources, right.merged)._column(column)
            if one and other and comparable(one, other):
                facts.append(Same(one, other))
            merged[column] = _merged(node.jointype, one, other)
        return tuple(facts), merged

    # --- down again ---------------------------------------------------------------------------------------------

    def _down(self, item: _Item, given: Facts, ctes: Ctes) -> None:
        self._record(item, given)
        if item.deferred is not None:
            item.deferred(given)
        for side, added in item.below:
            self._down(side, (*given, *added), ctes)
        for expression, scope in item.quals:
            usable = (*given, *item.quals_facts) if item.strict else ()
            self._subqueries((expression,), scope, usable, ctes)

    def _record(self, item: _Item, given: Facts) -> None:
        for ref, source, via_view in item.tables:
            self.tables.append(Table(ref, source, given, via_view))

    def _record_below(self, item: _Item, given: Facts) -> None:
        """The target of an INSERT: what a view selects says nothing of the rows that are put in through it."""
        if item.below:
            given = ()
        self._record(item, given)
        for side, _ in item.below:
            self._record_below(side, given)

    def _subqueries(self, expressions: Iterable[Any], scope: Scope, given: Facts, ctes: Ctes) -> None:
        for expression in expressions:
            for query in _queries(expression):
                self.statement(query, scope, given, ctes)


@dataclass(frozen=True, slots=True)
class Output:
    """What is known of a query's output columns: their terms inside, and the facts about those."""

    terms: dict[str, Term]
    facts: Facts


Ctes = dict[str, Output | None]


@dataclass(frozen=True, slots=True)
class _Alias:
    name: str | None
    renamed: bool


@dataclass(frozen=True, slots=True)
class _Names:
    """What an item of a FROM list may refer to: a LATERAL one (or a function) also its left neighbours."""

    outer: Scope | None
    lateral: Scope

    def beside(self, left: _Item) -> _Names:
        sources = [*self.lateral.sources, *left.sources]
        return _Names(self.outer, Scope(self.outer, sources, self.lateral.merged | left.merged))


def _alias(alias: Any) -> _Alias:
    return _Alias(alias.aliasname, bool(alias.colnames)) if alias is not None else _Alias(None, False)


def _combine(kind: Any, left: _Item, right: _Item, on: Facts) -> _Item:
    """The table in the module's docstring."""
    to_left: Facts = ()
    to_right: Facts = ()
    known: Facts = ()
    if kind in (_JOIN.JOIN_INNER, _JOIN.JOIN_RIGHT):
        to_left = (*on, *right.facts)
        known = right.facts
    if kind in (_JOIN.JOIN_INNER, _JOIN.JOIN_LEFT):
        to_right = (*on, *left.facts)
        known = left.facts
    if kind == _JOIN.JOIN_INNER:
        known = (*on, *left.facts, *right.facts)
    sources = [*left.sources, *right.sources]
    return _Item(known, sources, left.merged | right.merged, [(left, to_left), (right, to_right)])


def _definition(view: Relation) -> Any:
    try:
        return parse_sql(view.view_definition or "")[0].stmt
    except (ParseError, IndexError):
        return None


def _plain(query: Any) -> bool:
    """One SELECT … FROM …: no set operation, no VALUES, no WITH."""
    if not isinstance(query, ast.SelectStmt) or query.op != enums.SetOperation.SETOP_NONE:
        return False
    return query.withClause is None and not query.valuesLists


def _merged(kind: Any, left: Term | None, right: Term | None) -> Term | None:
    if kind == _JOIN.JOIN_FULL:
        return None
    return right if kind == _JOIN.JOIN_RIGHT else left


def _columns(item: _Item) -> set[str]:
    return {column for source in item.sources for column in source.columns or {}}


def _transparent(query: Any) -> bool:
    """Whether a subquery's rows are, one by one, rows of its FROM list."""
    if not isinstance(query, ast.SelectStmt) or query.op != enums.SetOperation.SETOP_NONE:
        return False
    if query.distinctClause or query.groupClause or query.havingClause or query.windowClause or query.valuesLists:
        return False
    if query.limitCount is not None or query.limitOffset is not None or query.lockingClause or query.withClause:
        return False
    return not any(isinstance(call, ast.FuncCall) and _may_change_rows(call) for call in walk(query.targetList))


def _may_change_rows(call: Any) -> bool:
    """Aggregates, window functions, and functions that return sets (of which no list is kept) in the output."""
    return call.over is not None or names(call.funcname)[-1] not in _SCALAR


_SCALAR = frozenset(
    "coalesce upper lower length round abs ceil floor trunc concat concat_ws substr substring btrim ltrim rtrim "
    "to_char to_date to_number to_timestamp date_trunc date_part extract now greatest least nullif replace lpad rpad "
    "left right position strpos md5 format split_part age timezone".split()
)


def _output_terms(query: Any, scope: Scope) -> dict[str, Term] | None:
    """Output column → the column it is; None with a `*` whose columns are not all known."""
    terms: dict[str, Term] = {}
    seen: set[str] = set()
    for target in query.targetList or ():
        value = target.val
        if _is_star(value):
            if not _star(value, scope, terms, seen):
                return None
            continue
        term = scope.term(value) if isinstance(value, ast.ColumnRef) else None
        name = target.name or (_path(value)[-1] if isinstance(value, ast.ColumnRef) else "")
        _add(name, term, terms, seen)
    return terms


def _output_list(query: Any, scope: Scope) -> list[Any] | None:
    """The output columns in order, terms where they are columns; None where a `*` is not known to the last column."""
    found: list[Any] = []
    for target in query.targetList or ():
        value = target.val
        if _is_star(value):
            terms: dict[str, Term] = {}
            several = _path(value) == () and len(scope.sources) > 1
            if scope.merged or several or not _star(value, scope, terms, set()):
                return None
            found.extend(terms.values())
        else:
            found.append((scope.term(value) or value) if isinstance(value, ast.ColumnRef) else value)
    return found


def _known(value: Any, scope: Scope) -> Any:
    return (scope.term(value) or value) if isinstance(value, ast.ColumnRef) else value


def _path(column: Any) -> tuple[str, ...]:
    return names(column.fields)


def _is_star(node: Any) -> bool:
    return type(node) is ast.ColumnRef and len(_path(node)) < len(node.fields or ())


def _star(node: Any, scope: Scope, terms: dict[str, Term], seen: set[str]) -> bool:
    table = _path(node)[-1] if len(node.fields) > 1 else None
    for source in scope.sources:
        if table is not None and source.name != table:
            continue
        if source.columns is None:
            return False
        for name, term in source.columns.items():
            if table is None and name in scope.merged:
                _add(name, scope.merged[name], terms, set())
            else:
                _add(name, term, terms, seen)
    return True


def _add(name: str, term: Term | None, terms: dict[str, Term], seen: set[str]) -> None:
    if term is None or name in seen:
        terms.pop(name, None)  # not a column as it is, or two of the name
    else:
        terms[name] = term
    seen.add(name)


def _output(query: Any, scope: Scope, facts: Facts) -> Output | None:
    """An aggregate without GROUP BY gives a row where its FROM gives none: nothing is known of that."""
    if query.groupClause is None and any(isinstance(call, ast.FuncCall) for call in walk(query.targetList)):
        return None
    terms = _output_terms(query, scope)
    return None if terms is None else Output(terms, facts)


def _of_output(name: str | None, output: Output | None) -> _Item:
    """An item whose columns are new terms, of which what the query inside fixes is known."""
    source = Source(name)
    if output is None:
        return _Item(sources=[source])
    closure = Closure(output.facts)
    source.columns = {
        column: Term(source, column, term.type_oid, term.deterministic) for column, term in output.terms.items()
    }
    facts: list[Fact] = []
    for column, term in output.terms.items():
        facts.extend(OneOf(source.columns[column], values) for values in closure.values(term) if _constant(values))
    return _Item(facts=tuple(facts), sources=[source])


def _constant(values: tuple[Any, ...]) -> bool:
    return not any(isinstance(node, ast.ColumnRef | ast.SubLink) for node in walk(values))


def _queries(node: Any) -> Iterator[Any]:
    """The outermost queries inside an expression."""
    if isinstance(node, ast.SelectStmt | ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt):
        yield node
    elif isinstance(node, ast.Node | tuple):
        for child in children(node):
            yield from _queries(child)
