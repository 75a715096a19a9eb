"""INSERT.

================================================= =================================================================
one row with its key, nothing to be added         `Forward`: the text as it is, to the key's group
several rows, or values to be computed first      `InsertRows`: the rows are split by shard
rows of a query that meets the target             `Forward`, or `Scatter`: each group inserts what it selects
any other query                                   `WriteBack`: the rows are computed, then split by shard
into a reference table                            `InsertRows(replicated)`, `Replicate`
into a single table                               `Forward` to its group
================================================= =================================================================

**Values that one party must compute.** A column that the client leaves out, or gives as DEFAULT, gets its value from
the gateway when it is part of the key, when it comes from a sequence, or, for a reference table, when two groups
might compute two values. Such columns are *added* to the column list; a DEFAULT, or a key expression that only
PostgreSQL can evaluate, is *replaced* in its place, because evaluating it again in the group might give another value
than the one routed by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pglast import ast, enums
from pglast.parser import ParseError, parse_sql

from ..catalog.model import Column, Kind, Relation, Snapshot
from ..core.errors import PgError, not_supported
from ..core.ids import parse_identifier_list
from ..sql.functions import AGGREGATES, FunctionClass, calls, differs_by_place
from ..sql.parse import parse_one
from ..sql.render import NotRenderable, clone, render
from ..sql.walk import names, walk
from .analysis import Analysis
from .assigned import needs_types, with_types
from .effects import drawn_sequence, draws, sequence, sequence_named
from .forward import plan_forward
from .plan import (
    Asked,
    Constant,
    Equal,
    FillTemporary,
    FromSequence,
    InsertRows,
    Planned,
    Replaced,
    Replicate,
    Value,
    WriteBack,
)
from .restrict import Table
from .spans import InsertText, Row
from .targets import callable_apart, functions_alike, only_copies, refuse_target, refuse_watching, rest_of, scattered
from .viewed import Viewed, viewed

_DEFAULT = ast.SetToDefault
_SYSTEM_VALUE, _USER_VALUE = enums.OverridingKind.OVERRIDING_SYSTEM_VALUE, enums.OverridingKind.OVERRIDING_USER_VALUE


def plan_insert(analysis: Analysis) -> Planned:
    """The plan of a top-level INSERT. Raises PgError 0A000 for what cannot be done over several groups."""
    written = analysis.target()
    view = viewed(analysis, written)
    target = view.table if view is not None else written
    relation = target.ref.relation
    if relation is None or relation.kind not in (Kind.SHARDED, Kind.REFERENCE):
        return _elsewhere(analysis, target, view)
    insert = _Insert(analysis, target, relation, view)
    _check_widths(analysis.parsed.node.selectStmt)
    if relation.kind is Kind.REFERENCE:
        return insert.into_copies()
    return insert.into_shards()


def _check_widths(query: Any) -> None:
    if query is not None and len({len(row) for row in query.valuesLists or ()}) > 1:
        raise PgError("42601", "VALUES lists must all be the same length")


def _elsewhere(analysis: Analysis, target: Table, view: Viewed | None) -> Planned:
    """Temporary and single tables, views, and what is no table."""
    planned = plan_forward(analysis)
    if planned is not None:
        return planned
    refuse_target(analysis, target)
    if target.ref.temporary and analysis.parsed.node.selectStmt is not None:
        return _fill_temporary(analysis)
    if target.ref.relation is None or analysis.parsed.node.selectStmt is None:
        raise not_supported("this INSERT reads tables of other groups than its temporary table's")
    return _Insert(analysis, target, target.ref.relation, view).write_back()


def _fill_temporary(analysis: Analysis) -> Planned:
    """INSERT INTO temporary table SELECT …: the query is a statement of its own, the rows are inserted from a table."""
    insert = clone(analysis.parsed.node)
    query = insert.selectStmt
    if insert.withClause is not None and query.withClause is not None:
        raise not_supported("an INSERT into a temporary table with two WITH clauses cannot read tables of other groups")
    query.withClause = insert.withClause or query.withClause
    insert.withClause = None
    insert.selectStmt = parse_one("SELECT * FROM pg_temp.hanse_rows").node
    try:
        plan = FillTemporary(query_sql=render(query), insert_sql=render(insert))
    except NotRenderable:
        raise not_supported("this INSERT into a temporary table cannot read tables of other groups") from None
    returning = getattr(insert, "returningClause", None) or getattr(insert, "returningList", None)
    return Planned(
        plan=plan,
        verb="INSERT",
        returns_rows=bool(returning),
        writes=True,
        relations=analysis.relations,
        pins="temporary table",
    )


@dataclass(slots=True)
class _Insert:
    analysis: Analysis
    target: Table
    relation: Relation
    view: Viewed | None = None  # the statement names it instead of the table
    text_asked: bool = False  # an expression of the text, literals and all, is part of the plan

    @property
    def node(self) -> Any:
        return self.analysis.parsed.node

    # --- into a sharded table ----------------------------------------------------------------------------------

    def into_shards(self) -> Planned:
        query = self.node.selectStmt
        if query is None or not query.valuesLists or query.withClause or self.node.withClause or _sorted(query):
            return self._of_query()
        if rest_of(self.analysis, self.target) and not only_copies(self.analysis, self.target):
            return self._single() or self.write_back()
        if not functions_alike(self.analysis):
            return self._single() or self.write_back()
        return self._single() or self._of_rows()

    def _single(self) -> Planned | None:
        """One row whose key is known, with nothing for the gateway to compute."""
        query = self.node.selectStmt
        self._refuse_asking(query.valuesLists)
        if self.relation.awaits_shards or self._draws(query.valuesLists):
            return None
        if len(query.valuesLists) != 1 or self.added() or self._given_defaults(query.valuesLists):
            return None
        if not all(self.relation.column_by_name[name].not_null or self._is_unique(name) for name in self.relation.key):
            if any(isinstance(value, ast.ParamRef) for value in query.valuesLists[0]):
                return None  # a NULL has a shard of its own
        return plan_forward(self.analysis)

    def _draws(self, node: Any) -> bool:
        return draws(node, self.analysis.snapshot, self.analysis.context.search_path)

    def _is_unique(self, name: str) -> bool:
        return any(unique.primary and name in unique.columns for unique in self.relation.unique_keys)

    def _of_rows(self) -> Planned:
        text = InsertText(self.analysis.parsed)
        if text.in_parentheses:
            return self._of_query()
        values, rows = self.node.selectStmt.valuesLists, text.rows()
        columns = self._columns(len(values[0]))
        added = self.added()
        replaced: list[Replaced] = []
        keys: list[Equal] = []
        for number, (row, spans) in enumerate(zip(values, rows, strict=True)):
            found = self._replacements(number, row, spans, columns, text)
            replaced.extend(found)
            keys.append(self._key(row, columns, dict(added), {each.column: each.value for each in found}))
        plan = self._insert_rows(text, rows, columns, added, tuple(keys), tuple(replaced))
        return self.analysis.planned(plan, template_safe=not self.text_asked)

    def _insert_rows(
        self,
        text: InsertText,
        rows: list[Row],
        columns: list[str],
        added: tuple[tuple[str, Value], ...],
        keys: tuple[Equal, ...],
        replaced: tuple[Replaced, ...],
    ) -> InsertRows:
        return InsertRows(
            relation=self.relation.identity,
            keys=keys,
            rows=tuple(text.span(row.start, row.end) for row in rows),
            added=added,
            columns_end=text.columns_end(),
            columns_missing=not self.node.cols,
            column_names=tuple(self._shown(columns)) if not self.node.cols else (),
            values_start=text.values_start(),
            override=self._override({name for name, _ in added} | {each.column for each in replaced}),
            replicated=self.relation.kind is Kind.REFERENCE,
            replaced=replaced,
            copied=tuple(columns) if not added and not replaced and self._as_copy(columns) else (),
        )

    def _as_copy(self, columns: list[str]) -> bool:
        """Whether COPY FROM into these columns does what the INSERT does: no rules, policies or triggers, and only rows."""
        relation, node = self.relation, self.node
        if self.view is not None or not relation.nameable or relation.has_triggers:
            return False
        if node.onConflictClause is not None or node.override is not enums.OverridingKind.OVERRIDING_NOT_SET:
            return False
        if getattr(node, "returningClause", None) or getattr(node, "returningList", None):
            return False
        given = [relation.column_by_name.get(name) for name in columns]
        return all(column is not None and not column.identity and not column.generated for column in given)

    def _key(
        self, row: tuple[Any, ...], columns: list[str], added: dict[str, Value], replaced: dict[str, Value]
    ) -> Equal:
        values: list[Value] = []
        for name, type_oid in zip(self.relation.key, self.relation.key_types, strict=True):
            if name in replaced:
                values.append(replaced[name])
            elif name in added:
                values.append(added[name])
            elif name in columns:
                node = row[columns.index(name)]
                values.append(self.analysis.operands.value(node, type_oid) or Constant(None))
            else:
                values.append(Constant(None))  # no default: NULL
        return Equal(tuple(values))

    def _replacements(
        self, number: int, row: tuple[Any, ...], spans: Row, columns: list[str], text: InsertText
    ) -> list[Replaced]:
        found: list[Replaced] = []
        for name, node, (start, end) in zip(columns, row, spans.items, strict=True):
            value = self._replacement(name, node, text.text[start:end])
            if value is not None:
                found.append(Replaced(row=number, column=name, span=text.span(start, end), value=value))
        return found

    def _replacement(self, name: str, node: Any, written: str) -> Value | None:
        column = self.relation.column_by_name.get(name)
        if column is None:
            return None  # PostgreSQL says that there is no such column
        if isinstance(node, _DEFAULT):
            return self._default(column)
        if _is_null(node):
            return None
        self._refuse_asking(node)
        if self._draws(node):
            return self._drawn(column, node, written)
        if name not in self.relation.key:
            return None
        type_oid = self.relation.key_types[self.relation.key.index(name)]
        if self.analysis.operands.value(node, type_oid) is not None and not self._must_ask(node):
            return None
        self.text_asked = True
        return Asked(f"CAST(({written}) AS {column.type_name})")

    def _drawn(self, column: Column, node: Any, written: str) -> Value:
        """nextval() draws where the sequence is real, not in the row's group."""
        self.text_asked = True
        context, snapshot = self.analysis.context, self.analysis.snapshot
        drawn = drawn_sequence(node, snapshot, context.search_path)
        if drawn is not None:
            return FromSequence(drawn)
        for call in calls(node, snapshot):
            known = sequence(sequence_named(call.node), snapshot, context.search_path)
            if call.name == "nextval" and known is not None and known.group not in (None, snapshot.home_group):
                raise not_supported(
                    f'nextval() of sequence "{known.name}" cannot be a part of an expression here',
                    hint="Draw the value in a statement of its own, or give the column nextval() alone.",
                )
        return Asked(f"CAST(({written}) AS {column.type_name})")

    def _refuse_asking(self, node: Any) -> None:
        """The value that the session has drawn is not known in the row's group; the gateway puts it in where it can."""
        for call in calls(node, self.analysis.snapshot):
            if call.kind is FunctionClass.SESSION and call.name in ("currval", "lastval"):
                raise not_supported(
                    f"{call.name}() cannot be used in this INSERT into a table in several groups",
                    hint="Draw the value in a statement of its own.",
                )

    def _must_ask(self, node: Any) -> bool:
        """The gateway could not read a value and plans again: all but the plainest forms are left to PostgreSQL."""
        if self.analysis.context.forward_allowed:
            return False
        number = isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer)
        return not number and not isinstance(node, ast.ParamRef)

    # --- columns -----------------------------------------------------------------------------------------------

    def _columns(self, width: int) -> list[str]:
        if self.node.cols:
            if any(column.indirection for column in self.node.cols):
                raise not_supported("INSERT into parts of a column is not supported for a table in several groups")
            found = [column.name for column in self.node.cols]
        else:
            found = [column.name for column in (self.view.view if self.view else self.relation).columns][:width]
        if self.view is not None:
            found = [self.view.columns.get(name, name) for name in found]
        if width > len(found):
            raise PgError("42601", "INSERT has more expressions than target columns")
        if width < len(found) and self.node.cols:
            raise PgError("42601", "INSERT has more target columns than expressions")
        return found

    def _shown(self, columns: list[str]) -> list[str]:
        """The names by which the statement's target calls these columns of the table."""
        if self.view is None:
            return columns
        names_of = {column: name for name, column in self.view.columns.items()}
        return [names_of.get(column, column) for column in columns]

    def _width(self) -> int:
        query = self.node.selectStmt
        if query is None:
            return 0
        if query.valuesLists:
            return len(query.valuesLists[0])
        return len(self.node.cols or ()) or self._query_width(query)

    def _query_width(self, query: Any) -> int:
        while query.op != enums.SetOperation.SETOP_NONE:
            query = query.larg
        targets = query.valuesLists[0] if query.valuesLists else query.targetList or ()  # SELECT FROM … gives no column
        star = any(isinstance(found, ast.A_Star) for found in walk(targets))
        if not star:
            return len(targets)
        return len((self.view.view if self.view else self.relation).columns)

    def added(self) -> tuple[tuple[str, Value], ...]:
        """The columns that the client leaves out and that the gateway must fill."""
        given = set(self._columns(self._width())) if self.node.selectStmt is not None else set()
        found = defaults(self.relation, self.analysis.snapshot, given)
        if self.view is not None and not self.view.same_names([name for name, _ in found]):
            raise not_supported(
                f'INSERT into view "{self.view.view.name}" leaves out a column that Hanse must fill',
                hint="Insert into the view's table.",
            )
        return found

    def _default(self, column: Column) -> Value | None:
        return default_value(self.relation, self.analysis.snapshot, column)

    def _override(self, computed: set[str]) -> bool:
        if self.node.override == _SYSTEM_VALUE:
            return False
        always = {column.name for column in self.relation.columns if column.identity == "a"}
        return bool(always & computed)

    def _given_defaults(self, rows: Any) -> bool:
        columns = self._columns(len(rows[0]))
        if self.node.override == _USER_VALUE and any(self._is_identity(name) for name in columns):
            raise not_supported(
                "OVERRIDING USER VALUE is not supported for a table in several groups",
                hint="Leave the identity column out of the column list.",
            )
        for row in rows:
            for name, node in zip(columns, row, strict=False):
                column = self.relation.column_by_name.get(name)
                if isinstance(node, _DEFAULT) and column is not None and self._default(column) is not None:
                    return True
        return False

    def _is_identity(self, name: str) -> bool:
        column = self.relation.column_by_name.get(name)
        return column is not None and bool(column.identity)

    # --- rows of a query ---------------------------------------------------------------------------------------

    def _of_query(self) -> Planned:
        if self.node.selectStmt is not None and not self.added() and not self.relation.awaits_shards:
            planned = plan_forward(self.analysis) or self._pushed_down()
            if planned is not None:
                return planned
        return self.write_back()

    def _pushed_down(self) -> Planned | None:
        """Each group inserts what it selects: the new key is the key of a co-located source row."""
        query = self.node.selectStmt
        sources = [table for table in self.analysis.sharded if table is not self.target]
        others = [table for table in self.analysis.base if table not in sources and table is not self.target]
        if not sources or any(table not in self.analysis.copied for table in others) or self.analysis.unseen:
            return None
        if not callable_apart(self.analysis):
            return None
        if not _row_by_row(query) or query.withClause or self.node.withClause:
            return None
        if not all(self._meets(table, sources[0]) for table in sources) or not self._carries(sources[0]):
            return None
        prune = self.analysis.prune(sources[0])
        prunes = (prune,) if prune.condition is not None else ()
        return scattered(self.analysis, self.relation.groups, prunes)

    def _meets(self, table: Table, source: Table) -> bool:
        return table is source or self.analysis.meets_target(table, source)

    def _carries(self, source: Table) -> bool:
        """The target's key columns are given the source's key columns; read from the facts about the new rows."""
        ours, theirs = self.target.key_terms(), source.key_terms()
        if ours is None or theirs is None or not self.analysis.colocated(self.target, source):
            return False
        closure = self.target.closure()
        return all(closure.same(one, other) for one, other in zip(ours, theirs, strict=True))

    def write_back(self) -> Planned:
        refuse_watching(self.analysis, self.relation)
        text = InsertText(self.analysis.parsed)
        sql = self.analysis.parsed.sql
        tail = text.tail_start()
        if any(isinstance(node, _DEFAULT) for node in walk(self.node.selectStmt)):
            raise not_supported(
                "DEFAULT beside a subquery in VALUES is not supported for a table in several groups",
                hint="Leave the column out of the column list.",
            )
        relation, alias = self.relation, self.node.relation.alias
        columns = self._columns(self._width()) if self.node.selectStmt is not None else []
        drawn = self._drawn_columns(columns)
        if drawn:
            columns = [name for name in columns if name not in dict(drawn)]
            query = self._query_without(tuple(name for name, _ in drawn), columns)
        else:
            query = self._query(sql[text.source_start() : tail].strip(), columns)
        if self.node.withClause is not None:
            query = self._with_query(sql[: text.insert_start()], query)
        if self.view is not None and not self.view.same_names(columns):
            raise not_supported(
                f'this INSERT into view "{self.view.view.name}" is not supported over several groups',
                hint="Insert into the view's table.",
            )
        added = (*(self.added() if relation.kind in (Kind.SHARDED, Kind.REFERENCE) else ()), *drawn)
        return self.analysis.planned(
            WriteBack(
                verb="insert",
                relation=relation.identity,
                query_sql=query,
                columns=tuple(columns),
                tail_sql=sql[tail:].strip(),
                added=added,
                override=self._override({name for name, _ in added}) or self.node.override == _SYSTEM_VALUE,
                alias=alias.aliasname if alias is not None else None,
                through=self.view.view.identity if self.view is not None else None,
            )
        )

    def _drawn_columns(self, columns: list[str]) -> tuple[tuple[str, Value], ...]:
        """Columns that are given nextval() by a query over tables: drawn for its rows, where the sequence is real."""
        query = self.node.selectStmt
        plain = query is not None and query.op == enums.SetOperation.SETOP_NONE and query.fromClause
        if not plain or query.distinctClause or query.valuesLists or len(query.targetList or ()) != len(columns):
            return ()
        if any(isinstance(found, ast.A_Const) for found in walk((query.sortClause, query.groupClause))):
            return ()  # ORDER BY 1
        snapshot, path = self.analysis.snapshot, self.analysis.context.search_path
        found = [
            (name, FromSequence(drawn))
            for name, target in zip(columns, query.targetList or (), strict=True)
            for drawn in (drawn_sequence(target.val, snapshot, path),)
            if drawn is not None
        ]
        return tuple(found) if len(found) < len(columns) else ()

    def _query_without(self, drawn: tuple[str, ...], columns: list[str]) -> str:
        query = clone(self.node.selectStmt)
        names_of_all = self._columns(self._width())
        query.targetList = tuple(
            target for name, target in zip(names_of_all, query.targetList, strict=True) if name not in drawn
        )
        if needs_types(query):
            with_types(query, [self.relation.column_by_name.get(name) for name in columns])
        try:
            return render(query)
        except NotRenderable as error:
            raise not_supported("this INSERT cannot be run over several groups", detail=str(error)) from error

    def _query(self, written: str, columns: list[str]) -> str:
        """The query's text; constants in its output are given their columns' types (see `assigned`)."""
        query = self.node.selectStmt
        if query is None:
            return "SELECT"
        if not needs_types(query):
            return written
        typed = clone(query)
        with_types(typed, [self.relation.column_by_name.get(name) for name in columns])
        try:
            return render(typed)
        except NotRenderable:
            return written  # a constant that the column does not take as a text is refused by the INSERT

    def _with_query(self, clause: str, query: str) -> str:
        if any(not isinstance(cte.ctequery, ast.SelectStmt) for cte in self.node.withClause.ctes):
            raise not_supported("a WITH query that writes is not supported in an INSERT over several groups")
        if self.node.selectStmt.withClause is None:
            return f"{clause.strip()} {query}"
        return f"{clause.strip()} SELECT * FROM ({query}) AS hanse_rows"

    # --- into a reference table --------------------------------------------------------------------------------

    def into_copies(self) -> Planned:
        if not only_copies(self.analysis, self.target) or not functions_alike(self.analysis):
            return self.write_back()
        query = self.node.selectStmt
        plain = query is not None and query.valuesLists and not query.withClause and not self.node.withClause
        rows = query.valuesLists if plain and not _sorted(query) else ()
        tail = (self.node.onConflictClause, self.node.returningClause)
        if (
            not rows
            or InsertText(self.analysis.parsed).in_parentheses
            or self._unsteady(rows)
            or self._unsteady(tail)
            or len(self.analysis.base) > 1
        ):
            unsteady = self._query_is_unsteady()
            if unsteady and self.view is not None:
                raise not_supported("a volatile INSERT through a view of a reference table is not supported")
            return self.analysis.planned(Replicate(relation=self.relation.identity, volatile=unsteady))
        self._given_defaults(rows)
        text = InsertText(self.analysis.parsed)
        spans, columns = text.rows(), self._columns(len(rows[0]))
        replaced = [
            each
            for number, (row, span) in enumerate(zip(rows, spans, strict=True))
            for each in self._replacements(number, row, span, columns, text)
        ]
        keys = tuple(Equal(()) for _ in rows)
        plan = self._insert_rows(text, spans, columns, self.added(), keys, tuple(replaced))
        strings = any(isinstance(node, ast.String) for node in walk(rows))  # 'now' might come in their place
        return self.analysis.planned(plan, template_safe=not self.text_asked and not strings)

    def _unsteady(self, node: Any) -> bool:
        return differs_by_place(node, self.analysis.snapshot)

    def _query_is_unsteady(self) -> bool:
        """Two groups might select, or compute, other rows: LIMIT without a full order, sequences, clocks."""
        limited = any(isinstance(found, ast.SelectStmt) and found.limitCount for found in walk(self.node.selectStmt))
        return limited or self._unsteady(self.node) or bool(self.added()) or self.node.selectStmt is None


