"""What concurrent clients saw is what their level promises: lists and registers over two groups (`support/histories.py`)."""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest

from support import keeper
from support.histories import check
from support.isolation_workload import LEVELS, Run, final_state
from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster, Server

CLIENTS = 6
RUN_S = 6.0
COMMITS_MIN = 300
KILLS = 6
KILL_EVERY_S = 1.5
COMMITS_BETWEEN_MIN = 20
BUSY = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY state"
)
IN_DOUBT = "SELECT count(*) FROM pg_prepared_xacts"


@pytest.mark.parametrize("levels", [(level,) for level in LEVELS], ids=LEVELS)
def test_clients_see_what_their_level_promises(
    cluster: Cluster, cluster_schema: Schema, levels: tuple[str, ...]
) -> None:
    dsns = [psycopg.conninfo.make_conninfo(cluster_schema.dsn, port=gateway.port) for gateway in cluster.gateways]
    with cluster_schema.connect() as connection:
        run = Run(connection, dsns, levels, CLIENTS)
        run.go(lambda: work(run, RUN_S, COMMITS_MIN))
        judge(run, connection)


@pytest.fixture(scope="module")
def cluster_to_kill(run_directory: Path) -> Iterator[Cluster]:
    name = f"kills-{uuid.uuid4().hex[:8]}"
    try:
        info = keeper.ensure(run_directory, name, "cluster")
        data = Path(info.pop("data"))
        yield Cluster(data, Server(**info))
    finally:
        keeper.dismiss(run_directory, name)


@pytest.mark.parametrize("levels", [(level,) for level in LEVELS], ids=LEVELS)
def test_kills_change_nothing_of_it(cluster_to_kill: Cluster, levels: tuple[str, ...]) -> None:
    """kill -9 of gateways and of the groups' backends, one after another, while the clients go on."""
    groups = cluster_to_kill.group_dsns()
    draw = random.Random(4)

    def kill() -> None:
        for number in range(KILLS):
            work(run, KILL_EVERY_S, COMMITS_BETWEEN_MIN)
            if number % 2:
                kill_backend(groups[draw.choice(sorted(groups))], draw)
            else:
                os.kill(gateway_pid(cluster_to_kill, number // 2), signal.SIGKILL)
        work(run, KILL_EVERY_S, COMMITS_BETWEEN_MIN)

    schema = Schema(levels[0].replace(" ", "_"), cluster_to_kill.server)
    dsns = [psycopg.conninfo.make_conninfo(schema.dsn, port=gateway.port) for gateway in cluster_to_kill.gateways]
    with wait_until("a gateway", lambda: connected(schema.dsn), timeout_s=60) as connection:
        connection.execute(f"CREATE SCHEMA {schema.name}")
        run = Run(connection, dsns, levels, CLIENTS)
    run.go(kill)
    wait_until("the end of recovery", lambda: nothing_in_doubt(groups), timeout_s=60)
    with wait_until("a gateway", lambda: connected(schema.dsn), timeout_s=60) as connection:
        judge(run, connection)


def judge(run: Run, connection: psycopg.Connection) -> None:
    found = check(run.history, final_state(connection))
    counts = run.counts()
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    assert not found, "\n".join([str(Counter(anomaly.kind for anomaly in found)), *map(str, found[:20])])
    assert counts["spread"] > 0


def work(run: Run, seconds: float, commits: int) -> None:
    """The clients go on for so long, and for so many commits."""
    before = run.committed
    time.sleep(seconds)
    wait_until("commits", lambda: run.committed >= before + commits and run.spread, timeout_s=90)


def gateway_pid(cluster: Cluster, turn: int) -> int:
    def running() -> list[int]:
        found = cluster.status()["gateways"]
        return [gateway["pid"] for gateway in found] if all(gateway["pid"] for gateway in found) else []

    pids = wait_until("the gateways", running, timeout_s=60)
    return int(pids[turn % len(pids)])


def kill_backend(dsn: str, draw: random.Random) -> None:
    """Of a group: its PostgreSQL ends all others and recovers."""

    def killed() -> bool:
        connection = connected(dsn)
        if connection is None:
            return False
        with connection:
            pids = [pid for (pid,) in connection.execute(BUSY).fetchall()]
        os.kill(draw.choice(pids), signal.SIGKILL)
        return True

    wait_until("the group", killed, timeout_s=60)


def nothing_in_doubt(groups: Mapping[str, str]) -> bool:
    for dsn in groups.values():
        connection = connected(dsn)
        if connection is None:
            return False
        with connection:
            if connection.execute(IN_DOUBT).fetchone() != (0,):
                return False
    return True


def connected(dsn: str) -> psycopg.Connection | None:
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=5)
    except psycopg.Error:
        return None
