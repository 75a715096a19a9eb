"""Random writes over sharded, reference and single tables leave what they leave in one plain PostgreSQL.

The same statements, from a seed, go to a cluster and to a plain server with the same tables. After each its command tag, its
RETURNING rows and its SQLSTATE are compared, now and then the contents of all tables. Some statements come alone, some in
transactions with savepoints that end either way; values are sent in the text or as parameters.

HANSE_TEST_RANDOM_WRITES=seed,count runs one other seed for longer.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

SEEDS = (1, 2, 3)
STATEMENTS_PER_SEED = 100
CHECK_EVERY = 20

TABLES = """
CREATE TABLE kinds (k int PRIMARY KEY, label text NOT NULL, bonus numeric(8,2) DEFAULT 1) /*WITH (distribution = 'reference')*/;
CREATE TABLE items (id int PRIMARY KEY, kind int REFERENCES kinds, qty int NOT NULL DEFAULT 0, note varchar(12),
    price numeric(8,2), CHECK (qty > -1000)) /*PARTITION BY HASH (id) WITH (shards = 4)*/;
CREATE TABLE parts (item_id int REFERENCES items ON DELETE CASCADE, n int, v text, PRIMARY KEY (item_id, n))
    /*PARTITION BY HASH (item_id) WITH (shards = 4)*/;
