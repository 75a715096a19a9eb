"""The clients people have: psql, pgbench, psycopg 3, asyncpg, psycopg2. Each works as with one PostgreSQL.

The tables are sharded, reference and single ones (`create_distributed_table`, `create_reference_table`), so that a client's
protocol habits meet plans of every kind.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import psycopg2
import psycopg2.extras
import pytest

from support.servers import Cluster, Server, binary

ROWS = 300


class Shop:
    """A schema with the tables of these tests, and how to reach it."""

    def __init__(self, server: Server, schema: str) -> None:
        self.server, self.schema = server, schema

    @property
    def dsn(self) -> str:
        return self.server.dsn_for(options=f"-c search_path={self.schema},public")

    def psql(self, *arguments: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            **self.server.environment,
            "PGOPTIONS": f"-c search_path={self.schema},public",
            "PSQLRC": "/dev/null",
        }
        done = subprocess.run(
            [binary("psql"), "-X", *arguments], input=text, capture_output=True, text=True, env=environment, timeout=60
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def value(self, sql: str) -> str:
        return self.psql("-Atc", sql).stdout.strip()


TABLES = """
CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, price numeric(8,2), made date, tags text[]);
SELECT create_distributed_table('item', 'id');
CREATE TABLE sale (id bigint, item_id int, n int, PRIMARY KEY (id, item_id));
SELECT create_distributed_table('sale', 'item_id', colocate_with => 'item');
CREATE TABLE kind (kind_id int PRIMARY KEY, label text);
SELECT create_reference_table('kind');
CREATE TABLE note (id int PRIMARY KEY, body text);
INSERT INTO kind VALUES (0, 'zero'), (1, 'one'), (2, 'two');
"""


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Shop]:
    schema = f"clients_{uuid.uuid4().hex[:8]}"
    server = cluster.server
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET search_path = {schema}, public")
        for statement in TABLES.strip().split(";\n"):
            connection.execute(statement)  # type: ignore[call-overload]
        with connection.cursor() as cursor:
            rows = [(i, f"item {i}", i * 1.25, datetime.date(2026, 1, 1), [f"t{i % 3}"]) for i in range(ROWS)]
            cursor.executemany("INSERT INTO item VALUES (%s, %s, %s, %s, %s)", rows)
            cursor.executemany("INSERT INTO sale VALUES (%s, %s, %s)", [(i, i % ROWS, i % 7) for i in range(2 * ROWS)])
    yield Shop(server, schema)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


# --- psql ------------------------------------------------------------------------------------------------------------


def test_psql_command(shop: Shop) -> None:
    assert shop.value("SELECT count(*), sum(price) FROM item") == f"{ROWS}|{sum(i * 1.25 for i in range(ROWS)):.2f}"


def test_psql_aligned_output(shop: Shop) -> None:
    out = shop.psql("-c", "SELECT id, name FROM item WHERE id IN (3, 5) ORDER BY id").stdout
    assert out == " id |  name  \n----+--------\n  3 | item 3\n  5 | item 5\n(2 rows)\n\n"


def test_psql_describe_table(shop: Shop) -> None:
    out = shop.psql("-c", r"\d item").stdout
    assert "price" in out and "numeric(8,2)" in out and '"item_pkey" PRIMARY KEY' in out


def test_psql_describe_more(shop: Shop) -> None:
    assert "item" in shop.psql("-c", r"\d+ item").stdout


def test_psql_list_tables(shop: Shop) -> None:
    lines = shop.psql("-At", "-c", r"\dt").stdout.splitlines()
    names = {line.split("|")[1] for line in lines}
    assert {"item", "sale", "kind", "note"} <= names


@pytest.mark.parametrize(
    "command", [r"\dn", r"\df", r"\dv", r"\di", r"\du", r"\l", r"\dx", r"\dT", r"\ds", r"\db", r"\conninfo"]
)
def test_psql_backslash_commands_run(shop: Shop, command: str) -> None:
    done = shop.psql("-v", "ON_ERROR_STOP=1", "-c", command)
    assert done.stderr in ("", "Did not find any relations.\n")


def test_psql_file(shop: Shop, tmp_path: Path) -> None:
    script = tmp_path / "script.sql"
    script.write_text(
        "BEGIN;\nINSERT INTO note VALUES (1, 'from a file');\nINSERT INTO item (id, name) VALUES (9001, 'x'), (9002, 'y');\n"
        "SELECT count(*) FROM item WHERE id > 9000;\nROLLBACK;\nSELECT count(*) FROM item WHERE id > 9000;\n"
    )
    assert shop.psql("-Atq", "-f", str(script)).stdout.split() == ["2", "0"]


def test_psql_single_transaction_fails_as_a_whole(shop: Shop) -> None:
    text = "INSERT INTO item (id, name) VALUES (9101, 'x');\nINSERT INTO item (id, name) VALUES (1, 'dup');\n"
    done = shop.psql("-1", "-v", "ON_ERROR_STOP=1", "-f", "-", text=text, check=False)
    assert done.returncode == 3
    assert "duplicate key" in done.stderr
    assert shop.value("SELECT count(*) FROM item WHERE id = 9101") == "0"


def test_psql_exit_codes(shop: Shop) -> None:
    assert shop.psql("-c", "SELECT 1 / 0", check=False).returncode == 1
    assert shop.psql("-f", "-", text="SELECT 1 / 0;", check=False).returncode == 0
    assert shop.psql("-v", "ON_ERROR_STOP=1", "-f", "-", text="SELECT 1 / 0;", check=False).returncode == 3
    assert shop.psql("-d", "no_such_database", "-c", "SELECT 1", check=False).returncode == 2


def test_psql_error_shows_its_position(shop: Shop) -> None:
    done = shop.psql("-c", "SELECT nam FROM item WHERE id = 3", check=False)
    assert 'ERROR:  column "nam" does not exist\nLINE 1: SELECT nam FROM item' in done.stderr
    assert done.stderr.splitlines()[2] == "               ^"


def test_psql_verbose_error_has_sqlstate(shop: Shop) -> None:
    done = shop.psql("-v", "VERBOSITY=verbose", "-c", "INSERT INTO item (id, name) VALUES (1, 'dup')", check=False)
    assert "ERROR:  23505: " in done.stderr and "(id)=(1)" in done.stderr


def test_psql_variables(shop: Shop) -> None:
    text = "\\set wanted 7\nSELECT name FROM item WHERE id = :wanted;\nSELECT :'word' || 's' FROM item WHERE id = :wanted;\n"
    assert shop.psql("-At", "-v", "word=it's", "-f", "-", text=text).stdout.splitlines() == ["item 7", "it'ss"]


def test_psql_gset_and_conditions(shop: Shop) -> None:
    text = "SELECT count(*) AS n, count(*) > 5 AS many FROM item \\gset\n\\if :many\n\\echo many :n\n\\else\n\\echo few\n\\endif\n"
    assert shop.psql("-At", "-f", "-", text=text).stdout.strip() == f"many {ROWS}"


def test_psql_gexec(shop: Shop) -> None:
    text = "SELECT format('SELECT name FROM item WHERE id = %s', id) FROM item WHERE id < 3 ORDER BY id \\gexec\n"
    assert shop.psql("-At", "-f", "-", text=text).stdout.splitlines() == ["item 0", "item 1", "item 2"]


def test_psql_gdesc_bind_and_crosstab(shop: Shop) -> None:
    text = "SELECT id, name, price FROM item \\gdesc\nSELECT name FROM item WHERE id = $1 \\bind 4 \\g\n"
    assert shop.psql("-At", "-f", "-", text=text).stdout.splitlines() == [
        "id|integer",
        "name|text",
        "price|numeric(8,2)",
        "item 4",
    ]


def test_psql_copy_out_and_in(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    out = shop.psql(
        "-c", f"\\copy (SELECT id + 5000, name FROM item WHERE id < 100 ORDER BY id) TO '{path}' CSV HEADER"
    )
    assert out.stdout == "COPY 100\n"
    assert path.read_text().splitlines()[:2] == ["?column?,name", "5000,item 0"]
    assert shop.psql("-c", f"\\copy item (id, name) FROM '{path}' CSV HEADER").stdout == "COPY 100\n"
    assert shop.value("SELECT count(*), min(id), max(id) FROM item WHERE id >= 5000") == "100|5000|5099"
    assert shop.psql("-c", "DELETE FROM item WHERE id >= 5000").stdout == "DELETE 100\n"


def test_psql_copy_from_stdin_in_script(shop: Shop) -> None:
    text = "COPY item (id, name) FROM STDIN;\n6000\ta\n6001\tb\n\\.\nSELECT count(*) FROM item WHERE id >= 6000;\n"
    assert shop.psql("-Atq", "-f", "-", text=text).stdout.strip() == "2"
    shop.psql("-c", "DELETE FROM item WHERE id >= 6000")


def test_psql_copy_error_ends_the_command_only(shop: Shop) -> None:
    text = (
        "COPY item (id, name) FROM STDIN;\nnot a number\ta\n6001\tb\n\\.\nSELECT count(*) FROM item WHERE id >= 6000;\n"
    )
    done = shop.psql("-Atq", "-f", "-", text=text)
    assert done.stdout.strip() == "0"
    assert "invalid input syntax for type integer" in done.stderr and "line 1, column id" in done.stderr


def test_psql_fetch_count_uses_cursors(shop: Shop) -> None:
    out = shop.psql("-At", "-v", "FETCH_COUNT=37", "-c", "SELECT id FROM item ORDER BY id").stdout.split()
    assert [int(value) for value in out] == list(range(ROWS))


def test_psql_several_statements_in_one_command(shop: Shop) -> None:
    assert shop.psql("-Atc", "SELECT 1; SELECT count(*) FROM item; SELECT 3").stdout.split() == ["1", str(ROWS), "3"]


def test_psql_on_error_rollback(shop: Shop) -> None:
    text = (
        "BEGIN;\nINSERT INTO item (id, name) VALUES (7001, 'a');\nSELECT 1 / 0;\n"
        "SELECT count(*) FROM item WHERE id = 7001;\nROLLBACK;\n"
    )
    assert shop.psql("-Atq", "-v", "ON_ERROR_ROLLBACK=on", "-f", "-", text=text).stdout.strip() == "1"


def test_psql_password_prompt_is_answered_by_environment(shop: Shop) -> None:
    wrong = {**shop.server.environment, "PGPASSWORD": "wrong"}
    done = subprocess.run([binary("psql"), "-Xc", "SELECT 1"], env=wrong, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "password authentication failed" in done.stderr


# --- pgbench ---------------------------------------------------------------------------------------------------------

ACCOUNTS = 100_000


@pytest.fixture(scope="module", params=["single", "distributed"])
def pgbench_tables(request: pytest.FixtureRequest, cluster: Cluster) -> Server:
    """pgbench's own tables at scale 1, as `pgbench -i` makes them; then spread over the groups."""
    server = cluster.server
    subprocess.run(
        [binary("pgbench"), "-i", "-q", "-s", "1"], env=server.environment, check=True, capture_output=True, timeout=120
    )
    if request.param == "distributed":
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("SELECT create_distributed_table('pgbench_branches', 'bid')")
            connection.execute("SELECT create_distributed_table('pgbench_tellers', 'tid')")
            connection.execute("SELECT create_distributed_table('pgbench_accounts', 'aid')")
            connection.execute(
                "SELECT create_distributed_table('pgbench_history', 'aid', colocate_with => 'pgbench_accounts')"
            )
    return server


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["select-only", "simple-update", "tpcb-like"])
def test_pgbench(pgbench_tables: Server, script: str, mode: str) -> None:
    """Every transaction succeeds, and afterwards the books balance: what was added to accounts is what history says."""
    server = pgbench_tables
    command = ["-n", "-b", script, "-M", mode, "-c", "4", "-j", "1", "-t", "25", "--max-tries", "1"]
    done = subprocess.run(
        [binary("pgbench"), *command], env=server.environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 100/100" in done.stdout
    assert "number of failed transactions: 0 (0.000%)" in done.stdout
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),"
            " (SELECT count(*) FROM pgbench_accounts), (SELECT count(*) FROM pgbench_history h JOIN pgbench_accounts a USING (aid))"
        ).fetchone()
        assert row is not None
        history = connection.execute("SELECT count(*) FROM pgbench_history").fetchone()
        assert row[0] == row[1] and row[2] == ACCOUNTS and history is not None and row[3] == history[0]
        if script == "tpcb-like":
            assert connection.execute("SELECT count(*) > 0 FROM pgbench_history").fetchone() == (True,)


