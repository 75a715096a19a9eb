"""Transactions that are repeated when the cluster asks for it: for programs that use psycopg or asyncpg.

A transaction over several servers can fail without anybody's fault: two of them wait for each other (40P01), another came first
(40001), a server is started again. Then the *whole* function that made it has to run again, with all its reads::

    from hanse import retry

    @retry.replayed(lambda: psycopg.connect(dsn))        # or pool.connection, or an open connection
    def transfer(connection, low, high, amount):
        connection.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", (amount, low))
        connection.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (amount, high))

    transfer(1, 2, 100)

The function is given a connection in a transaction, which is committed when it returns and rolled back when it raises. It must
let the driver's errors through, and what it does outside the database is done once for each attempt.

*What is repeated.* 40001 and 40P01 always: the server says that nothing was committed. A lost connection or server (class 08,
57P01 to 57P03, or no SQLSTATE at all) only while the function runs: it cannot have been committed, for COMMIT was not sent. When it
is lost at COMMIT, and the cluster cannot tell either, nobody knows, and the error is the caller's, who has to look; so is 08007,
in which the cluster says so itself.
After the last attempt the last error is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from .core.limits import RETRY_ATTEMPTS_MAX, RETRY_PAUSE_S_MAX, RETRY_PAUSE_S_MIN

P = ParamSpec("P")
T = TypeVar("T")
Connection = Any  # psycopg.Connection, psycopg.AsyncConnection or asyncpg.Connection: none of them is needed here
# An open connection, or what gives one: `lambda: psycopg.connect(dsn)`, `lambda: asyncpg.connect(dsn)`, a pool's
# `connection` or `acquire`.
Source = Any

_ROLLED_BACK = frozenset(("40001", "40P01"))
_STOPPED = frozenset(("57P01", "57P02", "57P03"))
_DRIVERS = frozenset(("psycopg", "asyncpg"))


def run(source: Source, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(connection, …)` in a transaction of psycopg, repeated as the module says."""
    return _run(_Attempts(RETRY_ATTEMPTS_MAX), source, _bound(work, *args, **kwargs))


async def run_async(
    source: Source, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The same for `async def work`, with psycopg's AsyncConnection or asyncpg."""
    return await _run_async(_Attempts(RETRY_ATTEMPTS_MAX), source, _bound(work, *args, **kwargs))


def replayed(
    source: Source, *, attempts: int = RETRY_ATTEMPTS_MAX
) -> Callable[[Callable[Concatenate[Connection, P], T]], Callable[P, T]]:
    """A decorator: the function is called without its connection, and runs as by `run` or, `async def`, by `run_async`."""

    def decorate(work: Callable[Concatenate[Connection, P], T]) -> Callable[P, T]:
        if inspect.iscoroutinefunction(work):

            @functools.wraps(work)
            async def replay_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await _run_async(_Attempts(attempts), source, _bound(work, *args, **kwargs))

            return cast(Callable[P, T], replay_async)

        @functools.wraps(work)
        def replay(*args: P.args, **kwargs: P.kwargs) -> T:
            return _run(_Attempts(attempts), source, _bound(work, *args, **kwargs))

        return replay

    return decorate


def _bound(work: Callable[..., T], *args: Any, **kwargs: Any) -> Callable[[Connection], T]:
    return lambda connection: work(connection, *args, **kwargs)


# --- decisions -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Attempts:
    """One call: how often it was tried, and what is known of the attempt under way."""

    most: int
    count: int = 0
    connection: Connection = None  # None: there is none yet
    failure: Exception | None = None  # of the function itself; a rollback after it may fail in its own way
    committing: bool = False

    def begin(self, connection: Connection) -> None:
        if _in_transaction(connection):
            raise ValueError("the connection is in a transaction already, which cannot be repeated from here")
        self.connection = connection

    def pause(self, error: Exception, *, reconnects: bool) -> float:
        """Seconds to wait before the next attempt. Raises the error where there is none."""
        error = self.failure or error
        self.count += 1
        first = self.connection is None and self.count == 1  # it cannot connect at all: a mistake in the DSN
        if first or not self._repeats(error, reconnects=reconnects):
            raise error
        if self.count >= self.most:
            error.add_note(f"hanse.retry gave up after {self.count} attempts")
            raise error
        self.connection, self.failure, self.committing = None, None, False
        longest = min(RETRY_PAUSE_S_MIN * 2.0**self.count, RETRY_PAUSE_S_MAX)
        return random.uniform(longest / 2, longest)  # so that those who met do not meet again

    def _repeats(self, error: Exception, *, reconnects: bool) -> bool:
        sqlstate = getattr(error, "sqlstate", None) or ""
        if sqlstate in _ROLLED_BACK:
            return True
        if self.committing or sqlstate == "08007":
            return False
        lost = _is_drivers(error) and not sqlstate and (self.connection is None or _is_closed(self.connection))
        away = lost or sqlstate.startswith("08") or sqlstate in _STOPPED
        return away and (reconnects or not _is_closed(self.connection))


def _is_drivers(error: Exception) -> bool:
    return isinstance(error, OSError) or any(each.__module__.split(".")[0] in _DRIVERS for each in type(error).__mro__)


def _is_closed(connection: Connection) -> bool:
    closed = getattr(connection, "is_closed", None)  # asyncpg
    return bool(connection.closed if closed is None else closed())


def _in_transaction(connection: Connection) -> bool:
    asked = getattr(connection, "is_in_transaction", None)  # asyncpg
    return bool(connection.info.transaction_status != 0 if asked is None else asked())  # 0: PQTRANS_IDLE


def _is_connection(source: Source) -> bool:
    if not callable(source) and not hasattr(source, "transaction"):
        raise TypeError("not a connection, nor a function that gives one (of a pool: its method)")
    return not callable(source)


# --- the two drivers -------------------------------------------------------------------------------------------------


def _run(attempts: _Attempts, source: Source, work: Callable[[Connection], T]) -> T:
    given = _is_connection(source)
    while True:
        try:
            with contextlib.nullcontext(source) if given else source() as connection:
                attempts.begin(connection)
                with connection.transaction(), _noting(attempts):
                    result = work(connection)
                    attempts.committing = True
            if attempts.failure is not None:  # psycopg.Rollback, which ends there
                raise attempts.failure
            return result
        except Exception as error:
            pause_s = attempts.pause(error, reconnects=not given)
        time.sleep(pause_s)


async def _run_async(attempts: _Attempts, source: Source, work: Callable[[Connection], Awaitable[T]]) -> T:
    given = _is_connection(source)
    while True:
        try:
            async with contextlib.nullcontext(source) if given else _opened(source()) as connection:
                attempts.begin(connection)
                async with connection.transaction():
                    with _noting(attempts):
                        result = await work(connection)
                        attempts.committing = True
            if attempts.failure is not None:  # psycopg.Rollback, which ends there
                raise attempts.failure
            return result
        except Exception as error:
            pause_s = attempts.pause(error, reconnects=not given)
        await asyncio.sleep(pause_s)


@contextlib.contextmanager
def _noting(attempts: _Attempts) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        attempts.failure = error
        raise


@contextlib.asynccontextmanager
async def _opened(opening: Any) -> AsyncIterator[Connection]:
    """Of a pool a context; of `connect()` an awaitable, whose connection is ours to close."""
    if hasattr(opening, "__aenter__"):
        async with opening as connection:
            yield connection
        return
    connection = await opening
    try:
        yield connection
    finally:
        await connection.close()
