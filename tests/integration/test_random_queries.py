"""Random queries and writes answer as on one plain PostgreSQL (support/random_queries.py).

HANSE_TEST_RANDOM_QUERIES=seed,count runs other seeds, for longer, and shows every difference.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from support.differential import Comparison, difference
from support.random_queries import KEYS, SETUP, Generator
from support.servers import Cluster, Server
from support.wire import Mode, Wire

FIRST, COUNT = (int(part) for part in os.environ.get("HANSE_TEST_RANDOM_QUERIES", "1,60").split(","))
REFUSED = "0A000"
REFUSED_SHARE_MAX = 0.1  # of the writes: what the guide names among limits


@pytest.fixture(scope="module")
def wires(plain_postgres: Server, cluster: Cluster) -> Iterator[tuple[Wire, Wire]]:
    name = f"random_{uuid.uuid4().hex[:10]}"
    for server in (plain_postgres, cluster.server):
        setup = re.sub(r"/\*(.*?)\*/", r"\1" if server is cluster.server else "", SETUP)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}; SET search_path = {name}")  # type: ignore[call-overload]
            for statement in setup.split(";\n"):
                connection.execute(statement)  # type: ignore[call-overload]
    options = f"-c search_path={name} -c statement_timeout=60s"
    plain, ours = Wire(plain_postgres.dsn_for(options=options)), Wire(cluster.server.dsn_for(options=options))
    yield plain, ours
    for wire, server in ((plain, plain_postgres), (ours, cluster.server)):
        wire.close()
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")  # type: ignore[call-overload]


def test_as_postgres(wires: tuple[Wire, Wire]) -> None:
    refused, found = 0, []
    for seed in range(FIRST, FIRST + COUNT):
        told = _difference(wires, seed)
        if told is None:
            continue
        if REFUSED in told:
            refused += 1
        found.append(f"-- seed {seed}\n{_shown(seed)};\n{told}")
    wrong = [each for each in found if REFUSED not in each]
    assert not wrong, "\n\n".join(wrong)
    assert refused <= REFUSED_SHARE_MAX * COUNT, "\n\n".join(found)
    if "HANSE_TEST_RANDOM_QUERIES" in os.environ:
        print("\n\n".join(found))


def _shown(seed: int) -> str:
    generator = _generator(seed)
    return f"{generator.statement().sql} -- {generator.values}"


def _difference(wires: tuple[Wire, Wire], seed: int) -> str | None:
    """A write is undone, after what it left was compared, and what a query sees of it."""
    mode = tuple(Mode)[seed % len(Mode)]
    generator = _generator(seed)
    query = generator.statement()
    values = generator.values
    script: list[tuple[str, Mode, bool, list[str]]] = [(query.sql, mode, query.ordered, values)]
    if not query.sql.startswith(("SELECT", "WITH", "(")):
        target = query.sql.split()[1 if query.sql.startswith("UPDATE") else 2]
        look = f"SELECT * FROM {target} ORDER BY {', '.join(KEYS[target])}"
        mode = Mode.EXTENDED if mode is Mode.PREPARED else mode  # it would run twice
        after = Generator(seed).query(2)
        script = [
            ("BEGIN", Mode.SIMPLE, False, []),
            (query.sql, mode, False, values),
            (look, Mode.SIMPLE, True, []),
            (after.sql, Mode.SIMPLE, after.ordered, []),
            ("ROLLBACK", Mode.SIMPLE, False, []),
        ]
    told = None
    for sql, how, ordered, given in script:
        expected, got = (wire.run(sql, how, parameters=given) for wire in wires)
        told = told or difference(expected, got, Comparison(ordered=ordered))
    return told


def _generator(seed: int) -> Generator:
    return Generator(seed, parameters=seed % 3 == 0 and tuple(Mode)[seed % len(Mode)] is not Mode.SIMPLE)
