"""Input that is meant to break: statements too deep or too long, floods of connections, clients that send and never read."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import psycopg
import pytest

from fuzz.conversation import Conversation, summary
from fuzz.test_fuzz_gateway import MEGABYTE, gateway, plain, worker_of
from hanse.pgwire import frontend
from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster, Server

__all__ = ["gateway", "plain"]  # the fixtures

STATEMENTS = {
    "parentheses": "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "too many parentheses": "SELECT " + "(" * 10_000 + "1" + ")" * 10_000,
    "operators": "SELECT 1" + "+1" * 1_000,
    "too many operators": "SELECT 1" + "+1" * 20_000,
    "enough operators to kill": "SELECT 1" + "+1" * 200_000,
    "unions": " UNION ALL ".join(["SELECT 1"] * 2_000),
    "too many unions": " UNION ALL ".join(["SELECT 1"] * 40_000),
    "calls": "SELECT " + "abs(" * 1_000 + "1" + ")" * 1_000,
    "in": "SELECT count(*) FROM fuzz_t WHERE id IN (" + ",".join(map(str, range(20_000))) + ")",
    "statements": ";".join(f"SELECT {number}" for number in range(3_000)),
    "not utf-8": "SELECT '\udcff'",
    "columns": "SELECT " + ",".join(["1"] * 2_000),
}


def outcome(place: Schema, statement: bytes) -> object:
    with place.connect() as connection:
        try:
            return connection.execute(statement).rowcount
        except psycopg.Error as error:
            return error.sqlstate


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements(name: str, gateway: Schema, plain: Schema) -> None:
    statement = STATEMENTS[name].encode(errors="surrogateescape")
    assert outcome(gateway, statement) == outcome(plain, statement)


async def test_a_pipeline_without_sync_is_not_collected(gateway: Schema, cluster: Cluster) -> None:
    worker = worker_of(cluster)
    conversation = await Conversation.opened(gateway)
    used = worker.bytes_used
    value = b"x" * 100_000
    conversation.send(frontend.parse(b"s", b"SELECT length($1::text)"))
    for _ in range(1_000):  # 100 MB
        conversation.send(frontend.bind(b"", b"s", [value]) + frontend.execute())
        await conversation.writer.drain()
    conversation.send(frontend.sync() + frontend.query(b"SELECT 'over'"))
    answers = summary(await conversation.answer(b"over"))
    await conversation.close()
    assert answers.count(r"C b'SELECT 1\x00'") == 1_001
    assert worker.bytes_used - used < 40 * MEGABYTE


async def test_who_does_not_read_his_answers_is_not_read(gateway: Schema, cluster: Cluster) -> None:
    """Cheap questions without end, none of whose answers is taken: the client is stopped, not the gateway filled."""
    worker = worker_of(cluster)
    conversation = await Conversation.opened(gateway)
    used = worker.bytes_used
    conversation.reader._transport.pause_reading()  # type: ignore[attr-defined]
    question = frontend.query(b"SELEC") * 1_000
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 64 * MEGABYTE:
            conversation.send(question)
            sent += len(question)
            await asyncio.wait_for(conversation.writer.drain(), 1.0)
    assert sent < 64 * MEGABYTE
    assert worker.bytes_used - used < 40 * MEGABYTE
    await conversation.close()


async def test_a_backend_whose_client_was_slow_serves_the_next(gateway: Schema) -> None:
    """A large answer that fills the client's socket pauses its backend; the next owner must hear it."""
    for _ in range(3):
        slow = await Conversation.opened(gateway)
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
        slow.send(frontend.query(b"SELECT repeat('x', 1000) FROM generate_series(1, 20000)"))
        await asyncio.sleep(0.2)
        slow.reader._transport.resume_reading()  # type: ignore[attr-defined]
        slow.send(frontend.query(b"SELECT 'over'"))
        assert summary(await slow.answer(b"over"))[-1] == "Z b'I'"
        await slow.close()


async def test_a_flood_of_connections_that_say_nothing(gateway: Schema, cluster: Cluster) -> None:
    """More than may stand in the doorway: who has waited long goes, a client who logs in comes in."""
    worker = worker_of(cluster)
    silent: list[socket.socket] = []
    try:
        for _ in range(1_100):
            silent.append(socket.create_connection((cluster.server.host, cluster.server.port)))
            silent[-1].sendall(b"\0\0\0")  # the beginning of a startup packet
        wait_until("a client gets in", lambda: logs_in(cluster.server), timeout_s=15)
    finally:
        for each in silent:
            each.close()
    wait_until("they are gone", lambda: len(worker.process.net_connections("tcp")) < 200)


def logs_in(server: Server) -> bool:
    try:
        with psycopg.connect(server.dsn, autocommit=True, connect_timeout=10) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_wrong_passwords(gateway: Schema, cluster: Cluster) -> None:
    for _ in range(100):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(cluster.server.dsn_for(password="wrong"))
    assert logs_in(cluster.server)
