# ruff: noqa: E501
"""Timeouts and cancel requests end the statement they are meant for, and nobody else's."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from support.schemas import on_both
from support.servers import PASSWORD, Cluster, Server

GATHERED = "SELECT count(*), max(pg_sleep(3)::text) FROM t a JOIN t b ON a.v = b.v + 0 AND a.id < b.id"


@pytest.fixture(scope="module")
def dsns(plain_postgres: Server, cluster: Cluster) -> Iterator[list[str]]:
    role = f"cancels_{uuid.uuid4().hex[:10]}"
    servers = (plain_postgres, cluster.server)
    setup = (
        f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'",
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t SELECT g, g % 2 FROM generate_series(1, 12) g",
        f"GRANT ALL ON t TO {role}",
        f"GRANT ALL ON SCHEMA {{schema}} TO {role}",
    )
    with on_both(plain_postgres, cluster, "cancels", setup) as schema:
        yield [server.dsn_for(user=role, password=PASSWORD, options=f"-c search_path={schema}") for server in servers]
    for server in servers:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[call-overload]


def outcome(connection: psycopg.Connection, sql: str) -> str:
    try:
        connection.execute(sql)  # type: ignore[call-overload]
    except psycopg.Error as error:
        return str(error.sqlstate)
    return connection.info.transaction_status.name


SCRIPTS = {
    "statement_timeout": "SET statement_timeout = '50ms'; SELECT pg_sleep(5); SELECT pg_sleep(5) FROM t WHERE id = 1; SELECT pg_sleep(5) FROM t; SELECT 1",
    "statement_timeout_local": "BEGIN; SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(5) FROM t; ROLLBACK; SELECT pg_sleep(0.1)",
    "statement_timeout_gathered": f"SET statement_timeout = '500ms'; {GATHERED}; RESET statement_timeout; SELECT count(*) FROM t",
    "statement_timeout_of_a_write": "SET statement_timeout = '100ms'; UPDATE t SET v = v + length(pg_sleep(1)::text); RESET statement_timeout; SELECT v FROM t WHERE id = 3",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_timeouts_as_postgres(dsns: list[str], name: str) -> None:
    answers = []
    for dsn in dsns:
        with psycopg.connect(dsn, autocommit=True) as connection:
            answers.append([outcome(connection, sql) for sql in SCRIPTS[name].split("; ")])
    assert answers[0] == answers[1]


def test_lock_timeout(dsns: list[str]) -> None:
    for dsn in dsns:
        with psycopg.connect(dsn) as holder, psycopg.connect(dsn, autocommit=True) as waiter:
            holder.execute("UPDATE t SET v = v WHERE id IN (1, 2, 3)")
            waiter.execute("SET lock_timeout = '50ms'")
            assert outcome(waiter, "UPDATE t SET v = v WHERE id = 2") == "55P03"
            assert outcome(waiter, "UPDATE t SET v = v") == "55P03"
            assert outcome(waiter, "SELECT count(*) FROM t") == "IDLE"


def test_idle_in_transaction_session_timeout(dsns: list[str]) -> None:
    """The session ends, what it held is free, and the next client is not touched."""
    for dsn in dsns:
        connection = psycopg.connect(dsn, autocommit=True)
        connection.execute("SET idle_in_transaction_session_timeout = '100ms'")
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET v = v WHERE id IN (1, 2, 3, 4)")
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("SET lock_timeout = '10s'")
            assert outcome(other, "UPDATE t SET v = v") == "IDLE"  # waits until the locks are free
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT count(*) FROM t")
        connection.close()


def test_a_cancel_hits_its_own_statement_only(dsns: list[str]) -> None:
    """Clients that finish at once are cancelled without pause, while others use the same backends."""
    stop = threading.Event()
    wrong: list[object] = []

    def work() -> None:
        with psycopg.connect(dsns[1], autocommit=True) as connection:
            while not stop.is_set():
                try:
                    if connection.execute("SELECT count(*) FROM t WHERE id = 5").fetchone() != (1,):
                        wrong.append("rows")
                    connection.execute("SELECT count(*) FROM t")
                except psycopg.Error as error:
                    wrong.append(error)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        with psycopg.connect(dsns[1], autocommit=True) as victim:
            for _ in range(60):
                canceller = threading.Thread(target=victim.cancel_safe)
                canceller.start()
                try:
                    victim.execute("SELECT v FROM t WHERE id = 5")
                except psycopg.errors.QueryCanceled:
                    pass
                canceller.join()
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not wrong, wrong[:3]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_sleep(20)",
        "SELECT pg_sleep(20) FROM t WHERE id = 3",
        "SELECT pg_sleep(20) FROM t",
        GATHERED.replace("(3)", "(20)"),
    ],
)
def test_a_cancel_ends_every_kind_of_statement(dsns: list[str], sql: str) -> None:
    with psycopg.connect(dsns[1], autocommit=True) as connection:
        timer = threading.Timer(0.3, connection.cancel_safe)
        timer.start()
        assert outcome(connection, sql) == "57014"
        timer.join()
        assert outcome(connection, "SELECT count(*) FROM t") == "IDLE"
