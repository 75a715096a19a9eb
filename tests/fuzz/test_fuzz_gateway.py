"""A running gateway against streams that no client should send.

While clients misbehave, others work: each of their answers is checked, so a byte that goes to the wrong client is seen.
Afterwards the gateway is the same process, has logged nothing that it calls unexpected, has not grown, and has its
connections back. HANSE_FUZZ_SEED repeats one seed, HANSE_FUZZ_STREAMS makes a run longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import asyncpg
import psutil
import psycopg
import pytest

from fuzz.conversation import Conversation, marker_query, summary
from fuzz.streams import Streams, startup_packets
from hanse.pgwire.framing import Message
from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster, Server

MEGABYTE = 1 << 20
GROWTH_MAX = 64 * MEGABYTE
COMPARED = int(os.environ.get("HANSE_FUZZ_STREAMS", "80"))
THROWN = int(os.environ.get("HANSE_FUZZ_STREAMS", "240"))
AT_ONCE = 8
UNCOMPARED = frozenset(b"Fp")  # FunctionCall is refused by Hanse, and PasswordMessage is nothing after a login


@dataclass(frozen=True)
class Worker:
    """A gateway's process and its log."""

    process: psutil.Process
    log: str

    @property
    def bytes_used(self) -> int:
        return int(self.process.memory_info().rss)

    @contextlib.contextmanager
    def peak(self) -> Iterator[Peak]:
        """Of its memory, while the block runs."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")
        found, before = Peak(), self.bytes_used
        yield found
        with open(f"/proc/{self.process.pid}/status") as file:
            (kilobytes,) = (int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        found.grown = kilobytes * 1024 - before


@dataclass
class Peak:
    grown: int = 0  # bytes


def worker_of(cluster: Cluster) -> Worker:
    """The worker behind `cluster.server`."""
    port = cluster.server.port
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "gateway-worker" in process.cmdline() and str(cluster.data_directory) in " ".join(process.cmdline()):
                if any(each.laddr.port == port for each in process.net_connections("tcp")):
                    return Worker(process, process_log(cluster))
    raise AssertionError("no gateway worker")


def process_log(cluster: Cluster) -> str:
    return "".join(path.read_text() for path in sorted(cluster.data_directory.rglob("gateway-*.log")))


@pytest.fixture
def gateway(cluster: Cluster, cluster_schema: Schema) -> Iterator[Schema]:
    """A schema behind the gateway, which must be as well after the test as it was before."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE fuzz_t (id int PRIMARY KEY, v text)")
        connection.execute("SELECT create_distributed_table('fuzz_t', 'id')")
    before = worker_of(cluster)
    yield cluster_schema
    assert before.process.is_running() and worker_of(cluster).process.pid == before.process.pid
    new = process_log(cluster)[len(before.log) :]
    assert "unexpected error" not in new and "Traceback" not in new, new[:4000]
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.fixture
def plain(plain_schema: Schema) -> Schema:
    with plain_schema.connect() as connection:
        connection.execute("CREATE TABLE fuzz_t (id int PRIMARY KEY, v text)")
    return plain_schema


def seeds(count: int) -> list[int]:
    given = os.environ.get("HANSE_FUZZ_SEED")
    return [int(given)] if given else list(range(count))


async def answered(place: Schema, data: bytes, seed: int) -> list[Message]:
    conversation = await Conversation.opened(place)
    try:
        marker = b"mark%d" % seed
        conversation.send(data + marker_query(marker))
        return await conversation.answer(marker)
    finally:
        await conversation.close()


async def test_reacts_as_postgresql(gateway: Schema, plain: Schema) -> None:
    """The same messages, each with its length right, give the same errors, tags and states."""
    for seed in seeds(COMPARED):
        messages = [message for message in Streams(seed).stream(framed=True) if message[0] not in UNCOMPARED]
        data = b"".join(messages)
        expected = summary(await answered(plain, data, seed))
        assert summary(await answered(gateway, data, seed)) == expected, f"HANSE_FUZZ_SEED={seed}"


async def test_survives(gateway: Schema, cluster: Cluster) -> None:
    worker = worker_of(cluster)
    ended = asyncio.Event()
    witnesses = [asyncio.create_task(work_well(gateway, number, ended)) for number in range(3)]
    waiting = iter(seeds(THROWN))
    try:
        await throw_all(gateway, iter(seeds(THROWN // 6)))  # what a worker needs once it has after these
        used = worker.bytes_used
        await asyncio.gather(*(throw_all(gateway, waiting) for _ in range(AT_ONCE)))
    finally:
        ended.set()
        done = await asyncio.gather(*witnesses)
    assert min(done) > 10
    grown = worker.bytes_used - used
    assert grown < GROWTH_MAX, f"{grown >> 20} MiB"
    wait_until("clients are gone", lambda: len(worker.process.net_connections("tcp")) < 150)


async def work_well(place: Schema, number: int, ended: asyncio.Event) -> int:
    """A client that gets exactly its own answers, as long as others misbehave. A login must be possible at any time."""
    count = 0
    while not ended.is_set():
        settings = {"search_path": place.name}
        connection = await asyncpg.connect(**place.server.url_parts, server_settings=settings, timeout=15)
        for _ in range(20):
            count += 1
            mark = f"client {number} question {count}"
            assert await connection.fetchval("SELECT $1::text", mark, timeout=15) == mark
            assert await connection.fetchval(f"SELECT '{mark}' FROM fuzz_t WHERE id = -1", timeout=15) is None
        await connection.close()
    return count


async def throw_all(place: Schema, waiting: Iterator[int]) -> None:
    for seed in waiting:
        try:
            await asyncio.wait_for(throw(place, seed), 30)
        except TimeoutError:
            pytest.fail(f"no end within 30 s: HANSE_FUZZ_SEED={seed}")


async def throw(place: Schema, seed: int) -> None:
    """One connection's misbehaviour, and how it leaves: politely, at once, by half, or without having read."""
    source = random.Random(seed)
    if seed % 4 == 0:
        await throw_before_login(place.server, source)
        return
    streams = Streams(seed)
    conversation = await Conversation.opened(place)
    for _ in range(source.randrange(1, 6)):
        for piece in streams.cut(b"".join(streams.stream())):
            conversation.send(piece)
            if source.random() < 0.3:
                await asyncio.sleep(0)
    leaving = source.randrange(3)
    if leaving == 0 and not conversation.writer.transport.is_closing():
        with contextlib.suppress(OSError):
            conversation.writer.write_eof()
    if leaving < 2:
        with contextlib.suppress(TimeoutError, ConnectionError):
            await conversation.answer(b"never", patience_s=0.05)
    await conversation.close()


async def throw_before_login(server: Server, source: random.Random) -> None:
    for _ in range(8):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        with contextlib.suppress(ConnectionError):
            writer.write(b"".join(startup_packets(source) for _ in range(source.randrange(1, 3))))
            await writer.drain()
            if source.random() < 0.5:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(4096), 0.05)
        writer.transport.abort()
