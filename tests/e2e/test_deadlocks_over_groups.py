"""Deadlocks over several groups end by themselves, with PostgreSQL's error."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import psycopg.conninfo
import pytest

from support.schemas import Schema
from support.servers import Cluster

FOUND_S_MAX = 5.0  # on a busy machine; PostgreSQL's own deadlock_timeout is 1 s


@pytest.fixture
def pair(cluster_schema: Schema) -> Schema:
    """Row 1 lies in g1, row 11 in g2."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)")
        for name, low, high in (("g1", 0, 10), ("g2", 10, 20)):
            connection.execute(
                f"CREATE TABLE t_{name} PARTITION OF t FOR VALUES FROM ({low}) TO ({high}) TABLESPACE {name}"
            )
        connection.execute("INSERT INTO t VALUES (1, 0), (2, 0), (11, 0), (12, 0)")
    return cluster_schema


def update(connection: psycopg.Connection, number: int, *, prepare: bool) -> None:
    connection.execute("UPDATE t SET v = v + 1 WHERE id = %s", (number,), prepare=prepare)


@pytest.mark.parametrize("prepare", [False, True], ids=["fast", "prepared"])
@pytest.mark.parametrize("gateways", ["one", "two"])
def test_the_youngest_gives_way(cluster: Cluster, pair: Schema, gateways: str, prepare: bool) -> None:
    dsns = [pair.dsn, pair.dsn]
    if gateways == "two":
        ports = [gateway.port for gateway in cluster.gateways]
        if len(ports) < 2:
            pytest.skip("the cluster has one gateway")
        dsns = [psycopg.conninfo.make_conninfo(pair.dsn, port=port) for port in ports[:2]]
    with psycopg.connect(dsns[0]) as old, psycopg.connect(dsns[1]) as young, ThreadPoolExecutor(2) as pool:
        update(old, 1, prepare=prepare)
        update(young, 11, prepare=prepare)
        begun = time.monotonic()
        first = pool.submit(update, old, 11, prepare=prepare)
        second = pool.submit(update, young, 1, prepare=prepare)
        with pytest.raises(psycopg.errors.DeadlockDetected) as failure:
            second.result(20)
        assert time.monotonic() - begun < FOUND_S_MAX
        detail = failure.value.diag.message_detail or ""
        assert "waits in g1" in detail and "waits in g2" in detail
        young.rollback()
        first.result(20)
        old.commit()
        assert dict(young.execute("SELECT id, v FROM t").fetchall()) == {1: 1, 2: 0, 11: 1, 12: 0}


def test_a_transaction_of_one_group_in_the_circle(pair: Schema) -> None:
    with psycopg.connect(pair.dsn) as old, psycopg.connect(pair.dsn) as young, psycopg.connect(pair.dsn) as small:
        with ThreadPoolExecutor(3) as pool:
            update(old, 1, prepare=False)
            update(small, 2, prepare=False)
            update(young, 11, prepare=False)
            waiting = [
                pool.submit(update, old, 11, prepare=False),  # for young, in g2
                pool.submit(update, small, 1, prepare=False),  # for old, in g1
            ]
            with pytest.raises(psycopg.errors.DeadlockDetected):
                update(young, 2, prepare=False)  # for small, in g1
            young.rollback()
            waiting[0].result(20)
            old.rollback()
            waiting[1].result(20)
            small.rollback()


def test_waiting_is_no_deadlock(pair: Schema) -> None:
    with psycopg.connect(pair.dsn) as one, psycopg.connect(pair.dsn) as other, ThreadPoolExecutor(1) as pool:
        update(one, 1, prepare=False)
        update(one, 11, prepare=False)
        update(other, 12, prepare=False)
        waiting = pool.submit(update, other, 1, prepare=False)
        with pytest.raises(TimeoutError):
            waiting.result(1.0)
        one.commit()
        waiting.result(20)
        other.commit()
    with pair.connect() as connection:
        assert connection.execute("SELECT sum(v) FROM t").fetchone() == (4,)
