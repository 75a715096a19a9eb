"""Every statement of `tests/corpus/*.sql` answers over a cluster as over one plain PostgreSQL with the same rows.

One test per block, which runs in each of its protocol modes (`support/corpus.py` has the format). Each worker of xdist has a
schema of its own, so that writes of two workers do not wait for one another.

HANSE_TEST_CORPUS_AGAINST=partitioned compares plain PostgreSQL with plain PostgreSQL whose tables are partitioned and
loaded in reverse: a block that fails there depends on an order that SQL does not promise, or is wrong in itself.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.corpus import Block, parse_file, statements_of
from support.servers import PASSWORD, Server
from support.sides import Side, check_block, execute

CORPUS = Path(__file__).parent.parent / "corpus"
sys.path.insert(0, str(CORPUS))
import data  # noqa: E402

ROLES = ("corpus_reader", "corpus_tenant")


def load(server: Server, schema: str, flavour: str, lock: Path) -> Side:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        with lock.open("a") as file:  # roles are the cluster's, not the schema's: one worker makes them
            fcntl.flock(file, fcntl.LOCK_EX)
            have = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
            for role in ROLES:
                if role not in have:
                    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET search_path = {schema}, public")
        for statement in statements_of((CORPUS / "setup.sql").read_text(), flavour):
            execute(connection, statement.replace("{schema}", schema))
        for statement in data.inserts(reverse=flavour == "partitioned"):
            execute(connection, statement)
    return Side(server, schema, flavour)


@pytest.fixture(scope="session")
def sides(request: pytest.FixtureRequest, run_directory: Path) -> Iterator[tuple[Side, Side]]:
    schema = "corpus_" + os.environ.get("PYTEST_XDIST_WORKER", "main")
    plain: Server = request.getfixturevalue("plain_postgres")
    lock = run_directory / "corpus-roles.lock"
    expected = load(plain, schema, "plain", lock)
    flavour = os.environ.get("HANSE_TEST_CORPUS_AGAINST", "hanse")
    if flavour == "hanse":
        got = load(request.getfixturevalue("cluster").server, schema, flavour, lock)
    else:
        got = load(plain, schema + "_2", flavour, lock)
    yield expected, got
    for side in (expected, got):
        for mode in list(side.shared):
            side.drop_shared(mode)


BLOCKS = [
    (path.stem, block) for path in sorted(CORPUS.glob("*.sql")) if path.stem != "setup" for block in parse_file(path)
]


def test_the_corpus_is_large() -> None:
    assert sum(len(block.statements) for _, block in BLOCKS) >= 400
    assert len(BLOCKS) >= 300


@pytest.mark.parametrize("block", [pytest.param(block, id=f"{stem}/{block.name}") for stem, block in BLOCKS])
def test_block(block: Block, sides: tuple[Side, Side]) -> None:
    for mode in block.run_modes:
        check_block(sides, block, mode)
