"""The pool: ready backends first, a cap over all users, a queue that forgets nobody."""

from __future__ import annotations

import asyncio

import pytest

from hanse.core import limits
from hanse.core.errors import PgError
from hanse.engines.postgres import pool as pool_module
from hanse.engines.postgres.backend import Backend
from hanse.engines.postgres.pool import Pool


class Server:
    def __init__(self) -> None:
        self.made: list[Backend] = []
        self.fail: PgError | None = None

    async def connect(self, place: str, user: str, database: str, credentials: object) -> Backend:
        if self.fail is not None:
            raise self.fail
        backend = FakeBackend(place, user, database)
        self.made.append(backend)
        return backend


class FakeBackend(Backend):
    def close(self) -> None:
        if not self.closed:
            self.connection_lost(None)


STATE, OTHER = object(), object()


async def acquired(pool: Pool, user: str = "u", state: object = STATE) -> Backend:
    backend = await pool.acquire(user, "d", state, None)
    backend.state = state
    return backend


async def test_a_backend_in_the_right_state_is_preferred() -> None:
    pool = Pool("g1", Server().connect)
    first, second = await acquired(pool), await acquired(pool, state=OTHER)
    pool.release(first)
    pool.release(second)
    assert pool.take("u", "d", OTHER) is second
    assert pool.take("u", "d", OTHER) is None
    assert await pool.acquire("u", "d", OTHER, None) is first


async def test_users_do_not_share_backends() -> None:
    pool = Pool("g1", Server().connect)
    mine = await acquired(pool)
    pool.release(mine)
    assert pool.take("v", "d", STATE) is None
    assert await acquired(pool, user="v") is not mine


async def test_at_the_cap_an_idle_backend_of_another_user_makes_room() -> None:
    pool = Pool("g1", Server().connect, size_max=1)
    mine = await acquired(pool)
    pool.release(mine)
    theirs = await acquired(pool, user="v")
    assert mine.closed
    assert pool.size == 1
    assert not theirs.closed


async def test_who_waits_gets_what_is_released_in_order() -> None:
    pool = Pool("g1", Server().connect, size_max=1)
    busy = await acquired(pool)
    waiting = [asyncio.ensure_future(pool.acquire("u", "d", STATE, None)) for _ in range(2)]
    await asyncio.sleep(0)
    pool.release(busy)
    assert await waiting[0] is busy
    assert not waiting[1].done()
    pool.release(busy)
    assert await waiting[1] is busy


async def test_a_lost_backend_makes_room_for_who_waits() -> None:
    server = Server()
    pool = Pool("g1", server.connect, size_max=1)
    busy = await acquired(pool)
    waiting = asyncio.ensure_future(pool.acquire("v", "d", STATE, None))
    await asyncio.sleep(0)
    busy.close()
    assert (await waiting).user == "v"
    assert pool.size == 1


async def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "BACKEND_WAIT_S_MAX", 0.01)
    pool = Pool("g1", Server().connect, size_max=1)
    await acquired(pool)
    with pytest.raises(PgError) as caught:
        await pool.acquire("u", "d", STATE, None)
    assert caught.value.sqlstate == "53300"
    assert limits.BACKEND_WAIT_S_MAX > 1


async def test_a_failed_login_leaves_room() -> None:
    server = Server()
    server.fail = PgError("28P01", "no")
    pool = Pool("g1", server.connect, size_max=1)
    with pytest.raises(PgError):
        await pool.acquire("u", "d", STATE, None)
    assert pool.size == 0


async def test_a_retired_place_uses_no_old_backend() -> None:
    pool = Pool("g1", Server().connect)
    busy, idle = await acquired(pool), await acquired(pool)
    pool.release(idle)
    pool.retire()
    assert idle.closed
    pool.release(busy)
    assert busy.closed
    assert pool.size == 0


async def test_a_users_backends_are_retired_busy_ones_too() -> None:
    pool = Pool("g1", Server().connect)
    idle, busy, other = await acquired(pool), await acquired(pool), await acquired(pool, user="v")
    pool.release(idle)
    pool.retire_user("u")
    assert idle.closed and not busy.closed
    pool.release(busy)
    pool.release(other)
    assert busy.closed and not other.closed
    fresh = await acquired(pool)
    pool.release(fresh)
    assert await acquired(pool) is fresh and pool.size == 2


async def test_a_backend_that_was_being_made_for_a_retired_user_is_used_once() -> None:
    server = Server()

    async def slow(place: str, user: str, database: str, credentials: object) -> Backend:
        pool.retire_user(user)
        return await server.connect(place, user, database, credentials)

    pool = Pool("g1", slow)
    backend = await acquired(pool)
    pool.release(backend)
    assert backend.closed


async def test_a_backend_in_the_middle_of_an_answer_serves_nobody_else() -> None:
    """Its client went away: the rest of his answer must not be the beginning of another's."""
    pool = Pool("g1", Server().connect)
    backend = await acquired(pool)
    backend.answering = True
    pool.release(backend)
    assert backend.closed and pool.take("u", "d", STATE) is None


async def test_nobody_gets_a_backend_that_a_cancel_is_under_way_to() -> None:
    """The signal could hit his statement (findings-gateway 24)."""
    pool = Pool("g1", Server().connect)
    mine = await acquired(pool)
    mine.cancelling = asyncio.get_running_loop().create_future()
    pool.release(mine)
    assert pool.take("u", "d", STATE) is None
    assert await acquired(pool) is not mine
    mine.cancelling.set_result(None)
    await asyncio.sleep(0)
    assert pool.take("u", "d", STATE) is mine
