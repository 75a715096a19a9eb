"""TPC-H's 22 queries over a cluster give what they give over one plain PostgreSQL with the same rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.corpus import statements_of
from support.differential import Comparison, difference
from support.servers import Server
from support.wire import Mode, Wire

HERE = Path(__file__).parent
QUERIES = sorted((HERE / "queries").glob("q*.sql"))


def load(server: Server, schema: str, flavour: str, tables: list[tuple[str, list[tuple[object, ...]]]]) -> Wire:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET search_path = {schema}")
        for statement in statements_of((HERE / "schema.sql").read_text(), flavour):
            connection.execute(statement)  # type: ignore[call-overload]
        for name, rows in tables:
            with connection.cursor().copy(f"COPY {name} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            connection.execute(f"ANALYZE {name}")
    return Wire(server.dsn_for(options=f"-c search_path={schema}"))


@pytest.fixture(scope="module")
def sides(request: pytest.FixtureRequest) -> Iterator[tuple[Wire, Wire]]:
    from generate import tables

    made = list(tables())
    schema = "tpch_" + os.environ.get("PYTEST_XDIST_WORKER", "main")
    plain: Server = request.getfixturevalue("plain_postgres")
    flavour = os.environ.get("HANSE_TEST_CORPUS_AGAINST", "hanse")
    expected = load(plain, schema, "plain", made)
    if flavour == "hanse":
        got = load(request.getfixturevalue("cluster").server, schema, flavour, made)
    else:
        got = load(plain, schema + "_2", flavour, [(name, rows[::-1]) for name, rows in made])
    yield expected, got
    expected.close()
    got.close()


def test_all_queries_are_here() -> None:
    assert [path.stem for path in QUERIES] == [f"q{n:02d}" for n in range(1, 23)]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in QUERIES])
def test_query(path: Path, sides: tuple[Wire, Wire]) -> None:
    plain, hanse = sides
    sql = path.read_text()
    for mode in (Mode.SIMPLE, Mode.BINARY):
        expected = plain.run(sql, mode)
        assert expected[0].sqlstate is None, expected[0].message
        values = {value for row in expected[0].rows for value in row}
        assert values - {None}, "the query finds nothing in the generated data: it proves nothing"
        found = difference(expected, hanse.run(sql, mode), Comparison(ordered=True))
        assert found is None, f"[{mode}] {sql}\n{found}"
