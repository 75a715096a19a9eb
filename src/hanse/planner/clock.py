"""What must not differ between the servers that work on one statement: the time of the transaction, and the
database's name.

`now()` is the same for a whole transaction, but each group's backend began its own. A statement for several groups
therefore holds the text `PLACEHOLDER` where it had now(), and the executor writes the transaction's start there once
for all of them:

    now()           →  (SELECT CAST('hanse:transaction-time' AS timestamptz) AS now)
    current_date    →  (SELECT CAST(CAST('hanse:transaction-time' AS timestamptz) AS date) AS current_date)

The subquery keeps the column's name (PostgreSQL names a scalar subquery after its only column) and is evaluated once.
current_database() is replaced alike where a statement runs in a workspace, whose databases have other names.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ..core.ids import quote_identifier, quote_literal
from .tree import Node, ast, function_name, parse_expression, transform, walk

PLACEHOLDER = "'hanse:transaction-time'"
STATEMENT_PLACEHOLDER = "'hanse:statement-time'"

_FUNCTIONS = {
    "now": PLACEHOLDER,
    "transaction_timestamp": PLACEHOLDER,
    "statement_timestamp": STATEMENT_PLACEHOLDER,
}
_VALUE_TYPES = {  # of SQLValueFunction, without SVFOP_ and _N
    "CURRENT_DATE": "date",
    "CURRENT_TIME": "timetz",
    "CURRENT_TIMESTAMP": "timestamptz",
    "LOCALTIME": "time",
    "LOCALTIMESTAMP": "timestamp",
}
_MOMENTS = frozenset(("now", "today", "tomorrow", "yesterday"))


def with_time(sql: str, transaction: datetime, statement: datetime) -> str:
    """The text with both placeholders filled. The times must be aware of their time zone."""
    return sql.replace(PLACEHOLDER, _text(transaction)).replace(STATEMENT_PLACEHOLDER, _text(statement))


def _text(moment: datetime) -> str:
    return f"'{moment.astimezone(UTC).isoformat(sep=' ', timespec='microseconds')}'"


def reads_clock(node: Node) -> bool:
    return any(_of_clock(found) is not None for found in walk(node))


def names_moment(node: Node) -> bool:
    """Whether a literal such as 'today' is read as a time when the statement is parsed, in each place anew.

    age(x) of one argument reads the day's date, too.
    """
    for found in walk(node):
        if isinstance(found, ast.A_Const) and isinstance(found.val, ast.String):
            if found.val.sval.strip().lower() in _MOMENTS:
                return True
        elif isinstance(found, ast.FuncCall) and function_name(found)[1] == "age" and len(found.args or ()) == 1:
            return True
    return False


def without_clock(node: Node) -> Node:
    return transform(node, _of_clock)


def _of_clock(node: Node) -> Node | None:
    if isinstance(node, ast.FuncCall):
        schema, name = function_name(node)
        if schema in (None, "pg_catalog") and name in _FUNCTIONS and not node.args:
            return _once(f"CAST({_FUNCTIONS[name]} AS timestamptz)", name)
    elif isinstance(node, ast.SQLValueFunction):
        name = node.op.name.removeprefix("SVFOP_").removesuffix("_N")
        if name in _VALUE_TYPES:
            precision = f"({node.typmod})" if node.op.name.endswith("_N") else ""
            moment = f"CAST({PLACEHOLDER} AS timestamptz)"
            return _once(f"CAST({moment} AS {_VALUE_TYPES[name]}{precision})", name.lower())
    return None


def _once(expression: str, name: str) -> Node:
    return parse_expression(f"(SELECT {expression} AS {quote_identifier(name)})")


def names_database(node: Node) -> bool:
    return any(_is_database(found) is not None for found in walk(node))


def with_database(node: Node, database: str) -> Node:
    """current_database() and current_catalog become the database's name."""
    change: Callable[[Node], Node | None] = lambda found: _named(_is_database(found), database)  # noqa: E731
    return transform(node, change)


def _named(name: str | None, database: str) -> Node | None:
    return None if name is None else _once(f"CAST({quote_literal(database)} AS name)", name)


def _is_database(node: Node) -> str | None:
    if isinstance(node, ast.FuncCall):
        schema, name = function_name(node)
        return name if schema in (None, "pg_catalog") and name == "current_database" else None
    if isinstance(node, ast.SQLValueFunction) and node.op.name == "SVFOP_CURRENT_CATALOG":
        return "current_catalog"
    return None
