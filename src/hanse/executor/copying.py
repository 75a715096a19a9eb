"""COPY: from the client into shards, and between groups (`copying_out` has COPY to the client).

Into a sharded table the client's stream is cut by shard in bulk (`copy_split.py`), one COPY per group, all in one transaction.
Into a reference table every group gets the same bytes. Values that the gateway must supply (sequences, defaults of the
key) are drawn ahead and appended to each row.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ..catalog.ddl.steps import MoveRows
from ..catalog.model import Bound, Column, Kind, Relation, Shard, Snapshot, Strategy
from ..core.errors import PgError, not_supported
from ..core.ids import quote_identifier, quote_literal, quote_qualified
from ..core.limits import LONG_MESSAGE_BYTES, RESULT_MEMORY_BYTES_MAX
from ..engines.postgres.backend import Backend
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..planner.plan import CopyIn, Planned
from .copy_binary import HEADER, TRAILER
from .copy_formats import CopyOptions, copy_context
from .copy_split import Added, AddedRow, CopySplitter, UnroutedRow
from .copy_stream import (
    binary_copy,
    finish_copy_in,
    send_copy_data,
    start_copy_in,
    start_copy_out,
)
from .copy_streams import CopyStreams
from .environment import Environment
from .insert_rows import in_iso
from .request import COPY_IN, Places, Request, Sink

COPY_OUT_SEND_BYTES = 1 << 16
KEYS_ASKED_AT_ONCE = 500

Ask = Callable[[str], Awaitable[list[tuple[str | None, ...]]]]


# --- in ----------------------------------------------------------------------------------------------------------


async def run_in(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, CopyIn)
    relation = request.snapshot.relation_by_identity[plan.relation]
    if relation.kind is Kind.SHARDED and not relation.shards:
        request.snapshot = await environment.make_shards(plan.relation)
        relation = request.snapshot.relation_by_identity[plan.relation]
    await places.begin()
    options = CopyOptions.of(plan.options)
    columns = plan.columns or tuple(column.name for column in relation.columns if not column.generated)
    supply = await _Supply.for_columns(environment, relation, columns, binary=options.format == "binary")
    groups = relation.groups if relation.kind is Kind.SHARDED else request.snapshot.group_names
    names = ", ".join(quote_identifier(name) for name in (*columns, *supply.names))
    sql = f"COPY {quote_qualified(*plan.relation)} ({names}) FROM STDIN {plan.options_sql}"
    splitter = _splitter(options, relation, columns, groups, supply)
    home = request.snapshot.home_group
    streams = CopyStreams(
        [await places.backend(group) for group in groups],
        sql,
        framed=splitter is not None and splitter.binary,
        home=groups.index(home) if home in groups else None,
    )
    environment.write_to_client(_shortened(await streams.start(), len(columns)))
    environment.start_copy_input()
    try:
        await _feed(environment, relation, splitter, supply, streams)
        counts = await streams.finish()
    except BaseException:
        await streams.abort()
        raise
    finally:
        environment.stop_copy_input()
    for group in groups:
        places.wrote(group)
    return b"COPY %d" % (sum(counts) if relation.kind is Kind.SHARDED else counts[0])


def _shortened(answer: bytes, columns: int) -> bytes:
    """The CopyInResponse for the client's columns: those that we add are not his."""
    response = server_messages.parse_copy_response(answer)
    return server_messages.copy_in_response(response.format, response.column_formats[:columns])


def _splitter(
    options: CopyOptions, relation: Relation, columns: Sequence[str], groups: Sequence[str], supply: _Supply
) -> CopySplitter | None:
    """What cuts the stream, by group; None where every group gets all of it as it comes."""
    added = Added(supply.names, supply.draw) if supply.names else None
    if relation.kind is Kind.SHARDED:
        index = {group: number for number, group in enumerate(groups)}
        destinations = [index[shard.group] for shard in relation.shards]
        return CopySplitter(options, relation, columns, destinations=destinations, added=added)
    if added is None and not options.header:
        return None
    name = supply.names[0] if supply.names else columns[0]
    whole = replace(
        relation,
        kind=Kind.SHARDED,
        strategy=Strategy.LIST,
        key=(name,),
        key_types=(25,),
        shards=(Shard(schema="", name="", group="", bound=Bound(default=True)),),
    )
    return CopySplitter(options, whole, columns, destinations=[0], added=added)


