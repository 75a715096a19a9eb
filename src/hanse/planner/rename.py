"""Where in a statement's text a partition's name may stand in for its table's.

Naming the partition is faster (no pruning, no locks on siblings) and safer: when the partition has moved away the
statement fails (42P01) where it would have found nothing. It is done only where it cannot be seen (findings-gateway 1
and 14): one table in the whole statement, *nameable*; an alias is added, so that columns written `table.column` still
mean it; no whole-row value (its type would be the partition's), no `schema.table.column`, no `tableoid`, no ONLY, no
system column that tells partitions apart.
"""

from __future__ import annotations

import re
from typing import Any

from pglast import ast

from ..catalog.model import Relation
from ..core.ids import quote_identifier
from ..sql.scope import named_tables
from ..sql.walk import names, walk
from .analysis import Analysis
from .plan import Rename

_STATEMENTS = (ast.SelectStmt, ast.UpdateStmt, ast.DeleteStmt)
_PART = r'(?:"(?:[^"]|"")*"|[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*)'
_NAME = re.compile(_PART)
_QUALIFIED = re.compile(_PART + r"\s*\.\s*" + _PART)


def renames_for(analysis: Analysis) -> tuple[Rename, ...]:
    node = analysis.parsed.node
    if not analysis.parsed.plain or type(node) not in _STATEMENTS or len(analysis.tables) != 1:
        return ()
    table = analysis.tables[0]
    relation, range_var = table.ref.relation, table.ref.node
    if relation is None or not relation.nameable or table.via_view or not range_var.inh or range_var.catalogname:
        return ()
    if (
        len(named_tables(node)) != 1
        or not _is_direct(node, range_var)
        or not all(shard.nameable for shard in relation.shards)
    ):
        return ()
    if not _columns_allow(node, relation, range_var) or _assigns_key(node, relation):
        return ()
    return _rename(analysis, relation, range_var)


def _is_direct(node: Any, range_var: Any) -> bool:
    """The table stands in the statement itself, not in a WITH query or a subquery."""
    if node.withClause is not None:
        return False
    return any(
        item is range_var for item in (getattr(node, "relation", None), *(getattr(node, "fromClause", None) or ()))
    )


def _rename(analysis: Analysis, relation: Relation, range_var: Any) -> tuple[Rename, ...]:
    parsed = analysis.parsed
    text = parsed.text.decode()
    match = (_QUALIFIED if range_var.schemaname else _NAME).match(text, range_var.location)
    if match is None:
        return ()
    start = parsed.byte_offset(match.start())
    segment, at = parsed.position(start)
    length = len(match.group().encode())
    alias = "" if range_var.alias is not None else f" AS {quote_identifier(range_var.relname)}"
    return (Rename(relation.identity, segment, at, at + length, alias.encode()),)


def _columns_allow(node: Any, relation: Relation, range_var: Any) -> bool:
    name = range_var.alias.aliasname if range_var.alias is not None else range_var.relname
    if range_var.alias is not None and range_var.alias.colnames:
        return False
    stars = {id(target.val) for target in walk(node) if isinstance(target, ast.ResTarget)}
    for found in walk(node):
        if isinstance(found, ast.ColumnRef) and not _allows(found, name, relation, id(found) in stars):
            return False
        if isinstance(found, ast.CurrentOfExpr | ast.RangeTableSample | ast.RangeSubselect | ast.RangeFunction):
            return False
    return True


def _allows(column: Any, name: str, relation: Relation, output: bool) -> bool:
    path = names(column.fields)
    if len(path) < len(column.fields):  # `*` or `table.*`: columns where it is an output, else a whole row
        return output and len(path) <= 1
    if len(path) > 2 or path[-1] == "tableoid":
        return False
    return len(path) == 2 or path[0] in relation.column_by_name or path[0] != name


def _assigns_key(node: Any, relation: Relation) -> bool:
    return isinstance(node, ast.UpdateStmt) and any(target.name in relation.key for target in node.targetList or ())
