"""The name that PostgreSQL gives a result column without AS.

This is FigureColname() of PostgreSQL's src/backend/parser/parse_target.c: a name has a strength, so that
`CAST(x AS date)` is called x, `CAST(1 + 1 AS date)` is called date, and `1 + 1` is called ?column?.
"""

from __future__ import annotations

from .tree import Node, ast, strings

UNNAMED = "?column?"
_NONE, _WEAK, _STRONG = 0, 1, 2
_Named = tuple[str | None, int]

_FIXED: dict[type, str] = {
    ast.GroupingFunc: "grouping",
    ast.A_ArrayExpr: "array",
    ast.RowExpr: "row",
    ast.CoalesceExpr: "coalesce",
    ast.XmlSerialize: "xmlserialize",
    ast.JsonObjectConstructor: "json_object",
    ast.JsonArrayConstructor: "json_array",
    ast.JsonArrayQueryConstructor: "json_array",
    ast.JsonObjectAgg: "json_objectagg",
    ast.JsonArrayAgg: "json_arrayagg",
}
_XML = {"IS_XMLCONCAT": "xmlconcat", "IS_XMLELEMENT": "xmlelement", "IS_XMLFOREST": "xmlforest"}
_XML |= {"IS_XMLPARSE": "xmlparse", "IS_XMLPI": "xmlpi", "IS_XMLROOT": "xmlroot", "IS_XMLSERIALIZE": "xmlserialize"}


def column_name(target: Node) -> str | None:
    """The name of a ResTarget's column. None: it cannot be told from the tree (a subquery's `*`)."""
    if target.name is not None:
        return str(target.name)
    try:
        name, _ = _figure(target.val)
    except LookupError:
        return None
    return UNNAMED if name is None else name


def _figure(node: Node) -> _Named:
    fixed = _FIXED.get(type(node))
    if fixed is not None:
        return fixed, _STRONG
    handler = _HANDLERS.get(type(node))
    return handler(node) if handler is not None else (None, _NONE)


def _column(node: Node) -> _Named:
    if not isinstance(node.fields[-1], ast.String):
        raise LookupError("star")
    return node.fields[-1].sval, _STRONG


def _indirection(node: Node) -> _Named:
    names = strings(node.indirection)
    return (names[-1], _STRONG) if names else _figure(node.arg)


def _function(node: Node) -> _Named:
    return strings(node.funcname)[-1], _STRONG


def _expression(node: Node) -> _Named:
    return ("nullif", _STRONG) if node.kind.name == "AEXPR_NULLIF" else (None, _NONE)


def _cast(node: Node) -> _Named:
    name, strength = _figure(node.arg)
    return (strings(node.typeName.names)[-1], _WEAK) if strength <= _WEAK else (name, strength)


def _collate(node: Node) -> _Named:
    return _figure(node.arg)


def _case(node: Node) -> _Named:
    name, strength = _figure(node.defresult) if node.defresult is not None else (None, _NONE)
    return ("case", _WEAK) if strength <= _WEAK else (name, strength)


def _greatest(node: Node) -> _Named:
    return ("greatest" if node.op.name == "IS_GREATEST" else "least"), _STRONG


def _value_function(node: Node) -> _Named:
    name = node.op.name.removeprefix("SVFOP_").lower()
    return name.removesuffix("_n") if name.endswith("_n") else name, _STRONG


def _xml(node: Node) -> _Named:
    name = _XML.get(node.op.name)
    return name, _STRONG if name else _NONE


def _sublink(node: Node) -> _Named:
    kind = node.subLinkType.name
    if kind == "EXISTS_SUBLINK":
        return "exists", _STRONG
    if kind == "ARRAY_SUBLINK":
        return "array", _STRONG
    if kind != "EXPR_SUBLINK":
        return None, _NONE
    query = node.subselect
    while query.larg is not None:
        query = query.larg
    if query.valuesLists:
        return "column1", _STRONG
    name = column_name(query.targetList[0]) if query.targetList else None
    if name is None:
        raise LookupError("star")
    return name, _STRONG


_HANDLERS = {
    ast.ColumnRef: _column,
    ast.A_Indirection: _indirection,
    ast.FuncCall: _function,
    ast.A_Expr: _expression,
    ast.TypeCast: _cast,
    ast.CollateClause: _collate,
    ast.CaseExpr: _case,
    ast.MinMaxExpr: _greatest,
    ast.SQLValueFunction: _value_function,
    ast.XmlExpr: _xml,
    ast.SubLink: _sublink,
}
