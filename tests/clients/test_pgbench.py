"""pgbench: its own tables, then sharded; its scripts in each query mode; pipelines."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from clients.home import Home
from support.servers import Cluster, binary

CLIENT = "pgbench"
VERSION = subprocess.run([binary("pgbench"), "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
SHARDING = (
    ("pgbench_branches", "bid", "default"),
    ("pgbench_tellers", "tid", "default"),
    ("pgbench_accounts", "aid", "default"),
    ("pgbench_history", "aid", "pgbench_accounts"),
)


@pytest.fixture(scope="module")
def bench(cluster: Cluster) -> Iterator[Home]:
    """pgbench's tables in a schema of their own: made by `pgbench -i`, sharded, filled by `pgbench -i`."""
    schema = f"bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET search_path = {schema}, public")
        made = Home(cluster.server, schema)
        made.run("pgbench", "-i", "-q", "--init-steps=dt")
        for table, column, partner in SHARDING:
            connection.execute(f"SELECT create_distributed_table('{table}', '{column}', colocate_with => '{partner}')")
        made.run("pgbench", "-i", "-q", "--init-steps=gvp")
    yield made
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


def _ran(out: str, transactions: int) -> None:
    assert f"number of transactions actually processed: {transactions}/{transactions}" in out
    assert "number of failed transactions: 0 (0.000%)" in out


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_builtin_scripts(bench: Home, mode: str) -> None:
    """`-i`, tables sharded, the three builtin scripts in simple, extended and prepared mode; the books balance"""
    scripts = (f"-b{script}" for script in ("tpcb-like", "simple-update", "select-only"))
    _ran(bench.run("pgbench", "-n", *scripts, "-M", mode, "-c", "2", "-t", "15"), 30)
    sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
    assert bench.psql(sums).strip() == "0"


@pytest.mark.parametrize("mode", ["extended", "prepared"])
def test_pipeline(bench: Home, mode: str, tmp_path: Path) -> None:
    r"""scripts with `\startpipeline` and `\endpipeline`, `\gset`, `\if`"""
    script = tmp_path / "script.sql"
    script.write_text(
        "\\set a random(1, 100)\n\\set b random(101, 200)\n\\startpipeline\nBEGIN;\n"
        "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :a;\n"
        "UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid = :b;\nCOMMIT;\n"
        "SELECT abalance FROM pgbench_accounts WHERE aid = :a;\n\\endpipeline\n"
        "SELECT count(*) AS n FROM pgbench_branches \\gset\n\\if :n = 1\nSELECT 1;\n\\endif\n"
    )
    before = bench.psql("SELECT sum(abalance) FROM pgbench_accounts")
    _ran(bench.run("pgbench", "-n", "-f", str(script), "-M", mode, "-c", "2", "-t", "10"), 20)
    assert bench.psql("SELECT sum(abalance) FROM pgbench_accounts") == before
