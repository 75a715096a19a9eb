"""What the users' functions that a statement runs may leave in the backend's session: settings, locks, temporary objects.

Bodies are read as tokens, like in `calls`. A body is *clean* when nothing in it can outlive the statement; most are, and cost
nothing. Of others the settings that they name are known (`SET app.tenant`, `set_config('app.tenant', …)`), so that the session can
ask what became of them; a body with dynamic SQL, or one that cannot be read, may have done anything.

    CREATE FUNCTION enter(t int) … $$ BEGIN PERFORM set_config('app.tenant', t::text, false); END $$
    SELECT enter(5)                          →  Leaves(names={'app.tenant'})

Functions reached without being called by name count, too: those in a view's definition and in defaults by their names, those of
triggers and policies as if any function of the catalog might be meant. Not seen are those behind operators, casts, domains and
CHECK constraints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pglast.parser import ParseError, scan

from ..catalog.model import Function, Relation, Snapshot
from ..sql.functions import Call, FunctionClass

_CUSTOM_NAME = re.compile(r"[a-z_][\w$]*(\.[a-z_][\w$]*)+")
_PURE = frozenset(("c", "internal"))
_BEFORE_STATEMENT = frozenset(("", "ASCII_59", "BEGIN_P", "THEN", "ELSE", "LOOP", "ATOMIC"))
_LASTING = frozenset(("TEMP", "TEMPORARY", "LISTEN", "LOAD", "PREPARE", "DISCARD"))
_LASTING_CALLS = frozenset(
    "pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared setseed "
    "pg_replication_origin_session_setup dblink_connect".split()
)
_TWO_WORDS = {("time", "zone"): "timezone", ("session", "authorization"): "session_authorization"}
_NO_SETTING = frozenset(("constraints", "transaction", "characteristics"))


@dataclass(frozen=True, slots=True)
class Leaves:
    """`names`: settings that may have another value now. `anything`: more than those, nobody knows what."""

    names: frozenset[str] = frozenset()
    anything: bool = False

    def __or__(self, other: Leaves) -> Leaves:
        return Leaves(self.names | other.names, self.anything or other.anything)

    def __bool__(self) -> bool:
        return self.anything or bool(self.names)


NOTHING = Leaves()


@dataclass(frozen=True, slots=True)
class _Read:
    """One body: what it leaves itself, and every name in it."""

    leaves: Leaves
    words: frozenset[str]


def of_statement(calls: Sequence[Call], relations: Iterable[Relation], snapshot: Snapshot, *, writes: bool) -> Leaves:
    """What a query or a change leaves: by the functions it calls, and by those that its tables call."""
    if (
        not snapshot.functions
        and all(call.schema != "pg_temp" for call in calls)
        and not any(relation.view_definition for relation in relations)
    ):
        return NOTHING
    relations = tuple(relations)
    if any(call.schema == "pg_temp" for call in calls):
        return Leaves(anything=True)
    called = [f for call in calls if call.kind is FunctionClass.USER for f in _overloads(call, snapshot)]
    found = of_functions(called, snapshot)
    for text in _texts(relations, writes=writes):
        read = _read("sql", text)
        found |= read.leaves | of_functions(_named(read.words, snapshot), snapshot)
    if any(relation.row_security or (writes and relation.has_triggers) for relation in relations) or (
        writes and _cascades(relations, snapshot)
    ):
        found |= of_functions(snapshot.functions, snapshot)
    return found


def of_functions(functions: Iterable[Function], snapshot: Snapshot) -> Leaves:
    """What these functions leave, with those that they call."""
    pending, seen, found = list(functions), set[tuple[str, str, tuple[str, ...]]](), NOTHING
    while pending:
        function = pending.pop()
        mark = (function.language, function.source, function.settings)
        if mark in seen or function.kind in ("a", "w") or function.language in _PURE:
            continue
        seen.add(mark)
        found |= Leaves(
            frozenset(name for name in function.settings if "." in name)
        )  # known from then on, with no value
        if function.language not in ("sql", "plpgsql"):
            return Leaves(anything=True)
        read = _read(function.language, function.source)
        found |= read.leaves
        pending += _named(read.words, snapshot)
    return found


def of_text(sql: str) -> Leaves:
    """What a statement names itself."""
    return _read("sql", sql).leaves


def names_in(sql: str) -> frozenset[str]:
    """Constants of a statement that may be the names of custom settings: those that a function is given."""
    try:
        tokens = [token for token in scan(sql) if token.name == "SCONST"]
    except ParseError:
        return frozenset()
    found = (sql[token.start : token.end + 1].strip("'").lower() for token in tokens)
    return frozenset(name for name in found if _CUSTOM_NAME.fullmatch(name))


def _overloads(call: Call, snapshot: Snapshot) -> Iterator[Function]:
    for function in snapshot.function_names.get(call.name, ()):
        if call.schema is None or function.schema == call.schema:
            yield function


def _named(words: frozenset[str], snapshot: Snapshot) -> list[Function]:
    known = snapshot.function_names
    return [function for word in words if word in known for function in known[word]]


def _texts(relations: Iterable[Relation], *, writes: bool) -> Iterator[str]:
    for relation in relations:
        if relation.view_definition:
            yield relation.view_definition
        if writes:
            yield from (column.default for column in relation.columns if column.default)


def _cascades(relations: tuple[Relation, ...], snapshot: Snapshot) -> bool:
    """Whether a foreign key may carry a change on to a table with triggers."""
    changed = {relation.identity for relation in relations}
    return any(
        relation.has_triggers
        and any((k.referenced_schema, k.referenced_name) in changed for k in relation.foreign_keys)
        for relation in snapshot.relations
    )


# --- one body --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4_096)
def _read(language: str, source: str) -> _Read:
    try:
        tokens = [(t.name, source[t.start : t.end + 1]) for t in scan(source)]
    except ParseError:
        return _Read(Leaves(anything=True), frozenset())
    leaves, previous = NOTHING, ""
    for index, (kind, text) in enumerate(tokens):
        if kind in ("SET", "RESET") and previous in _BEFORE_STATEMENT:
            leaves |= _set(tokens[index + 1 : index + 6])
        elif kind in _LASTING or (kind == "EXECUTE" and language == "plpgsql"):
            leaves |= Leaves(anything=True)
        elif text.lower() == "set_config":
            leaves |= _set_config(tokens[index + 1 : index + 6])
        elif text.lower() in _LASTING_CALLS:
            leaves |= Leaves(anything=True)
        previous = kind
    return _Read(leaves, frozenset(_word(text) for _, text in tokens))


def _word(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()


def _set(following: list[tuple[str, str]]) -> Leaves:
    """`SET [LOCAL | SESSION] name …`, `RESET name`."""
    words = [_word(text) for _, text in following]
    if words[:1] == ["local"] or (words[:1] == ["session"] and words[1:2] != ["authorization"]):
        words = words[1:]
    if not words or words[0] == "all":
        return Leaves(anything=True)
    if words[0] in _NO_SETTING:
        return NOTHING
    if tuple(words[:2]) in _TWO_WORDS:
        return Leaves(frozenset((_TWO_WORDS[words[0], words[1]],)))
    custom = len(words) > 2 and words[1] == "."
    return Leaves(frozenset((f"{words[0]}.{words[2]}" if custom else words[0],)))


def _set_config(following: list[tuple[str, Any]]) -> Leaves:
    """The first argument, where it is a constant (`'a.b'`, or `'a.b'::text` of a view) and nothing more."""
    if following[2:3] and following[2][0] == "TYPECAST":
        following = [*following[:2], *following[4:]]
    if len(following) >= 3 and following[1][0] == "SCONST" and following[2][1] == ",":
        text = following[1][1]
        if text.startswith("'"):
            return Leaves(frozenset((text[1:-1].replace("''", "'").lower(),)))
    return Leaves(anything=True)
