"""Statements of the simple protocol, sent to backends as prepared ones.

A text that keeps coming back with other literals is parsed and planned by PostgreSQL each time; as a prepared statement it is
not, which saves a third of a point read's cost on the server. So after `USES_BEFORE` uses of a template its literals become
parameters: `… WHERE aid = 5` is sent as Bind of `… WHERE aid = $1`. The answer differs by a BindComplete in front, which the
relay takes off.

**Why the answer is the same.** Each literal becomes a parameter of the type that PostgreSQL gives the literal: int4 for a
number of up to nine digits, undetermined (what an unadorned string literal is, too) for a string. Statements where a literal
is not an ordinary expression (ORDER BY 1, interval '…', type modifiers, LIMIT …) are left alone, so are those with other
kinds of literals. Before the first use a server is asked whether it can prepare the statement at all.

Names hold a number that is new with each catalog version, so no statement outlives a change of its tables.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pglast import ast

from ..core.errors import PgError
from ..planner.plan import Forward
from ..sql.parse import Parsed, parse_one
from ..sql.walk import walk
from .analysis import describe

if TYPE_CHECKING:
    from .route import Route
    from .session import Session

USES_BEFORE = 5
LITERALS_MAX = 8
INT4, UNDETERMINED = 23, 0

_LENGTH = struct.Struct("!I").pack
_COUNT = struct.Struct("!H").pack
_TAIL_ROWS = b"D\x00\x00\x00\x06P\x00E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04"
_TAIL_NO_ROWS = b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04"
_VERBS = frozenset(("SELECT", "UPDATE", "DELETE", "INSERT"))


@dataclass(slots=True)
class Prepared:
    """One template in this context and catalog version. `types`: of its literals, which others must match."""

    number: int
    types: tuple[int, ...]
    tail: bytes

    def values(self, literals: Sequence[bytes]) -> bytes | None:
        """The literals as the parameters of a Bind; None where one is of another type than the statement's."""
        pieces = [_COUNT(len(literals))]
        for literal, type_oid in zip(literals, self.types, strict=True):
            if type_oid == INT4:
                if len(literal) > 9 or not literal.isdigit():
                    return None
                pieces += (_LENGTH(len(literal)), literal)
            else:
                if literal[:1] != b"'":
                    return None
                value = literal[1:-1].replace(b"''", b"'")
                pieces += (_LENGTH(len(value)), value)
        return b"".join(pieces)

    def message(self, name: bytes, values: bytes) -> bytes:
        """Bind, Describe (where rows come), Execute, Sync."""
        body = b"\x00" + name + b"\x00\x00\x00" + values + b"\x00\x00"
        return b"B" + _LENGTH(len(body) + 4) + body + self.tail


def parameterised(parts: Sequence[bytes]) -> bytes:
    """The split text with `$1`, `$2` … in the places of its literals."""
    pieces = list(parts)
    for number in range(1, len(pieces), 2):
        pieces[number] = b"$%d" % (number // 2 + 1)
    return b"".join(pieces)


async def consider(session: Session, route: Route, text: bytes, parts: Sequence[bytes], place: str) -> None:
    """Decides for a template that is used often; sets `route.prepared`."""
    planned = route.planned
    types = _types(parts[1::2])
    if types is None or not isinstance(planned.plan, Forward) or planned.plan.sql is not None:
        return
    if not planned.template_safe or planned.frozen or planned.verb not in _VERBS:
        return
    try:
        if not _ordinary(parse_one(text)):
            return
    except PgError:  # this text has the template's segments, and in a literal bytes that are no text
        route.uses = 0
        return
    backend = await session.acquire_spare(place)
    if backend is None:
        route.uses = 0  # all are busy at this moment: another time
        return
    try:
        found = await describe(backend, parameterised(parts), types)
    except PgError:
        return
    finally:
        session.give_back(backend)
    tail = _TAIL_NO_ROWS if found.fields is None else _TAIL_ROWS
    route.prepared = Prepared(session.gateway.new_statement_number(), types, tail)


def _types(literals: Sequence[bytes]) -> tuple[int, ...] | None:
    if not 0 < len(literals) <= LITERALS_MAX:
        return None
    types: list[int] = []
    for literal in literals:
        if literal[:1] == b"'":
            types.append(UNDETERMINED)
        elif literal.isdigit() and len(literal) <= 9:
            types.append(INT4)
        else:
            return None
    return tuple(types)


_SPECIAL = ("sortClause", "groupClause", "limitCount", "limitOffset", "distinctClause", "typmods", "windowClause")


def _ordinary(statement: Parsed) -> bool:
    """Whether every literal is an operand of an expression, where a parameter may stand as well."""
    constants = [node for node in walk(statement.node) if isinstance(node, ast.A_Const) and not node.isnull]
    written = [node for node in constants if statement.literal_of(node) is not None]
    if len(written) != len(statement.parts) // 2:
        return False
    special: set[int] = set()
    for node in walk(statement.node):
        for name in _SPECIAL:
            special.update(id(found) for found in _constants(getattr(node, name, None)))
        if isinstance(node, ast.TypeCast) and isinstance(node.arg, ast.A_Const):
            special.add(id(node.arg))  # interval '1 day', date '2020-01-01'
    return not any(id(node) in special for node in written)


def _constants(node: Any) -> list[Any]:
    return [] if node is None else [found for found in walk(node) if isinstance(found, ast.A_Const)]
