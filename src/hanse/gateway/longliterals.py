"""A simple query with strings of megabytes in it runs as if they were its parameters.

    INSERT INTO t VALUES (5, 'xxx…')  →  INSERT INTO t VALUES (5, $1), 'xxx…'

A statement's text is cut, parsed, planned and put together on its way: each is a copy, and a time in which others wait. PostgreSQL
finds the type of a string as it finds that of a parameter of no type. Where it does not, or the text is not of the
simple kind that is read here, the statement runs as it came.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from ..core.errors import PgError
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.framing import Message
from ..pgwire.primitives import BODY
from ..planner.values import Parameters
from ..sql.literals import parts_are_plain
from .analysis import analyze
from .longmessages import TURN_BYTES
from .prepared import Portal
from .sinks import SimpleSink

if TYPE_CHECKING:
    from .session import Session

LITERAL_BYTES_MIN = 1 << 18
REST_BYTES_MAX = 1 << 16  # of the text without its long literals
LITERALS_MAX = 1_000
_VERBS = re.compile(rb"\s*(?:SELECT|INSERT|UPDATE|DELETE|MERGE|WITH)\b", re.IGNORECASE)
_OUTSIDE = re.compile(rb"""[^'"]*+(?:"[^"]*"[^'"]*+)*+""")
_INSIDE = re.compile(rb"[^']*+(?:''[^']*+)*+")
_NOT_SO = frozenset(("42601", "42P18"))  # where a string may stand and a parameter may not; or it has no type


@dataclass(frozen=True, slots=True)
class Shortened:
    """A text whose long literals are `$1`, `$2`, …, in this order."""

    parts: list[bytes]  # segments and literals, alternating
    taken: dict[int, bytes]  # place among the parts → value

    @property
    def text(self) -> bytes:
        return b"".join(self.parts)

    @property
    def values(self) -> list[bytes | None]:
        return list(self.taken.values())

    @property
    def first(self) -> int:
        """Where the first long literal stood."""
        return len(b"".join(self.parts[: min(self.taken)]))

    def whole(self) -> bytes:
        parts = self.parts.copy()
        for place, value in self.taken.items():
            parts[place] = b"'%b'" % value.replace(b"'", b"''")
        return b"".join(parts)


async def shortened(raw: bytes) -> Shortened | None:
    """Of a Query message; None: it is to run as it is."""
    end = len(raw) - 1
    if not _VERBS.match(raw, BODY) or raw[end]:
        return None
    parts: list[bytes] = []  # with an empty string for each long one, for the judgement whether the text is plain
    taken: dict[int, bytes] = {}
    at, rest = BODY, 0
    while len(parts) < 2 * LITERALS_MAX:
        found = _OUTSIDE.match(raw, at, min(end, at + REST_BYTES_MAX))
        assert found is not None, "the pattern matches the empty text"
        parts.append(found[0])
        at = found.end()
        if at == end:
            break
        if raw[at] != _QUOTE:
            return None
        length, value = await _literal(raw, at, end)
        if not length:
            return None
        if value is not None:
            taken[len(parts)] = value
        parts.append(raw[at : at + length] if value is None else b"''")
        at += length
        rest += len(parts[-1]) + len(parts[-2])
        if rest > REST_BYTES_MAX:
            return None
    if at != end or not taken or not parts_are_plain(parts) or any(b"$" in part or 0 in part for part in parts[::2]):
        return None
    for number, place in enumerate(taken, start=1):
        parts[place] = b"$%d" % number
    return Shortened(parts, taken)


async def _literal(raw: bytes, start: int, end: int) -> tuple[int, bytes | None]:
    """The length of the literal that starts here, and a long one's value; 0 for one without an end."""
    value = BytesIO()
    at = start + 1
    while True:
        stop = min(end, at + TURN_BYTES)
        found = _INSIDE.match(raw, at, stop)
        assert found is not None, "the pattern matches the empty text"
        if 0 in found[0]:
            return 0, None
        value.write(found[0].replace(b"''", b"'"))
        at = found.end()
        if at < stop - 1 or stop == end:  # one before: a quote whose second one is behind it
            length = at + 1 - start if at < end else 0
            return length, value.getvalue() if length >= LITERAL_BYTES_MIN else None
        await asyncio.sleep(0)


async def run_query(session: Session, query: list[Message]) -> None:
    """A Query message, which is taken out of the list: it need not be held as long as its values."""
    from .simple import answered, refuse, run_simple

    raw = query.pop().raw
    short = await shortened(raw) if session.codec is None else None
    if short is None:
        try:
            text = frontend.parse_query(raw)
        except PgError as error:
            await refuse(session, error)
            return
        del raw
        await run_simple(session, text)
        return
    del raw
    await answered(session, short.text, _run(session, short))


async def _run(session: Session, short: Shortened) -> None:
    from .extended import check_failed, run_portal
    from .simple import run_statements

    check_failed(session, short.text)
    statement = session.make_statement(short.text, ())
    try:
        statement.analysis = await analyze(session, statement)
    except PgError as error:
        if error.sqlstate in _NOT_SO:
            await run_statements(session, short.whole())
            return
        if error.position is not None and error.position > short.first:
            error.position = None
        raise
    types = statement.analysis.parameter_types
    portal = Portal(statement, Parameters(short.values, (), types), fields=statement.analysis.fields or ())
    portal.bound = frontend.Bind(b"", b"", (), short.values, ())
    tag = await run_portal(session, portal, SimpleSink(session))
    session.write(server_messages.command_complete(tag.decode()))


_QUOTE = ord("'")