async def _feed(
    environment: Environment,
    relation: Relation,
    splitter: CopySplitter | None,
    supply: _Supply,
    streams: CopyStreams,
) -> None:
    """The client's data to its end. Raises what a group says as soon as it is heard."""

    async def ask(sql: str) -> list[tuple[str | None, ...]]:
        await streams.free_home()
        return await environment.evaluate(sql)

    async def send(batches: Sequence[tuple[int, bytes]]) -> None:
        assert splitter is not None
        while splitter.unrouted:
            batches = [*batches, *splitter.resolve(await _canonical(ask, relation, splitter))]
        for destination, data in batches:
            await streams.send(destination if relation.kind is Kind.SHARDED else None, data)

    while True:
        message = await environment.next_copy_message()
        kind = message.kind
        if kind == ord("d"):
            data = message.raw[5:]
            if splitter is None:
                await streams.send(None, data)
            else:
                await supply.prepare(ask, splitter.rows_at_most(data))
                await send(await _split(environment, splitter, data))
        elif kind == ord("c"):
            if splitter is not None:
                await supply.prepare(ask, splitter.rows_at_most(b""))
                await send(await _split(environment, splitter, None))
            return
        elif kind == ord("f"):
            reason = frontend.parse_copy_fail(message.raw).decode(errors="replace")
            raise PgError("57014", f"COPY from stdin failed: {reason}")
        elif kind not in (ord("S"), ord("H")):
            raise frontend.unexpected_in_copy(kind)


async def _split(environment: Environment, splitter: CopySplitter, data: bytes | None) -> list[tuple[int, bytes]]:
    """Feeds the splitter; None: the end. A long row is counted, and read beside the event loop."""
    work = splitter.finish if data is None else functools.partial(splitter.feed, data)
    size = splitter.held + (0 if data is None else len(data))
    if size < LONG_MESSAGE_BYTES:
        return work()
    await environment.hold(size)
    return await asyncio.to_thread(work)


async def _canonical(ask: Ask, relation: Relation, splitter: CopySplitter) -> list[Sequence[bytes | None]]:
    """The unrouted rows' keys in the one form that we read ourselves; PostgreSQL reads them with the session's settings."""
    found: list[Sequence[bytes | None]] = []
    for first in range(0, len(splitter.unrouted), KEYS_ASKED_AT_ONCE):
        rows = splitter.unrouted[first : first + KEYS_ASKED_AT_ONCE]
        listed = ", ".join(f"({', '.join(_key_calls(relation, row.keys))})" for row in rows)
        try:
            answers = await ask(f"VALUES {listed}")
        except PgError as error:
            raise _with_line(error, relation, splitter, rows) from None
        found += [[None if value is None else value.encode() for value in answer] for answer in answers]
    return found


def _key_calls(relation: Relation, keys: Sequence[bytes | None]) -> list[str]:
    calls = []
    for name, oid, text in zip(relation.key, relation.key_types, keys, strict=True):
        literal = "NULL" if text is None else quote_literal(text.decode())
        calls.append(in_iso(f"({literal}::{relation.column_by_name[name].type_name})", oid))
    return calls


def _with_line(error: PgError, relation: Relation, splitter: CopySplitter, rows: Sequence[UnroutedRow]) -> PgError:
    """The error with the row that PostgreSQL quotes in it, where one can be told: `COPY t, line 2, column id: "two"`."""
    for row in rows:
        for name, text in zip(relation.key, row.keys, strict=True):
            if text is not None and f'"{text.decode(errors="replace")}"' in error.message:
                quoted = text.decode(errors="replace")
                context = f'{copy_context(relation.name, splitter.line_of(row))}, column {name}: "{quoted}"'
                return PgError(error.sqlstate, error.message, detail=error.detail, fields={"W": context})
    return error


@dataclass(slots=True)
class _Supply:
    """Values of columns that the client leaves to their defaults and that one party must make."""

    columns: tuple[Column, ...]
    binary: bool
    waiting: deque[AddedRow] = field(default_factory=deque)

    @classmethod
    async def for_columns(
        cls, environment: Environment, relation: Relation, given: Sequence[str], *, binary: bool
    ) -> _Supply:
        columns = tuple(
            column for column in relation.columns if column.name not in given and _must_make(relation, column)
        )
        if binary and any(column.type_oid not in _BINARY for column in columns):
            raise not_supported(
                "binary COPY cannot leave out a column whose default the gateway must compute",
                hint="Name the column, or use text or CSV format.",
            )
        return cls(columns, binary)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    async def prepare(self, ask: Ask, count: int) -> None:
        """Draws ahead, so that `draw` need not wait."""
        missing = count - len(self.waiting)
        if not self.columns or missing <= 0:
            return
        drawn = [await self._values(ask, column, missing) for column in self.columns]
        self.waiting.extend(zip(*drawn, strict=True))

    async def _values(self, ask: Ask, column: Column, count: int) -> list[bytes | None]:
        if column.default_sequence is not None:
            rows = await ask(
                f"SELECT pg_catalog.nextval({quote_literal(column.default_sequence)}::pg_catalog.regclass)"
                f" FROM pg_catalog.generate_series(1, {count})"
            )
        else:
            rows = await ask(f"SELECT ({column.default})::pg_catalog.text FROM pg_catalog.generate_series(1, {count})")
        return [self._encoded(column, row[0]) for row in rows]

    def _encoded(self, column: Column, text: str | None) -> bytes | None:
        if text is None:
            return None
        return _BINARY[column.type_oid](text) if self.binary else text.encode()

    def draw(self, count: int) -> list[AddedRow]:
        return [self.waiting.popleft() for _ in range(count)]


