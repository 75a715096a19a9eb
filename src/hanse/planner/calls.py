"""Which functions a statement for several groups may call, and what tables the functions that users made read.

A body is read as tokens: every name in it that is a table's, a view's or a function's counts as touched. That is
coarse, but it is right for SQL and PL/pgSQL alike, whatever is a variable and what a column; the price is a table
pulled in vain.

Refused (0A000), because no way over several groups gives PostgreSQL's effect: sequences and session state inside such a
statement, functions that write, dynamic EXECUTE, and bodies in languages that cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass

from pglast.parser import ParseError, scan

from ..catalog.model import Function, Kind, Relation, Snapshot
from ..core.errors import not_supported
from ..sql.functions import Call, FunctionClass, calls, classify
from .tree import Node

_WRITING = frozenset(("INSERT", "UPDATE", "DELETE_P", "MERGE", "TRUNCATE", "COPY", "CREATE", "DROP", "ALTER", "LOCK_P"))
_CLOCK = frozenset(
    "now transaction_timestamp statement_timestamp current_date current_time current_timestamp localtime localtimestamp age".split()
)
_OPAQUE_BUT_PURE = frozenset(("c", "internal"))
# Built-in functions that read whatever table they are told to; their text cannot be pulled for.
_READS_ANYTHING = (
    "query_to_xml",
    "cursor_to_xml",
    "table_to_xml",
    "schema_to_xml",
    "database_to_xml",
    "ts_stat",
    "dblink",
)


@dataclass(frozen=True, slots=True)
class Body:
    """What the user's functions that a statement calls touch, together."""

    relations: tuple[Relation, ...] = ()
    volatile: bool = False
    user: bool = False  # any user function at all
    clock: bool = False  # one of them may read the time


def check(node: Node, snapshot: Snapshot) -> None:
    """Raises 0A000 for built-in calls that are wrong in any place but the one the session would use."""
    for call in calls(node, snapshot):
        if call.kind is FunctionClass.SESSION:
            raise _refused(call)


def _refused(call: Call) -> Exception:
    if call.name.startswith(_READS_ANYTHING):
        return not_supported(f"function {call.name} cannot read tables of several groups")
    return not_supported(
        f"function {call.name} cannot be used in a statement over several groups",
        hint="Call it in a statement of its own, or restrict the statement to one value of the shard key.",
    )


def volatile_here(node: Node, snapshot: Snapshot) -> bool:
    """Whether two groups could compute different values from the same rows."""
    apart = (FunctionClass.VOLATILE, FunctionClass.SERVER, FunctionClass.CATALOG)
    for call in calls(node, snapshot):
        if call.kind in apart:
            return True
        if call.kind is FunctionClass.USER and any(f.volatility == "v" for f in overloads(call, snapshot)):
            return True
    return False


def overloads(call: Call, snapshot: Snapshot) -> tuple[Function, ...]:
    found = snapshot.function_names.get(call.name, ())
    return tuple(f for f in found if call.schema is None or f.schema == call.schema)


def bodies(node: Node, snapshot: Snapshot) -> Body:
    """Everything that the user's functions called in a tree read. Raises 0A000 for what cannot be read or done."""
    pending = [
        f for call in calls(node, snapshot) if call.kind is FunctionClass.USER for f in overloads(call, snapshot)
    ]
    return of_functions(pending, snapshot)


def of_functions(functions: list[Function], snapshot: Snapshot) -> Body:
    pending, seen, clock = list(functions), set[tuple[str, str, str]](), False
    relations: dict[tuple[str, str], Relation] = {}
    while pending:
        function = pending.pop()
        mark = (function.schema, function.name, function.source)
        if mark in seen:
            continue
        seen.add(mark)
        names = _names(function, snapshot)
        relations |= {relation.identity: relation for relation in snapshot.relations if relation.name in names}
        clock = clock or not names.isdisjoint(_CLOCK)
        pending += [other for name in names for other in snapshot.function_names.get(name, ())]
    volatile = any(f.volatility == "v" for f in functions)
    return Body(tuple(relations.values()), volatile, bool(functions), clock)


@dataclass(frozen=True, slots=True)
class Touched:
    """What functions may do in the one place where they run, as far as their bodies tell."""

    relations: tuple[Relation, ...] = ()  # named in a body, or in the definition of a view named there
    writes: bool = False
    opaque: str | None = None  # a function that runs dynamic SQL, or is in a language that cannot be read


