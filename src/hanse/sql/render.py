"""Parse trees back to text.

pglast's printer is used as it is, and its word is checked on each use: the printed text is parsed again and must give
the same tree (positions apart). A tree that does not survive raises NotRenderable, and the caller keeps the original
text.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from pglast import ast
from pglast.parser import ParseError, parse_sql
from pglast.stream import RawStream

from .inlists import restored
from .walk import walk


class NotRenderable(Exception):
    """The printer does not give this tree back as it was; nothing was sent anywhere."""


def render(node: Any) -> str:
    """A statement as SQL on one line, proven to mean the same tree. Raises NotRenderable."""
    try:
        text: str = RawStream()(node)
        again = parse_sql(text)
    except (ParseError, NotImplementedError, AssertionError, AttributeError, TypeError) as error:
        raise NotRenderable(str(error)) from error
    if len(again) != 1 or again[0].stmt != node:
        raise NotRenderable(text)
    try:
        return restored(text)
    except KeyError:
        raise NotRenderable(text) from None


def render_expression(node: Any) -> str:
    """An expression as SQL. Raises NotRenderable."""
    target = ast.ResTarget(val=node)
    text = render(_select_of(target))
    return text.removeprefix("SELECT ")


def _select_of(target: Any) -> Any:
    statement: Any = parse_sql("SELECT 1")[0].stmt
    statement.targetList = (target,)
    return statement


def clone(node: Any) -> Any:
    """A copy that may be changed."""
    return copy.deepcopy(node)


def replace_tables(node: Any, rename: Callable[[Any], tuple[str | None, str] | None]) -> Any:
    """A copy in which tables are called otherwise: `rename(range_var)` gives (schema, name), or None to keep it.

    A renamed table keeps its old name as its alias, so that columns written `name.column` still mean it.
    """
    changed = clone(node)
    for found in walk(changed):
        if isinstance(found, ast.RangeVar):
            new = rename(found)
            if new is not None:
                if found.alias is None:
                    found.alias = ast.Alias(aliasname=found.relname)
                found.schemaname, found.relname = new
    return changed
