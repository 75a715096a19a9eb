"""`currval()` and `lastval()` behind a pool: the session remembers what it has drawn.

PostgreSQL keeps the last value of each sequence in the backend, which is another one for the next statement. Values that the
gateway draws (`sequence_values`, COPY), and those of `nextval()` in a statement, read back from the backend that ran it, are
kept here; in a statement that asks for them the call is replaced by the value, so that it can run anywhere, over several groups
too::

    SELECT * FROM orders WHERE id = currval('orders_id_seq')   →   … WHERE id = '1042'::bigint

What other statements may have drawn is asked of their backend (`drawing.py`). Inside a transaction a call for a sequence that
is not known here is left to the transaction's own branch. Outside, it is 55000, as PostgreSQL says of a sequence that was not used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pglast import ast
from pglast.parser import ParseError, parse_sql, scan

from ..core.errors import PgError
from ..core.ids import quote_literal, quote_qualified
from ..engines.postgres.backend import Backend
from ..planner.plan import Identity
from ..sql.literals import cut, parts_are_plain
from ..sql.parse import parse_one
from ..sql.walk import names, walk
from . import drawing, sessionviews

if TYPE_CHECKING:
    from .session import Session

_OPEN, _CLOSE, _COMMA, _SEMICOLON = "ASCII_40", "ASCII_41", "ASCII_44", "ASCII_59"
_LISTS, _COLUMN_ENDS = frozenset(("SELECT", "RETURNING")), frozenset((_COMMA, _SEMICOLON, "FROM"))
_PLAIN_ARGUMENT = frozenset(("SCONST", "TYPECAST", "IDENT", _COMMA, "ASCII_46", _OPEN, _CLOSE))
_HINT = "Use INSERT … RETURNING, or ask in the same transaction."


LONG_TEXT_BYTES = 1 << 18


def asks_drawn(text: bytes) -> bool:
    """Whether the text asks for what only the session knows: drawn values, or the rows of `sessionviews`."""
    lower = words_of(text).lower()
    return b"currval" in lower or b"lastval" in lower or sessionviews.asks(lower)


def words_of(text: bytes) -> bytes:
    """The text; a very long one without its literals, where that is certain. A value of megabytes is not looked through."""
    if len(text) < LONG_TEXT_BYTES or not parts_are_plain(parts := cut(text)):
        return text
    return b"'".join(parts[::2])


def draws(text: bytes) -> bool:
    lower = text.lower()
    return b"nextval" in lower or b"setval" in lower


async def note(session: Session, text: bytes, backend: Backend) -> None:
    """After a statement with nextval() or setval() of named sequences: what this backend has drawn last."""
    for found in walk(parse_one(text).node):
        if not isinstance(found, ast.FuncCall):
            continue
        called = names(found.funcname)[-1:]
        if called not in (("nextval",), ("setval",)) or len(found.args or ()) != 1 + (called == ("setval",)):
            continue
        name = _constant((found.args or ())[0])
        identity = None if name is None else _identity(session, name)
        if identity is not None:
            value = await drawing.read_back(session, backend, identity)
            if value is not None:
                (session.drawn.note if called == ("nextval",) else session.drawn.set)(identity, value)


def _constant(node: object) -> str | None:
    if isinstance(node, ast.TypeCast):
        return _constant(node.arg)
    if isinstance(node, ast.A_Const) and isinstance(node.val, ast.String):
        return node.val.sval
    return None


def _identity(session: Session, name: str) -> Identity | None:
    """The sequence that a text means as a regclass. None: the catalog has none of that name."""
    try:
        statement: Any = parse_sql(f"SELECT FROM {name}")[0].stmt
        (target,) = statement.fromClause
    except (ParseError, ValueError):
        return None
    if not isinstance(target, ast.RangeVar):
        return None
    relation = session.plans.snapshot.find(target.schemaname, target.relname or "", session.context.search_path)
    return None if relation is None else relation.identity


# --- in a statement ----------------------------------------------------------------------------------------------


async def replaced(session: Session, text: bytes) -> bytes:
    """The text with the calls replaced whose values are known. Raises 55000 for those that nobody knows."""
    sql = text.decode()
    if sessionviews.asks(text.lower()):
        sql = await sessionviews.replaced(session, sql)
    if "currval" in sql.lower() or "lastval" in sql.lower():
        session.gateway.asked_for_drawn = True
    tokens = [token for token in scan(sql) if token.name not in ("SQL_COMMENT", "C_COMMENT")]
    moved = _Moved.of(session, sql, tokens)
    pieces: list[str] = []
    done = 0
    for index, token in enumerate(tokens[:-2]):
        word = sql[token.start : token.end + 1].lower()
        if word not in ("currval", "lastval") or tokens[index + 1].name != _OPEN:
            continue
        end = _closing(tokens, index + 1)
        before = moved.before(token.start)
        last = session.drawn.last if word == "lastval" and session.drawn.certain else None
        if last is not None and before.only_sets(last):
            value_sql = f"pg_catalog.currval({quote_literal(quote_qualified(*last))}::pg_catalog.regclass)"
        else:
            value = await _value(session, word, sql, tokens[index + 2 : end], before)
            value_sql = "" if value is None else f"'{value}'::pg_catalog.int8"
        if value_sql:
            pieces.append(sql[done : _start(sql, tokens, index)])
            pieces.append(value_sql + (f" AS {word}" if _is_column(tokens, index, end) else ""))
            done = tokens[end].end + 1
    return "".join((*pieces, sql[done:])).encode()


def _closing(tokens: list, opening: int) -> int:  # type: ignore[type-arg]
    depth = 0
    for index in range(opening, len(tokens)):
        depth += (tokens[index].name == _OPEN) - (tokens[index].name == _CLOSE)
        if depth == 0:
            return index
    return len(tokens) - 1


def _start(sql: str, tokens: list, index: int) -> int:  # type: ignore[type-arg]
    """Where the call begins, with `pg_catalog.` if that stands before it."""
    if index >= 2 and tokens[index - 1].name == "ASCII_46":
        index -= 2
    return int(tokens[index].start)


def _is_column(tokens: list, index: int, end: int) -> bool:  # type: ignore[type-arg]
    """Whether the call is a column of the statement's result by itself: it is then named after the function."""
    before = [token.name for token in tokens[:index]]
    if before[-1:] == ["ASCII_46"]:
        del before[-2:]
    if before.count(_OPEN) != before.count(_CLOSE) or not (lists := _LISTS & {*before}):
        return False
    begin = max(len(before) - before[::-1].index(name) for name in lists)
    ends = end + 1 == len(tokens) or tokens[end + 1].name in _COLUMN_ENDS
    return ends and before[-1] in (*_LISTS, _COMMA) and "FROM" not in before[begin:]


