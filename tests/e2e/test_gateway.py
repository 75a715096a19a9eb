"""What a gateway promises beyond answers: pooling, limits, cancel, faults, and that two gateways are one database."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psutil
import psycopg
import pytest

from support.processes import wait_until
from support.schemas import Schema
from support.servers import PASSWORD, Cluster, Server

MEGABYTE = 1 << 20
ACTIVE = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE "


@pytest.fixture
def table(cluster_schema: Schema) -> Schema:
    """A schema with `t`, sharded by id, with rows 1 to 100 of value 0."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int, s text)")
        connection.execute("SELECT create_distributed_table('t', 'id')")
        connection.execute("INSERT INTO t SELECT g, 0, 'x' FROM generate_series(1, 100) g")
    return cluster_schema


def through(gateway: Server, schema: Schema) -> psycopg.Connection:
    return psycopg.connect(gateway.dsn_for(options=f"-c search_path={schema.name},public"), autocommit=True)


def one(connection: psycopg.Connection, sql: str, *parameters: object) -> object:
    row = connection.execute(sql, parameters or None).fetchone()  # type: ignore[call-overload]
    return None if row is None else row[0]


def in_groups(cluster: Cluster, sql: str) -> dict[str, object]:
    """The answer of each group's own PostgreSQL, asked directly."""
    found = {}
    for name, dsn in cluster.group_dsns().items():
        with psycopg.connect(dsn, autocommit=True) as connection:
            found[name] = one(connection, sql)
    return found


def sleepers(cluster: Cluster) -> int:
    """How many backends of all servers are in pg_sleep(60)."""
    answers = cluster.ask_instances(ACTIVE + "'%pg_sleep(60)%' AND wait_event = 'PgSleep'")
    return sum(number for ((number,),) in answers.values())


# --- pooling ---------------------------------------------------------------------------------------------------------


def test_500_idle_clients_need_few_backends(cluster: Cluster, table: Schema) -> None:
    count = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{table.server.user}'"
    before = in_groups(cluster, count)  # other tests run beside this one
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor(8) as pool:
            clients = list(pool.map(lambda _: table.connect(), range(500)))
        for client in clients:
            stack.enter_context(contextlib.closing(client))
        for number, client in enumerate(clients):
            assert one(client, f"SELECT v FROM t WHERE id = {number % 100 + 1}") == 0
        assert one(clients[0], "SELECT count(*) FROM t") == 100
        backends = in_groups(cluster, count)
        assert all(int(backends[name]) - int(before[name]) <= 20 for name in backends), (before, backends)  # type: ignore[call-overload]
        assert [one(client, "SELECT 7") for client in clients[::50]] == [7] * 10


