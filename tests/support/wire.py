"""One statement sent over libpq, and everything that a client can see of its answer.

psycopg's raw `PGconn` is used without psycopg's adaptation of values, so that bytes are compared and not Python's reading of
them. Every wait has a deadline: libpq's own blocking calls cannot be interrupted by a test's timeout.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from psycopg import pq

DEADLINE_S = 20.0
FIRST_USER_OID = 16_384  # FirstNormalObjectId: below it, PostgreSQL's own types


class Mode(StrEnum):
    SIMPLE = "simple"  # one Query message
    EXTENDED = "extended"  # Parse, Bind, Execute; results as text
    BINARY = "binary"  # the same, results in binary
    PREPARED = "prepared"  # a named statement, described, executed twice


@dataclass(frozen=True, slots=True)
class Outcome:
    """One result of a statement."""

    tag: str = ""
    sqlstate: str | None = None
    message: str = ""  # of the error: shown, never compared
    columns: tuple[str, ...] = ()
    types: tuple[tuple[str, int], ...] = ()  # (oid, or name of a user's type; type modifier)
    rows: tuple[tuple[bytes | None, ...], ...] = ()
    copied: tuple[bytes, ...] | None = None  # one entry for each CopyData message
    status: str = ""  # of the last result: whether the session is then in a transaction, and in a failed one


class Timeout(Exception):
    """No answer within the deadline."""


class Wire:
    """A connection that gives Outcomes."""

    def __init__(self, dsn: str) -> None:
        self.connection = pq.PGconn.connect(dsn.encode())
        if self.connection.status != pq.ConnStatus.OK:
            raise ConnectionError(self.connection.get_error_message())
        self.connection.nonblocking = 1
        self._type_names: dict[int, str] = {}
        self._prepared = 0

    def close(self) -> None:
        self.connection.finish()

    @property
    def idle(self) -> bool:
        return self.connection.transaction_status == pq.TransactionStatus.IDLE

    @property
    def alive(self) -> bool:
        return self.connection.status == pq.ConnStatus.OK

    def run(
        self,
        sql: str,
        mode: Mode = Mode.SIMPLE,
        *,
        parameters: Sequence[str | None] = (),
        types: Sequence[int] = (),
        data: bytes = b"",
    ) -> list[Outcome]:
        """Sends one statement (in SIMPLE mode: any number), with `data` for a COPY FROM STDIN; all its results."""
        outcomes = self._run(sql, mode, parameters, types, data)
        return [*outcomes[:-1], replace(outcomes[-1], status=self._status)] if outcomes else outcomes

    @property
    def _status(self) -> str:
        return pq.TransactionStatus(self.connection.transaction_status).name.lower()

    def _run(
        self, sql: str, mode: Mode, parameters: Sequence[str | None], types: Sequence[int], data: bytes
    ) -> list[Outcome]:
        values = [None if value is None else value.encode() for value in parameters]
        oids = list(types) or None
        if mode is Mode.SIMPLE:
            assert not parameters, "the simple protocol has no parameters"
            self.connection.send_query(sql.encode())
            return list(self._named(self._results(data)))
        if mode is Mode.PREPARED:
            return self._run_prepared(sql, values, oids, data)
        self.connection.send_query_params(
            sql.encode(), values, param_types=oids, result_format=1 if mode is Mode.BINARY else 0
        )
        return list(self._named(self._results(data)))

    def _run_prepared(self, sql: str, values: list[bytes | None], oids: list[int] | None, data: bytes) -> list[Outcome]:
        self._prepared += 1
        name = f"wire_{self._prepared}".encode()
        self.connection.send_prepare(name, sql.encode(), param_types=oids)
        prepared = list(self._results(b""))
        if prepared[0][0].sqlstate:
            return [prepared[0][0]]
        self.connection.send_describe_prepared(name)
        outcomes = list(self._named(self._results(b"")))
        for _ in range(2):
            self.connection.send_query_prepared(name, values)
            outcomes += self._named(self._results(data))
        return outcomes

    # --- reading ---------------------------------------------------------------------------------------------------

    def _results(self, data: bytes) -> Iterator[tuple[Outcome, tuple[int, ...]]]:
        deadline = time.monotonic() + DEADLINE_S
        self._flush(deadline)
        while (result := self._next(deadline)) is not None:
            if result.status == pq.ExecStatus.COPY_IN:
                self._send_copy(data, deadline)
            elif result.status == pq.ExecStatus.COPY_OUT:
                copied = self._receive_copy(deadline)
                end = self._next(deadline)
                assert end is not None
                yield _outcome(end, copied), ()
            else:
                yield _outcome(result, None), tuple(result.ftype(i) for i in range(result.nfields))

    def _next(self, deadline: float) -> pq.abc.PGresult | None:
        while self.connection.is_busy():
            self._wait(deadline)
            self.connection.consume_input()
        return self.connection.get_result()

    def _wait(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([self.connection.socket], [], [], remaining)[0]:
            raise Timeout(f"no answer within {DEADLINE_S:g} s")

    def _flush(self, deadline: float) -> None:
        while self.connection.flush():
            select.select([self.connection.socket], [self.connection.socket], [], 1.0)
            self.connection.consume_input()
            if time.monotonic() > deadline:
                raise Timeout("the server does not take the statement")

    def _send_copy(self, data: bytes, deadline: float) -> None:
        if data:
            self.connection.put_copy_data(data)
        self.connection.put_copy_end()
        self._flush(deadline)

    def _receive_copy(self, deadline: float) -> tuple[bytes, ...]:
        parts = []
        while True:
            length, chunk = self.connection.get_copy_data(1)
            if length > 0:
                parts.append(bytes(chunk))
            elif length == 0:
                self._wait(deadline)
                self.connection.consume_input()
            else:
                return tuple(parts)

    # --- types a user made: their OIDs differ from server to server, their names do not ----------------------------

    def _named(self, results: Iterator[tuple[Outcome, tuple[int, ...]]]) -> Iterator[Outcome]:
        for outcome, oids in list(results):
            names = tuple(self._type_name(oid) for oid in oids)
            yield (
                outcome
                if not oids
                else Outcome(
                    outcome.tag,
                    outcome.sqlstate,
                    outcome.message,
                    outcome.columns,
                    tuple((name, modifier) for name, (_, modifier) in zip(names, outcome.types, strict=True)),
                    outcome.rows,
                )
            )

    def _type_name(self, oid: int) -> str:
        if oid < FIRST_USER_OID:
            return str(oid)
        if oid not in self._type_names and self.connection.transaction_status != pq.TransactionStatus.INERROR:
            self.connection.send_query(f"SELECT typname FROM pg_catalog.pg_type WHERE oid = {oid}".encode())
            (found, _), *_ = self._results(b"")
            self._type_names[oid] = (found.rows[0][0] or b"?").decode() if found.rows else f"no type {oid}"
        return self._type_names.get(oid, "?")


def _outcome(result: pq.abc.PGresult, copied: tuple[bytes, ...] | None) -> Outcome:
    if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
        sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE) or b"(connection lost)"
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        return Outcome(sqlstate=sqlstate.decode(), message=message.decode(errors="replace"))
    columns = range(result.nfields)
    return Outcome(
        tag=(result.command_status or b"").decode(),
        columns=tuple((result.fname(i) or b"").decode() for i in columns),
        types=tuple((str(result.ftype(i)), result.fmod(i)) for i in columns),
        rows=tuple(tuple(result.get_value(row, i) for i in columns) for row in range(result.ntuples)),
        copied=copied,
    )
