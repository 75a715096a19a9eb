"""The cases of Hermitage on a plain PostgreSQL and on Hanse; docs/guide/isolation.md tells how they end.

HANSE_REWRITE=1 writes its tables from what is seen; else they must tell it already.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import dropwhile, takewhile
from pathlib import Path

import psycopg
import pytest

from support.hermitage import CASES, LEVELS, Case, Stage, outcome
from support.schemas import Schema
from support.servers import Cluster

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "guide" / "isolation.md"
REWRITE = "HANSE_REWRITE=1 pytest tests/e2e/test_isolation_table.py writes it anew"
COLUMNS = ("PostgreSQL", "one group", "two groups")
HEAD = f"| case | what goes wrong | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|\n"
NOTHING = "–"  # there is no such moment
GATES = "LOCK TABLE hanse.gate_over_groups, hanse.gate IN ROW EXCLUSIVE MODE"

Outcomes = dict[tuple[str, str], str]  # (level, case) → what a column says


def is_row(line: str) -> bool:
    return line.startswith("|")


def read_table() -> dict[str, Outcomes]:
    """The document's columns."""
    found: dict[str, Outcomes] = {column: {} for column in COLUMNS}
    text = DOCUMENT.read_text()
    for level in LEVELS:
        for line in takewhile(is_row, text.partition(f"### {level}\n\n{HEAD}")[2].splitlines()):
            code, _, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            for column, cell in zip(COLUMNS, cells, strict=True):
                found[column][level, code] = cell
    return found


def write_column(column: str, outcomes: Outcomes) -> None:
    columns = {**read_table(), column: outcomes}
    text = DOCUMENT.read_text()
    for level in LEVELS:
        before, head, rest = text.partition(f"### {level}\n\n{HEAD}")
        rows = [
            f"| {case.code} | {case.title} | {' | '.join(columns[c].get((level, case.code), NOTHING) for c in COLUMNS)} |\n"
            for case in CASES
        ]
        text = before + head + "".join(rows) + "".join(dropwhile(is_row, rest.splitlines(keepends=True)))
    DOCUMENT.write_text(text)


def played(stage: Stage) -> Outcomes:
    return {
        (level, case.code): outcome(case, stage.play(case, level)) if stage.halves or not case.halves else NOTHING
        for level in LEVELS
        for case in CASES
    }


def same_as_told(column: str, found: Outcomes) -> None:
    if os.environ.get("HANSE_REWRITE"):
        write_column(column, found)
    assert found == read_table()[column], REWRITE


def make_table(schema: Schema, low: str, high: str) -> None:
    """Rows 0 to 9 in `low`, 10 to 19 in `high`; '' where there are no groups."""
    with schema.connect() as connection:
        connection.execute("CREATE TABLE test (id int PRIMARY KEY, value int) PARTITION BY RANGE (id)")
        for name, group, first in (("low", low, 0), ("high", high, 10)):
            place = f" TABLESPACE {group}" if group else ""
            connection.execute(  # type: ignore[call-overload]
                f"CREATE TABLE test_{name} PARTITION OF test FOR VALUES FROM ({first}) TO ({first + 10}){place}"
            )


def test_plain_postgresql(plain_schema: Schema) -> None:
    make_table(plain_schema, "", "")
    with Stage(plain_schema.dsn, [plain_schema.dsn], name=plain_schema.name) as stage:
        same_as_told("PostgreSQL", played(stage))


def test_keys_in_one_group(cluster: Cluster, cluster_schema: Schema) -> None:
    make_table(cluster_schema, "g1", "g1")
    with Stage(cluster_schema.dsn, list(cluster.group_dsns().values()), name=cluster_schema.name) as stage:
        same_as_told("one group", played(stage))


def test_keys_in_two_groups(cluster: Cluster, cluster_schema: Schema) -> None:
    make_table(cluster_schema, "g1", "g2")
    dsns = cluster.group_dsns()
    with between_commits(dsns, cluster_schema.name) as halves:
        with Stage(cluster_schema.dsn, list(dsns.values()), name=cluster_schema.name, halves=halves) as stage:
            same_as_told("two groups", played(stage))


@contextmanager
def between_commits(dsns: dict[str, str], schema: str) -> Iterator[dict[str, object]]:
    """A transaction over both groups as the commit protocol leaves it between the decision and COMMIT PREPARED."""
    gid = f"test:{schema}"
    with psycopg.connect(dsns["g1"], autocommit=True) as g1, psycopg.connect(dsns["g2"], autocommit=True) as g2:

        def half() -> None:
            for connection, value, key, end in ((g1, 11, 1, f"PREPARE TRANSACTION '{gid}'"), (g2, 21, 11, "COMMIT")):
                update = f"UPDATE {schema}.test SET value = {value} WHERE id = {key}"
                connection.execute(f"BEGIN; {update}; {GATES}; {end}")  # type: ignore[call-overload]

        def rest() -> None:
            g1.execute(f"COMMIT PREPARED '{gid}'")  # type: ignore[call-overload]

        try:
            yield {"HALF": half, "REST": rest}
        finally:
            with suppress(psycopg.Error):
                g1.execute(f"ROLLBACK PREPARED '{gid}'")  # type: ignore[call-overload]


def test_every_case_is_told() -> None:
    expected = {(level, case.code) for level in LEVELS for case in CASES}
    assert all(set(column) == expected for column in read_table().values()), REWRITE


def not_prevented(levels: tuple[str, ...], cases: tuple[Case, ...]) -> list[tuple[str, str, str]]:
    """What PostgreSQL prevents, or what only several groups can do wrong, and Hanse does not prevent."""
    told = read_table()
    return [
        (level, case.code, column)
        for level in levels
        for case in cases
        for column in COLUMNS[1:]
        if told["PostgreSQL"][level, case.code] != "**possible**" and told[column][level, case.code] == "**possible**"
    ]


WHOLE = tuple(case for case in CASES if case.code != "half, two statements")  # what READ COMMITTED promises


@pytest.mark.parametrize("level", LEVELS)
def test_what_postgresql_prevents_is_prevented(level: str) -> None:
    assert not_prevented((level,), WHOLE if level == LEVELS[0] else CASES) == []