def test_settings_stay_with_their_session(table: Schema) -> None:
    zones = ("UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(table.connect()) for _ in range(16)]
        for i, client in enumerate(clients):
            client.execute(f"SET timezone = '{zones[i % 4]}'")
            client.execute(f"SET my.tenant = 'tenant {i}'")
            client.execute(f"PREPARE mine AS SELECT {i} + v FROM t WHERE id = $1")
        for turn in range(3):
            for i, client in enumerate(clients):
                assert one(client, "SHOW timezone") == zones[i % 4]
                assert (
                    one(client, f"SELECT current_setting('timezone') FROM t WHERE id = {i + turn + 1}") == zones[i % 4]
                )
                assert (
                    one(client, f"SELECT current_setting('my.tenant') FROM t WHERE id = {i + turn + 1}")
                    == f"tenant {i}"
                )
                assert one(client, f"EXECUTE mine ({turn + 1})") == i


def test_settings_do_not_leak(table: Schema) -> None:
    with table.connect() as first:
        first.execute("SET my.tenant = 'secret'")
        one(first, "SELECT set_config('my.other', 'secret', false)")
        one(first, "SELECT set_config('my.third', 'secret', false) FROM t WHERE id = 3")
        first.execute("SET work_mem = '9MB'")
        one(first, "SELECT count(*) FROM t")
    with contextlib.ExitStack() as stack:
        for client in [stack.enter_context(table.connect()) for _ in range(12)]:
            for i in (1, 2, 3, 4, 5):
                sql = (
                    "SELECT concat(current_setting('my.tenant', true), current_setting('my.other', true),"
                    f" current_setting('my.third', true), current_setting('work_mem')) FROM t WHERE id = {i}"
                )
                assert one(client, sql) == one(
                    client, "SELECT boot_val::int / 1024 || 'MB' FROM pg_settings WHERE name = 'work_mem'"
                )


def test_search_path_decides_in_each_session(table: Schema) -> None:
    other = f"{table.name}_other"
    with table.connect() as first, table.connect() as second:
        first.execute(f"CREATE SCHEMA {other}")
        try:
            first.execute(f"CREATE TABLE {other}.t (id int PRIMARY KEY, v int)")
            first.execute(f"INSERT INTO {other}.t VALUES (1, 111)")
            second.execute(f"SET search_path = {other}")
            for _ in range(3):
                assert one(first, "SELECT v FROM t WHERE id = 1") == 0
                assert one(second, "SELECT v FROM t WHERE id = 1") == 111
        finally:
            first.execute(f"DROP SCHEMA {other} CASCADE")


def test_temporary_tables_belong_to_a_session(table: Schema) -> None:
    with table.connect() as first, table.connect() as second:
        first.execute("CREATE TEMP TABLE mine AS SELECT 1 AS a")
        with pytest.raises(psycopg.errors.UndefinedTable):
            second.execute("SELECT * FROM mine")
        second.execute("CREATE TEMP TABLE mine AS SELECT 2 AS a")
        assert (one(first, "SELECT a FROM mine"), one(second, "SELECT a FROM mine")) == (1, 2)
        assert one(first, "SELECT count(*) FROM t JOIN mine ON mine.a = t.id") == 1


def test_advisory_locks_hold_across_gateways(cluster: Cluster, table: Schema) -> None:
    first, second = (through(gateway, table) for gateway in cluster.gateways)
    with second:
        with first:
            first.execute("SELECT pg_advisory_lock(815)")
            one(first, "SELECT count(*) FROM t")
            assert one(second, "SELECT pg_try_advisory_lock(815)") is False
        wait_until("the lock is free", lambda: one(second, "SELECT pg_try_advisory_lock(815)"))


def test_listen_and_notify_across_gateways(cluster: Cluster, table: Schema) -> None:
    first, second = (through(gateway, table) for gateway in cluster.gateways)
    with first, second:
        first.execute("LISTEN news")
        one(first, "SELECT v FROM t WHERE id = 5")
        second.execute("NOTIFY news, 'hello'")
        heard = list(first.notifies(timeout=10, stop_after=1))
        assert [(n.channel, n.payload) for n in heard] == [("news", "hello")]
        first.execute("UNLISTEN news")


# --- clients that misbehave ------------------------------------------------------------------------------------------


def vanish(connection: psycopg.Connection) -> None:
    """Resets the connection, as a client's machine that lost its power does later."""
    duplicate = socket.socket(fileno=socket.dup(connection.pgconn.socket))
    duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    duplicate.shutdown(socket.SHUT_RDWR)
    duplicate.close()
    connection.close()


@pytest.mark.parametrize("statement", ["UPDATE t SET v = 1 WHERE id = 7", "UPDATE t SET v = 1"], ids=["one", "all"])
def test_a_client_that_vanishes_frees_its_locks(table: Schema, statement: str) -> None:
    gone = table.connect()
    gone.execute("BEGIN")
    gone.execute(statement)  # type: ignore[call-overload]
    vanish(gone)
    with table.connect() as other:
        other.execute("SET lock_timeout = '15s'")
        assert other.execute("UPDATE t SET v = v + 10").rowcount == 100
        assert one(other, "SELECT sum(v) FROM t") == 1000


def test_a_client_that_vanishes_during_a_query_stops_it(cluster: Cluster, table: Schema) -> None:
    gone = table.connect()
    gone.pgconn.send_query(b"SELECT pg_sleep(120), 'vanishing' FROM t WHERE id IN (1, 2, 3, 4, 5, 6)")
    running = ACTIVE + "'%vanishing%'"
    wait_until("the query runs", lambda: sum(in_groups(cluster, running).values()))  # type: ignore[arg-type]
    vanish(gone)
    wait_until("the query is stopped", lambda: not sum(in_groups(cluster, running).values()), timeout_s=20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT repeat('x', 1000) FROM generate_series(1, 200000)",
        "SELECT repeat('x', 1000), id FROM t, generate_series(1, 2000)",
        "SELECT repeat('x', 1000), id FROM t, generate_series(1, 2000) ORDER BY id",
        "COPY (SELECT repeat('x', 1000) FROM t, generate_series(1, 2000)) TO STDOUT",
    ],
    ids=["forward", "scatter", "merge", "copy"],
)
def test_a_client_that_does_not_read_does_not_grow_the_gateway(cluster: Cluster, table: Schema, sql: str) -> None:
    """200 MB are asked for and left unread; the gateway may hold its buffers, not the result."""
    workers = [psutil.Process(gateway["pid"]) for gateway in cluster.status()["gateways"]]
    with table.connect() as lazy, table.connect() as other:
        one(other, "SELECT count(*) FROM t")
        before = sum(worker.memory_info().rss for worker in workers)
        lazy.pgconn.send_query(sql.encode())
        peak = before
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            peak = max(peak, sum(worker.memory_info().rss for worker in workers))
            assert one(other, "SELECT v FROM t WHERE id = 9") == 0  # nobody else is held up
            time.sleep(0.05)
        assert peak - before < 64 * MEGABYTE, f"grew by {(peak - before) / MEGABYTE:.0f} MB"
        vanish(lazy)


