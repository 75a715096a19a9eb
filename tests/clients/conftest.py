"""Real clients, unmodified, against the test cluster: one file for each, and the table in docs/guide/clients.md.

A file says `CLIENT` (its name in the table) and `VERSION`; the first line of a test's docstring says what is tried. So the
table is what ran: `HANSE_REWRITE=1 pytest tests/clients` writes it anew from the run's own reports, and
`test_clients_table.py` says when it tells of other tests than there are.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from clients.home import Home, make_home
from clients.table import Row, tried, write
from support.servers import Cluster

_reported: dict[str, list[tuple[Row, str]]] = {}


@pytest.fixture(scope="session")
def home(cluster: Cluster) -> Iterator[Home]:
    """A schema with a table of each kind, and rows in them, which tests leave as they find them."""
    schema = f"home_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        made = make_home(connection, cluster.server, schema)
    yield made
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest, record_property: pytest.RecordProperty) -> None:
    """What the report of this test says for the table."""
    client = getattr(request.module, "CLIENT", None)
    if client is not None:
        record_property("client", client)
        record_property("version", request.module.VERSION)
        record_property("tried", "\n".join(tried(request.module, request.function)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    told = dict(report.user_properties)
    if "client" in told and (report.when == "call" or report.failed):
        outcome = "works" if report.passed else f"skipped: {report.longrepr}" if report.skipped else "fails"
        for each in str(told["tried"]).split("\n"):
            row = Row(str(told["client"]), str(told["version"]), each)
            _reported.setdefault(report.nodeid, []).append((row, outcome))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("HANSE_REWRITE") and not hasattr(session.config, "workerinput") and _reported:
        write([entry for entries in _reported.values() for entry in entries])