def touched(functions: list[Function], snapshot: Snapshot) -> Touched:
    """As `of_functions`, for functions that will run as they are: nothing is refused here."""
    pending, seen = list(functions), set[tuple[str, str, str]]()
    names: set[str] = set()
    writes, opaque = False, None
    while pending:
        function = pending.pop()
        mark = (function.schema, function.name, function.source)
        if mark in seen or function.kind in ("a", "w") or function.language in _OPAQUE_BUT_PURE:
            continue
        seen.add(mark)
        if function.language not in ("sql", "plpgsql") or not function.source:
            opaque = opaque if function.volatility == "i" else function.name
            continue
        kinds, words = _words(function.source)
        writes = writes or not kinds.isdisjoint(_WRITING)
        if "EXECUTE" in kinds and function.language == "plpgsql":
            opaque = function.name
        names |= words
        pending += [other for name in words for other in snapshot.function_names.get(name, ())]
    return Touched(_relations_named(names, snapshot), writes, opaque)


def _words(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """The kinds of a text's tokens, and its words as names."""
    try:
        tokens = scan(source)  # its positions count characters
    except ParseError:
        return frozenset(("EXECUTE",)), frozenset()
    texts = (source[token.start : token.end + 1] for token in tokens)
    words = (text[1:-1].replace('""', '"') if text.startswith('"') else text.lower() for text in texts)
    return frozenset(token.name for token in tokens), frozenset(words)


def _relations_named(names: set[str], snapshot: Snapshot) -> tuple[Relation, ...]:
    found: dict[tuple[str, str], Relation] = {}
    pending = set(names)
    while pending:
        new = [each for each in snapshot.relations if each.name in pending and each.identity not in found]
        found |= {relation.identity: relation for relation in new}
        definitions = (relation.view_definition for relation in new if relation.view_definition)
        pending = {word for definition in definitions for word in _words(definition)[1]}
    return tuple(found.values())


def fits(functions: list[Function], snapshot: Snapshot, place: str | None) -> bool:
    """Whether functions do in `place` (None: any group) what they would do on one server (findings-gateway 2).

    False: they read rows of other places, so their tables must be gathered. Raises 0A000 where that is no way either.
    """
    if not functions:
        return True
    found = touched(functions, snapshot)
    spread = (Kind.SHARDED, Kind.PARTITION, Kind.REFERENCE)
    if found.opaque is not None and any(relation.kind in spread for relation in snapshot.relations):
        raise _opaque(found.opaque)
    kinds = {relation.kind for relation in found.relations}
    if found.writes and not kinds.isdisjoint(spread):
        raise _writes(functions[0])
    homes = {relation.group for relation in found.relations if relation.kind is Kind.SINGLE}
    return not kinds & {Kind.SHARDED, Kind.PARTITION} and homes <= {place or snapshot.home_group}


def _opaque(name: str) -> Exception:
    return not_supported(
        f"function {name} cannot be used here",
        detail="It runs dynamic SQL, or its body cannot be read, so that it may touch tables of several groups.",
        hint="Write it in SQL or PL/pgSQL without EXECUTE.",
    )


def _names(function: Function, snapshot: Snapshot) -> frozenset[str]:
    """Every name in a body. Raises 0A000 where the body does more than read, or cannot be read."""
    if function.kind in ("a", "w") or function.language in _OPAQUE_BUT_PURE:
        return frozenset()
    if function.language not in ("sql", "plpgsql") or not function.source:
        if function.volatility == "i":
            return frozenset()
        raise not_supported(
            f"function {function.name} cannot be used in a statement over several groups",
            detail=f"Its body, in language {function.language}, cannot be inspected for the tables that it reads.",
        )
    return _scanned(function, snapshot)


def _scanned(function: Function, snapshot: Snapshot) -> frozenset[str]:
    try:
        tokens = scan(function.source)
    except ParseError as error:
        raise not_supported(f"the body of function {function.name} cannot be read: {error.args[0]}") from error
    names: set[str] = set()
    previous = ""
    for token in tokens:
        text = function.source[token.start : token.end + 1]
        if token.name == "EXECUTE" and function.language == "plpgsql":
            raise _dynamic(function)
        if token.name in _WRITING and not (token.name == "UPDATE" and previous in ("FOR", "KEY")):
            raise _writes(function)
        word = text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()
        if classify(None, word, snapshot) is FunctionClass.SESSION:
            raise _writes(function)
        names.add(word)
        previous = token.name
    return frozenset(names)


def _dynamic(function: Function) -> Exception:
    return not_supported(
        f"function {function.name} cannot be used in a statement over several groups",
        detail="It runs dynamic SQL by EXECUTE, which may read any table.",
        hint="Write the statement without EXECUTE, or restrict the calling statement to one value of the shard key.",
    )


def _writes(function: Function) -> Exception:
    return not_supported(
        f"function {function.name} cannot be used in a statement over several groups",
        detail="It changes rows or the state of the session.",
        hint="Write to tables of several groups in statements of the session's own, not inside functions.",
    )