def test_a_slow_reader_gets_everything(table: Schema) -> None:
    with table.connect() as connection:
        connection.pgconn.send_query(b"SELECT id, repeat('y', 500) FROM t, generate_series(1, 200) ORDER BY id")
        time.sleep(1)
        result = connection.pgconn.get_result()
        assert result is not None and result.ntuples == 20_000
        assert [int(result.get_value(i, 0) or b"") for i in range(0, 20_000, 200)] == list(range(1, 101))
        assert connection.pgconn.get_result() is None


# --- cancel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_sleep(60)",
        "SELECT pg_sleep(60) FROM t WHERE id = 5",
        "SELECT count(pg_sleep(60)) FROM t",
        "SELECT pg_sleep(60) FROM t a JOIN t b ON a.v = b.id + 1000 RIGHT JOIN (VALUES (1)) x (y) ON true",
    ],
    ids=["no table", "one shard", "all shards", "workspace"],
)
def test_cancel_reaches_the_right_backends(cluster: Cluster, table: Schema, sql: str) -> None:
    with table.connect() as slow, table.connect() as bystander, ThreadPoolExecutor(2) as pool:
        sleeping = pool.submit(one, slow, sql)
        innocent = pool.submit(one, bystander, "SELECT count(*) FROM t, pg_sleep(2.5)")
        wait_until("it sleeps", lambda: sleepers(cluster), timeout_s=30)
        slow.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            sleeping.result(timeout=30)
        assert innocent.result(timeout=30) == 100
        assert one(slow, "SELECT count(*) FROM t") == 100
        wait_until("nothing sleeps", lambda: not sleepers(cluster))


def test_a_late_cancel_harms_nobody(table: Schema) -> None:
    with table.connect() as first, table.connect() as second:
        for i in range(20):
            one(first, "SELECT v FROM t WHERE id = 3")
            first.cancel()
            assert one(second, f"SELECT count(*) FROM t WHERE id <> {i + 1000}") == 100


def test_statement_timeout(table: Schema) -> None:
    with table.connect() as connection:
        connection.execute("SET statement_timeout = '300ms'")
        for sql in ("SELECT pg_sleep(30) FROM t WHERE id = 5", "SELECT count(pg_sleep(30)) FROM t"):
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute(sql)
        assert one(connection, "SELECT count(*) FROM t") == 100


# --- authentication --------------------------------------------------------------------------------------------------


async def refused(server: Server, **other: str) -> str | None:
    try:
        connection = await asyncpg.connect(**{**server.url_parts, **other}, timeout=20)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    await connection.close()
    return None


async def test_refusals_at_login(cluster: Cluster) -> None:
    server = cluster.server
    assert await refused(server) is None
    assert await refused(server, password="wrong") == "28P01"
    assert await refused(server, password="") == "28P01"
    assert await refused(server, user="nobody_here") == "28P01"
    assert await refused(server, user="nobody_here", password="wrong") == "28P01"
    assert await refused(server, database="no_such_database") == "3D000"
    assert await refused(server, database="no_such_database", password="wrong") == "28P01"


async def test_the_systems_own_role_is_closed_to_clients(cluster: Cluster) -> None:
    assert await refused(cluster.server, user="hanse_system", password=PASSWORD) in ("28P01", "28000")


