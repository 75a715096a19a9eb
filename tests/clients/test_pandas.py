"""pandas: reads and writes through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator

import pandas
import pytest
import sqlalchemy

from clients.home import LETTERS, PEOPLE, Home

CLIENT = "pandas"
VERSION = pandas.__version__


@pytest.fixture
def engine(home: Home) -> Iterator[sqlalchemy.Engine]:
    url = sqlalchemy.URL.create("postgresql+psycopg", home.server.user, **_address(home))
    engine = sqlalchemy.create_engine(url, connect_args={"options": f"-c search_path={home.schema},public"})
    yield engine
    engine.dispose()


def _address(home: Home) -> dict[str, object]:
    parts = home.server.url_parts
    return {name: parts[name] for name in ("password", "host", "port", "database")}


def test_read(engine: sqlalchemy.Engine) -> None:
    """`read_sql`, `read_sql_table`, chunks"""
    frame = pandas.read_sql(
        "SELECT town, count(*) AS n, avg(age) AS age FROM person GROUP BY town ORDER BY town", engine
    )
    assert list(frame["n"]) == [PEOPLE // 3] * 3
    assert len(pandas.read_sql_table("letter", engine)) == PEOPLE * LETTERS
    query = sqlalchemy.text("SELECT * FROM letter WHERE n < :n ORDER BY person_id, n")
    chunks = list(pandas.read_sql(query, engine, params={"n": 2}, chunksize=50))
    assert sum(map(len, chunks)) == 2 * PEOPLE


@pytest.mark.parametrize("method", [None, "multi"])
def test_write(engine: sqlalchemy.Engine, method: str | None) -> None:
    """`to_sql` into new and sharded tables, also with `method="multi"`"""
    frame = pandas.DataFrame({"id": range(10_000, 10_200), "name": [f"p {i}" for i in range(200)], "age": 3})
    name = f"frame_{method}".lower()
    frame.to_sql(name, engine, index=False, method=method)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"SELECT create_distributed_table('{name}', 'id', shard_count => 2)"))
    frame.to_sql(name, engine, index=False, if_exists="append", method=method)
    assert len(pandas.read_sql_table(name, engine)) == 400
    with engine.begin() as connection:
        frame.to_sql("person", connection, index=False, if_exists="append", method=method)
        connection.rollback()
    assert pandas.read_sql("SELECT count(*) AS n FROM person", engine)["n"][0] == PEOPLE
