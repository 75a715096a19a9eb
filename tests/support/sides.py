"""A corpus on one of two servers: how its blocks are run there, and compared."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import psycopg

from .corpus import Block, Statement, in_flavour
from .differential import Comparison, difference
from .servers import PASSWORD, Server
from .wire import Mode, Outcome, Wire

RESTART_S_MAX = 15.0
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

    def ask(self, sql: str) -> list[Outcome]:
        """A message beside the blocks, on a connection that is kept."""
        if Mode.SIMPLE not in self.shared:
            self.shared[Mode.SIMPLE] = self.connect(None)
        return self.shared[Mode.SIMPLE].run(sql.replace("{schema}", self.schema))

    def run(self, block: Block, mode: Mode) -> list[list[Outcome]]:
        block = in_flavour(block, self.flavour)
        wire, kept = self.wire_for(block, mode)
        healthy = False
        try:
            answers = [self._statement(wire, statement, mode) for statement in self.statements(block)]
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

    def statements(self, block: Block) -> tuple[Statement, ...]:
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


def execute(connection: psycopg.Connection, statement: str) -> None:
    try:
        connection.execute(statement)  # type: ignore[call-overload]
    except psycopg.Error as error:
        raise AssertionError(f"setup: {error}\n{statement[:1500]}") from error


def check_block(sides: tuple[Side, Side], block: Block, mode: Mode) -> None:
    """Runs the block on a plain server and on a cluster: each statement's answers are the same, and those that the block says."""
    plain, hanse = sides
    expected, got = plain.run(block, mode), hanse.run(block, mode)
    for statement, left, right in zip(plain.statements(block), expected, got, strict=True):
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