@dataclass(frozen=True, slots=True)
class _Moved:
    """The calls of nextval() and setval() in a text, each with its place: in this statement only a server knows what they give."""

    calls: tuple[tuple[int, str, Identity | None], ...]  # None: any sequence
    in_order: bool  # the calls run as they stand

    @classmethod
    def of(cls, session: Session, sql: str, tokens: list) -> _Moved:  # type: ignore[type-arg]
        words = [sql[token.start : token.end + 1].lower() for token in tokens]
        calls = []
        for index in range(len(tokens) - 2):
            if words[index] in ("nextval", "setval") and tokens[index + 1].name == _OPEN:
                plain = tokens[index + 2].name == "SCONST" and tokens[index + 3].name in (_COMMA, _CLOSE, "TYPECAST")
                name = _constant(parse_one(f"SELECT {words[index + 2]}").node.targetList[0].val) if plain else None
                calls.append((tokens[index].start, words[index], None if name is None else _identity(session, name)))
        return cls(tuple(calls), words.count("select") == 1 and "from" not in words and words[0] == "select")

    def before(self, place: int) -> _Moved:
        """Those that have run when the call at `place` does; all, where their order is not known."""
        return replace(self, calls=tuple(call for call in self.calls if not self.in_order or call[0] < place))

    def only_sets(self, last: Identity) -> bool:
        """Whether lastval() is currval() of the sequence that was the last one: setval() tells a server that, and not the other."""
        return (
            self.in_order
            and all(call == "setval" for _, call, _ in self.calls)
            and last in [of for *_, of in self.calls]
        )

    def gives(self, word: str, sequence: Identity | None) -> bool:
        """Whether one of them may be what currval() of a sequence tells, or lastval() when that sequence was the last one."""
        return any(
            of in (None, sequence) or sequence is None or (word == "lastval" and call == "nextval")
            for _, call, of in self.calls
        )


async def _value(session: Session, word: str, sql: str, argument: list, moved: _Moved) -> int | None:  # type: ignore[type-arg]
    """None: the call stays, a server answers it."""
    held = session.transaction is not None or bool(session.pinned)
    if word == "lastval":
        if moved.gives(word, session.drawn.last if session.drawn.certain else None):
            return None
        last = await drawing.lastval(session)
        if last is None and not held:
            raise PgError("55000", "lastval is not yet defined in this session", hint=_HINT)
        return last
    if not argument or any(token.name not in _PLAIN_ARGUMENT for token in argument):
        return None
    identity = await _named(session, sql, argument)
    if identity is None or moved.gives(word, identity):
        return None
    value = await drawing.currval(session, identity)
    if value is None and not held:
        message = f'currval of sequence "{identity[1]}" is not yet defined in this session'
        raise PgError("55000", message, hint=_HINT)
    return value


async def _named(session: Session, sql: str, argument: list) -> Identity | None:  # type: ignore[type-arg]
    """The sequence of currval's argument: a constant, or a call such as pg_get_serial_sequence('t', 'id')."""
    written = sql[argument[0].start : argument[-1].end + 1]
    if argument[0].name == "SCONST" and all(token.name != "ASCII_44" for token in argument):
        name = _constant(parse_one(f"SELECT {written}").node.targetList[0].val)
        return None if name is None else _identity(session, name)
    rows = await session.environment.evaluate(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.oid = ({written})::pg_catalog.regclass"
    )
    return (str(rows[0][0]), str(rows[0][1])) if rows else None
