"""What a client might send that no client should: streams of messages from a seed.

A stream begins well, so that it gets deep into a session, and goes wrong somewhere: bodies of bytes that mean nothing, wrong
lengths, messages doubled, exchanged, left out or cut, kinds that do not exist. `framed` streams keep every message's length
right: a server stays in step with them, so that two servers' answers can be compared.
"""

from __future__ import annotations

import random
import struct

from hanse.pgwire import frontend
from hanse.pgwire.primitives import frame

TABLE = b"fuzz_t"  # id int primary key, v text
TEXTS = (
    b"SELECT 1",
    b"SELECT v FROM fuzz_t WHERE id = 7",
    b"SELECT count(*) FROM fuzz_t",
    b"SELECT id, v FROM fuzz_t ORDER BY id LIMIT 3",
    b"INSERT INTO fuzz_t VALUES (7, 'x') ON CONFLICT (id) DO UPDATE SET v = 'y'",
    b"UPDATE fuzz_t SET v = 'z' WHERE id = 9",
    b"SELECT 1/0",
    b"SELEC",
    b"SELECT 'a\xff'",
    b"SELECT 1; SELECT 2",
    b"SELECT 1; SELECT 1/0; SELECT 3",
    b"",
    b" ; ",
    b"BEGIN",
    b"COMMIT",
    b"ROLLBACK",
    b"SAVEPOINT s",
    b"ROLLBACK TO s",
    b"COPY fuzz_t TO STDOUT",
    b"SHOW server_version_num",
    b"SET work_mem = '5MB'",
    b"DECLARE c CURSOR FOR SELECT 1",
)
COPIES = ((b"COPY fuzz_t FROM STDIN", b"\t"), (b"COPY fuzz_t (id, v) FROM STDIN (FORMAT csv)", b","))
PREPARED = (
    (b"SELECT $1::int", 1),
    (b"SELECT v FROM fuzz_t WHERE id = $1", 1),
    (b"INSERT INTO fuzz_t VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", 2),
    (b"SELECT 1", 0),
    (b"SELECT 1/$1::int", 1),
    (b"COMMIT", 0),
    (b"BEGIN", 0),
    (b"", 0),
)
HARMLESS = (b"1", b"7", None, b"\xff\xfe", b"a\0b")  # what is wrong with them shows when they are bound
VALUES = (b"1", b"7", b"0", None, b"x", b"\xff\xfe", b"\0\0\0\1", b"", b"9" * 40, b"a\0b")
NAMES = (b"", b"", b"", b"s1", b"s2", b"\xff")
KINDS = b"QPBDECHSXdcfFp?\0zA"


