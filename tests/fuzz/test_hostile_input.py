"""Input that is meant to break: statements too deep or too long, floods of connections, clients that send and never read."""

from __future__ import annotations

import asyncio
import contextlib
import os
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

CONNECTIONS = int(os.environ.get("HANSE_FUZZ_CONNECTIONS", "400"))
CONNECTIONS_AT_ONCE = 40

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
    "statements": ";".join(f"SELECT {number}" for number in range(10_000)),
    "not utf-8": "SELECT '\udcff'",
    "columns": "SELECT " + ",".join(["1"] * 2_000),
    "a value that is too long": "SELECT repeat('x', 1073741824)",
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


PARAMETERS = {
    "most": (
        "SELECT num_nulls(" + ",".join(f"${n}::int" for n in range(1, 65_536)) + ")",
        65_535,
    ),
    "one too many": ("SELECT $65536::int", 0),
    "one million": ("SELECT $1000000::int", 0),
    "too few": ("SELECT $1::int, $2::int", 1),
}


@pytest.mark.parametrize("name", PARAMETERS)
async def test_parameters(name: str, gateway: Schema, plain: Schema) -> None:
    text, count = PARAMETERS[name]
    seen = []
    for place in (gateway, plain):
        conversation = await Conversation.opened(place)
        values = [b"%d" % number for number in range(count)]
        conversation.send(frontend.parse(b"", text.encode()) + frontend.bind(b"", b"", values) + frontend.execute())
        conversation.send(frontend.sync() + frontend.query(b"SELECT 'over'"))
        messages = await conversation.answer(b"over", patience_s=60)
        rows = [message.raw for message in messages if message.kind == ord("D")]
        seen.append((summary(messages), rows))
        await conversation.close()
    assert seen[0] == seen[1]


async def test_connections_that_come_and_go(gateway: Schema, cluster: Cluster) -> None:
    """Of clients who log in, who say half a startup packet, who never answer the server's question, who send no password."""
    worker = worker_of(cluster)
    server = cluster.server
    come = (_logs_in, _says_half, _says_nothing_more, _says_nothing)
    await asyncio.gather(*(each(gateway) for each in come))
    used, files = worker.bytes_used, worker.process.num_fds()
    for first in range(0, CONNECTIONS, CONNECTIONS_AT_ONCE):
        await asyncio.gather(
            *(come[number % len(come)](gateway) for number in range(first, first + CONNECTIONS_AT_ONCE))
        )
    wait_until("all are gone", lambda: worker.process.num_fds() < files + 50, timeout_s=30)
    assert worker.bytes_used - used < 20 * MEGABYTE
    assert logs_in(server)


async def _logs_in(place: Schema) -> None:
    conversation = await Conversation.opened(place)
    await conversation.close()


async def _says_half(place: Schema) -> None:
    await _says(place, frontend.startup({"user": place.server.user, "database": place.server.database})[:20])


async def _says_nothing_more(place: Schema) -> None:
    await _says(place, frontend.startup({"user": place.server.user, "database": place.server.database}), answered=True)


async def _says_nothing(place: Schema) -> None:
    await _says(place, b"")


async def _says(place: Schema, data: bytes, *, answered: bool = False) -> None:
    reader, writer = await asyncio.open_connection(place.server.host, place.server.port)
    writer.write(data)
    await writer.drain()
    if answered:
        assert (await asyncio.wait_for(reader.read(1), 20)) == b"R"
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


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
