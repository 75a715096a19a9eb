"""What PostgreSQL can do with a tablespace, and a group of servers, which is not in `pg_tablespace`, cannot.

CREATE, ALTER … SET and DROP are no schema changes (`gateway/groups.py`, `gateway/tablespaces.py`). These come here, because for
other objects they are: a name, an owner, a comment, a label, grants. Who may not change the group is told that, and nothing else.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ...core.errors import PgError, not_supported
from .placing import ORDINARY_TABLESPACES
from .steps import Ask, DdlContext, Step

_IS_OWNER = """
    SELECT pg_catalog.pg_has_role(datdba, 'MEMBER')
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
"""
_NAMES = "Prepared transactions and directories of all its instances have the name."
_OWNERS = "Every group belongs to the owner of the database."
_GRANTS = "Whoever may create a table may place it in any group."
_NO_ROW = "A tablespace is a group of servers here, of which PostgreSQL's catalogs have no row."

_REASONS = {
    "RenameStmt": ("ALTER TABLESPACE … RENAME", _NAMES),
    "AlterOwnerStmt": ("ALTER TABLESPACE … OWNER TO", _OWNERS),
    "CommentStmt": ("COMMENT ON TABLESPACE", _NO_ROW),
    "SecLabelStmt": ("SECURITY LABEL ON TABLESPACE", _NO_ROW),
    "GrantStmt": ("{verb} ON TABLESPACE", _GRANTS),
}


def names_tablespaces(stmt: Any) -> bool:
    """Whether it is a statement of these kinds about tablespaces."""
    if type(stmt).__name__ not in _REASONS:
        return False
    kinds = (getattr(stmt, field, None) for field in ("renameType", "objectType", "objtype"))
    return any(kind is not None and kind.name == "OBJECT_TABLESPACE" for kind in kinds)


def refuse_groups(stmt: Any, ctx: DdlContext) -> Generator[Step, Any, None]:
    """Raises PgError, unless it is about PostgreSQL's own tablespaces, which everybody has."""
    statement = type(stmt).__name__
    for name in _named(stmt):
        if name in ORDINARY_TABLESPACES and statement != "RenameStmt":
            continue
        if name not in (*ORDINARY_TABLESPACES, *ctx.groups, *ctx.snapshot.coming_by_name):
            raise PgError("42704", f'tablespace "{name}" does not exist')
        rows = yield Ask(_IS_OWNER)
        if rows[0][0] != "t":
            may_not = "permission denied for" if statement == "GrantStmt" else "must be owner of"
            raise PgError("42501", f"{may_not} tablespace {name}")
        what, reason = _REASONS[statement]
        verb = "GRANT" if getattr(stmt, "is_grant", False) else "REVOKE"
        raise not_supported(f"{what.format(verb=verb)} is not supported", detail=reason)


def _named(stmt: Any) -> tuple[str, ...]:
    if type(stmt).__name__ == "RenameStmt":
        return (stmt.subname,)
    return tuple(each.sval for each in (stmt.objects if type(stmt).__name__ == "GrantStmt" else (stmt.object,)))
