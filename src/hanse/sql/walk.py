"""Walking PostgreSQL's parse trees (pglast's nodes) in the order of their fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast

Node = ast.Node

_FIELDS: dict[type, tuple[str, ...]] = {}


def fields(node: Node) -> tuple[str, ...]:
    kind = type(node)
    known = _FIELDS.get(kind)
    if known is None:
        known = _FIELDS[kind] = tuple(node)
    return known


def children(node: Any) -> Iterator[Any]:
    """The nodes directly below a node or a (nested) tuple of nodes."""
    values = node if isinstance(node, tuple) else (getattr(node, name) for name in fields(node))
    for value in values:
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from children(value)


def walk(node: Any) -> Iterator[Any]:
    """A node and all nodes below it, parents first. None gives nothing.

    Without recursion: in a chain of 5,000 operators nested generators would pass each node up through all above it.
    """
    if node is None:
        return
    waiting = [node]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Node):
            yield found
        elif not isinstance(found, tuple):
            continue
        waiting.extend(reversed(tuple(children(found))))


def names(parts: Any) -> tuple[str, ...]:
    """The strings of a list of String nodes: a qualified name, an operator. Other nodes (`*`) are left out."""
    return tuple(part.sval or "" for part in parts or () if isinstance(part, ast.String))
