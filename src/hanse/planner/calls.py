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
from .attached import place_of
from .effects import Effects, Touch, sequence
from .effects import of_functions as of_functions_here
from .role_bodies import refuse_roles
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

    reads: tuple[tuple[Relation, str | None], ...] = ()  # with whose rights; None: the user's
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
    hint = "Call it in a statement of its own, or restrict the statement to one value of the shard key."
    if call.name == "nextval":
        hint = "A column that is inserted or updated may be given nextval('…') alone; else draw the values before."
    return not_supported(f"function {call.name} cannot be used in a statement over several groups", hint=hint)


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
    pending: list[tuple[Function, str | None]] = [(function, None) for function in functions]
    seen, clock = set[tuple[str, str, str, str | None]](), False
    relations: dict[tuple[tuple[str, str], str | None], Relation] = {}
    while pending:
        function, owner = pending.pop()
        owner = function.owner if function.security_definer else owner
        mark = (function.schema, function.name, function.source, owner)
        if mark in seen:
            continue
        seen.add(mark)
        names = _names(function, snapshot)
        relations |= {(each.identity, owner): each for each in snapshot.relations if each.name in names}
        clock = clock or not names.isdisjoint(_CLOCK)
        pending += [(other, owner) for name in names for other in snapshot.function_names.get(name, ())]
    volatile = any(f.volatility == "v" for f in functions)
    reads = tuple((relation, owner) for (_, owner), relation in relations.items())
    return Body(reads, volatile, bool(functions), clock)


def fits(functions: list[Function], snapshot: Snapshot, place: str | None, path: tuple[str, ...]) -> bool:
    """Whether functions do in `place` (None: the home group; '': some group) what they would do on one server.

    False: they read rows of other places, so their tables must be gathered. Raises 0A000 where that is no way either
    (findings-gateway 2). `path`: the session's search path.
    """
    if not functions or len(snapshot.group_names) == 1:
        return True
    refuse_roles(functions, snapshot)
    place = snapshot.home_group if place is None else place
    found = of_functions_here(functions, snapshot, path)
    spread = (Kind.SHARDED, Kind.PARTITION, Kind.REFERENCE)
    if found.opaque is not None and any(relation.kind in spread for relation in snapshot.relations):
        raise _opaque(found.opaque[0])
    elsewhere = [touch for touch in found.touches if not _is_here(touch, snapshot, place)]
    for touch in elsewhere:
        if touch.writes:
            raise _writes_elsewhere(functions[0], touch.relation)
    _require_session_here(functions[0], found, snapshot, place, path)
    return not elsewhere


def same_in_groups(functions: list[Function], snapshot: Snapshot, path: tuple[str, ...]) -> bool:
    """Whether these functions do in any group what they do on one server: they read copies, and change nothing."""
    if not functions or len(snapshot.group_names) == 1:
        return True
    found = of_functions_here(functions, snapshot, path)
    if found.opaque is not None or found.calls:
        return False
    copied = (Kind.REFERENCE, Kind.MATERIALIZED_VIEW)
    return all(touch.relation.kind in copied and not touch.writes for touch in found.touches)


def _is_here(touch: Touch, snapshot: Snapshot, place: str) -> bool:
    if touch.relation.kind in (Kind.REFERENCE, Kind.MATERIALIZED_VIEW):
        return not touch.writes
    return place_of(touch.relation, snapshot) == place


def _require_session_here(
    function: Function, found: Effects, snapshot: Snapshot, place: str, path: tuple[str, ...]
) -> None:
    """Its sequences are this group's; and what it asks of the session it has done itself."""
    for name in found.sequences:
        known = sequence(name, snapshot, path) if name else None
        if known is not None and (known.group or snapshot.home_group) != place:
            raise not_supported(
                f'function {function.name} cannot draw from sequence "{known.name}" here, which is in another group',
                hint="Call it in a statement of its own.",
            )
    asks = found.calls & {"currval", "lastval"}
    if asks and not found.draws and not any(touch.writes for touch in found.touches):
        raise not_supported(
            f"function {function.name} cannot ask {asks.pop()}() of the session",
            hint="Ask it in a statement of the session's own, and give the function its answer.",
        )


def _writes_elsewhere(function: Function, relation: Relation) -> Exception:
    return not_supported(
        f'function {function.name} cannot be used here, because it changes table "{relation.name}"',
        detail="The function runs in one group, and would change the rows of that group only.",
        hint="Write to tables of several groups in statements of the session's own, not inside functions.",
    )


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