# --- psycopg 3 -------------------------------------------------------------------------------------------------------


@pytest.fixture
def connection(shop: Shop) -> Iterator[psycopg.Connection]:
    with psycopg.connect(shop.dsn) as connection:
        yield connection
        connection.rollback()


def test_psycopg_parameters_and_types(connection: psycopg.Connection) -> None:
    row = connection.execute("SELECT id, name, price, made, tags FROM item WHERE id = %s", (8,)).fetchone()
    assert row == (8, "item 8", decimal.Decimal("10.00"), datetime.date(2026, 1, 1), ["t2"])


def test_psycopg_binary_results(connection: psycopg.Connection) -> None:
    rows = connection.execute(
        "SELECT id, price, made FROM item WHERE id < %s ORDER BY id", (5,), binary=True
    ).fetchall()
    assert rows == [(i, decimal.Decimal(f"{i * 1.25:.2f}"), datetime.date(2026, 1, 1)) for i in range(5)]


def test_psycopg_transaction_blocks(shop: Shop) -> None:
    with psycopg.connect(shop.dsn) as connection:
        with pytest.raises(ZeroDivisionError), connection.transaction():
            connection.execute("UPDATE item SET price = 0")
            raise ZeroDivisionError
        with connection.transaction():
            connection.execute("INSERT INTO note VALUES (10, 'a')")
            with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute("INSERT INTO item (id, name) VALUES (8001, 'a')")
                connection.execute("INSERT INTO note VALUES (10, 'b')")
        assert connection.execute("SELECT count(*) FROM item WHERE price = 0 AND id > 0").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM item WHERE id = 8001").fetchone() == (0,)
        assert connection.execute("DELETE FROM note WHERE id = 10").rowcount == 1


