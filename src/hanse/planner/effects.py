"""What bodies and expressions do, to which tables, in the one server where they run.

Names in a body are resolved as the function would: by its own `SET search_path`, else by the session's. Functions that a body
calls count as a part of it, and so do the definitions of views.

**Own rows.** A trigger of a sharded table runs in its row's group. What it does to rows of a co-located table that it finds
by the row's own partition key lies in that group, too::

    UPDATE customers SET total = total + NEW.amount WHERE customer_id = NEW.customer_id

NEW and OLD are the scope around such a statement, with the table's columns as terms; `restrict` then tells, as for any
subquery, whether a table's key equals the row's. A body that changes NEW's key, or NEW as a whole, proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pglast import ast
from pglast.parser import ParseError, parse_sql

from ..catalog.model import Function, Kind, Relation, Snapshot
from ..core.ids import parse_identifier_list, quote_qualified
from ..sql.functions import FunctionClass, calls, differs_by_place
from ..sql.scope import named_tables, resolve
from ..sql.walk import names, walk
from .bodies import read
from .facts import Scope, Source, Term
from .operands import Uses
from .plan import Context
from .restrict import Restriction, Table

_QUERIES = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_DRAWS = frozenset(("nextval", "currval", "lastval", "setval"))
_ONE_SERVERS = ("pg_notify", "pg_advisory", "pg_try_advisory", "lo_", "loread", "lowrite")


@dataclass(frozen=True, slots=True)
class Touch:
    relation: Relation
    writes: bool
    own: bool = False  # only rows whose key is that of the row for which the body runs


@dataclass(slots=True)
class Effects:
    touches: list[Touch] = field(default_factory=list)
    opaque: tuple[str, str] | None = None  # a function, and why it may do anything
    calls: set[str] = field(default_factory=set)  # of the functions that belong to one server: nextval, pg_notify …
    sequences: set[str] = field(default_factory=set)  # by the names that nextval() and the like were given; '' unknown
    unsteady: bool = False  # two servers may compute two results from the same rows

    @property
    def draws(self) -> bool:
        return "nextval" in self.calls


@dataclass(slots=True)
class Row:
    """The row for which a body runs, as NEW, OLD, or under the table's own name."""

    relation: Relation
    scope: Scope
    keys: tuple[tuple[Term, ...], ...]  # the partition key's terms, of each record that can be relied on


class _Records(Scope):
    """NEW and OLD around a body's statement: found by their names only, a bare name is a variable or a column there."""

    def _column(self, column: str) -> Term | None:
        return None


def row_of(relation: Relation, assigned: frozenset[tuple[str, str]]) -> Row | None:
    """NEW and OLD of a trigger or rule on a sharded table, without those that the body changes."""
    if relation.kind is not Kind.SHARDED or relation.colocation is None:
        return None
    sources = [
        _source(name, relation)
        for name in ("new", "old")
        if not any((name, column) in assigned for column in ("*", *relation.key))
    ]
    return Row(relation, _Records(None, list(sources)), tuple(_key(source, relation) for source in sources))


def _source(name: str, relation: Relation) -> Source:
    source = Source(name, relation)
    source.columns = {
        column.name: Term(source, column.name, column.type_oid, column.collation_deterministic)
        for column in relation.columns
    }
    return source