def test_a_new_role_logs_in_everywhere_and_a_dropped_one_nowhere(cluster: Cluster, table: Schema) -> None:
    role = f"r_{table.name}"
    with table.connect() as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'first word'")
        try:
            admin.execute(f"GRANT USAGE ON SCHEMA {table.name} TO {role}")
            admin.execute(f"GRANT SELECT ON t TO {role}")
            for gateway in cluster.gateways:
                with psycopg.connect(gateway.dsn_for(user=role, password="first word"), autocommit=True) as connection:
                    assert one(connection, f"SELECT count(*) FROM {table.name}.t") == 100
                    assert one(connection, f"SELECT current_user::text FROM {table.name}.t WHERE id = 3") == role
            admin.execute(f"ALTER ROLE {role} PASSWORD 'second word'")
            for gateway in cluster.gateways:
                with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                    psycopg.connect(gateway.dsn_for(user=role, password="first word"))
                with psycopg.connect(gateway.dsn_for(user=role, password="second word"), autocommit=True) as connection:
                    assert one(connection, f"SELECT count(*) FROM {table.name}.t") == 100
        finally:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")
    for gateway in cluster.gateways:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(gateway.dsn_for(user=role, password="second word"))


def test_encryption_is_answered(cluster: Cluster) -> None:
    """SSLRequest is answered with S (test_tls.py goes on from there), GSSENCRequest with N."""
    for code, answer in ((80877103, b"S"), (80877104, b"N")):
        with socket.create_connection((cluster.server.host, cluster.server.port), timeout=10) as raw:
            raw.sendall((8).to_bytes(4, "big") + code.to_bytes(4, "big"))
            assert raw.recv(1) == answer
    with psycopg.connect(cluster.server.dsn_for(sslmode="prefer")) as connection:
        assert one(connection, "SELECT 1") == 1


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x04", b"\xff" * 64, b"\x00\x00\x00\x09\x00\x02\x00\x00\x00", b""],
    ids=["http", "short", "huge", "protocol 2", "nothing"],
)  # fmt: skip
def test_garbage_at_the_door_closes_it(cluster: Cluster, garbage: bytes) -> None:
    with socket.create_connection((cluster.server.host, cluster.server.port), timeout=10) as raw:
        raw.sendall(garbage)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4096):
            pass
    with psycopg.connect(cluster.dsn) as connection:
        assert one(connection, "SELECT 1") == 1


# --- two gateways, one database --------------------------------------------------------------------------------------


def test_gateways_see_each_others_ddl_at_once(cluster: Cluster, cluster_schema: Schema) -> None:
    first, second = (through(gateway, cluster_schema) for gateway in cluster.gateways)
    with first, second:
        for turn, (here, there) in enumerate(((first, second), (second, first)) * 3):
            here.execute(f"CREATE TABLE d{turn} (id int PRIMARY KEY, v int)")
            assert one(there, f"SELECT count(*) FROM d{turn}") == 0
            here.execute(f"SELECT create_distributed_table('d{turn}', 'id')")
            there.execute(f"INSERT INTO d{turn} SELECT g, g FROM generate_series(1, 40) g")
            assert one(here, f"SELECT sum(v) FROM d{turn}") == 820
            there.execute(f"ALTER TABLE d{turn} ADD COLUMN w int DEFAULT {turn}")
            assert one(here, f"SELECT sum(w) FROM d{turn}") == 40 * turn
            assert one(here, f"SELECT w FROM d{turn} WHERE id = 7") == turn
            there.execute(f"DROP TABLE d{turn}")
            with pytest.raises(psycopg.errors.UndefinedTable):
                here.execute(f"SELECT v FROM d{turn} WHERE id = 7")


def test_prepared_statements_survive_ddl_of_another_gateway(cluster: Cluster, table: Schema) -> None:
    first, second = (through(gateway, table) for gateway in cluster.gateways)
    with first, second:
        first.execute("PREPARE by_key AS SELECT v FROM t WHERE id = $1")
        first.execute("PREPARE everywhere AS SELECT sum(v) FROM t WHERE v >= $1")
        assert (one(first, "EXECUTE by_key (3)"), one(first, "EXECUTE everywhere (0)")) == (0, 0)
        second.execute("ALTER TABLE t ADD COLUMN extra text, DROP COLUMN s")
        second.execute("UPDATE t SET v = 2")
        assert (one(first, "EXECUTE by_key (3)"), one(first, "EXECUTE everywhere (0)")) == (2, 200)


