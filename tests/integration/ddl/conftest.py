from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.ddl import Places, places
from support.servers import Server


@pytest.fixture
def db(plain_postgres: Server) -> Iterator[Places]:
    """A workspace and groups g1, g2 as databases of one server."""
    with places(plain_postgres.dsn) as made:
        yield made
