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
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from support.corpus import Block, Statement, in_flavour, parse_file, statements_of
from support.differential import Comparison, difference
from support.servers import PASSWORD, Server
from support.wire import Mode, Outcome, Wire

CORPUS = Path(__file__).parent.parent / "corpus"
sys.path.insert(0, str(CORPUS))
import data  # noqa: E402

RESTART_S_MAX = 15.0
ROLES = ("corpus_reader", "corpus_tenant")
SESSION = (
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO, MDY'",
    "SET intervalstyle = 'postgres'",
    "SET extra_float_digits = 1",
    "SET client_min_messages = 'error'",
)


@dataclass(slots=True)
class Side:
    """One of the two servers, with the corpus loaded in a schema."""

    server: Server
    schema: str
    flavour: str
    shared: dict[Mode, Wire] = field(default_factory=dict)

    def connect(self, role: str | None) -> Wire:
        path = f"-c search_path={self.schema},public"
        wire = _connected(self.server.dsn_for(user=role, password=PASSWORD if role else None, options=path))
        for setting in SESSION:
            assert not wire.run(setting)[0].sqlstate
        return wire

    def wire_for(self, block: Block, mode: Mode) -> tuple[Wire, bool]:
        """A connection, and whether it is kept for other blocks: reads share one per mode."""
        if block.role or not block.is_single_read:
            return self.connect(block.role), False
        if mode not in self.shared:
            self.shared[mode] = self.connect(None)
        return self.shared[mode], True

    def drop_shared(self, mode: Mode) -> None:
        wire = self.shared.pop(mode, None)
        if wire is not None:
            wire.close()

    def run(self, block: Block, mode: Mode) -> list[list[Outcome]]:
        block = in_flavour(block, self.flavour)
        wire, kept = self.wire_for(block, mode)
        healthy = False
        try:
            answers = [self._statement(wire, statement, mode) for statement in self._statements(block)]
            healthy = wire.alive and wire.idle
            return answers
        finally:
            if not kept:
                wire.close()
            elif not healthy:
                self.drop_shared(mode)

    def _statement(self, wire: Wire, statement: Statement, mode: Mode) -> list[Outcome]:
        sql = statement.sql.replace("{schema}", self.schema)
        parameters = statement.parameters
        if parameters and mode is Mode.SIMPLE:
            mode = Mode.EXTENDED
        return wire.run(sql, mode, parameters=parameters, types=statement.types, data=statement.data)

    def _statements(self, block: Block) -> tuple[Statement, ...]:
        if not block.rollback:
            return block.statements
        return (Statement(sql="BEGIN"), *block.statements, Statement(sql="ROLLBACK"))


def _connected(dsn: str) -> Wire:
    """A gateway that a block has killed fails that block only: the next one waits until the agent has restarted it."""
    deadline = time.monotonic() + RESTART_S_MAX
    while True:
        try:
            return Wire(dsn)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


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
            _execute(connection, statement.replace("{schema}", schema))
        for statement in data.inserts(reverse=flavour == "partitioned"):
            _execute(connection, statement)
    return Side(server, schema, flavour)


def _execute(connection: psycopg.Connection, statement: str) -> None:
    try:
        connection.execute(statement)  # type: ignore[call-overload]
    except psycopg.Error as error:
        raise AssertionError(f"setup: {error}\n{statement[:1500]}") from error


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
    plain, hanse = sides
    for mode in block.run_modes:
        expected, got = plain.run(block, mode), hanse.run(block, mode)
        statements = plain._statements(block)
        for statement, left, right in zip(statements, expected, got, strict=True):
            if statement.hanse_only:
                assert not any(outcome.sqlstate for outcome in right), f"[{mode}] {statement.sql}\n{right}"
                continue
            _check_expectation(statement, left, mode)
            found = difference(left, right, Comparison(ordered=statement.ordered, rows=not statement.unchecked))
            assert found is None, f"[{mode}] {statement.sql}\n{statement.parameters or ''}\n{found}"


def _check_expectation(statement: Statement, plain: list[Outcome], mode: Mode) -> None:
    """Plain PostgreSQL does what the corpus says it does: else both could fail alike, and prove nothing."""
    errors = [outcome for outcome in plain if outcome.sqlstate]
    sqlstate = errors[-1].sqlstate if errors else None
    said = errors[-1].message if errors else ""
    assert sqlstate == statement.error, f"the corpus is wrong: [{mode}] {statement.sql}\nplain: {sqlstate} {said}"
