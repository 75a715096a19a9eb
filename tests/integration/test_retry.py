"""`hanse.retry` with the real drivers: what is repeated ends well, and what may have been committed is never repeated."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from hanse import retry
from hanse.core.limits import RETRY_ATTEMPTS_MAX
from support.schemas import Schema

ACCOUNTS, TRANSFERS = 6, 12
RAISE = "DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{}'; END $$"
Work = Callable[[Any], Awaitable[int]]


@pytest.fixture
def books(cluster_schema: Schema) -> Schema:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)")
        connection.execute("SELECT create_distributed_table('accounts', 'id')")
        connection.execute(f"INSERT INTO accounts SELECT g, 100 FROM generate_series(1, {ACCOUNTS}) g")
    return cluster_schema


def dsn(books: Schema, **more: object) -> str:
    level = "-c default_transaction_isolation=repeatable\\ read"
    return books.server.dsn_for(options=f"-c search_path={books.name} {level}", **more)


def total(books: Schema) -> tuple[int, int]:
    with books.connect() as connection:
        row = connection.execute("SELECT sum(balance), sum(abs(balance - 100)) FROM accounts").fetchone()
        assert row is not None
        return row


def pairs(worker: int) -> Iterator[tuple[int, int]]:
    """The workers go round the accounts in both directions, so that they meet."""
    for number in range(TRANSFERS):
        one, other = number % ACCOUNTS + 1, (number + 1) % ACCOUNTS + 1
        yield (one, other) if worker % 2 else (other, one)


# --- the three drivers repeat ------------------------------------------------------------------------------------------


def test_psycopg_transfers_that_meet(books: Schema) -> None:
    attempts = []

    @retry.replayed(lambda: psycopg.connect(dsn(books)), attempts=100)
    def transfer(connection: psycopg.Connection[Any], low: int, high: int, *, amount: int) -> str:
        attempts.append(1)
        connection.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", (amount, low))
        connection.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (amount, high))
        return f"{low}→{high}"

    def work(worker: int) -> list[str]:
        return [transfer(low, high, amount=worker) for low, high in pairs(worker)]

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(work, range(4)))
    assert done[1][0] == "1→2"
    assert total(books)[0] == 100 * ACCOUNTS
    assert len(attempts) > 4 * TRANSFERS, "they never met"


async def test_async_drivers_transfers_that_meet(books: Schema) -> None:
    """Half by psycopg, half by asyncpg; one with connections of its own, one with a pool."""
    settings = {"search_path": books.name, "default_transaction_isolation": "repeatable read"}
    pool = await asyncpg.create_pool(**books.server.url_parts, min_size=1, max_size=3, server_settings=settings)

    @retry.replayed(lambda: psycopg.AsyncConnection.connect(dsn(books)), attempts=100)
    async def by_psycopg(connection: psycopg.AsyncConnection[Any], low: int, high: int) -> None:
        await connection.execute("UPDATE accounts SET balance = balance - 1 WHERE id = %s", (low,))
        await connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id = %s", (high,))

    @retry.replayed(pool.acquire, attempts=100)
    async def by_asyncpg(connection: Any, low: int, high: int) -> None:
        await connection.execute("UPDATE accounts SET balance = balance - 1 WHERE id = $1", low)
        await connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id = $1", high)

    async def work(worker: int) -> None:
        for low, high in pairs(worker):
            await (by_psycopg if worker < 2 else by_asyncpg)(low, high)

    try:
        await asyncio.gather(*map(work, range(4)))
    finally:
        await pool.close()
    assert total(books)[0] == 100 * ACCOUNTS


# --- what is repeated --------------------------------------------------------------------------------------------------


class Script:
    """A function that fails as it is told, attempt for attempt, with errors that a server makes; None: it succeeds."""

    def __init__(self, *states: str | None) -> None:
        self.states = states
        self.count = 0

    def sync(self, connection: psycopg.Connection[Any]) -> int:
        connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")
        if (state := self._next()) is not None:
            connection.execute(RAISE.format(state))  # type: ignore[call-overload]
        return self.count

    async def coroutine(self, connection: Any) -> int:
        await connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")
        if (state := self._next()) is not None:
            await connection.execute(RAISE.format(state))
        return self.count

    def _next(self) -> str | None:
        self.count += 1
        return self.states[min(self.count, len(self.states)) - 1]


REPEATED = ("40001", "40P01", "08006", "57P01")
NOT_REPEATED = ("08007", "23505", "40002", "53200", "P0001")


@pytest.fixture(params=["psycopg", "psycopg async", "asyncpg"])
def driven(request: pytest.FixtureRequest, books: Schema) -> Callable[[Script], int]:
    """Runs a script by `run` or `run_async`, with connections of its own."""

    async def by_psycopg(script: Script) -> int:
        return await retry.run_async(lambda: psycopg.AsyncConnection.connect(dsn(books)), script.coroutine)

    async def by_asyncpg(script: Script) -> int:
        parts = {**books.server.url_parts, "server_settings": {"search_path": books.name}}
        return await retry.run_async(lambda: asyncpg.connect(**parts), script.coroutine)

    if request.param == "psycopg":
        return lambda script: retry.run(lambda: psycopg.connect(dsn(books)), script.sync)
    by = by_asyncpg if request.param == "asyncpg" else by_psycopg
    return lambda script: asyncio.run(by(script))


def test_repeated_until_it_succeeds(books: Schema, driven: Callable[[Script], int]) -> None:
    script = Script(*REPEATED, None)
    assert driven(script) == len(REPEATED) + 1
    assert total(books) == (100 * ACCOUNTS + 1, 1)


@pytest.mark.parametrize("state", NOT_REPEATED)
def test_not_repeated(books: Schema, driven: Callable[[Script], int], state: str) -> None:
    script = Script(state, None)
    with pytest.raises(Exception, match="as told") as caught:
        driven(script)
    assert getattr(caught.value, "sqlstate", None) == state
    assert (script.count, total(books)[1]) == (1, 0)


def test_it_ends_after_so_many_attempts(books: Schema) -> None:
    script = Script("40001")
    with pytest.raises(psycopg.errors.SerializationFailure) as caught:
        retry.replayed(lambda: psycopg.connect(dsn(books)), attempts=3)(script.sync)()
    assert script.count == 3
    assert caught.value.__notes__ == ["hanse.retry gave up after 3 attempts"]
    assert RETRY_ATTEMPTS_MAX > 3


def test_an_open_connection_is_used_as_long_as_it_lives(books: Schema) -> None:
    script = Script("40001", "08006", None)
    with psycopg.connect(dsn(books)) as connection:
        assert retry.run(connection, script.sync) == 3
        connection.execute("SELECT 1")
        with pytest.raises(ValueError, match="in a transaction already"):
            retry.run(connection, script.sync)
        connection.rollback()

        def lost(connection: psycopg.Connection[Any]) -> None:
            connection.close()
            connection.execute("SELECT 1")

        with pytest.raises(psycopg.OperationalError):
            retry.run(connection, lost)
    with pytest.raises(TypeError, match="not a connection"):
        retry.run(dsn(books), script.sync)


def test_psycopgs_rollback_reaches_the_caller(books: Schema) -> None:
    def give_up(connection: psycopg.Connection[Any]) -> None:
        connection.execute("UPDATE accounts SET balance = 0")
        raise psycopg.Rollback

    with pytest.raises(psycopg.Rollback):
        retry.run(lambda: psycopg.connect(dsn(books)), give_up)
    assert total(books)[1] == 0


# --- connections that end ----------------------------------------------------------------------------------------------


class Cut:
    """A way to the gateway that breaks when the client says `word`, so many times; then it holds."""

    def __init__(self, host: str, port: int, word: bytes, times: int) -> None:
        self.goal, self.word, self.times = (host, port), word, times
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.threads: list[threading.Thread] = []
        self._begin(self._accept)

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.goal)
            self._begin(self._carry, client, server, True)
            self._begin(self._carry, server, client, False)

    def _carry(self, source: socket.socket, goal: socket.socket, watched: bool) -> None:
        with source, goal:
            while True:
                try:
                    data = source.recv(65536)
                    if watched and self.word in data and self.times > 0:
                        self.times -= 1
                        data = b""
                    if not data:
                        for each in (source, goal):
                            each.shutdown(socket.SHUT_RDWR)
                        return
                    goal.sendall(data)
                except OSError:
                    return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)


@pytest.fixture
def cut(books: Schema) -> Iterator[Callable[[bytes, int], Cut]]:
    made: list[Cut] = []

    def make(word: bytes, times: int) -> Cut:
        made.append(Cut(books.server.host, books.server.port, word, times))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg async", "asyncpg"])
def test_a_connection_that_ends_before_commit(books: Schema, cut: Callable[[bytes, int], Cut], driver: str) -> None:
    """Twice in the function's second statement: nothing was committed, and the third attempt succeeds."""
    way = cut(b"id = 2", 2)
    assert _through(books, way, driver) == 3
    assert total(books) == (100 * ACCOUNTS, 2)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg async", "asyncpg"])
