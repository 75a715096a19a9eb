"""More parameters than one SELECT may have columns, in statements that cannot carry them and have their values written in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from support.schemas import Schema

MANY = 1_700


@pytest.mark.parametrize("kind", [int, Decimal, str], ids=["int", "numeric", "text"])
def test_a_long_list_in_an_aggregate(cluster_schema: Schema, kind: Any) -> None:
    column = {int: "int", Decimal: "numeric", str: "text"}[kind]
    with cluster_schema.connect() as connection, connection.cursor(binary=True) as cursor:
        connection.execute("CREATE TABLE wide (id int PRIMARY KEY, v int) PARTITION BY HASH (id) WITH (shards = 4)")
        connection.execute(f"ALTER TABLE wide ADD COLUMN k {column}")  # type: ignore[call-overload]
        connection.execute("INSERT INTO wide SELECT i, i % 7, i FROM generate_series(-5, 20) i")
        holes = ", ".join(["%b"] * MANY)
        cursor.execute(
            f"SELECT v, count(*) FROM wide WHERE k IN ({holes}) GROUP BY v HAVING v > 2 ORDER BY v",  # type: ignore[arg-type]
            [kind(number) for number in range(MANY)],
        )
        found = cursor.fetchall()
    assert found == [(3, 3), (4, 3), (5, 3), (6, 3)]
