"""Types with equal OIDs on every instance (findings-gateway 10): the statements that read and move OID counters.

PostgreSQL takes the OIDs of new objects from one counter per server, 32 bits wide, which passes over what is in use. Two
servers whose counters stand alike, and that run the same statement, make types of equal OIDs. So before a statement that
makes types, every server's counter is moved forward to one common value; afterwards the OIDs are compared. Where they
differ, since somebody else drew from a counter between (each value in a TOAST table takes an OID, too), the new types
are given the wanted OIDs (`renumber`).

Moving is done by drawing: `pg_nextoid()` gives OIDs that nothing uses, about a microsecond each, and no more than
`DRAWS_MAX` of them. Positions are compared on the circle that the counter runs on: of two, the one that is less than half
a turn ahead is the later.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..core.ids import quote_literal

TypeName = tuple[str, str]  # schema, name

TURN = 1 << 32
OIDS_AHEAD = 256  # room for what other nodes' workspaces have drawn since (clones, tables for queries)
DRAWS_MAX = (
    50_000  # of one move, some 50 ms: a counter that TOAST values have driven far ahead is not caught up with at once
)
_DRAW = "pg_catalog.pg_nextoid('pg_catalog.pg_type', 'oid', 'pg_catalog.pg_type_oid_index')::pg_catalog.int8"
SETTING = "hanse.type_oid"

_ADVANCE = """DO $oids$
DECLARE
    drawn pg_catalog.int8;
BEGIN
    FOR i IN 1 .. {draws_max} LOOP
        drawn := {draw};
        EXIT WHEN ((drawn - {target}) & 4294967295) < 2147483648;
    END LOOP;
    PERFORM pg_catalog.set_config('{setting}', drawn::pg_catalog.text, true);
END
$oids$"""

# Types that all places that have them must agree on. *New* is what this transaction's rows hold under an OID that was drawn
# since; ALTER TYPE … OWNER gives an old type a new row, too.
_TYPES = """
SELECT n.nspname, t.typname, t.oid, coalesce({new}, false)
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE {which} AND pg_catalog.left(n.nspname::pg_catalog.text, 3) <> 'pg_'
"""
_NEW = """(((t.oid::pg_catalog.int8 - {since}) & 4294967295) < 2147483648 AND ((t.xmin::pg_catalog.text::pg_catalog.int8
    - pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text::pg_catalog.int8) & 4294967295) < 2147483648)"""


def read_sql() -> str:
    """Draws one OID and leaves it in `SETTING`. For superusers, inside a transaction."""
    return f"SELECT pg_catalog.set_config('{SETTING}', ({_DRAW})::pg_catalog.text, true)"


def advance_sql(target: int) -> str:
    """Draws OIDs up to `target`; the last one drawn, `target` or another one, is left in `SETTING`."""
    return _ADVANCE.format(draw=_DRAW, target=target, setting=SETTING, draws_max=DRAWS_MAX)


def position_sql() -> str:
    """What `read_sql` and `advance_sql` have left."""
    return f"SELECT pg_catalog.current_setting('{SETTING}')"


def made_sql(since: int) -> str:
    """(schema, name, oid, true) of the types that this transaction has made since the counter stood at `since`."""
    new = _NEW.format(since=since)
    return _TYPES.format(new="true", which=new)


def named_sql(names: Iterable[TypeName], since: int) -> str:
    """(schema, name, oid, made since) of the types of these names that exist."""
    pairs = ", ".join(f"({quote_literal(schema)}, {quote_literal(name)})" for schema, name in names)
    return _TYPES.format(new=_NEW.format(since=since), which=f"(n.nspname, t.typname) IN ({pairs})")


def taken_sql(oids: Iterable[int]) -> str:
    """(oid) of those that are a type's."""
    return f"SELECT oid FROM pg_catalog.pg_type WHERE oid IN ({', '.join(map(str, oids))})"


def latest(positions: Iterable[int]) -> int:
    """The position that the others reach with the fewest draws: the one before the widest gap of the circle."""
    found = sorted(set(positions))
    gaps = [((found[(i + 1) % len(found)] - position) % TURN or TURN, position) for i, position in enumerate(found)]
    return max(gaps)[1]