class Streams:
    """A source of streams; equal seeds give equal streams."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._pool: tuple[bytes | None, ...] = VALUES

    def stream(self, *, framed: bool = False, length: int = 12) -> list[bytes]:
        """Messages, to be sent as they are."""
        self._pool = HARMLESS if framed else VALUES
        messages: list[bytes] = []
        while len(messages) < length:
            messages += self._scene()
        for _ in range(self.random.choice((0, 1, 1, 2, 4))):
            self._spoil(messages, framed=framed)
        return messages

    def cut(self, data: bytes) -> list[bytes]:
        """The bytes in pieces, as a network may deliver them."""
        count = min(self.random.choice((0, 0, 1, 3, 9)), max(len(data) - 1, 0))
        places = [0, *sorted(self.random.sample(range(1, len(data)), count)), len(data)] if data else [0, 0]
        return [data[start:end] for start, end in zip(places, places[1:], strict=False)]

    # --- what clients do -----------------------------------------------------------------------------------------

    def _scene(self) -> list[bytes]:
        return self.random.choice(
            (self._simple, self._simple, self._extended, self._extended, self._pieces, self._copy)
        )()

    def _simple(self) -> list[bytes]:
        return [frontend.query(self.random.choice(TEXTS))]

    def _extended(self) -> list[bytes]:
        sql, count = self.random.choice(PREPARED)
        name, portal = self.random.choice(NAMES), self.random.choice(NAMES)
        messages = [
            frontend.parse(name, sql),
            frontend.bind(portal, name, self._values(count), result_formats=self.random.choice(((), (0,), (1,)))),
            frontend.describe_portal(portal),
            frontend.execute(portal, self.random.choice((0, 0, 0, 1))),
            frontend.sync(),
        ]
        return [message for message in messages if self.random.random() > 0.05]

    def _values(self, count: int) -> list[bytes | None]:
        return [self.random.choice(self._pool) for _ in range(count if self.random.random() > 0.1 else count + 1)]

    def _pieces(self) -> list[bytes]:
        return [self.random.choice(self._all_pieces()) for _ in range(self.random.randrange(1, 5))]

    def _all_pieces(self) -> list[bytes]:
        name = self.random.choice(NAMES)
        return [
            frontend.sync(),
            frontend.flush(),
            frontend.execute(name, self.random.choice((0, 2, -1))),
            frontend.describe_statement(name),
            frontend.describe_portal(name),
            frontend.close_statement(name),
            frontend.close_portal(name),
            frontend.bind(name, self.random.choice(NAMES), self._values(1)),
            frontend.copy_data(b"1\tx\n"),
            frontend.copy_done(),
            frontend.copy_fail(b"why"),
            frame(b"F", b"\0\0\0\1\0\0\0\0\0\0"),
        ]

    def _copy(self) -> list[bytes]:
        sql, separator = self.random.choice(COPIES)
        rows = [frontend.copy_data(b"%d%sx\n" % (self.random.randrange(10**6, 10**9), separator)) for _ in range(3)]
        end = self.random.choice((frontend.copy_done(), frontend.copy_done(), frontend.copy_fail(b"enough")))
        return [frontend.query(sql), *rows, end]

    # --- how it goes wrong ---------------------------------------------------------------------------------------

    def _spoil(self, messages: list[bytes], *, framed: bool) -> None:
        place = self.random.randrange(len(messages))
        ways = [self._double, self._exchange, self._drop]
        if not framed or messages[place][0] != frontend.COPY_DATA:  # which of two wrong rows is met first may differ
            ways += [self._wrong_body, self._other_kind, self._shorter, self._longer]
        if not framed:
            ways += [self._flip, self._wrong_length, self._garbage, self._cut_off]
        self.random.choice(ways)(messages, place)

    def _double(self, messages: list[bytes], place: int) -> None:
        messages.insert(place, messages[place])

    def _exchange(self, messages: list[bytes], place: int) -> None:
        other = self.random.randrange(len(messages))
        messages[place], messages[other] = messages[other], messages[place]

    def _drop(self, messages: list[bytes], place: int) -> None:
        if len(messages) > 1:
            del messages[place]

    def _wrong_body(self, messages: list[bytes], place: int) -> None:
        messages[place] = frame(messages[place][:1], self.random.randbytes(self.random.randrange(0, 30)))

    def _other_kind(self, messages: list[bytes], place: int) -> None:
        kind = self.random.choice(KINDS)
        messages[place] = bytes((kind,)) + messages[place][1:]

    def _shorter(self, messages: list[bytes], place: int) -> None:
        body = messages[place][5:]
        messages[place] = frame(messages[place][:1], body[: self.random.randrange(len(body) + 1)])

    def _longer(self, messages: list[bytes], place: int) -> None:
        messages[place] = frame(messages[place][:1], messages[place][5:] + self.random.randbytes(5))

    def _flip(self, messages: list[bytes], place: int) -> None:
        changed = bytearray(messages[place])
        changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        messages[place] = bytes(changed)

    def _wrong_length(self, messages: list[bytes], place: int) -> None:
        length = self.random.choice((0, 3, 4, 5, 100, 0x7FFFFFFF, 0xFFFFFFFF, 0x3FFFFFFF, 20_000))
        messages[place] = messages[place][:1] + struct.pack(">I", length) + messages[place][5:]

    def _garbage(self, messages: list[bytes], place: int) -> None:
        messages.insert(place, self.random.randbytes(self.random.randrange(1, 60)))

    def _cut_off(self, messages: list[bytes], place: int) -> None:
        messages[place] = messages[place][: self.random.randrange(1, len(messages[place]) + 1)]
        del messages[place + 1 :]


def startup_packets(source: random.Random) -> bytes:
    """The first bytes of a connection, mostly wrong."""
    good = frontend.startup({"user": "hanse", "database": "hanse"})
    kinds = (
        lambda: good,
        lambda: frontend.ssl_request() + good,
        lambda: frontend.gss_request() + frontend.ssl_request(),
        lambda: frontend.cancel_request(source.getrandbits(32), source.getrandbits(32)),
        lambda: good[: source.randrange(len(good))],
        lambda: struct.pack(">I", source.choice((0, 3, 7, 8, 10_001, 0x7FFFFFFF, 0xFFFFFFFF))) + source.randbytes(20),
        lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        lambda: source.randbytes(source.randrange(1, 200)),
        lambda: frontend.startup({"user": "hanse"}, protocol=source.choice((2 << 16, 3 << 16 | 2, 9 << 16))),
        lambda: good + frame(b"p", source.randbytes(30)),
        lambda: good + frontend.sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=abc") + frontend.sasl_response(b"c=x"),
        lambda: good + frontend.query(b"SELECT 1"),
        lambda: frontend.startup({"user": "hanse", "options": source.choice(("-c", "-c a", "--x=1", "\\"))}),
    )
    data = bytearray(source.choice(kinds)())
    if data and source.random() < 0.3:
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    return bytes(data)
