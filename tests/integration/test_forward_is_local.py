"""The claim of `planner.restrict`, against PostgreSQL: what is planned as `Forward` gives in one group what it gives over all rows.

Random statements over tables keyed on `k` are planned; where every sharded table's key is fixed, and all values have
one parity, the statement runs over all rows (schema `whole`) and over the rows of that parity (`part0`, `part1`: two
groups). Rows must be equal.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest

from hanse.catalog.model import Bound, Column, Kind, Relation, Shard, Snapshot, Strategy
from hanse.planner.analysis import analyse
from hanse.planner.forward import plan_forward
from hanse.planner.plan import AnyOf, Context, Equal, Forward, Literal, Prune
from hanse.sql.parse import Parsed, parse_one

SHARDED = ("a", "b", "c")
COLUMNS = tuple(Column(name=name, type_oid=20, type_name="bigint") for name in ("k", "v", "w"))
STATEMENTS = 700


def snapshot() -> Snapshot:
    shards = tuple(
        Shard(schema="public", name=f"s{n}", group=f"g{n + 1}", bound=Bound(modulus=2, remainder=n)) for n in range(2)
    )
    tables = tuple(
        Relation(
            schema="public",
            name=name,
            kind=Kind.SHARDED,
            columns=COLUMNS,
            strategy=Strategy.HASH,
            key=("k",),
            key_types=(20,),
            shards=shards,
        )
        for name in SHARDED
    )
    return Snapshot(relations=(*tables, Relation(schema="public", name="r", kind=Kind.REFERENCE, columns=COLUMNS)))


class Statements:
    """Random SELECTs. Few values, so that joins find partners and keys meet."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names = 0

    def name(self) -> str:
        self.names += 1
        return f"x{self.names}"

    def chance(self, part: float) -> bool:
        return self.random.random() < part

    def condition(self, names: list[str], outer: list[str], depth: int) -> str:
        parts = [self.conjunct(names, outer, depth) for _ in range(self.random.randint(1, 3))]
        return " AND ".join(parts)

    def conjunct(self, names: list[str], outer: list[str], depth: int) -> str:
        table, other = self.random.choice(names), self.random.choice(names + outer)
        value = self.random.choice((2, 2, 2, 4, 3))
        forms = [
            f"{table}.k = {value}",
            f"{table}.k = {value}",
            f"{value} = {table}.k",
            f"{table}.k = {other}.k",
            f"{table}.k = {other}.k",
            f"{other}.k = {table}.v",
            f"{table}.k IN (2, 4)",
            f"({table}.k = 2 OR {table}.k = 4)",
            f"({table}.k, {table}.v) = ({value}, {other}.v)",
            f"({table}.k = 2 OR {table}.v = 1)",
            f"{table}.v IS NULL",
            f"NOT {table}.k = 2",
            f"coalesce({table}.k, 2) = 2",
        ]
        if depth < 2:
            query = self.select(names + outer, depth + 1)
            forms += [f"EXISTS ({query})", f"NOT EXISTS ({query})", f"{table}.v < (SELECT count(*) FROM ({query}) q)"]
        return self.random.choice(forms)

    def item(self, outer: list[str], depth: int) -> tuple[str, list[str]]:
        kind = self.random.random()
        if kind < 0.3 and depth < 3:
            left, left_names = self.item(outer, depth + 1)
            right, right_names = self.item(outer, depth + 1)
            names = left_names + right_names
            join = self.random.choice(("JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
            one, two = self.random.choice(left_names), self.random.choice(right_names)
            on = f"{one}.k = {two}.k" if join == "FULL JOIN" else self.on(one, two, names, outer)
            return f"({left} {join} {right} ON {on})", names
        name = self.name()
        if kind < 0.42 and depth < 2:
            return f"({self.subselect(outer if self.chance(0) else [], depth + 1)}) AS {name}", [name]
        table = self.random.choice((*SHARDED, "r"))
        return f"{table} AS {name}", [name]

    def on(self, one: str, two: str, names: list[str], outer: list[str]) -> str:
        extra = f" AND {self.conjunct(names, outer, 3)}" if self.chance(0.4) else ""
        return f"{one}.k = {two}.k{extra}" if self.chance(0.8) else self.conjunct(names, outer, 3)

    def subselect(self, outer: list[str], depth: int) -> str:
        items, names = self.from_list(outer, depth)
        where = f" WHERE {self.condition(names, outer, depth)}" if self.chance(0.7) else ""
        table = self.random.choice(names)
        shape = self.random.random()
        if shape < 0.5:
            return f"SELECT {table}.k, {table}.v, {table}.w FROM {items}{where}"
        if shape < 0.75:
            return f"SELECT {table}.k, max({table}.v) AS v, count(*) AS w FROM {items}{where} GROUP BY {table}.k"
        return f"SELECT {table}.k, {table}.v, {table}.w FROM {items}{where} ORDER BY 1, 2, 3 LIMIT 2"

    def from_list(self, outer: list[str], depth: int) -> tuple[str, list[str]]:
        texts: list[str] = []
        names: list[str] = []
        for _ in range(self.random.choice((1, 1, 2))):
            text, found = self.item(outer, depth)
            texts.append(text)
            names += found
        if self.chance(0.15) and depth < 2:
            name = self.name()
            texts.append(f"LATERAL ({self.subselect(names + outer, depth + 1)}) AS {name}")
            names.append(name)
        return ", ".join(texts), names

    def select(self, outer: list[str], depth: int) -> str:
        items, names = self.from_list(outer, depth)
        table = self.random.choice(names)
        columns = f"{table}.k, {table}.v"
        if depth < 1 and self.chance(0.3):
            columns += f", (SELECT count(*) FROM ({self.select(names, depth + 1)}) q)"
        return f"SELECT {columns} FROM {items} WHERE {self.condition(names, outer, depth)}"

    def statement(self) -> str:
        form = self.random.random()
        if form < 0.1:
            return (
                f"{self.select([], 0)} UNION ALL {self.select([], 0)}" if not self.chance(0.5) else self.select([], 0)
            )
        if form < 0.2:
            inner, name = self.subselect([], 1), self.name()
            return f"WITH {name} AS ({inner}) SELECT {name}.k, t.v FROM {name} LEFT JOIN a AS t ON t.k = {name}.k"
        return self.select([], 0)


def parity(statement: Parsed, prunes: tuple[Prune, ...]) -> int | None:
    """The group in which all prunes meet, None where they do not."""
    found: set[int] = set()
    for prune in prunes:
        assert isinstance(prune.condition, Equal | AnyOf)
        one = isinstance(prune.condition, Equal)
        for equal in [prune.condition] if one else prune.condition.alternatives:  # type: ignore[union-attr]
            (value,) = equal.values  # type: ignore[union-attr]
            assert isinstance(value, Literal)
            found.add(int(statement.parts[2 * value.index + 1]) % 2)
    return found.pop() if len(found) == 1 else None


@pytest.fixture(scope="module")
def connection(plain_postgres) -> Iterator[psycopg.Connection]:  # type: ignore[no-untyped-def]
    with psycopg.connect(plain_postgres.dsn, autocommit=True) as found:
        for schema, kept in (("fl_whole", "true"), ("fl_part0", "k % 2 = 0"), ("fl_part1", "k % 2 = 1")):
            found.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")
            for number, name in enumerate((*SHARDED, "r")):
                where = "true" if name == "r" else kept
                found.execute(
                    f"CREATE TABLE {schema}.{name} AS SELECT k::bigint, nullif((k * 7 + i + {number}) % 5, 0)::bigint AS v,"
                    f" i::bigint AS w FROM generate_series(1, 5) AS k, generate_series(1, 2) AS i WHERE {where}"
                )
        yield found
        for schema in ("fl_whole", "fl_part0", "fl_part1"):
            found.execute(f"DROP SCHEMA {schema} CASCADE")


def rows(connection: psycopg.Connection, schema: str, sql: str) -> Counter[tuple[object, ...]]:
    connection.execute(f"SET search_path = {schema}")
    return Counter(connection.execute(sql).fetchall())  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_forwarded_needs_no_other_group(connection: psycopg.Connection, seed: int) -> None:
    catalog, statements, compared, answered = snapshot(), Statements(seed), 0, 0
    for _ in range(STATEMENTS):
        sql = statements.statement()
        statement = parse_one(sql)
        planned = plan_forward(analyse(statement, Context(), catalog))
        if planned is None or not isinstance(planned.plan, Forward) or not planned.plan.prunes:
            continue
        group = parity(statement, planned.plan.prunes)
        if group is None:
            continue
        try:
            whole = rows(connection, "fl_whole", sql)
        except psycopg.Error as error:
            with pytest.raises(type(error)):
                rows(connection, f"fl_part{group}", sql)
            continue
        assert rows(connection, f"fl_part{group}", sql) == whole, f"seed {seed}: {sql}"
        compared += 1
        answered += bool(whole)
    assert compared >= 60 and answered >= 15, (compared, answered)
