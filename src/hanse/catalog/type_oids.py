"""Types with equal OIDs on every instance (findings-gateway 10): the statements that read and move OID counters.

PostgreSQL takes the OIDs of new objects from one counter per server, 32 bits wide, which passes over what is in use. Two
servers whose counters stand alike, and that run the same statement, make types of equal OIDs. So before a statement that
makes types, every server's counter is moved forward to one common value; afterwards the OIDs are compared (somebody else may
have drawn from a counter between), and the statement is repeated where they differ.

Moving is done by drawing: `pg_nextoid()` gives OIDs that nothing uses, about a microsecond each. Positions are compared
on the circle that the counter runs on: of two, the one that is less than half a turn ahead is the later.
"""

from __future__ import annotations

from collections.abc import Iterable

TURN = 1 << 32
OIDS_AHEAD = 256  # room for what other nodes' workspaces have drawn since (clones, tables for queries)
_DRAW = "pg_catalog.pg_nextoid('pg_catalog.pg_type', 'oid', 'pg_catalog.pg_type_oid_index')::pg_catalog.int8"
SETTING = "hanse.type_oid"

_ADVANCE = """DO $oids$
DECLARE
    drawn pg_catalog.int8;
BEGIN
    LOOP
        drawn := {draw};
        EXIT WHEN ((drawn - {target}) & 4294967295) < 2147483648;
    END LOOP;
    PERFORM pg_catalog.set_config('{setting}', drawn::pg_catalog.text, true);
END
$oids$"""

# Types that all places must agree on. A partition is in one group, and its types are looked up by nobody.
_MADE = """
SELECT n.nspname, t.typname, t.oid
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type element ON element.oid = t.typelem AND element.typarray = t.oid
LEFT JOIN pg_catalog.pg_class c ON c.oid = coalesce(element.typrelid, t.typrelid)
WHERE ((t.oid::pg_catalog.int8 - {since}) & 4294967295) < 1048576
  AND pg_catalog.left(n.nspname::pg_catalog.text, 3) <> 'pg_' AND NOT coalesce(c.relispartition, false)
"""


def read_sql() -> str:
    """Draws one OID and leaves it in `SETTING`. For superusers, inside a transaction."""
    return f"SELECT pg_catalog.set_config('{SETTING}', ({_DRAW})::pg_catalog.text, true)"


def advance_sql(target: int) -> str:
    """Draws OIDs up to `target`; the last one drawn, `target` or one behind it, is left in `SETTING`."""
    return _ADVANCE.format(draw=_DRAW, target=target, setting=SETTING)


def position_sql() -> str:
    """What `read_sql` and `advance_sql` have left."""
    return f"SELECT pg_catalog.current_setting('{SETTING}')"


def made_sql(since: int) -> str:
    """(schema, name, oid) of the types made since the counter stood at `since`."""
    return _MADE.format(since=since)


def latest(positions: Iterable[int]) -> int:
    """The position that the others reach with the fewest draws: the one before the widest gap of the circle."""
    found = sorted(set(positions))
    gaps = [((found[(i + 1) % len(found)] - position) % TURN or TURN, position) for i, position in enumerate(found)]
    return max(gaps)[1]
