"""Objects made from queries: views, CREATE TABLE AS, SELECT INTO, materialized views.

The workspace has the whole schema and no rows, so it makes the object WITH NO DATA; its columns are then known, the
groups get a table with these columns, and the session's planner runs the query and loads the rows (`Fill`).

**Materialized views** are real in the workspace, for the catalog's sake, and plain tables in the groups, with the rows
in every group as a reference table has them: a join with one is then local everywhere. REFRESH empties and fills
them again in one transaction. Statements that alter one say TABLE in the groups.

**Views** exist in the groups that have everything they are made of (places.py).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ...core.errors import PgError, not_supported
from ..model import Kind, Relation, Snapshot
from . import text as surgery
from .checks import check_foreign_keys
from .definition import capture, create_table
from .places import locate, place, qualified, run_groups, run_system
from .placing import chosen_group, options_of
from .rights import mirror_everywhere
from .steps import (
    DdlContext,
    DdlResult,
    Fill,
    Freeze,
    Identity,
    Introspect,
    Procedure,
    RunGroups,
    RunWorkspace,
    Step,
    everywhere,
)


def create_view(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    yield RunWorkspace(text)
    found = yield from locate([(stmt.view.schemaname, stmt.view.relname)], ctx)
    groups = found[0].groups if found else ()
    yield from run_groups(everywhere(groups, text))
    return DdlResult()


def create_table_as(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """CREATE TABLE AS and CREATE MATERIALIZED VIEW."""
    if type(stmt.query).__name__ == "ExecuteStmt":
        raise not_supported(
            "CREATE TABLE AS EXECUTE is not supported", hint="Write the prepared statement's query instead of EXECUTE."
        )
    plain = surgery.without_own_clauses(surgery.trimmed(text), query_follows=True)
    head, query = _split_as(plain)
    materialized = stmt.objtype.name == "OBJECT_MATVIEW"
    return (
        yield from _create_filled(
            ctx.target(stmt.into.rel),
            f"{head} AS {query} WITH NO DATA" if not materialized else f"{head} AS {query}",
            None if stmt.into.skipData else query,
            materialized,
            stmt,
            ctx,
        )
    )


def select_into(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """SELECT … INTO t …: the clause is cut out, and the rest is the query of a CREATE TABLE AS."""
    found = surgery.words(text)
    begin = surgery.index_of(found, "INTO")
    assert begin is not None
    end = begin + 1
    while found[end].name in ("UNLOGGED", "LOGGED", "TABLE"):
        end += 1
    end += 3 if end + 1 < len(found) and found[end + 1].name == "ASCII_46" else 1
    target = ctx.target(stmt.intoClause.rel)
    query = surgery.apply(surgery.trimmed(text), [surgery.Cut(found[begin].start, found[end - 1].end)])
    unlogged = "UNLOGGED " if stmt.intoClause.rel.relpersistence == "u" else ""
    name = text[found[end - (3 if found[end - 2].name == "ASCII_46" else 1)].start : found[end - 1].end]
    create = f"CREATE {unlogged}TABLE {name} AS {query} WITH NO DATA"
    return (yield from _create_filled(target, create, query, False, stmt, ctx))


def _split_as(text: str) -> tuple[str, str]:
    """(`CREATE TABLE t (a) …`, the query without WITH [NO] DATA)"""
    found = surgery.words(text)
    at = surgery.index_of(found, "AS")
    assert at is not None
    end = len(found)
    if found[-1].name == "DATA_P" and found[-2].name in ("WITH", "WITH_LA"):
        end -= 2
    elif found[-1].name == "DATA_P" and found[-2].name == "NO":
        end -= 3
    return text[: found[at].start].rstrip(), text[found[at].end : found[end - 1].end].strip()


def _create_filled(
    target: Identity, create: str, query: str | None, materialized: bool, stmt: Any, ctx: DdlContext
) -> Procedure:
    into = stmt.into if hasattr(stmt, "into") else stmt.intoClause
    group = chosen_group(into.tableSpaceName, ctx)
    reference = options_of(into).get("distribution") == "reference"
    if getattr(stmt, "if_not_exists", False) and target in ctx.snapshot.relation_by_identity:
        yield RunWorkspace(create)
        return DdlResult(tag="CREATE TABLE AS")
    # The workspace's materialized view is populated with no rows, or it could not be queried there.
    yield RunWorkspace(create + " WITH NO DATA" if materialized and query is None else create)
    if reference:
        yield place(target, Kind.REFERENCE, None)
    elif group is not None and not materialized:
        yield place(target, Kind.SINGLE, group)
    after: Snapshot = yield Introspect()
    relation = after.relation_by_identity[target]
    yield from check_foreign_keys(ctx.snapshot, after)
    definition = yield from capture(target, ctx)
    yield from run_system(
        [create_table(definition, partition_by=None), *definition.rights], ctx.groups, workspace=False
    )
    if query is None:
        return DdlResult(tag="CREATE MATERIALIZED VIEW" if materialized else "CREATE TABLE AS")
    count = yield from _fill(relation, query, None, ctx)
    return DdlResult(tag=f"SELECT {count}")


def _fill(relation: Relation, query: str, as_role: str | None, ctx: DdlContext) -> Generator[Step, Any, int]:
    groups = (relation.group,) if relation.kind is Kind.SINGLE and relation.group else ctx.groups
    count: int = yield Fill(
        query=query,
        target=relation.identity,
        columns=tuple(column.name for column in relation.columns),
        groups=groups,
        as_role=as_role,
    )
    return count


def refresh(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """REFRESH MATERIALIZED VIEW [CONCURRENTLY] … [WITH NO DATA]"""
    relation = ctx.find(stmt.relation)
    yield RunWorkspace(text)  # ownership, existence, the unique index that CONCURRENTLY needs
    if relation is None or relation.kind is not Kind.MATERIALIZED_VIEW or relation.view_definition is None:
        raise PgError("42809", f'"{stmt.relation.relname}" is not a materialized view')
    yield Freeze((relation.identity,))
    yield RunGroups(everywhere(ctx.groups, f"DELETE FROM {qualified(relation.identity)}"), system=True)
    if not stmt.skipData:
        yield from _fill(relation, relation.view_definition, relation.owner, ctx)
    return DdlResult(tag="REFRESH MATERIALIZED VIEW")


__all__ = ["create_table_as", "create_view", "mirror_everywhere", "refresh", "select_into"]
