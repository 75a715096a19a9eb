"""Servers that send nonsense: truncated, reordered, repeated, flipped bytes, more than was asked for, or that die in a row.

A scripted server speaks just enough of the protocol for a login and answers each statement with rows that hold its text, spoiled
in a way drawn from a seed. Whatever it does, who asked gets an end (an answer or an error), and the next client never gets
what belongs to the one before. HANSE_FUZZ_SEED repeats one seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import Callable

import pytest

from hanse.core.errors import PgError
from hanse.engines.postgres.backend import Backend
from hanse.engines.postgres.connect import Address, connect_backend
from hanse.engines.postgres.pool import Pool
from hanse.executor.request import Rows, pump
from hanse.pgwire import frontend
from hanse.pgwire.diagnostics import parse_error

SEEDS = 400
END_S_MAX = 20.0
LATE_S = 0.002
LOGIN = b"R\x00\x00\x00\x08\x00\x00\x00\x00K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02Z\x00\x00\x00\x05I"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def answer(text: bytes) -> list[bytes]:
    field = b"c\x00" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)
    row = struct.pack("!hI", 1, len(text)) + text
    return [
        message(b"T", struct.pack("!h", 1) + field),
        *[message(b"D", row)] * 3,
        message(b"C", b"SELECT 3\x00"),
        message(b"Z", b"I"),
    ]


def truncated(parts: list[bytes], dice: random.Random) -> bytes:
    whole = b"".join(parts)
    return whole[: dice.randrange(len(whole))]


def flipped(parts: list[bytes], dice: random.Random) -> bytes:
    whole = bytearray(b"".join(parts))
    for _ in range(dice.randrange(1, 4)):
        whole[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
    return bytes(whole)


def reordered(parts: list[bytes], dice: random.Random) -> bytes:
    return b"".join(dice.sample(parts, len(parts)))


def repeated(parts: list[bytes], dice: random.Random) -> bytes:
    return b"".join(part * dice.randrange(3) for part in parts) + b"".join(parts)


def more_than_asked(parts: list[bytes], dice: random.Random) -> bytes:
    return b"".join(parts) + b"".join(parts[: dice.randrange(1, len(parts) + 1)])


def nonsense(parts: list[bytes], dice: random.Random) -> bytes:
    at = dice.randrange(len(parts) + 1)
    return b"".join([*parts[:at], dice.randbytes(dice.randrange(1, 40)), *parts[at:]])


def spoiled_error(parts: list[bytes], dice: random.Random) -> bytes:
    return message(b"E", dice.randbytes(dice.randrange(12))) + parts[-1]


def huge(parts: list[bytes], dice: random.Random) -> bytes:
    return parts[0] + dice.choice([b"D", b"T", b"E", b"Z"]) + b"\xff\xff\xff\xff" + parts[-1]


SPOILERS: list[Callable[[list[bytes], random.Random], bytes]] = [
    truncated, flipped, reordered, repeated, more_than_asked, nonsense, spoiled_error, huge,
]  # fmt: skip


class Server:
    """Spoils the answer to the first statement; later ones, on this connection or another, are answered well."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.spoil = SPOILERS[seed % len(SPOILERS)]
        self.spoiled = False
        self.said_all = asyncio.Event()  # of the spoiled answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            await reader.readexactly(length - 4)
            writer.write(LOGIN)
            while True:
                kind, length = struct.unpack("!cI", await reader.readexactly(5))
                body = await reader.readexactly(length - 4)
                if kind != b"Q":
                    return
                parts = answer(body[:-1])
                if self.spoiled:
                    writer.write(b"".join(parts))
                    continue
                self.spoiled = True
                said, asked = self.spoil(parts, self.dice), len(b"".join(parts))
                await self._send_spoiled(writer, said[:asked])
                await asyncio.sleep(LATE_S * self.dice.randrange(2))  # too late for who asked, early for the next
                await self._send_spoiled(writer, said[asked:])
                self.said_all.set()
                if self.dice.random() < 0.3 or self.spoil not in (repeated, more_than_asked):
                    return  # it dies; those that say too much may live on
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            if self.spoiled:
                self.said_all.set()

    async def _send_spoiled(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            size = self.dice.choice([1, 7, 50, len(data)])
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            await asyncio.sleep(0)


class Receiver:
    """A client whose answers are relayed to it."""

    def __init__(self) -> None:
        self.data = b""
        self.end = asyncio.get_running_loop().create_future()

    def chunk(self, data: bytes) -> None:
        self.data += data

    def error(self, message: bytes) -> None:
        parse_error(message)
        self.data += message

    def ready(self, backend: Backend, status: int) -> None:
        self.end.set_result("ready")

    def lost(self, backend: Backend) -> None:
        self.end.set_result("lost")


async def pulled(pool: Pool, text: bytes) -> bytes:
    backend = await pool.acquire("u", "d", None, None)
    rows = Rows()
    try:
        backend.write(frontend.query(text))
        await pump(backend, rows)
    except PgError:
        backend.close()
        return b"".join(rows.chunks)
    pool.release(backend)
    return b"".join(rows.chunks)


async def relayed(pool: Pool, text: bytes) -> bytes:
    backend = await pool.acquire("u", "d", None, None)
    receiver = Receiver()
    backend.relay_to(receiver)
    try:
        backend.write(frontend.query(text))
    except PgError:
        return b""
    if await receiver.end == "ready":
        pool.release(backend)
    return receiver.data


def seeds() -> list[int]:
    given = os.environ.get("HANSE_FUZZ_SEED")
    return [int(given)] if given else list(range(SEEDS))


@pytest.mark.parametrize("ask", [pulled, relayed])
async def test_everybody_gets_an_end_and_only_his_own(ask: Callable[[Pool, bytes], asyncio.Future[bytes]]) -> None:
    for seed in seeds():
        script = Server(seed)
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])

        async def connect(place: str, user: str, database: str, credentials: object, to: Address = address) -> Backend:
            return await connect_backend(to, place, user, database, None)

        pool = Pool("g1", connect)
        try:
            async with asyncio.timeout(END_S_MAX):
                first = await ask(pool, b"first %d" % seed)
                assert b"second" not in first, seed
                await script.said_all.wait()
                await asyncio.sleep(2 * LATE_S)  # what came too much has come
                for _ in range(2):
                    second = await ask(pool, b"second %d" % seed)
                    assert b"first" not in second, (seed, script.spoil)
                    assert second.count(b"second") == 3, (seed, script.spoil, second)
        except TimeoutError:
            raise AssertionError(f"seed {seed}, {script.spoil}: no end") from None
        finally:
            pool.close_idle()
            server.close()


async def test_logins_that_make_no_sense() -> None:
    for seed in seeds():
        dice = random.Random(seed)
        parts = [LOGIN[:9], LOGIN[9:22], LOGIN[22:]]
        said = SPOILERS[seed % len(SPOILERS)](parts, dice)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = said) -> None:
            await reader.read(100)
            writer.write(said)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            async with asyncio.timeout(END_S_MAX):
                backend = await connect_backend(address, "g1", "u", "d", None)
                backend.close()  # the login was whole; what came behind it is the next reader's affair
        except PgError:
            pass
        finally:
            server.close()
