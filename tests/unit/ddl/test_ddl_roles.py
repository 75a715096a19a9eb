"""Role statements as the servers get them."""

from __future__ import annotations

import pglast
import pytest

from hanse.catalog.ddl.roles import with_limit
from hanse.gateway.role_slots import limit_of


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("CREATE ROLE r CONNECTION LIMIT 5", "CREATE ROLE r CONNECTION LIMIT 1000005"),
        (
            "ALTER USER \"é connection limit 3\" /* LIMIT 4 */ connection\n LIMIT 0 VALID UNTIL 'ü'",
            "ALTER USER \"é connection limit 3\" /* LIMIT 4 */ connection\n LIMIT 1000000 VALID UNTIL 'ü'",
        ),
        ("ALTER ROLE r CONNECTION LIMIT -1", None),
        ("ALTER ROLE r CONNECTION LIMIT 1000007", None),  # from a dump of this cluster
        ("ALTER ROLE r PASSWORD 'CONNECTION LIMIT 3'", None),
    ],
)
def test_limits_are_shifted(given: str, sent: str | None) -> None:
    assert with_limit(pglast.parse_sql(given)[0].stmt, given) == (sent or given)


def test_stored_limits_are_read_back() -> None:
    assert [limit_of(stored) for stored in (-1, 0, 5, 1_000_000, 1_000_005)] == [None, 0, 5, 0, 5]