def test_a_connection_that_ends_in_commit(books: Schema, cut: Callable[[bytes, int], Cut], driver: str) -> None:
    way = cut(b"COMMIT", 1)
    with pytest.raises((psycopg.OperationalError, asyncpg.PostgresConnectionError, OSError)):
        _through(books, way, driver)
    assert way.times == 0
    assert total(books)[0] == 100 * ACCOUNTS


def _through(books: Schema, way: Cut, driver: str) -> int:
    """A transfer by this way; after how many attempts it succeeded. At the second failure it fails the test."""
    count = 0
    statements = ("SET balance = balance - 1 WHERE id = 1", "SET balance = balance + 1 WHERE id = 2")

    def sync(connection: psycopg.Connection[Any]) -> int:
        nonlocal count
        count += 1
        assert count == 1 or way.word != b"COMMIT", "repeated though it may be committed"
        for statement in statements:
            connection.execute(f"UPDATE accounts {statement}")  # type: ignore[call-overload]
        return count

    async def coroutine(connection: Any) -> int:
        nonlocal count
        count += 1
        assert count == 1 or way.word != b"COMMIT", "repeated though it may be committed"
        for statement in statements:
            await connection.execute(f"UPDATE accounts {statement}")
        return count

    by_way = dsn(books, port=way.port, sslmode="disable")
    if driver == "psycopg":
        return retry.run(lambda: psycopg.connect(by_way), sync)
    if driver == "psycopg async":
        return asyncio.run(retry.run_async(lambda: psycopg.AsyncConnection.connect(by_way), coroutine))
    parts = {**books.server.url_parts, "port": way.port, "ssl": False, "server_settings": {"search_path": books.name}}
    return asyncio.run(retry.run_async(lambda: asyncpg.connect(**parts), coroutine))


def test_the_guides_example_runs(books: Schema) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guide" / "transactions.md"
    (example,) = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    exec(example, {"dsn": dsn(books)})
    assert total(books) == (100 * ACCOUNTS, 200)


def test_a_server_that_is_not_there_is_told_at_once(books: Schema, cut: Callable[[bytes, int], Cut]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    count = 0

    def connect() -> psycopg.Connection[Any]:
        nonlocal count
        count += 1
        return psycopg.connect(dsn(books, port=port))

    with pytest.raises(psycopg.OperationalError):
        retry.run(connect, lambda connection: None)
    assert count == 1