def test_serial_ids_are_unique_across_gateways(cluster: Cluster, cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE n (id serial PRIMARY KEY, who int)")
        connection.execute("SELECT create_distributed_table('n', 'id')")

    def insert(worker: int) -> list[int]:
        with through(cluster.gateways[worker % 2], cluster_schema) as connection:
            ids = []
            for turn in range(25):
                rows = connection.execute(
                    "INSERT INTO n (who) VALUES (%s), (%s) RETURNING id", (worker, turn)
                ).fetchall()
                ids += [row[0] for row in rows]
            return ids

    with ThreadPoolExecutor(4) as pool:
        drawn = [number for ids in pool.map(insert, range(4)) for number in ids]
    assert len(drawn) == len(set(drawn)) == 200
    with cluster_schema.connect() as connection:
        assert one(connection, "SELECT count(*) FROM n") == 200
        assert sorted(row[0] for row in connection.execute("SELECT id FROM n")) == sorted(drawn)


def test_concurrent_transfers_keep_the_sum(cluster: Cluster, table: Schema) -> None:
    """Money moves between shards through both gateways; at rest nothing is lost, and nobody hangs."""

    def move(worker: int) -> int:
        done = 0
        with through(cluster.gateways[worker % 2], table) as connection:
            connection.execute("SET lock_timeout = '20s'")
            for turn in range(20):
                a, b = sorted(((worker * 31 + turn * 7) % 100 + 1, (worker * 17 + turn * 11 + 5) % 100 + 1))
                if a == b:
                    continue
                with connection.transaction():
                    connection.execute("UPDATE t SET v = v - 5 WHERE id = %s", (a,))
                    connection.execute("UPDATE t SET v = v + 5 WHERE id = %s", (b,))
                done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(move, range(4))) > 70
    with table.connect() as connection:
        assert one(connection, "SELECT sum(v) FROM t") == 0
        assert one(connection, "SELECT count(*) FROM t WHERE v <> 0") != 0
    prepared = "SELECT count(*) FROM pg_prepared_xacts"  # other tests' commits are there for a moment
    wait_until("nothing stays prepared", lambda: not any(in_groups(cluster, prepared).values()), timeout_s=30)


# --- where rows lie --------------------------------------------------------------------------------------------------


def test_reference_writes_reach_every_group(cluster: Cluster, cluster_schema: Schema) -> None:
    name = f"{cluster_schema.name}.r"
    with cluster_schema.connect() as connection:
        connection.execute(
            "CREATE TABLE r (id int PRIMARY KEY, v float8 DEFAULT random(), at timestamptz DEFAULT clock_timestamp())"
        )
        connection.execute("SELECT create_reference_table('r')")
        connection.execute("INSERT INTO r (id) SELECT g FROM generate_series(1, 50) g")
        connection.execute("UPDATE r SET v = random() WHERE id % 2 = 0")
        connection.execute("DELETE FROM r WHERE id > 45")
        with connection.cursor().copy("COPY r (id) FROM STDIN") as copy:
            copy.write_row((99,))
        digest = f"SELECT md5(string_agg(r::text, ',' ORDER BY id)) FROM {name} r"
        assert set(in_groups(cluster, f"SELECT count(*) FROM {name}").values()) == {46}
        assert len(set(in_groups(cluster, digest).values())) == 1
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO r (id) VALUES (200), (1)")
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM r")
        assert set(in_groups(cluster, f"SELECT count(*) FROM {name}").values()) == {46}