def _key(source: Source, relation: Relation) -> tuple[Term, ...]:
    assert source.columns is not None
    return tuple(source.columns[name] for name in relation.key)


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reader:
    """Collects the effects of trees and functions. `path`: the search path of the session that runs them."""

    snapshot: Snapshot
    path: tuple[str, ...]
    effects: Effects = field(default_factory=Effects)
    _seen: set[tuple[Function, tuple[str, ...]]] = field(default_factory=set)
    _views: set[tuple[str, str]] = field(default_factory=set)

    def function(self, function: Function, row: Row | None = None) -> None:
        path = self.path if function.search_path is None else tuple(parse_identifier_list(function.search_path))
        if (function, path) in self._seen:
            return
        self._seen.add((function, path))
        body = read(function)
        if body.opaque is not None:
            self.effects.opaque = (function.name, body.opaque)
        if row is not None:
            row = row_of(row.relation, body.assigned)
        before, self.path = self.path, path
        for statement in body.statements:
            self.tree(statement, row)
        for word in body.words:
            self._word(word, body.writes)
        self.path = before

    def _word(self, word: str, writes: bool) -> None:
        """Of a body that nobody could parse."""
        relation = self.snapshot.find(None, word, self.path)
        if relation is not None and relation.kind is Kind.VIEW:
            self._statement(parse_sql(f"TABLE {quote_qualified(*relation.identity)}")[0].stmt, None)
        elif relation is not None:
            self.effects.touches.append(Touch(relation, writes))
        for function in self.snapshot.function_names.get(word, ()):
            self.function(function)
        if word in _DRAWS or word.startswith(_ONE_SERVERS):
            self.effects.calls.add(word)
        self.effects.unsteady = True

    def tree(self, node: Any, row: Row | None = None) -> None:
        """A statement, or a node with statements below it."""
        self._calls(node)
        if isinstance(node, ast.CreateFunctionStmt):
            for statement in _inside(node.sql_body):
                self._statement(statement, None)
        else:
            self._statement(node, row)

    def _statement(self, node: Any, row: Row | None) -> None:
        if isinstance(node, _QUERIES):
            self._query(node, row)
        elif isinstance(node, ast.CallStmt | ast.CreateFunctionStmt):
            return
        elif isinstance(node, ast.NotifyStmt):
            self.effects.calls.add("pg_notify")
        else:
            self._utility(node)

    def _query(self, node: Any, row: Row | None) -> None:
        restriction = Restriction(self.snapshot, Context(search_path=self.path), Uses())
        restriction.statement(node, row.scope if row is not None else None)
        if restriction.unseen:
            self.effects.opaque = ("a view", "cannot be looked into")
        for table in restriction.tables:
            self._table(table, _is_own(table, row))

    def expression(self, query: Any, relation: Relation) -> None:
        """`SELECT … FROM relation WHERE …`: an expression of the relation's rows, which subqueries may speak of."""
        self._calls(query)
        restriction = Restriction(self.snapshot, Context(search_path=self.path), Uses())
        restriction.statement(query)
        (site,) = (table for table in restriction.tables if table.ref.node is query.fromClause[0])
        keys = (tuple(site.key_terms() or ()),)
        row = Row(relation, Scope(), keys) if relation.kind is Kind.SHARDED and keys[0] else None
        for table in restriction.tables:
            if table is not site:
                self._table(table, _is_own(table, row))

    def _table(self, table: Table, own: bool) -> None:
        relation = table.ref.relation
        if relation is None or table.ref.is_catalog:
            return
        if relation.kind is Kind.VIEW:
            self._view(relation)
        else:
            self.effects.touches.append(Touch(relation, table.ref.target, own))

    def _view(self, view: Relation) -> None:
        """Its tables are the query's already; what its definition calls is not."""
        if view.identity in self._views:
            return
        self._views.add(view.identity)
        try:
            self._calls(parse_sql(view.view_definition or "")[0].stmt)
        except (ParseError, IndexError):
            self.effects.opaque = (view.name, "cannot be looked into")

    def _utility(self, node: Any) -> None:
        """TRUNCATE, LOCK, COPY, a schema change …: it writes what it names, and a query in it reads."""
        for named in named_tables(node):
            ref = resolve(named, self.snapshot, Context(search_path=self.path))
            if ref.relation is not None and not ref.is_catalog:
                self.effects.touches.append(Touch(ref.relation, True))

    # --- calls -------------------------------------------------------------------------------------------------

    def _calls(self, node: Any) -> None:
        self.effects.unsteady = self.effects.unsteady or differs_by_place(node, self.snapshot)
        for call in calls(node, self.snapshot):
            if call.kind is FunctionClass.USER:
                for function in self.snapshot.function_names.get(call.name, ()):
                    if call.schema is None or function.schema == call.schema:
                        self.function(function)
            elif call.name in _DRAWS:
                self.effects.calls.add(call.name)
                self.effects.sequences.add(sequence_named(call.node))
            elif call.name.startswith(_ONE_SERVERS):
                self.effects.calls.add(call.name)


def _inside(node: Any) -> Iterator[Any]:
    """The outermost statements, and queries of expressions, below a node."""
    if isinstance(node, _QUERIES):
        yield node
    elif isinstance(node, ast.Node):
        for name in tuple(node):
            yield from _inside(getattr(node, name))
    elif isinstance(node, tuple):
        for item in node:
            yield from _inside(item)


def sequence_named(call: Any) -> str:
    """The constant that nextval('…') and the like are given; '' where it is none."""
    for found in walk((call.args or ())[:1]):
        if isinstance(found, ast.A_Const):
            return found.val.sval or "" if isinstance(found.val, ast.String) else ""
        if isinstance(found, ast.ColumnRef | ast.FuncCall | ast.ParamRef | ast.A_Expr):
            return ""
    return ""


def _is_own(table: Table, row: Row | None) -> bool:
    relation, terms = table.ref.relation, table.key_terms()
    if row is None or relation is None or not terms or relation.kind is not Kind.SHARDED:
        return False
    if relation.colocation is None or relation.colocation != row.relation.colocation:
        return False
    closure = table.closure()
    return any(all(closure.same(a, b) for a, b in zip(terms, key, strict=True)) for key in row.keys)


def of_functions(functions: list[Function], snapshot: Snapshot, path: tuple[str, ...]) -> Effects:
    reader = Reader(snapshot, path)
    for function in functions:
        reader.function(function)
    return reader.effects


def sequence(name: str, snapshot: Snapshot, path: tuple[str, ...]) -> Relation | None:
    """The sequence that a text means as a regclass, None: no such one is known."""
    try:
        statement: Any = parse_sql(f"SELECT FROM {name}")[0].stmt
        (target,) = statement.fromClause
    except (ParseError, ValueError, TypeError):
        return None
    if not isinstance(target, ast.RangeVar):
        return None
    found = snapshot.find(target.schemaname, target.relname or "", path)
    return found if found is not None and found.kind is Kind.SEQUENCE else None


def draws(node: Any, snapshot: Snapshot, path: tuple[str, ...]) -> bool:
    """Whether an expression draws from a sequence, itself or in a function that it calls."""
    for call in calls(node, snapshot):
        if call.kind is FunctionClass.USER:
            named = snapshot.function_names.get(call.name, ())
            called = [f for f in named if call.schema is None or f.schema == call.schema]
            if of_functions(called, snapshot, path).draws:
                return True
        elif call.name == "nextval":
            return True
    return False


def drawn_sequence(node: Any, snapshot: Snapshot, path: tuple[str, ...]) -> tuple[str, str] | None:
    """The sequence of an expression that is nextval('its name') and nothing else."""
    if not isinstance(node, ast.FuncCall) or names(node.funcname) not in (("nextval",), ("pg_catalog", "nextval")):
        return None
    if "nextval" in snapshot.function_names or len(node.args or ()) != 1:
        return None
    found = sequence(sequence_named(node), snapshot, path)
    return None if found is None else found.identity
