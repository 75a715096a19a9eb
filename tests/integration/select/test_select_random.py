"""Random SELECTs, put together from parts: whatever plan is chosen, the answer is one PostgreSQL's.

The statements of a seed are always the same. HANSE_TEST_SEEDS sets how many seeds are tried.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator

import pytest
from select_harness import Answer, World, world

from hanse.planner.explain import describe

SEEDS = int(os.environ.get("HANSE_TEST_SEEDS", "12"))
STATEMENTS_PER_SEED = 20

_FROM = [
    ("users u", "u"), ("users u", "u"), ("orders o", "o"), ("orders o", "o"), ("pairs p", "p"),
    ("users u JOIN orders o ON o.user_id = u.id", "uo"), ("users u LEFT JOIN orders o ON o.user_id = u.id", "uo"),
    ("orders o JOIN users u ON o.user_id = u.id AND u.age > 25", "uo"), ("users u, orders o", "uo"),
    ("users u RIGHT JOIN orders o ON o.user_id = u.id AND o.qty < 4", "uo"),
    ("users u FULL JOIN orders o ON o.user_id = u.id AND o.qty > 2", "uo"),
    ("orders o JOIN countries c ON c.id = o.country_id", "oc"), ("orders o LEFT JOIN countries c ON c.id = o.qty", "oc"),
    ("countries c LEFT JOIN orders o ON c.id = o.country_id", "oc"),
    ("users u LEFT JOIN orders o ON o.user_id = u.id LEFT JOIN countries c ON c.id = o.country_id", "uoc"),
    ("users u LEFT JOIN orders o ON o.qty = u.age", "uo"),
    ("(SELECT * FROM users WHERE active) u", "u"), ("users u JOIN user_totals o ON o.user_id = u.id", "ut"),
    ("(SELECT id, city, age, score, name FROM users UNION ALL SELECT user_id, note, qty, amount, note FROM orders) u", "s"),
    ("events e", "e"), ("users u JOIN settings z ON z.value < u.id AND u.id < 9", "u"),
]  # fmt: skip
_COLUMNS = {
    "u": ["u.id", "u.name", "u.age", "u.city", "u.score", "u.active", "u.born", "u.code"],
    "o": ["o.user_id", "o.order_id", "o.amount", "o.qty", "o.note", "o.country_id", "o.big"],
    "p": ["p.a", "p.b", "p.v"], "c": ["c.id", "c.name", "c.continent"], "t": ["o.total", "o.n"],
    "s": ["u.id", "u.city", "u.age", "u.score", "u.name"], "e": ["e.kind", "e.at", "e.n"],
}  # fmt: skip
_NUMBERS = {
    "u": ["u.id", "u.age", "u.score"], "o": ["o.qty", "o.amount", "o.big", "o.order_id"], "p": ["p.a", "p.v"], "c": ["c.id"],
    "t": ["o.total", "o.n"], "s": ["u.id", "u.age", "u.score"], "e": ["e.n"],
}  # fmt: skip
_AGGREGATES = [
    "sum({n})",
    "avg({n})",
    "min({c})",
    "max({n})",
    "count(*)",
    "count({c})",
    "count(DISTINCT {c})",
    "sum(DISTINCT {n})",
]
_RARE = ["stddev({n}::numeric)", "avg({n}) FILTER (WHERE {n} > 20)", "sum({n} * 2) + 1", "array_agg({c} ORDER BY {c})"]


def _choose(draw: random.Random, kinds: str, table: dict[str, list[str]]) -> str:
    return draw.choice([name for kind in kinds for name in table[kind]])


def _condition(draw: random.Random, kinds: str) -> str:
    number, column = _choose(draw, kinds, _NUMBERS), _choose(draw, kinds, _COLUMNS)
    forms = [
        f"{number} > {draw.randrange(40)}", f"{number} IN ({draw.randrange(9)}, {draw.randrange(60)}, 3)",
        f"{column} IS NOT NULL", f"{column} IS NULL", f"NOT ({number} < {draw.randrange(30)})",
        f"{number} BETWEEN 2 AND {draw.randrange(60)} OR {column} IS NULL",
    ]  # fmt: skip
    if "u" in kinds and "s" not in kinds:
        forms += [
            "EXISTS (SELECT 1 FROM orders x WHERE x.user_id = u.id AND x.qty > 1)",
            "u.id IN (SELECT user_id FROM orders)", "u.age > (SELECT min(id) + 25 FROM countries)",
            "u.age NOT IN (SELECT qty FROM orders WHERE qty IS NOT NULL)",
        ]  # fmt: skip
    return draw.choice(forms)


def _tail(draw: random.Random, outputs: int) -> str:
    """A total order over all output columns, and perhaps limits."""
    if draw.random() < 0.4:
        return ""
    order = list(range(1, outputs + 1))
    draw.shuffle(order)
    keys = [f"{at}{draw.choice(['', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST'])}" for at in order]
    tail = " ORDER BY " + ", ".join(keys)
    if draw.random() < 0.5:
        tail += f" LIMIT {draw.randrange(12)}"
    if draw.random() < 0.3:
        tail += f" OFFSET {draw.randrange(6)}"
    return tail


def statement(draw: random.Random) -> str:
    source, kinds = draw.choice(_FROM)
    where = (
        " WHERE " + " AND ".join(_condition(draw, kinds) for _ in range(draw.randint(1, 2)))
        if draw.random() < 0.7
        else ""
    )
    columns = [_choose(draw, kinds, _COLUMNS) for _ in range(draw.randint(1, 3))]
    if draw.random() < 0.4:
        distinct = "DISTINCT " if draw.random() < 0.3 else ""
        body = f"SELECT {distinct}{', '.join(columns)} FROM {source}{where}"
        return body + _tail(draw, len(columns))
    groups = columns[: draw.randrange(3)]
    makers = [draw.choice(_AGGREGATES if draw.random() < 0.85 else _RARE) for _ in range(draw.randint(1, 3))]
    aggregates = [m.format(n=_choose(draw, kinds, _NUMBERS), c=_choose(draw, kinds, _COLUMNS)) for m in makers]
    group = f" GROUP BY {', '.join(groups)}" if groups else ""
    having = f" HAVING count(*) > {draw.randrange(4)}" if draw.random() < 0.3 else ""
    outputs = groups + aggregates
    return f"SELECT {', '.join(outputs)} FROM {source}{where}{group}{having}" + _tail(draw, len(outputs))


@pytest.fixture(scope="module")
def databases(plain_postgres) -> Iterator[World]:  # type: ignore[no-untyped-def]
    with world(plain_postgres.dsn, f"selectr_{uuid.uuid4().hex[:8]}") as made:
        yield made


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random(databases: World, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(STATEMENTS_PER_SEED):
        sql = statement(draw)
        planned = databases.plan(sql)
        expected, answer = databases.expected(sql), databases.run(sql, planned)
        in_order = " ORDER BY " in sql.rpartition(")")[2]
        told = "\n".join([sql, *describe(planned, databases.snapshot)])
        assert _bag(answer, in_order) == _bag(expected, in_order), told


def _bag(answer: Answer, in_order: bool) -> Answer:
    if in_order:
        return answer
    rows = sorted(answer.rows, key=lambda row: [(value is not None, value or b"") for value in row])
    return Answer(answer.columns, tuple(rows), answer.sqlstate)
