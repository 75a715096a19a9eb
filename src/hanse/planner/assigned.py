"""Values on their way from a query to a column: what the query must be told of the column's type.

`INSERT INTO t (day) SELECT '2026-01-01'` is fine, although a query by itself calls that constant a text, which cannot be
assigned to a date: PostgreSQL types such a constant by the column. The same holds for NULL and for ROW(…). When a query
computes the rows that another statement writes, these expressions therefore get a cast, without the length (`varchar`,
not `varchar(3)`), because a cast cuts off what an assignment refuses. Every other expression keeps its own type, and the
writing statement assigns it, or refuses it, in PostgreSQL's own words.
"""

from __future__ import annotations

from typing import Any

from pglast import ast
from pglast.parser import parse_sql

from ..catalog.model import Column


def assigned(value: Any, column: Column | None) -> Any:
    """The expression as the query shall compute it."""
    if column is None or not _untyped(value):
        return value
    return cast_to(column, value)


def cast_to(column: Column, value: Any) -> Any:
    """`CAST(value AS type)` with the column's type, but not its length."""
    selected: Any = parse_sql(f"SELECT CAST(NULL AS {column.type_name})")[0].stmt
    cast = selected.targetList[0].val
    cast.arg, cast.typeName.typmods = value, None
    unlimited = _UNLIMITED.get(cast.typeName.names[-1].sval)
    if unlimited is not None:
        cast.typeName.names = (ast.String(sval=unlimited),)
    return cast


_UNLIMITED = {"bpchar": "bpchar", "bit": "varbit"}  # `char` and `bit` without a length have the length 1


def _untyped(value: Any) -> bool:
    if isinstance(value, ast.A_Const):
        return bool(value.isnull) or isinstance(value.val, ast.String)
    return isinstance(value, ast.RowExpr | ast.ParamRef)


def needs_types(query: Any) -> bool:
    """Whether a query's own output holds an expression that `assigned` would change."""
    return any(_untyped(value) for row in output_rows(query) for value in row)


def output_rows(query: Any) -> list[tuple[Any, ...]]:
    """The expressions of the output columns: of SELECT one row, of VALUES each row; () of a set operation."""
    if query.valuesLists:
        return list(query.valuesLists)
    if query.larg is not None or not query.targetList:
        return []
    return [tuple(target.val for target in query.targetList)]


def with_types(query: Any, columns: list[Column | None]) -> None:
    """Changes the query in place: output expressions without a type of their own get their column's."""
    if query.valuesLists:
        query.valuesLists = tuple(_row(row, columns) for row in query.valuesLists)
    elif query.larg is None:
        for target, column in zip(query.targetList or (), columns, strict=False):
            if isinstance(target.val, ast.ColumnRef):
                continue
            target.val = assigned(target.val, column)


def _row(row: tuple[Any, ...], columns: list[Column | None]) -> tuple[Any, ...]:
    return tuple(assigned(value, column) for value, column in zip(row, columns, strict=False))