def defaults(relation: Relation, snapshot: Snapshot, given: set[str]) -> tuple[tuple[str, Value], ...]:
    """The columns besides the given ones whose defaults the gateway must compute, with what it computes."""
    found = (
        (column.name, default_value(relation, snapshot, column))
        for column in relation.columns
        if column.name not in given
    )
    return tuple((name, value) for name, value in found if value is not None)


def default_value(relation: Relation, snapshot: Snapshot, column: Column) -> Value | None:
    """What the gateway must compute for a column's default, None where a group may."""
    if column.generated or relation.kind not in (Kind.SHARDED, Kind.REFERENCE):
        return None
    if column.default_sequence is not None:
        return FromSequence(_sequence(column.default_sequence))
    if column.default is None:
        return None
    copied = relation.kind is Kind.REFERENCE
    if (
        column.name in relation.key
        or _default_draws(column.default, snapshot)
        or (copied and (column.default_volatile or _differs(column.default, snapshot)))
    ):
        return Asked(f"CAST(({column.default}) AS {column.type_name})")
    return None


def _default_draws(default: str, snapshot: Snapshot) -> bool:
    """nextval() inside a longer expression, or in a function that it calls."""
    if "(" not in default:
        return False
    try:
        return draws(parse_sql(f"SELECT {default}")[0].stmt, snapshot, ())
    except ParseError:
        return True


