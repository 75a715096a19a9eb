"""Which tables a statement names, at any depth, and what they are.

A name is a table's unless a common table expression of that name is in scope (PostgreSQL: parse_relation.c,
`scanNameSpaceForCTE`). In `WITH a AS (…), b AS (…)` each expression sees those before it; under RECURSIVE all see all.

A temporary table hides any other of its name (pg_temp is searched first). An unqualified name that neither the session
nor the catalog snapshot knows and that begins with `pg_` is a system catalog's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pglast import ast

from .walk import children

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

CATALOG_SCHEMAS = frozenset(("pg_catalog", "information_schema", "hanse", "pg_toast"))
_STATEMENTS = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_WRITES = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)


class Finder(Protocol[R_co]):
    """What of a catalog snapshot is needed here."""

    def find(self, schema: str | None, name: str, search_path: tuple[str, ...]) -> R_co | None: ...


class NameContext(Protocol):
    """What of a session is needed here (`planner.plan.Context`)."""

    @property
    def search_path(self) -> tuple[str, ...]: ...
    @property
    def temporary(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Named:
    """A RangeVar that is no CTE. `depth`: queries around it, 1 at the top; `target`: a statement writes it."""

    node: Any
    depth: int
    target: bool


@dataclass(frozen=True, slots=True)
class TableRef(Generic[R]):
    """`relation` is None for temporary tables, system catalogs, and names that nobody knows."""

    node: Any
    relation: R | None
    identity: tuple[str, str]
    is_catalog: bool
    temporary: bool
    depth: int
    target: bool

    @property
    def unknown(self) -> bool:
        return self.relation is None and not self.is_catalog and not self.temporary


def named_tables(statement: Any) -> tuple[Named, ...]:
    return tuple(_named(statement, frozenset(), 0))


def table_refs(statement: Any, snapshot: Finder[R], context: NameContext) -> list[TableRef[R]]:
    """Every table that the statement names, resolved, in the order of the parse tree's fields."""
    return [resolve(named, snapshot, context) for named in named_tables(statement)]


def resolve(named: Named, snapshot: Finder[R], context: NameContext) -> TableRef[R]:
    schema, name = named.node.schemaname, named.node.relname
    temporary = is_temporary(schema, name, context)
    relation = None if temporary else snapshot.find(schema, name, context.search_path)
    catalog = not temporary and relation is None and is_catalog_name(schema, name, context)
    if relation is not None:
        identity: tuple[str, str] = (getattr(relation, "schema", schema or ""), name)
    else:
        identity = (schema or ("pg_temp" if temporary else "pg_catalog" if catalog else ""), name)
    is_catalog = catalog or (relation is not None and identity[0] in CATALOG_SCHEMAS)
    return TableRef(named.node, relation, identity, is_catalog, temporary, named.depth, named.target)


def is_temporary(schema: str | None, name: str, context: NameContext) -> bool:
    if schema is None:
        return name in context.temporary
    return schema == "pg_temp" or schema.startswith("pg_temp_")


def is_catalog_name(schema: str | None, name: str, context: NameContext) -> bool:
    if schema is not None:
        return schema in CATALOG_SCHEMAS
    searched = CATALOG_SCHEMAS.intersection(context.search_path) - {"pg_catalog"}
    return name.startswith("pg_") or bool(searched)


def _named(node: Any, hidden: frozenset[str], depth: int) -> Iterator[Named]:
    if isinstance(node, ast.RangeVar):
        if node.schemaname is not None or node.relname not in hidden:
            yield Named(node, depth, False)
    elif isinstance(node, _STATEMENTS):
        yield from _of_statement(node, hidden, depth + 1)
    elif isinstance(node, ast.LockingClause | ast.IntoClause):
        return  # names of the FROM list's items, and of a table to be made
    else:
        for child in children(node):
            yield from _named(child, hidden, depth)


def _of_statement(node: Any, hidden: frozenset[str], depth: int) -> Iterator[Named]:
    clause = node.withClause
    if clause is not None:
        visible = hidden
        if clause.recursive:
            visible = hidden | {cte.ctename for cte in clause.ctes}
        for cte in clause.ctes:
            yield from _named(cte.ctequery, visible, depth)
            visible = visible | {cte.ctename}
        hidden = visible
    target = node.relation if isinstance(node, _WRITES) else None
    if target is not None:
        yield Named(target, depth, True)  # the target of a write is never a CTE
    for child in children(node):
        if child is not clause and child is not target:
            yield from _named(child, hidden, depth)
