"""What a statement's run needs besides its plan: the client's text and values, where backends come from, where rows go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..catalog.model import Snapshot
from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from ..pgwire import frontend
from ..pgwire.diagnostics import parse_error
from ..planner.longinsert import LongRows
from ..planner.values import Parameters

READY, ERROR, ROWS, DESCRIPTION, COMPLETE, NOTICE = (ord(c) for c in "ZEDTCN")
EMPTY, COPY_IN, COPY_OUT, COPY_DATA, COPY_DONE = (ord(c) for c in "IGHdc")


class Sink(Protocol):
    """Where a result goes: the client's connection, a cursor's buffer, or nowhere."""

    def describe(self, message: bytes) -> None:
        """A RowDescription, whole. Called at most once, before any row."""

    async def rows(self, messages: bytes) -> None:
        """One or more whole DataRow messages. Returns when there is room for more."""

    def notice(self, message: bytes) -> None: ...


class Discard:
    """A sink for answers that nobody wants."""

    def describe(self, message: bytes) -> None:
        return

    async def rows(self, messages: bytes) -> None:
        return

    def notice(self, message: bytes) -> None:
        return


@dataclass(slots=True)
class Rows:
    """A sink that keeps everything, for small results of our own."""

    description: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def describe(self, message: bytes) -> None:
        self.description = message

    async def rows(self, messages: bytes) -> None:
        self.chunks.append(messages)

    def notice(self, message: bytes) -> None:
        return


class Places(Protocol):
    """Backends of the running statement, by place. The session implements it: it knows the transaction."""

    async def backend(self, place: str) -> Backend:
        """The backend to use in `place`: the transaction's branch there, or one for this statement only."""

    def wrote(self, place: str) -> None:
        """This statement changes data in `place`."""

    async def begin(self, reads: Sequence[str] = ()) -> None:
        """The statement writes in several places: make it a transaction, committed when the statement ends.

        `reads`: the groups that decide what it writes; it is to see them at one moment.
        """

    async def snapshot(self, groups: Sequence[str]) -> None:
        """The statement reads in several places, which it is to see at one moment. Before the first `backend()`."""

    def binds(self, groups: Sequence[str]) -> bool:
        """Whether one moment for these groups is had by one of the next three, instead of by `snapshot`."""

    async def bind(self, sources: Sequence[Source]) -> None:
        """All queries of the statement, in transactions; from now on they are run by `Query.rows`."""

    async def start(self, queries: Sequence[Query]) -> list[Backend]:
        """The statement writes, and is sent to its places; their answers are to be read."""

    async def start_copies(self, queries: Sequence[Query], sql: str) -> list[tuple[Backend, bytes]]:
        """`sql` copies what `queries` give; it is sent to their places, which have answered with CopyOutResponse."""

    async def alone(self, place: str, message: list[bytes]) -> list[bytes]:
        """The statement's only message, as it is to be sent to `place`. Before the first `backend()`."""

    def prepare_early(self, places: Sequence[str]) -> str | None:
        """SQL that prepares the first of two places, to be sent behind its only statement; None: not now."""

    def prepared(self, place: str) -> None:
        """It has succeeded."""

    def begins(self) -> bool:
        """Whether `begin` will make a transaction for this statement only, so that it can be run again in another way."""

    async def share(self, request: Request, copies: Mapping[str, Copy]) -> Mapping[str, Copy] | None:
        """The rows, by group, may be inserted together with those of other clients. Before `begin`.

        Gives what this statement is to insert; None: its rows were committed by another client's.
        """

    def hold(self, place: str, copy: Copy) -> None:
        """The deciding place is sent this together with the order to commit; of_shortcut() says what comes of an error."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A COPY FROM STDIN with all its data."""

    sql: bytes
    data: bytes  # CopyData

    def send(self, backend: Backend, then: str) -> None:
        """Together with a BEGIN that goes ahead, and with what comes after it: one text, one answer."""
        backend.write_statement(self.sql + b"; " + then.encode(), self.data + frontend.copy_done())


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query whose snapshot is taken at one time, by Bind, and whose rows are asked for at another."""

    place: str
    sql: bytes
    name: bytes = b""  # of its statement and its portal; only one can have none
    parameters: Parameters | None = None
    parameter_types: tuple[int, ...] = ()
    result_formats: tuple[int, ...] = ()

    def parse(self) -> bytes:
        return frontend.close_statement(self.name) + frontend.parse(self.name, self.sql, self.parameter_types)

    def bind(self) -> list[bytes]:
        """In pieces: several places are sent the same values, which may be large."""
        values = self.parameters
        pieces = frontend.bind_pieces(
            self.name,
            self.name,
            values.values if values else (),
            parameter_formats=values.formats if values else (),
            result_formats=self.result_formats,
        )
        return [frontend.close_portal(self.name), *pieces]

    def rows(self) -> bytes:
        """The messages that run it, once."""
        run = frontend.describe_portal(self.name) + frontend.execute(self.name)
        return run + self.close() + frontend.sync()

    def close(self) -> bytes:
        return frontend.close_portal(self.name) + frontend.close_statement(self.name)


Source = tuple[Backend, Query]


@dataclass(slots=True, kw_only=True)
class Request:
    """One execution of one statement."""

    text: bytes
    snapshot: Snapshot
    literals: Sequence[bytes] = ()
    parts: Sequence[bytes] = ()
    parameters: Parameters | None = None
    parameter_types: tuple[int, ...] = ()
    result_formats: tuple[int, ...] = ()
    bound: frontend.Bind | None = None  # the parameters as they came, for plans that must write them into the text
    rows: LongRows | None = None  # of a long VALUES list; plan and parts are then those of a short one
    alone: bool = False  # it has failed together with others
    plainly: bool = False  # shorter ways have failed
    extended: bool = False  # the client uses the extended protocol: no RowDescription unless asked

    def message(self, sql: bytes | None = None) -> list[bytes]:
        """The messages that run `sql` (default: the client's text) with this request's values on a backend.

        In pieces, for several places may be sent the same values, which may be large; the last is a Sync where there is one.
        """
        text = self.text if sql is None else sql
        if not self.extended:
            return frontend.query_pieces(text)
        values = self.parameters
        return [
            frontend.parse(b"", text, self.parameter_types),
            *frontend.bind_pieces(
                b"",
                b"",
                values.values if values else (),
                parameter_formats=values.formats if values else (),
                result_formats=self.result_formats,
            ),
            frontend.describe_portal(b"") + frontend.execute(b"", 0),
            frontend.sync(),
        ]

    def query(self, place: str, sql: bytes | None = None) -> Query:
        """The same, for a place where its snapshot comes first."""
        return Query(
            place=place,
            sql=self.text if sql is None else sql,
            parameters=self.parameters if self.extended else None,
            parameter_types=self.parameter_types if self.extended else (),
            result_formats=self.result_formats,
        )


async def pump(backend: Backend, sink: Sink) -> bytes:
    """Reads one answer up to ReadyForQuery into `sink`; gives the first command tag (b'' if none).

    Raises the server's error, after ReadyForQuery has come: the backend is usable again.
    """
    tags = await pump_tags(backend, sink)
    return tags[0] if tags else b""


async def pump_tags(backend: Backend, sink: Sink, *, copying: bool = False) -> list[bytes]:
    """As `pump`; gives the tags of all statements of the message. `copying`: the data for a COPY FROM have been sent."""
    tags: list[bytes] = []
    failure: PgError | None = None
    while True:
        kind, raw = await backend.next()
        if kind == ROWS:
            await sink.rows(raw)
        elif kind == DESCRIPTION:
            sink.describe(raw)
        elif kind == COMPLETE:
            tags.append(raw[5:-1])
        elif kind == ERROR:
            failure = failure or parse_error(raw)
        elif kind == NOTICE:
            sink.notice(raw)
        elif kind == COPY_IN and not copying:
            backend.write(frontend.copy_fail(b"COPY is not possible here"))
        elif kind == READY:
            break
    if failure is not None:
        raise failure
    return tags


async def run(backend: Backend, sql: str) -> bytes:
    """Statements of our own whose rows do not matter; gives the last one's tag, raises the error."""
    backend.write(frontend.query(sql.encode()))
    tags = await pump_tags(backend, _DISCARD)
    return tags[-1] if tags else b""


_DISCARD = Discard()
