"""A reference table's kind, shown where clients look: as a storage option of the table in the schema-complete database.

pg_dump writes it, so that a dump makes a reference table again; `\\d+` and drivers that reflect tables show it. PostgreSQL
knows no such option: it never looks at options that are there, but refuses a list of options with it. So it is put into
pg_class, in the workspace only, and taken away while the client changes the table's other options.
"""

from __future__ import annotations

from ...core.ids import quote_literal
from .places import qualified
from .steps import Identity, RunWorkspace

OPTION = "distribution=reference"
_LIST_CHANGES = frozenset(("AT_SetRelOptions", "AT_ResetRelOptions", "AT_ReplaceRelOptions"))


def mark_reference(identity: Identity) -> RunWorkspace:
    return _set(identity, f"pg_catalog.array_append(pg_catalog.array_remove(reloptions, '{OPTION}'), '{OPTION}')")


def unmark_reference(identity: Identity) -> RunWorkspace:
    return _set(identity, f"nullif(pg_catalog.array_remove(reloptions, '{OPTION}'), '{{}}')")


def changes_options(kinds: list[str]) -> bool:
    """Whether one of ALTER TABLE's commands makes PostgreSQL check the list of options."""
    return not _LIST_CHANGES.isdisjoint(kinds)


def _set(identity: Identity, options: str) -> RunWorkspace:
    table = quote_literal(qualified(identity))
    return RunWorkspace(
        f"UPDATE pg_catalog.pg_class SET reloptions = {options} WHERE oid = {table}::pg_catalog.regclass", system=True
    )
