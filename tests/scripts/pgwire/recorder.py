"""Records real conversations with a PostgreSQL server as transcripts, and reads them.

A transcript has one message per line pair: direction, meaning, then its bytes in hex::

    # what this conversation shows
    > Query b'SELECT 1'
      510000000d53454c454354203100
    < ReadyForQuery b'I'
      5a0000000549

`>` went to the server, `<` came back. Recording starts after the first ReadyForQuery: logins hold secrets and chance.

By itself, for a server that trusts us: `python tests/scripts/pgwire/recorder.py HOST PORT USER DATABASE` writes all
transcripts anew. `HANSE_REWRITE=1 pytest tests/integration/pgwire` does the same against the tests' own server.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hanse.pgwire import backend, frontend
from hanse.pgwire.dump import dump_backend, dump_frontend
from hanse.pgwire.framing import Framer, Message
from hanse.pgwire.startup import ClientHandshake, Password

DIRECTORY = Path(__file__).parent
TIMEOUT_S = 20.0
TERMINATED = -1  # "until": the server closes the connection


class Line(NamedTuple):
    direction: str  # '>' or '<'
    meaning: str
    raw: bytes

    @property
    def message(self) -> Message:
        return Message(self.raw[0], self.raw)


class Step(NamedTuple):
    """Messages that are sent together, then what is waited for: so many messages of that kind."""

    send: tuple[bytes, ...]
    until: int = backend.READY_FOR_QUERY
    times: int = 1


class Scenario(NamedTuple):
    about: str
    steps: tuple[Step, ...]


def _extended(sql: bytes, values: tuple[bytes | None, ...] = (), **formats: tuple[int, ...]) -> tuple[bytes, ...]:
    return (
        frontend.parse(b"", sql),
        frontend.bind(b"", b"", values, **formats),  # type: ignore[arg-type]
        frontend.describe_portal(b""),
        frontend.execute(),
        frontend.sync(),
    )


def _query(sql: bytes, times: int = 1) -> Step:
    return Step((frontend.query(sql),), times=times)


TEMP = b"CREATE TEMP TABLE pgwire_t (id int PRIMARY KEY, name text CHECK (name <> 'bad'), at timestamptz)"
SYNC, FLUSH = frontend.sync(), frontend.flush()

SCENARIOS = {
    "simple_query": Scenario(
        "Simple queries: rows, NULL, several statements, an empty one, no rows, an error in the middle.",
        (
            _query("SELECT 1 AS one, NULL, 'é' AS \"Ä\"".encode()),
            _query(b"SELECT 1; SELECT 2 WHERE false; UPDATE pg_class SET relname = relname WHERE false"),
            _query(b" ; "),
            _query(b""),
            _query(b"SELECT 1; SELECT 1/0; SELECT 2"),
            _query(b"SELECT * FROM nowhere"),
            _query(b"BEGIN"),
            _query(b"SELEC"),
            _query(b"SELECT 1"),
            _query(b"ROLLBACK"),
        ),
    ),
    "extended_query": Scenario(
        "Extended query: formats, named and unnamed statements and portals, row limits, Describe, Close, Flush.",
        (
            Step(_extended(b"SELECT $1::int8, $2::text, $3::bool", (b"42", None, b"t"))),
            Step(_extended(b"SELECT 258::int4, 'x'::text, 1.5::float8", result_formats=(1,))),
            Step(_extended(b"SELECT $1::int4", (b"\0\0\1\2",), parameter_formats=(1,), result_formats=(0,))),
            Step(_extended(b"")),
            Step((frontend.parse(b"s1", b"SELECT generate_series(1, $1)", (23,)), FLUSH), backend.PARSE_COMPLETE),
            Step((frontend.describe_statement(b"s1"), SYNC)),
            Step(
                (
                    frontend.bind(b"p1", b"s1", [b"5"]),
                    frontend.execute(b"p1", 2),
                    frontend.execute(b"p1", 2),
                    frontend.execute(b"p1"),
                    frontend.execute(b"p1"),
                    frontend.close_portal(b"p1"),
                    frontend.close_statement(b"s1"),
                    frontend.close_statement(b"never was"),
                    SYNC,
                )
            ),
            Step((frontend.parse(b"", b"SET geqo = off"), frontend.describe_statement(b""), SYNC)),
        ),
    ),
    "extended_errors": Scenario(
        "Errors in a pipeline: what follows is skipped up to the Sync; words for malformed messages.",
        (
            Step((*_extended(b"SELECT 1/0")[:-1], *_extended(b"SELECT 2"))),
            Step((frontend.bind(b"", b"never was"), SYNC)),
            Step((frontend.execute(b"never was"), SYNC)),
            Step((frontend.parse(b"", b"SELECT $1::int"), frontend.bind(b"", b"", [b"x"]), SYNC)),
            Step((frontend.parse(b"", b"SELECT $1::int"), frontend.bind(b"", b""), SYNC)),
            Step((frontend.bind(b"", b"", [b"1"], parameter_formats=[0, 1]), SYNC)),
            Step((b"D\0\0\0\6X\0", SYNC)),
            Step((b"C\0\0\0\6X\0", SYNC)),
            Step((b"E\0\0\0\6x\0", SYNC)),
            Step((b"B\0\0\0\6xx", SYNC)),
            Step((b"P\0\0\0\x09xx\0\0\0", SYNC)),
            Step((b"Q\0\0\0\6xx",)),
            Step((b"?\0\0\0\4",), TERMINATED),
        ),
    ),
    "pipeline": Scenario(
        "A pipeline without BEGIN is one transaction, with several statements and one Sync.",
        (
            _query(TEMP),
            Step(
                (
                    *_extended(b"INSERT INTO pgwire_t VALUES (1, 'a')")[:-1],
                    *_extended(b"INSERT INTO pgwire_t VALUES (1, 'b')")[:-1],
                    *_extended(b"SELECT count(*) FROM pgwire_t"),
                )
            ),
            _query(b"SELECT count(*) FROM pgwire_t"),
            _query(b"INSERT INTO pgwire_t VALUES (2, 'bad')"),
        ),
    ),
    "copy": Scenario(
        "COPY in and out, text and binary, given up by the client, failing at the server.",
        (
            _query(TEMP),
            Step((frontend.query(b"COPY pgwire_t (id, name) FROM STDIN"),), backend.COPY_IN_RESPONSE),
            Step((frontend.copy_data(b"1\ta\n2\t"), frontend.copy_data(b"\\N\n"), frontend.copy_done())),
            _query(b"COPY pgwire_t TO STDOUT"),
            _query(b"COPY (SELECT id, name FROM pgwire_t) TO STDOUT (FORMAT binary)"),
            Step((frontend.query(b"COPY pgwire_t FROM STDIN (FORMAT binary)"),), backend.COPY_IN_RESPONSE),
            Step((frontend.copy_fail(b"changed my mind"),)),
            Step((frontend.query(b"COPY pgwire_t (id) FROM STDIN"),), backend.COPY_IN_RESPONSE),
            Step((frontend.copy_data(b"x\n"), frontend.copy_done())),
            Step(
                (
                    frontend.parse(b"", b"COPY pgwire_t (id) FROM STDIN"),
                    frontend.bind(b"", b""),
                    frontend.execute(),
                    SYNC,  # ignored by the server while it copies
                    frontend.copy_data(b"7\n"),
                    frontend.copy_done(),
                    SYNC,
                )
            ),
        ),
    ),
    "copy_interrupted": Scenario(
        "Another command in the middle of COPY FROM STDIN: the server does not read its body, and closes.",
        (
            _query(TEMP),
            Step((frontend.query(b"COPY pgwire_t (id) FROM STDIN"),), backend.COPY_IN_RESPONSE),
            Step((frontend.query(b"SELECT 1"),), TERMINATED),
        ),
    ),
    "messages": Scenario(
        "Notices, notifications, parameter status, the status of transactions.",
        (
            _query(b"DO $$ BEGIN RAISE WARNING 'careful' USING HINT = 'h', DETAIL = 'd'; END $$"),
            _query(b"SET TimeZone = 'Asia/Tokyo'"),
            _query(b"LISTEN pgwire_c; NOTIFY pgwire_c, 'hello'"),
            _query(b"BEGIN; DROP TABLE IF EXISTS nowhere; COMMIT"),
            _query(b"COMMIT"),
        ),
    ),
}


class Connection:
    """A blocking connection that has logged in."""

    def __init__(self, host: str, port: int, user: str, database: str, password: str | None) -> None:
        credentials = None if password is None else Password(password)
        handshake = ClientHandshake(user=user, database=database, credentials=credentials, random_bytes=os.urandom)
        self.socket = socket.create_connection((host, port), TIMEOUT_S)
        self._framer = Framer()
        ready = None
        while ready is None:
            self.socket.sendall(handshake.data_to_send())
            ready = handshake.receive(self._read())
        self._framer.feed(handshake.trailing_data)

    def messages(self) -> Iterator[Message]:
        """Until the server closes."""
        while True:
            while (message := self._framer.next()) is not None:
                yield message
            data = self.socket.recv(65_536)
            if not data:
                return
            self._framer.feed(data)

    def _read(self) -> bytes:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def record(connect: Callable[[], Connection], scenario: Scenario) -> list[Line]:
    lines: list[Line] = []
    connection = connect()
    with connection.socket:
        messages = connection.messages()
        for step in scenario.steps:
            for raw in step.send:
                lines.append(Line(">", dump_frontend(Message(raw[0], raw)), raw))
            connection.socket.sendall(b"".join(step.send))
            left = step.times
            for message in messages:
                lines.append(Line("<", dump_backend(message), message.raw))
                left -= message.kind == step.until
                if not left:
                    break
    return lines


def write(name: str, scenario: Scenario, lines: list[Line]) -> None:
    text = "".join(f"{line.direction} {line.meaning}\n  {line.raw.hex()}\n" for line in lines)
    (DIRECTORY / f"{name}.txt").write_text(f"# {scenario.about}\n{text}", encoding="utf-8")


def read(name: str) -> list[Line]:
    rows = (DIRECTORY / f"{name}.txt").read_text(encoding="utf-8").split("\n")
    content = [row for row in rows if row and not row.startswith("#")]
    return [
        Line(meaning[0], meaning[2:], bytes.fromhex(raw))
        for meaning, raw in zip(content[::2], content[1::2], strict=True)
    ]


def main(host: str, port: str, user: str, database: str) -> None:
    for name, scenario in SCENARIOS.items():
        write(name, scenario, record(lambda: Connection(host, int(port), user, database, None), scenario))


if __name__ == "__main__":
    main(*sys.argv[1:])