def _must_make(relation: Relation, column: Column) -> bool:
    if column.generated or (column.default is None and not column.identity):
        return False
    if column.default_sequence is not None:
        return True
    if column.name in relation.key or (relation.kind is Kind.REFERENCE and column.default_volatile):
        return True
    calls = any(code.kind == "default" and code.name == column.name for code in relation.code)
    return column.default_volatile and (calls or "nextval(" in (column.default or ""))  # ids are drawn in one place


_BINARY: dict[int, Callable[[str], bytes]] = {
    21: lambda text: int(text).to_bytes(2, "big", signed=True),
    23: lambda text: int(text).to_bytes(4, "big", signed=True),
    20: lambda text: int(text).to_bytes(8, "big", signed=True),
    25: lambda text: text.encode(),
    1043: lambda text: text.encode(),
    2950: lambda text: bytes.fromhex(text.replace("-", "")),
}


# --- forwarded ---------------------------------------------------------------------------------------------------


async def forward(environment: Environment, backend: Backend, sql: str, sink: Sink) -> bytes:
    """COPY of a table that one place has: the streams pass through."""
    backend.write(frontend.query(sql.encode()))
    tag = b""
    async for kind, raw in backend.answers():
        if kind == COPY_IN:
            environment.write_to_client(raw)
            await _pass_input(environment, backend)
        elif kind == ord("C"):
            tag = raw[5:-1]
        else:
            environment.write_to_client(raw)
            await environment.drain_client()
    return tag


async def _pass_input(environment: Environment, backend: Backend) -> None:
    environment.start_copy_input()
    try:
        while True:
            message = await environment.next_copy_message()
            if message.kind in (ord("d"), ord("c"), ord("f")):
                backend.write(message.raw)
                await backend.drain()
                if message.kind != ord("d"):
                    return
            elif message.kind not in (ord("S"), ord("H")):
                raise frontend.unexpected_in_copy(message.kind)
    finally:
        environment.stop_copy_input()


# --- between groups ----------------------------------------------------------------------------------------------


async def copy_between(snapshot: Snapshot, backends: Mapping[str, Backend], move: MoveRows) -> int:
    """Rows of `move.source` go to `move.target`, in the transaction of these backends. Gives the number of rows.

    A backend cannot send and receive at once: rows that stay in their own group wait in a spool (memory, then disk).
    """
    target = snapshot.relation_by_identity[move.target]
    names = ", ".join(quote_identifier(name) for name in move.columns)
    into = f"COPY {quote_qualified(*move.target)} ({names}) FROM STDIN (FORMAT binary)"
    out = f"COPY (SELECT {names} FROM {quote_qualified(*move.source)}) TO STDOUT (FORMAT binary)"
    total = 0
    for source in move.source_groups:
        groups = list(move.target_groups if move.target_groups is not None else target.groups)
        others = [group for group in groups if group != source]
        for group in others:
            await start_copy_in(backends[group], into)
        with tempfile.SpooledTemporaryFile(max_size=RESULT_MEMORY_BYTES_MAX) as spool:
            splitter = _move_splitter(target, move, groups)
            await start_copy_out(backends[source], out)
            async for chunk in binary_copy(backends[source]):
                await _deal(splitter, chunk, groups, source, backends, spool)
            await _deal(splitter, None, groups, source, backends, spool)
            for number in () if splitter is None else set(range(len(groups))) - splitter.started:
                await _send_to(groups[number], HEADER + TRAILER, source, backends, spool)
            counts = [await finish_copy_in(backends[group]) for group in others]
            if source in groups:
                counts.append(await _load_spool(backends[source], into, spool))
            total += sum(counts) if move.target_groups is None else max(counts, default=0)
    return total


def _move_splitter(target: Relation, move: MoveRows, groups: Sequence[str]) -> CopySplitter | None:
    if move.target_groups is not None:
        return None
    index = {group: number for number, group in enumerate(groups)}
    destinations = [index[shard.group] for shard in target.shards]
    return CopySplitter(CopyOptions.of((("format", "binary"),)), target, move.columns, destinations=destinations)


async def _deal(
    splitter: CopySplitter | None,
    data: bytes | None,
    groups: Sequence[str],
    source: str,
    backends: Mapping[str, Backend],
    spool: tempfile.SpooledTemporaryFile[bytes],
) -> None:
    if splitter is None:
        batches = [(number, data) for number in range(len(groups))] if data is not None else []
    else:
        batches = list(splitter.feed(data) if data is not None else splitter.finish())
    for destination, piece in batches:
        await _send_to(groups[destination], piece, source, backends, spool)


async def _send_to(
    group: str, data: bytes, source: str, backends: Mapping[str, Backend], spool: tempfile.SpooledTemporaryFile[bytes]
) -> None:
    if group == source:
        spool.write(data)
    else:
        await send_copy_data(backends[group], data)


async def _load_spool(backend: Backend, sql: str, spool: tempfile.SpooledTemporaryFile[bytes]) -> int:
    spool.seek(0)
    await start_copy_in(backend, sql)
    while chunk := spool.read(COPY_OUT_SEND_BYTES):
        await send_copy_data(backend, chunk)
    return await finish_copy_in(backend)


__all__ = ["copy_between", "forward", "run_in"]
