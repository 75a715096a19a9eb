"""`SELECT create_distributed_table('orders', 'customer_id', …)` and relatives, under the names that Citus users know.

They are schema changes in the form of a function call, and are taken as such only when the call is the whole statement.
Arguments are constants, by position or by name, as Citus names them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.errors import PgError, not_supported
from .convert import create_distributed_table, create_reference_table, undistribute_table
from .steps import DdlContext, Procedure

_PARAMETERS = {
    "create_distributed_table": (
        "table_name",
        "distribution_column",
        "distribution_type",
        "colocate_with",
        "shard_count",
    ),
    "create_reference_table": ("table_name",),
    "undistribute_table": ("table_name", "cascade_via_foreign_keys"),
}
FUNCTIONS = frozenset(_PARAMETERS)


def called(statement: Any) -> str | None:
    """The function of ours that a SELECT calls, if that is all it does."""
    if type(statement).__name__ != "SelectStmt" or statement.fromClause or len(statement.targetList or ()) != 1:
        return None
    value = statement.targetList[0].val
    if type(value).__name__ != "FuncCall" or statement.whereClause or statement.op.name != "SETOP_NONE":
        return None
    names = [part.sval for part in value.funcname]
    return names[-1] if names[-1] in FUNCTIONS and names[:-1] in ([], ["public"], ["pg_catalog"], ["hanse"]) else None


def call(statement: Any, ctx: DdlContext) -> Procedure:
    name = called(statement)
    if name is None:
        raise not_supported("this SELECT is not a schema change")
    given = _arguments(name, statement.targetList[0].val)
    return _CALLS[name](given, ctx)


def _arguments(name: str, function: Any) -> dict[str, Any]:
    parameters = _PARAMETERS[name]
    given: dict[str, Any] = {}
    for number, argument in enumerate(function.args or ()):
        if type(argument).__name__ == "NamedArgExpr":
            key, argument = argument.name, argument.arg
        elif number < len(parameters):
            key = parameters[number]
        else:
            raise _no_such_function(name)
        if key not in parameters or key in given:
            raise _no_such_function(name)
        given[key] = _constant(name, argument)
    if any(given.get(key) is None for key in parameters[: 2 if name == "create_distributed_table" else 1]):
        raise _no_such_function(name)
    return given


def _no_such_function(name: str) -> PgError:
    return PgError(
        "42883",
        f"function {name} with these arguments does not exist",
        hint=f"Its arguments are {', '.join(_PARAMETERS[name])}.",
    )


def _constant(name: str, node: Any) -> str | int | bool | None:
    while type(node).__name__ == "TypeCast":
        node = node.arg
    if type(node).__name__ != "A_Const":
        raise not_supported(f"arguments of {name} must be constants")
    if node.isnull:
        return None
    for attribute in ("sval", "ival", "boolval"):
        if hasattr(node.val, attribute):
            found: str | int | bool = getattr(node.val, attribute)
            return found
    raise not_supported(f"arguments of {name} must be texts, integers or booleans")


def _distribute(given: dict[str, Any], ctx: DdlContext) -> Procedure:
    if given.get("distribution_type") not in (None, "hash"):
        raise not_supported(
            f'distribution type "{given["distribution_type"]}" is not supported',
            hint="Use PARTITION BY RANGE or LIST for other distributions.",
        )
    return create_distributed_table(
        given["table_name"],
        given["distribution_column"],
        ctx,
        colocate_with=given.get("colocate_with"),
        shard_count=given.get("shard_count"),
    )


_CALLS: dict[str, Callable[[dict[str, Any], DdlContext], Procedure]] = {
    "create_distributed_table": _distribute,
    "create_reference_table": lambda given, ctx: create_reference_table(given["table_name"], ctx),
    "undistribute_table": lambda given, ctx: undistribute_table(given["table_name"], ctx),
}