def test_psycopg_prepared_statements(shop: Shop) -> None:
    with psycopg.connect(shop.dsn, autocommit=True, prepare_threshold=1) as connection:
        for i in range(20):
            assert connection.execute("SELECT name FROM item WHERE id = %s", (i,)).fetchone() == (f"item {i}",)
            assert connection.execute("SELECT count(*) FROM sale WHERE n = %s", (i % 7,)).fetchone() is not None
        explicit = connection.execute("SELECT sum(n) FROM sale WHERE item_id = %s", (3,), prepare=True).fetchone()
        assert explicit == (3 % 7 + (3 + ROWS) % 7,)


def test_psycopg_pipeline(shop: Shop) -> None:
    with psycopg.connect(shop.dsn) as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT name FROM item WHERE id = %s", (i,)) for i in range(60)]
            total = connection.execute("SELECT count(*) FROM item")
            write = connection.execute("UPDATE item SET price = price WHERE id < 10")
        assert [cursor.fetchone() for cursor in cursors] == [(f"item {i}",) for i in range(60)]
        assert total.fetchone() == (ROWS,) and write.rowcount == 10
        connection.rollback()


def test_psycopg_pipeline_error_skips_the_rest(shop: Shop) -> None:
    with psycopg.connect(shop.dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:
            connection.execute("INSERT INTO item (id, name) VALUES (8101, 'a'), (8102, 'b'), (8103, 'c')")
            connection.execute("SELECT 1 / 0")
            connection.execute("INSERT INTO item (id, name) VALUES (8104, 'd')")
            pipeline.sync()
        assert connection.execute("SELECT count(*) FROM item WHERE id > 8100").fetchone() == (0,)


def test_psycopg_server_side_cursor(connection: psycopg.Connection) -> None:
    with connection.cursor("reader") as cursor:
        cursor.execute("SELECT id FROM item ORDER BY id")
        assert cursor.fetchmany(3) == [(0,), (1,), (2,)]
        cursor.scroll(10)
        assert cursor.fetchone() == (13,)
        assert len(cursor.fetchall()) == ROWS - 14


def test_psycopg_hold_cursor(shop: Shop) -> None:
    with psycopg.connect(shop.dsn) as connection:
        cursor = connection.cursor("held", withhold=True)
        cursor.execute("SELECT id FROM item ORDER BY id")
        assert cursor.fetchone() == (0,)
        connection.commit()
        assert cursor.fetchmany(2) == [(1,), (2,)]
        cursor.close()


def test_psycopg_copy_both_ways(connection: psycopg.Connection) -> None:
    with connection.cursor() as cursor:
        with cursor.copy("COPY item (id, name, price) FROM STDIN") as copy:
            for i in range(1000):
                copy.write_row((20_000 + i, f"copied\t{i}", decimal.Decimal(i)))
        assert cursor.rowcount == 1000
        with cursor.copy("COPY (SELECT id, name FROM item WHERE id >= 20000) TO STDOUT") as copy:
            assert sorted(int(row[0]) for row in copy.rows()) == list(range(20_000, 21_000))


def test_psycopg_copy_binary(connection: psycopg.Connection) -> None:
    with connection.cursor() as cursor:
        with cursor.copy("COPY item (id, name, made) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "date"])
            for i in range(500):
                copy.write_row((30_000 + i, f"binary {i}", datetime.date(2026, 2, 1)))
        assert cursor.rowcount == 500
        with cursor.copy("COPY (SELECT id, made FROM item WHERE id >= 30000) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "date"])
            rows = sorted(copy.rows())
        assert rows == [(30_000 + i, datetime.date(2026, 2, 1)) for i in range(500)]


def test_psycopg_copy_given_up(connection: psycopg.Connection) -> None:
    with (
        pytest.raises(RuntimeError, match="given up"),
        connection.cursor().copy("COPY item (id, name) FROM STDIN") as copy,
    ):
        copy.write_row((40_000, "x"))
        raise RuntimeError("given up")
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM item WHERE id = 40000").fetchone() == (0,)


def test_psycopg_executemany_returning(connection: psycopg.Connection) -> None:
    with connection.cursor() as cursor:
        rows = [(50_000 + i, f"many {i}") for i in range(30)]
        cursor.executemany("INSERT INTO item (id, name) VALUES (%s, %s) RETURNING id", rows, returning=True)
        found = []
        while True:
            found += cursor.fetchall()
            if not cursor.nextset():
                break
        assert found == [(50_000 + i,) for i in range(30)]


def test_psycopg_notices_and_errors(connection: psycopg.Connection) -> None:
    heard: list[str] = []
    connection.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
    connection.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    assert heard == ["hello"]
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        connection.execute("INSERT INTO item (id, name) VALUES (1, 'dup')")
    assert caught.value.diag.message_detail == "Key (id)=(1) already exists."
    assert caught.value.diag.schema_name is not None


def test_psycopg_information(connection: psycopg.Connection) -> None:
    assert connection.info.server_version // 10_000 == 16
    assert connection.info.encoding == "utf-8"
    assert connection.info.parameter_status("integer_datetimes") == "on"
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_psycopg_async(shop: Shop) -> None:
    async with await psycopg.AsyncConnection.connect(shop.dsn) as connection:
        cursor = await connection.execute("SELECT count(*) FROM item i JOIN sale s ON s.item_id = i.id")
        assert await cursor.fetchone() == (2 * ROWS,)
        async with connection.transaction(force_rollback=True):
            await connection.execute("UPDATE item SET name = upper(name)")
            cursor = await connection.execute("SELECT name FROM item WHERE id = 3")
            assert await cursor.fetchone() == ("ITEM 3",)
        cursor = await connection.execute("SELECT name FROM item WHERE id = 3")
        assert await cursor.fetchone() == ("item 3",)


# --- asyncpg ---------------------------------------------------------------------------------------------------------


async def _asyncpg(shop: Shop) -> asyncpg.Connection:
    return await asyncpg.connect(**shop.server.url_parts, server_settings={"search_path": f"{shop.schema},public"})


async def test_asyncpg_fetch(shop: Shop) -> None:
    connection = await _asyncpg(shop)
    try:
        rows = await connection.fetch("SELECT id, name, price, tags FROM item WHERE id < $1 ORDER BY id", 4)
        assert [tuple(row) for row in rows] == [
            (i, f"item {i}", decimal.Decimal(f"{i * 1.25:.2f}"), [f"t{i % 3}"]) for i in range(4)
        ]
        assert await connection.fetchval("SELECT count(*) FROM item") == ROWS
        assert (await connection.fetchrow("SELECT name FROM item WHERE id = 5"))["name"] == "item 5"
        assert await connection.execute("UPDATE item SET name = name WHERE id IN (1, 2, 3)") == "UPDATE 3"
    finally:
        await connection.close()


async def test_asyncpg_prepared(shop: Shop) -> None:
    connection = await _asyncpg(shop)
    try:
        one = await connection.prepare("SELECT name FROM item WHERE id = $1")
        all_ = await connection.prepare("SELECT n, count(*) FROM sale WHERE n >= $1 GROUP BY n ORDER BY n")
        assert [await one.fetchval(i) for i in range(30)] == [f"item {i}" for i in range(30)]
        assert [row[0] for row in await all_.fetch(4)] == [4, 5, 6]
        assert [parameter.name for parameter in one.get_parameters()] == ["int4"]
        assert [attribute.name for attribute in all_.get_attributes()] == ["n", "count"]
    finally:
        await connection.close()


async def test_asyncpg_executemany_and_transactions(shop: Shop) -> None:
    connection = await _asyncpg(shop)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.executemany(
            "INSERT INTO item (id, name) VALUES ($1, $2)", [(60_000 + i, f"m {i}") for i in range(50)]
        )
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute("INSERT INTO item (id, name) VALUES (60001, 'dup')")
        assert await connection.fetchval("SELECT count(*) FROM item WHERE id >= 60000") == 50
        await transaction.rollback()
        assert await connection.fetchval("SELECT count(*) FROM item WHERE id >= 60000") == 0
    finally:
        await connection.close()


async def test_asyncpg_executemany_fails_as_a_whole(shop: Shop) -> None:
    connection = await _asyncpg(shop)
    try:
        rows = [(61_000, "a"), (61_001, "b"), (1, "dup"), (61_002, "c")]
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.executemany("INSERT INTO item (id, name) VALUES ($1, $2)", rows)
        assert await connection.fetchval("SELECT count(*) FROM item WHERE id >= 61000") == 0
    finally:
        await connection.close()


async def test_asyncpg_copy(shop: Shop) -> None:
    connection = await _asyncpg(shop)
    try:
        records = [(70_000 + i, f"r {i}") for i in range(2000)]
        assert await connection.copy_records_to_table("item", records=records, columns=["id", "name"]) == "COPY 2000"
        received = bytearray()

        async def collect(chunk: bytes) -> None:
            received.extend(chunk)

        query = "SELECT id, name FROM item WHERE id >= 70000"
        assert await connection.copy_from_query(query, output=collect, format="csv") == "COPY 2000"
        assert sorted(bytes(received).decode().splitlines()) == sorted(f"{i},{name}" for i, name in records)
        assert await connection.execute("DELETE FROM item WHERE id >= 70000") == "DELETE 2000"
    finally:
        await connection.close()


async def test_asyncpg_cursor(shop: Shop) -> None:
    connection = await _asyncpg(shop)
    try:
        async with connection.transaction():
            found = [row["id"] async for row in connection.cursor("SELECT id FROM item ORDER BY id", prefetch=40)]
            assert found == list(range(ROWS))
            cursor = await connection.cursor("SELECT id FROM item WHERE id > $1 ORDER BY id", 10)
            await cursor.forward(5)
            assert [row["id"] for row in await cursor.fetch(2)] == [16, 17]
    finally:
        await connection.close()


async def test_asyncpg_isolation_and_readonly(shop: Shop) -> None:
    connection = await _asyncpg(shop)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            assert await connection.fetchval("SELECT count(*) FROM item") == ROWS
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                async with connection.transaction():
                    await connection.execute("DELETE FROM item WHERE id = 1")
    finally:
        await connection.close()


async def test_asyncpg_types(shop: Shop) -> None:
    connection = await _asyncpg(shop)
    try:
        moment = datetime.datetime(2026, 5, 4, 3, 2, 1, tzinfo=datetime.UTC)
        row = await connection.fetchrow(
            "SELECT $1::uuid, $2::timestamptz, $3::numeric, $4::int[], $5::bytea, $6::interval, count(*) FROM item",
            *(uuid.UUID(int=5), moment, decimal.Decimal("1.50"), [1, None, 3], b"\0\xff", datetime.timedelta(days=2)),
        )
        expected = (
            uuid.UUID(int=5),
            moment,
            decimal.Decimal("1.50"),
            [1, None, 3],
            b"\0\xff",
            datetime.timedelta(days=2),
            ROWS,
        )
        assert tuple(row) == expected
    finally:
        await connection.close()


async def test_asyncpg_user_types(shop: Shop) -> None:
    """asyncpg looks a user's type up by the OID it saw in a result: every group must use the same."""
    connection = await _asyncpg(shop)
    try:
        await connection.execute("CREATE TYPE hue AS ENUM ('red', 'blue')")
        await connection.execute("CREATE TABLE painted (id int PRIMARY KEY, hue hue, hues hue[])")
        await connection.execute("SELECT create_distributed_table('painted', 'id')")
        await connection.executemany(
            "INSERT INTO painted VALUES ($1, $2, $3)", [(i, ("red", "blue")[i % 2], ["red"]) for i in range(20)]
        )
        rows = await connection.fetch("SELECT id, hue, hues FROM painted ORDER BY id")
        assert [tuple(row) for row in rows] == [(i, ("red", "blue")[i % 2], ["red"]) for i in range(20)]
        for i in range(20):
            assert await connection.fetchval("SELECT hue FROM painted WHERE id = $1", i) == ("red", "blue")[i % 2]
    finally:
        await connection.execute("DROP TABLE IF EXISTS painted; DROP TYPE IF EXISTS hue")
        await connection.close()


async def test_asyncpg_pool(shop: Shop) -> None:
    settings = {"search_path": f"{shop.schema},public"}
    async with asyncpg.create_pool(**shop.server.url_parts, min_size=2, max_size=8, server_settings=settings) as pool:
        values = await asyncio.gather(*(pool.fetchval("SELECT name FROM item WHERE id = $1", i) for i in range(100)))
        assert values == [f"item {i}" for i in range(100)]


# --- psycopg2 --------------------------------------------------------------------------------------------------------


def test_psycopg2(shop: Shop) -> None:
    connection = psycopg2.connect(shop.dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT name FROM item WHERE id = %s", (3,))
            assert cursor.fetchone() == ("item 3",)
            rows = [(80_000 + i, f"v {i}") for i in range(250)]
            psycopg2.extras.execute_values(cursor, "INSERT INTO item (id, name) VALUES %s", rows)
            cursor.execute("SELECT count(*) FROM item WHERE id >= 80000")
            assert cursor.fetchone() == (250,)
        with pytest.raises(psycopg2.errors.NotNullViolation), connection, connection.cursor() as cursor:
            cursor.execute("UPDATE item SET name = NULL WHERE id >= 80000")
        with connection, connection.cursor("named") as cursor:
            cursor.execute("SELECT id FROM item WHERE id >= 80000 ORDER BY id")
            assert cursor.fetchmany(2) == [(80_000,), (80_001,)]
        with connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM item WHERE id >= 80000")
            assert cursor.rowcount == 250
    finally:
        connection.close()
