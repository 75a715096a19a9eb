"""The type of an expression, where it can be told for certain from the parse tree and the catalog. 0: not known.

Only what plans decide on is covered: whether a sum is exact, and whether a sort key can be compared by the gateway.
"""

from __future__ import annotations

from collections.abc import Callable

from .names import Scope, output_of, resolve
from .tree import Node, ast, function_name, is_null_constant, strings

BOOL, NAME, INT8, INT2, INT4, TEXT, OID = 16, 19, 20, 21, 23, 25, 26
FLOAT4, FLOAT8, MONEY, BPCHAR, VARCHAR = 700, 701, 790, 1042, 1043
DATE, TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL, NUMERIC, UUID = 1082, 1083, 1114, 1184, 1186, 1700, 2950

INTEGERS = (INT2, INT4, INT8)
NUMBERS = (INT2, INT4, INT8, NUMERIC, FLOAT4, FLOAT8)

_NAMED = {
    "bool": BOOL, "int2": INT2, "int4": INT4, "int8": INT8, "text": TEXT, "oid": OID, "float4": FLOAT4,
    "float8": FLOAT8,
    "bpchar": BPCHAR, "varchar": VARCHAR, "date": DATE, "time": TIME, "timestamp": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ,
    "interval": INTERVAL, "numeric": NUMERIC, "uuid": UUID, "name": NAME, "money": MONEY,
}  # fmt: skip
_SUM = {
    INT2: INT8, INT4: INT8, INT8: NUMERIC, NUMERIC: NUMERIC, FLOAT4: FLOAT4, FLOAT8: FLOAT8, INTERVAL: INTERVAL,
    MONEY: MONEY,
}  # fmt: skip
_AVERAGE = {
    INT2: NUMERIC, INT4: NUMERIC, INT8: NUMERIC, NUMERIC: NUMERIC, FLOAT4: FLOAT8, FLOAT8: FLOAT8, INTERVAL: INTERVAL
}  # fmt: skip
_OF_FUNCTION = {
    "count": INT8, "length": INT4, "char_length": INT4, "octet_length": INT4, "extract": NUMERIC, "lower": TEXT,
    "upper": TEXT, "md5": TEXT, "to_char": TEXT, "concat": TEXT, "left": TEXT, "right": TEXT, "replace": TEXT,
    "row_number": INT8, "rank": INT8, "dense_rank": INT8, "string_agg": TEXT, "bool_and": BOOL, "bool_or": BOOL,
    "every": BOOL,
}  # fmt: skip
_SAME_AS_ARGUMENT = frozenset(("min", "max", "abs"))
_ARITHMETIC = frozenset("+-*/%")


def infer(node: Node, scope: Scope, user_functions: Callable[[str], bool] = lambda name: False) -> int:
    """The type's oid, or 0. `user_functions` says whether a user made a function of that name."""
    if isinstance(node, ast.ColumnRef):
        output = output_of(scope, resolve(scope, node))
        return output.type_oid if output else 0
    if isinstance(node, ast.A_Const):
        return _constant(node)
    if isinstance(node, ast.TypeCast):
        return type_of_name(node.typeName)
    if isinstance(node, ast.FuncCall):
        return _function(node, scope, user_functions)
    if isinstance(node, ast.A_Expr):
        return _operator(node, scope, user_functions)
    if isinstance(node, ast.CoalesceExpr | ast.MinMaxExpr):
        return _chosen([infer(argument, scope, user_functions) for argument in node.args])
    if isinstance(node, ast.CaseExpr):
        results = [when.result for when in node.args] + ([node.defresult] if node.defresult is not None else [])
        return _chosen([infer(each, scope, user_functions) for each in results if not is_null_constant(each)])
    if isinstance(node, ast.BoolExpr | ast.NullTest | ast.BooleanTest):
        return BOOL
    return 0


def type_of_name(name: Node) -> int:
    path = strings(name.names)
    if name.arrayBounds or name.setof or len(path) > 2 or (len(path) == 2 and path[0] != "pg_catalog"):
        return 0
    return _NAMED.get(path[-1], 0)


def _constant(node: Node) -> int:
    if isinstance(node.val, ast.Integer):
        return INT4
    if isinstance(node.val, ast.Float):
        digits = node.val.fval.lstrip("-")
        return INT8 if digits.isdigit() and int(digits) < 1 << 63 else NUMERIC if _decimal(digits) else 0
    return BOOL if isinstance(node.val, ast.Boolean) else 0


def _decimal(digits: str) -> bool:
    return all(character in "0123456789.eE+-" for character in digits)


def _function(node: Node, scope: Scope, user: Callable[[str], bool]) -> int:
    schema, name = function_name(node)
    if schema not in (None, "pg_catalog") or (schema is None and user(name)):
        return 0
    if name in ("sum", "avg", *_SAME_AS_ARGUMENT) and len(node.args or ()) == 1:
        argument = infer(node.args[0], scope, user)
        if name == "sum":
            return _SUM.get(argument, 0)
        if name == "avg":
            return _AVERAGE.get(argument, 0)
        return TEXT if argument in (VARCHAR, NAME) else argument
    if name in ("left", "right", "replace", "lower", "upper", "string_agg", "length"):
        first = (
            infer(node.args[0], scope, user) if node.args else 0
        )  # ranges and bytea have functions of these names, too
        return _OF_FUNCTION[name] if first in (TEXT, VARCHAR, BPCHAR) else 0
    return _OF_FUNCTION.get(name, 0)


def _operator(node: Node, scope: Scope, user: Callable[[str], bool]) -> int:
    names = strings(node.name)
    if node.kind.name != "AEXPR_OP" or len(names) != 1:
        return BOOL if node.kind.name in ("AEXPR_IN", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_DISTINCT") else 0
    if names[0] in ("=", "<", ">", "<=", ">=", "<>"):
        return BOOL
    right = infer(node.rexpr, scope, user)
    if names[0] == "-" and node.lexpr is None:
        return right if right in NUMBERS else 0
    if names[0] not in _ARITHMETIC or node.lexpr is None:
        return 0
    left = infer(node.lexpr, scope, user)
    if left == right and left in (TIMESTAMP, TIMESTAMPTZ):
        return INTERVAL if names[0] == "-" else 0
    if left == right == DATE:
        return INT4 if names[0] == "-" else 0
    return _common([left, right]) if left in NUMBERS and right in NUMBERS else 0


def _chosen(types: list[int]) -> int:
    """As CASE and COALESCE resolve: not like operators where a real is among other numbers."""
    return 0 if FLOAT4 in types and len(set(types)) > 1 else _common(types)


def _common(types: list[int]) -> int:
    """The type that PostgreSQL resolves numbers of several types to; any one type alone. 0 where unsure."""
    if not types or 0 in types:
        return 0
    if len(set(types)) == 1:
        return types[0]
    if not all(each in NUMBERS for each in types):
        return 0
    if FLOAT8 in types or FLOAT4 in types:
        return FLOAT8
    return max(types, key=(INT2, INT4, INT8, NUMERIC).index)
