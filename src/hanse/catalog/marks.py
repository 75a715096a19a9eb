"""The name by which a group knows the catalog's schema: `gateway/versions.py` tells what it is for."""

from __future__ import annotations

from ..core.ids import quote_identifier, quote_literal
from ..core.limits import CATALOG_LOCK_WAIT_S_MAX

_PREFIX = "catalog_"
CLOSED = _PREFIX + "closed"  # no gateway's
# Raises 55P03 where statements of gateways without a lease hold it for too long. A cluster of an earlier version has none.
_RENAMING = """DO $rename$
DECLARE
    known regclass := to_regclass({old});
    patience text := current_setting('lock_timeout');
BEGIN
    IF to_regclass({new}) IS NOT NULL THEN
        RETURN;
    END IF;
    IF known IS NULL THEN
        SELECT oid INTO known FROM pg_class
        WHERE relnamespace = 'hanse'::regnamespace AND relkind = 'r' AND starts_with(relname, {prefix});
    END IF;
    IF known IS NULL THEN
        CREATE TABLE hanse.{name} (x int CHECK (false));
        GRANT SELECT ON hanse.{name} TO PUBLIC;
    ELSE
        IF patience = '0' THEN
            PERFORM set_config('lock_timeout', {wait}, true);
        END IF;
        EXECUTE format('ALTER TABLE %s RENAME TO {name}', known);
        PERFORM set_config('lock_timeout', patience, true);
    END IF;
END
$rename$"""


def mark_of(version: int) -> str:
    """In schema hanse of every group: there is one, of the version that changed the schema last."""
    return f"{_PREFIX}{version}"


def renaming(old: int, new: int | str) -> str:
    """SQL after which the name is of version `new`, whatever it was; probably it was of `old`."""
    name = mark_of(new) if isinstance(new, int) else new
    return _RENAMING.format(
        old=quote_literal(f"hanse.{mark_of(old)}"),
        new=quote_literal(f"hanse.{name}"),
        prefix=quote_literal(_PREFIX),
        name=quote_identifier(name),
        wait=quote_literal(f"{CATALOG_LOCK_WAIT_S_MAX * 1000:.0f}ms"),
    )
