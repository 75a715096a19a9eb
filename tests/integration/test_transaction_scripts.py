"""Transactions over two groups, statement by statement as on one plain PostgreSQL: `tests/corpus/transactions/*.sql`.

After each statement rows, command tag, SQLSTATE and transaction status are compared, and after each script what it has left in the
tables. Every script begins with the same rows. Random ones (`support/random_scripts.py`) are always the same for a seed;
HANSE_TEST_SCRIPT_SEEDS says how many are tried.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.corpus import Block, parse_file, statements_of
from support.differential import Comparison, difference
from support.random_scripts import next_step
from support.servers import Cluster, Server
from support.sides import Side, check_block, execute
from support.wire import Mode

SEEDS = int(os.environ.get("HANSE_TEST_SCRIPT_SEEDS", "12"))
STEPS_PER_SEED = 60
SCRIPTS = Path(__file__).parent.parent / "corpus" / "transactions"
BLOCKS = [
    (path.stem, block) for path in sorted(SCRIPTS.glob("*.sql")) if path.stem != "setup" for block in parse_file(path)
]
ROWS = """DELETE FROM children; DELETE FROM parents; DELETE FROM accounts;
INSERT INTO accounts SELECT side, id, 100 * id FROM generate_series(1, 2) side, generate_series(1, 5) id;
INSERT INTO parents SELECT side, id, id FROM generate_series(1, 2) side, generate_series(1, 2) id;
INSERT INTO children SELECT side, 70 + id, id, id FROM generate_series(1, 2) side, generate_series(1, 2) id"""
LEFT = (
    "SELECT * FROM accounts",
    "SELECT * FROM parents",
    "SELECT * FROM children",
    "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE '%{schema}%'",
)


@pytest.fixture(scope="module")
def sides(plain_postgres: Server, cluster: Cluster) -> Iterator[tuple[Side, Side]]:
    schema = f"scripts_{uuid.uuid4().hex[:10]}"
    made = Side(plain_postgres, schema, "plain"), Side(cluster.server, schema, "hanse")
    for side in made:
        with psycopg.connect(side.server.dsn, autocommit=True) as connection:
            execute(connection, f"CREATE SCHEMA {schema}")
            execute(connection, f"SET search_path = {schema}")
            for statement in statements_of((SCRIPTS / "setup.sql").read_text(), side.flavour):
                execute(connection, statement)
    yield made
    for side in made:
        with psycopg.connect(side.server.dsn, autocommit=True) as connection:
            execute(connection, f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize("block", [pytest.param(block, id=f"{stem}/{block.name}") for stem, block in BLOCKS])
def test_script(block: Block, sides: tuple[Side, Side]) -> None:
    for mode in block.modes or (mode for mode in block.run_modes if mode is not Mode.BINARY):
        begin_alike(sides)
        check_block(sides, block, mode)
        check_left(sides, f"[{mode}]")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_script(seed: int, sides: tuple[Side, Side]) -> None:
    begin_alike(sides)
    draw = random.Random(seed)
    plain, hanse = (side.connect(None) for side in sides)
    status, told = "idle", []
    try:
        for _ in range(STEPS_PER_SEED):
            step = next_step(draw, status)
            told.append(f"[{step.mode}] {step.sql}")
            left, right = plain.run(step.sql, step.mode), hanse.run(step.sql, step.mode)
            if (
                status == "idle" and right[-1].sqlstate
            ):  # of a statement that its COMMIT refuses a client may hear the tag, too
                left, right = left[-1:], right[-1:]
            found = difference(left, right, Comparison(ordered=step.ordered))
            assert found is None, "\n".join((*told, found))
            status = left[-1].status
    finally:
        plain.close()
        hanse.close()
    check_left(sides, "\n".join(told))


def begin_alike(sides: tuple[Side, Side]) -> None:
    for side in sides:
        assert not any(outcome.sqlstate for outcome in side.ask(ROWS))


def check_left(sides: tuple[Side, Side], told: str) -> None:
    for query in LEFT:
        found = difference(*(side.ask(query) for side in sides), Comparison())
        assert found is None, f"{told}\nleft by the script: {query}\n{found}"