def test_single_tables_lie_in_one_group(cluster: Cluster, cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE s1 (id int) TABLESPACE g1")
        connection.execute("CREATE TABLE s2 (id int) TABLESPACE g2")
        for name in ("s1", "s2"):
            connection.execute(f"INSERT INTO {name} SELECT generate_series(1, 10)")  # type: ignore[call-overload]
    assert in_groups(cluster, f"SELECT count(*) FROM {cluster_schema.name}.s1") == {"g1": 10, "g2": 0}
    assert in_groups(cluster, f"SELECT count(*) FROM {cluster_schema.name}.s2") == {"g1": 0, "g2": 10}


def test_copy_of_200000_rows_is_split(cluster: Cluster, cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE c (id bigint PRIMARY KEY, v text)")
        connection.execute("SELECT create_distributed_table('c', 'id')")
        lines = "".join(f"{i}\tvalue {i}\n" for i in range(200_000)).encode()
        with connection.cursor() as cursor:
            with cursor.copy("COPY c FROM STDIN") as copy:
                for start in range(0, len(lines), 100_003):  # pieces that end in the middle of a row
                    copy.write(lines[start : start + 100_003])
            assert cursor.rowcount == 200_000
        row = connection.execute("SELECT count(*), sum(id), count(DISTINCT v) FROM c").fetchone()
        assert row == (200_000, sum(range(200_000)), 200_000)
        lost = [
            i for i in range(0, 200_000, 9_973) if one(connection, f"SELECT v FROM c WHERE id = {i}") != f"value {i}"
        ]
        assert lost == []
        counts = in_groups(cluster, f"SELECT count(*) FROM {cluster_schema.name}.c")
        assert sum(counts.values()) == 200_000 and min(counts.values()) > 60_000  # type: ignore[arg-type, type-var]
        with connection.cursor().copy("COPY c TO STDOUT") as copy:
            received = b"".join(bytes(block) for block in copy)
        assert sorted(received.splitlines()) == sorted(lines.splitlines())


def test_placement_is_told(cluster: Cluster, table: Schema) -> None:
    told = next(entry for entry in cluster.status()["tables"] if entry["name"] in ("t", f"{table.name}.t"))
    assert told["kind"] == "sharded"
    assert {shard["group"] for shard in told["shards"]} == {"g1", "g2"}
    with table.connect() as connection:
        assert {row[0] for row in connection.execute("SELECT name FROM hanse.groups")} == {"g1", "g2"}
        assert one(connection, "SELECT count(*) FROM hanse.nodes") == 2


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_large_values(cluster_schema: Schema) -> None:
    size = MEGABYTE
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE big (id int PRIMARY KEY, v bytea)")
        connection.execute("SELECT create_distributed_table('big', 'id')")
        connection.execute("ALTER TABLE big ALTER COLUMN v SET STORAGE EXTERNAL")
        value = hashlib.shake_128(b"hanse").digest(size)
        connection.execute("INSERT INTO big VALUES (%s, %b)", (5, value))
        assert one(connection, "SELECT length(v) FROM big WHERE id = 5") == size
        assert one(connection, "SELECT md5(v) FROM big") == hashlib.md5(value).hexdigest()
        row = connection.execute("SELECT v FROM big WHERE id = 5", binary=True).fetchone()
        assert row is not None and bytes(row[0]) == value


def test_a_large_literal_in_the_text(table: Schema) -> None:
    with table.connect() as connection:
        text = "é'" * 500_000
        literal = text.replace("'", "''")
        connection.execute(f"UPDATE t SET s = '{literal}' WHERE id = 3")  # type: ignore[call-overload]
        assert one(connection, "SELECT s FROM t WHERE id = 3") == text


def test_a_statement_with_many_rows(table: Schema) -> None:
    rows = ", ".join(f"({i}, 1)" for i in range(1001, 6001))
    with table.connect() as connection:
        assert connection.execute(f"INSERT INTO t (id, v) VALUES {rows}").rowcount == 5000  # type: ignore[call-overload]
        assert one(connection, "SELECT sum(v) FROM t") == 5000
        ids = ", ".join(map(str, range(1001, 6001)))
        assert connection.execute(f"DELETE FROM t WHERE id IN ({ids})").rowcount == 5000  # type: ignore[call-overload]


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors_keep_the_session(table: Schema) -> None:
    wrong = (
        ("SELEC", psycopg.errors.SyntaxError),
        ("SELECT * FROM nowhere", psycopg.errors.UndefinedTable),
        ("SELECT 1 / (id - 7) FROM t", psycopg.errors.DivisionByZero),
        ("INSERT INTO t (id) VALUES (1), (2000)", psycopg.errors.UniqueViolation),
        ("SELECT a.id FROM t a JOIN t b ON a.v = b.v WHERE 1 / (a.id - 7) > 0", psycopg.errors.DivisionByZero),
        ("COPY t (id) FROM STDIN (FORMAT nonsense)", psycopg.errors.InvalidParameterValue),
    )
    with table.connect() as connection:
        for sql, expected in wrong * 2:
            with pytest.raises(expected):
                connection.execute(sql)  # type: ignore[call-overload]
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert one(connection, "SELECT v FROM t WHERE id = 3") == 0
            assert one(connection, "SELECT count(*) FROM t") == 100


def test_multi_statement_message_is_one_transaction(table: Schema) -> None:
    with table.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute(
                "UPDATE t SET v = 1 WHERE id = 1; UPDATE t SET v = 1 WHERE id = 2; UPDATE t SET v = 1; SELECT 1 / 0"
            )
        assert one(connection, "SELECT sum(v) FROM t") == 0
        connection.execute("UPDATE t SET v = 1 WHERE id = 1; UPDATE t SET v = 1 WHERE id = 2; UPDATE t SET v = v + 1")
        assert one(connection, "SELECT sum(v) FROM t") == 102


def test_a_failed_row_in_one_group_undoes_all_groups(table: Schema) -> None:
    with table.connect() as connection:
        connection.execute("ALTER TABLE t ADD CONSTRAINT small CHECK (v < 50)")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("UPDATE t SET v = CASE WHEN id = 77 THEN 99 ELSE 1 END")
        assert one(connection, "SELECT sum(v) FROM t") == 0


# --- faults ----------------------------------------------------------------------------------------------------------


def test_killing_a_gateway_loses_only_its_sessions(fresh_cluster: Cluster) -> None:
    cluster = fresh_cluster
    with psycopg.connect(cluster.dsn, autocommit=True) as setup:
        setup.execute("CREATE TABLE k (id int PRIMARY KEY, v int)")
        setup.execute("SELECT create_distributed_table('k', 'id')")
        setup.execute("INSERT INTO k SELECT g, 0 FROM generate_series(1, 50) g")
    here, there = (psycopg.connect(gateway.dsn, autocommit=True) for gateway in cluster.gateways)
    try:
        here.execute("BEGIN")
        here.execute("UPDATE k SET v = 1")
        there.execute("BEGIN")
        assert one(there, "SELECT sum(v) FROM k") == 0
        victim = next(g for g in cluster.status()["gateways"] if g["port"] == cluster.gateways[0].port)
        psutil.Process(victim["pid"]).kill()
        with pytest.raises(psycopg.OperationalError):
            here.execute("SELECT 1")
        assert one(there, "SELECT count(*) FROM k") == 50  # its transaction goes on
        there.execute("SET LOCAL lock_timeout = '20s'")
        there.execute("UPDATE k SET v = 2")  # the lost session's locks are free
        there.execute("COMMIT")
        again = wait_until("the gateway is back", lambda: _try(cluster.gateways[0]), timeout_s=20)
        with again:
            assert one(again, "SELECT sum(v) FROM k") == 100
    finally:
        here.close()
        there.close()


def _try(gateway: Server) -> psycopg.Connection | None:
    with contextlib.suppress(psycopg.OperationalError):
        return psycopg.connect(gateway.dsn_for(connect_timeout=5), autocommit=True)
    return None


def test_many_clients_at_once(table: Schema) -> None:
    """Connections come and go while others work: every answer is right, and no backend is left in a transaction."""
    failures: list[str] = []

    def work(worker: int) -> None:
        try:
            for turn in range(4):
                with table.connect() as connection:
                    for i in range(10):
                        key = (worker * 13 + turn * 5 + i) % 100 + 1
                        assert one(connection, "SELECT id FROM t WHERE id = %s", key) == key
                    assert one(connection, "SELECT count(*) FROM t") == 100
        except BaseException as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


async def test_clients_that_leave_during_login(cluster: Cluster) -> None:
    """Half-made connections cost nothing that stays."""
    for _ in range(50):
        _, writer = await asyncio.open_connection(cluster.server.host, cluster.server.port)
        body = b"\x00\x03\x00\x00user\x00hanse\x00database\x00hanse\x00\x00"
        writer.write((len(body) + 4).to_bytes(4, "big") + body)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    assert await refused(cluster.server) is None


@pytest.fixture(autouse=True)
def nothing_is_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test no backend of a client is in a transaction, and no prepared transaction is left."""
    yield
    cluster = request.node.funcargs.get("cluster")
    if not isinstance(cluster, Cluster) or not cluster.data_directory.exists():
        return
    busy = (
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%')"
        " + (SELECT count(*) FROM pg_prepared_xacts)"
    )
    wait_until("no transaction is left", lambda: not any(in_groups(cluster, busy).values()), timeout_s=15)
