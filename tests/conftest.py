"""Servers for tests, and a guaranteed end for them.

=================== ======== =====================================================================================
fixture             scope    what
=================== ======== =====================================================================================
`plain_postgres`    session  one plain PostgreSQL 16, superuser `hanse`: what answers are compared with
`cluster`           session  a running Hanse of two nodes and two groups, started by `hanse up --detach`
`fresh_cluster`     test     a Hanse of its own, for tests that break things
`plain_schema`,     test     an empty schema of the test's own, first in the search_path of `.connect()`
`cluster_schema`
=================== ======== =====================================================================================

One server of each kind serves all workers of xdist; the first worker that asks starts it (`support/keeper.py`). Environment:
HANSE_TEST_PLAIN_DSN and HANSE_TEST_CLUSTER_DSN name servers to use instead, for work on the tests themselves.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support import keeper
from support.processes import abandoned_run_directories, new_run_directory, sweep
from support.schemas import Schema
from support.servers import Cluster, Server

RUN_DIRECTORY = "HANSE_TEST_RUN_DIRECTORY"  # environment: set by the controller, inherited by xdist's workers
CLUSTER_FIXTURES = ("cluster", "fresh_cluster")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        for abandoned in abandoned_run_directories():
            sweep(abandoned)
            shutil.rmtree(abandoned, ignore_errors=True)
        os.environ.pop(RUN_DIRECTORY, None)


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        os.environ[RUN_DIRECTORY] = str(new_run_directory())


def pytest_unconfigure(config: pytest.Config) -> None:
    run = os.environ.get(RUN_DIRECTORY)
    if run is None or hasattr(config, "workerinput"):
        return
    directory = Path(run)
    for name in keeper.names(directory):
        keeper.dismiss(directory, name)
    sweep(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def run_directory() -> Path:
    """Where this run's servers and scratch files lie."""
    return Path(os.environ[RUN_DIRECTORY])


@pytest.fixture(scope="session")
def plain_postgres(run_directory: Path) -> Server:
    given = os.environ.get("HANSE_TEST_PLAIN_DSN")
    return server_of_dsn(given) if given else Server(**keeper.ensure(run_directory, "plain", "plain"))


@pytest.fixture(scope="session")
def cluster(run_directory: Path) -> Cluster:
    given = os.environ.get("HANSE_TEST_CLUSTER_DSN")
    if given:
        return Cluster(Path(os.environ.get("HANSE_TEST_CLUSTER_DATA", "/nonexistent")), server_of_dsn(given))
    return _cluster(keeper.ensure(run_directory, "cluster", "cluster"))


@pytest.fixture
def fresh_cluster(run_directory: Path) -> Iterator[Cluster]:
    name = f"fresh-{uuid.uuid4().hex[:8]}"
    try:
        yield _cluster(keeper.ensure(run_directory, name, "cluster"))
    finally:
        keeper.dismiss(run_directory, name)
        shutil.rmtree(run_directory / name, ignore_errors=True)


def _cluster(info: dict[str, object]) -> Cluster:
    data = Path(str(info.pop("data")))
    return Cluster(data, Server(**info))  # type: ignore[arg-type]


def server_of_dsn(dsn: str) -> Server:
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return Server(
        host=str(parts.get("host", "127.0.0.1")),
        port=int(parts.get("port") or 5432),
        user=str(parts.get("user", "hanse")),
        password=str(parts.get("password", "")),
        database=str(parts.get("dbname", "hanse")),
    )


def _schema(server: Server) -> Iterator[Schema]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    yield Schema(name, server)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def plain_schema(plain_postgres: Server) -> Iterator[Schema]:
    yield from _schema(plain_postgres)


@pytest.fixture
def cluster_schema(cluster: Cluster) -> Iterator[Schema]:
    yield from _schema(cluster.server)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """A failure of a test with a cluster shows the end of the cluster's logs."""
    report = yield
    if report.failed:
        for name in CLUSTER_FIXTURES:
            running = getattr(item, "funcargs", {}).get(name)
            if isinstance(running, Cluster):
                report.sections.append((f"logs of {name}", running.log_tail()))
    return report