def _differs(default: str, snapshot: Snapshot) -> bool:
    try:
        return differs_by_place(parse_sql(f"SELECT {default}")[0].stmt, snapshot)
    except ParseError:
        return True


def _sorted(query: Any) -> bool:
    return bool(query.sortClause or query.limitCount or query.limitOffset)


def _row_by_row(query: Any) -> bool:
    """Neither grouped, limited, nor combined: the union of what each group selects is the whole."""
    if query.op != enums.SetOperation.SETOP_NONE or _sorted(query) or query.valuesLists or query.lockingClause:
        return False
    if query.distinctClause or query.groupClause or query.havingClause or query.windowClause:
        return False
    calls = (found for found in walk(query.targetList) if isinstance(found, ast.FuncCall))
    return not any(call.over is not None or call.agg_star or names(call.funcname)[-1] in AGGREGATES for call in calls)


def _is_null(node: Any) -> bool:
    return isinstance(node, ast.A_Const) and bool(node.isnull)


def _sequence(name: str) -> tuple[str, str]:
    parts = tuple(_split_name(name))
    return (parts[0], parts[1]) if len(parts) == 2 else ("public", parts[0])


def _split_name(name: str) -> Iterator[str]:
    """`schema."Name"` → its two parts."""
    rest = name
    while rest:
        if rest.startswith('"'):
            end = rest.index('"', 1)
            while rest[end : end + 2] == '""':
                end = rest.index('"', end + 2)
            yield rest[1:end].replace('""', '"')
            rest = rest[end + 2 :]
        else:
            head, _, rest = rest.partition(".")
            yield parse_identifier_list(head)[0]
