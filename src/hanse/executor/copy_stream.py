"""COPY between a client, the groups and the workspace: the byte streams, without knowing what is in them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..core.errors import PgError
from ..engines.postgres.backend import Backend, split_messages
from ..pgwire import frontend
from ..pgwire.diagnostics import parse_error
from .copy_binary import HEADER, TRAILER
from .request import COPY_DATA, COPY_IN, COPY_OUT, ERROR, READY, ROWS

COPY_CHUNK_BYTES = 1 << 18


async def start_copy_in(backend: Backend, sql: str) -> bytes:
    """Sends COPY … FROM STDIN and waits until the server wants data; gives its CopyInResponse."""
    backend.write(frontend.query(sql.encode()))
    return await _expect(backend, COPY_IN)


async def _expect(backend: Backend, wanted: int) -> bytes:
    failure: PgError | None = None
    while True:
        kind, raw = await backend.next()
        if kind == wanted:
            return raw
        if kind == ERROR:
            failure = parse_error(raw)
        elif kind == READY:
            raise failure or PgError("XX000", "COPY was answered with something else")


async def send_copy_data(backend: Backend, data: bytes) -> None:
    """One or more CopyData messages; waits while the server does not keep up."""
    for start in range(0, len(data), COPY_CHUNK_BYTES):
        backend.write(frontend.copy_data(data[start : start + COPY_CHUNK_BYTES]))
        await backend.drain()


async def finish_copy_in(backend: Backend) -> int:
    """Ends the data; gives the number of rows, raises the server's error."""
    backend.write(frontend.copy_done())
    return await end_copy(backend)


async def end_copy(backend: Backend) -> int:
    count = 0
    async for kind, raw in backend.answers():
        if kind == ord("C"):
            last = raw[5:-1].rpartition(b" ")[2]
            count = int(last) if last.isdigit() else 0
    return count


async def start_copy_out(backend: Backend, sql: str) -> bytes:
    """Sends COPY … TO STDOUT; gives the CopyOutResponse."""
    begin_copy_out(backend, sql)
    return await copy_out_begun(backend)


def begin_copy_out(backend: Backend, sql: str) -> None:
    backend.write(frontend.query(sql.encode()))


async def copy_out_begun(backend: Backend) -> bytes:
    """After `begin_copy_out`: the CopyOutResponse."""
    return await _expect(backend, COPY_OUT)


async def copy_out_pieces(backend: Backend, counts: list[int] | None = None) -> AsyncIterator[bytes]:
    """After `start_copy_out`: whole CopyData messages, several at a time, to the end. Raises the server's error.

    The number of rows is appended to `counts`.
    """
    async for kind, raw in backend.answers():
        if kind == COPY_DATA:
            yield raw
        elif kind == ord("C") and counts is not None:
            counts.append(int(raw[5:-1].rpartition(b" ")[2]))


async def binary_copy(backend: Backend) -> AsyncIterator[bytes]:
    """After COPY … TO STDOUT (FORMAT binary) was sent: its stream, in chunks. Raises the server's error."""
    async for messages in copy_out_pieces(backend):
        yield _payload(messages)


async def binary_rows(backend: Backend) -> AsyncIterator[bytes]:
    """After a query for binary rows was sent: the same stream as of its COPY. Raises the server's error.

    A DataRow message carries what a tuple of binary COPY is: the number of fields, then each with its length.
    """
    yield HEADER
    async for kind, raw in backend.answers():
        if kind == ROWS:
            yield _payload(raw)
    yield TRAILER


def _payload(messages: bytes) -> bytes:
    """What CopyData or DataRow messages carry, without their headers."""
    return b"".join(message[5:] for message in split_messages(messages))