CREATE TABLE words (word text PRIMARY KEY, weight bigint) /*PARTITION BY HASH (word) WITH (shards = 4)*/;
CREATE TABLE days (day date, id int, amount int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE days_old PARTITION OF days FOR VALUES FROM (MINVALUE) TO ('2026-01-11') /*TABLESPACE g1*/;
CREATE TABLE days_new PARTITION OF days FOR VALUES FROM ('2026-01-11') TO ('2026-02-01') /*TABLESPACE g2*/;
CREATE TABLE regions (region text, id int, x float8) PARTITION BY LIST (region);
CREATE TABLE regions_a PARTITION OF regions FOR VALUES IN ('a') /*TABLESPACE g1*/;
CREATE TABLE regions_b PARTITION OF regions FOR VALUES IN ('b', NULL) /*TABLESPACE g2*/;
CREATE TABLE solo (id int PRIMARY KEY, ref int, s text) /*TABLESPACE g2*/;
CREATE VIEW cheap AS SELECT id, kind, qty, price FROM items WHERE qty < 50 WITH LOCAL CHECK OPTION;
INSERT INTO kinds SELECT i, 'kind ' || i, i * 1.5 FROM generate_series(1, 6) i;
INSERT INTO items SELECT i, i % 6 + 1, i % 17, 'note ' || i, i * 1.25 FROM generate_series(1, 40) i;
INSERT INTO parts SELECT i % 40 + 1, i, 'part ' || i FROM generate_series(1, 60) i;
INSERT INTO words SELECT 'w' || i, i * 3 FROM generate_series(1, 25) i;
INSERT INTO days SELECT date '2026-01-01' + i % 25, i, i * 2 FROM generate_series(1, 40) i;
INSERT INTO regions SELECT (ARRAY['a', 'b', NULL])[i % 3 + 1], i, i / 4.0 FROM generate_series(1, 20) i;
INSERT INTO solo SELECT i, i * 2, 's' || i FROM generate_series(1, 20) i
"""
NAMES = ("kinds", "items", "parts", "words", "days", "regions", "solo")

TEMPLATES = [
    line
    for line in (Path(__file__).parent / "random_writes.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@dataclass
class Draw:
    """Values for one statement, drawn once for both servers."""

    random: random.Random
    inline: bool
    values: list[Any] = field(default_factory=list)

    def value(self, kind: str) -> Any:
        draw = self.random
        return {
            "i": lambda: draw.randint(1, 45),
            "j": lambda: draw.randint(0, 20),
            "k": lambda: draw.randint(1, 6),
            "d": lambda: f"2026-01-{draw.randint(1, 25):02}",
            "w": lambda: f"w{draw.randint(1, 30)}",
            "r": lambda: draw.choice(("a", "b", None)),
            "t": lambda: draw.choice(("it's", "E'\\n'", "äöü", "", "$1 ?", "long " * 2, "much too long for it")),
            "n": lambda: draw.choice(("0.5", "12.345", "7", "99999.99", "1e3")),
        }[kind]()

    def written(self, match: re.Match[str]) -> str:
        kind = match.group(1)
        value = self.value(kind)
        if self.inline:
            return _literal(kind, value)
        self.values.append(value)
        return f"%s::{_TYPES[kind]}"


_TYPES = {"i": "int", "j": "int", "k": "int", "d": "date", "w": "text", "r": "text", "t": "text", "n": "numeric"}


def _literal(kind: str, value: Any) -> str:
    if value is None:
        return "NULL"
    if _TYPES[kind] in ("int", "numeric"):
        return str(value)
    escaped = value.replace("'", "''")
    return f"E'{escaped}'".replace("\\", "\\\\") if "\\" in value else f"'{escaped}'"


def statement(draw: random.Random) -> tuple[str, list[Any]]:
    values = Draw(draw, inline=draw.random() < 0.6)
    template = draw.choice(TEMPLATES)
    if not values.inline:
        template = template.replace("'%'", "'%%'")
    return re.sub(r"%([ijkdwrtn])\b", values.written, template), values.values


@dataclass
class Side:
    connection: psycopg.Connection

    def run(self, sql: str, values: list[Any]) -> tuple[str, list[str]]:
        """(SQLSTATE or command tag, the rows in some order)"""
        try:
            cursor = self.connection.execute(sql, values or None)  # type: ignore[call-overload]
        except psycopg.Error as error:
            return f"{error.sqlstate}: {error}" if error.sqlstate is None else error.sqlstate, []
        rows = sorted(map(repr, cursor.fetchall())) if cursor.description is not None else []
        return cursor.statusmessage or "", rows

    def contents(self) -> dict[str, list[str]]:
        return {name: self.run(f"SELECT * FROM {name}", [])[1] for name in NAMES}


def _load(connection: psycopg.Connection, *, hanse: bool) -> Side:
    for text in TABLES.strip().split(";\n"):
        connection.execute(re.sub(r"/\*(.*?)\*/", r"\1" if hanse else "", text))  # type: ignore[call-overload]
    return Side(connection)


@pytest.fixture
def sides(plain_schema: Any, cluster_schema: Any) -> Iterator[tuple[Side, Side]]:
    with plain_schema.connect() as plain, cluster_schema.connect() as cluster:
        yield _load(plain, hanse=False), _load(cluster, hanse=True)


def script(draw: random.Random, count: int) -> Iterator[tuple[str, list[Any]]]:
    """Statements alone and in transactions."""
    while count > 0:
        if draw.random() < 0.5:
            yield statement(draw)
            count -= 1
            continue
        yield "BEGIN", []
        saved = False
        for _ in range(draw.randint(1, 6)):
            if draw.random() < 0.4:
                sql = draw.choice(("SAVEPOINT s", "ROLLBACK TO s", "RELEASE s")) if saved else "SAVEPOINT s"
                saved = not sql.startswith("RELEASE")
                yield sql, []
            yield statement(draw)
            count -= 1
        yield draw.choice(("COMMIT", "COMMIT", "ROLLBACK")), []


def _given() -> tuple[tuple[int, int], ...]:
    given = os.environ.get("HANSE_TEST_RANDOM_WRITES")
    if given:
        seed, count = given.split(",")
        return ((int(seed), int(count)),)
    return tuple((seed, STATEMENTS_PER_SEED) for seed in SEEDS)


@pytest.mark.parametrize(("seed", "count"), _given())
def test_random_writes(sides: tuple[Side, Side], seed: int, count: int) -> None:
    plain, cluster = sides
    done: list[str] = []
    for number, (sql, values) in enumerate(script(random.Random(seed), count)):
        done.append(f"{sql} {values or ''}")
        expected, got = plain.run(sql, values), cluster.run(sql, values)
        assert got == expected, "\n".join(done[-8:])
        idle = plain.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if idle and number % CHECK_EVERY == 0:
            assert cluster.contents() == plain.contents(), "\n".join(done[-CHECK_EVERY:])
    for side in sides:
        side.run("ROLLBACK", [])
    assert cluster.contents() == plain.contents()
