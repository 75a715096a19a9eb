"""One connection to one PostgreSQL session, as the gateway uses it.

A backend has one owner at a time and two ways to give its owner what the server sends:

* **Relay**: whole network chunks go to a `Relay` unparsed; only message lengths are walked, to find ReadyForQuery and
  errors. This is the path of a forwarded statement (gateway prototype: a chunk costs a few microseconds).
* **Pull**: `await next()` gives messages one by one, consecutive DataRow (or CopyData) messages as one piece. The socket
  is not read while more than `PULL_BYTES_AHEAD` bytes wait, so a slow consumer never makes us grow.

What it does not do: it knows no transactions, no users' rights and no retries; `Pool` decides who owns it.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, cast

from ...core.errors import PgError
from ...core.limits import MESSAGE_BYTES_MAX, PREPARED_BYTES_PER_BACKEND_MAX, PREPARED_PER_BACKEND_MAX
from ...pgwire import backend as server_messages
from ...pgwire import frontend
from ...pgwire.diagnostics import parse_error
from ...pgwire.framing import Long
from .cover import Cover

PULL_BYTES_AHEAD = 1 << 20
LARGE_BYTES = 1 << 16  # of a message: from here on two writes cost less than a copy

_LENGTH = struct.Struct("!I").unpack_from
_READY, _ERROR, _ROW, _COPY_DATA, _COMPLETE = ord("Z"), ord("E"), ord("D"), ord("d"), ord("C")
_ACKNOWLEDGEMENTS = frozenset(b"123")  # ParseComplete, BindComplete, CloseComplete
_OURS = frozenset(
    server_messages.command_complete(tag) for tag in ("BEGIN", "LOCK TABLE", "SELECT 0")
)  # before the client's own
_PARAMETER, _NOTIFICATION, _NOTICE = ord("S"), ord("A"), ord("N")
# PostgreSQL commits here, and says so, when the wait for followers is cancelled. Nobody may be told "committed" for that: to
# its session it is a lost connection, after which nobody knows.
_NOT_REPLICATED = b"canceling wait for synchronous replication"
_COUNTED = frozenset(b"2CI")  # what the answers to an additional statement and to the client's own are told apart by

_KINDS = frozenset(b"123ACDEGHIKNRSTVWZcdnstv")  # all that a server may send


_BIND = ord("2")
_NONE, FIRST, LAST, _REST = range(4)


class Relay(Protocol):
    """Who receives a relayed answer. Calls come in the order of the wire; `ready` or `lost` is the last."""

    def chunk(self, data: bytes) -> None: ...
    def error(self, message: bytes) -> None: ...
    def ready(self, backend: Backend, status: int) -> None: ...
    def lost(self, backend: Backend) -> None: ...


class Backend(asyncio.Protocol):
    """A logged-in connection. `pool` owns the idle ones; `state` is the session state it was last brought to."""

    def __init__(self, place: str, user: str, database: str) -> None:
        self.place = place
        self.user = user
        self.database = database
        self.pid = 0
        self.secret = 0
        self.address: tuple[str, int] | str = ("", 0)
        self.parameters: dict[str, str] = {}
        self.state: object | None = None  # None: unknown, must be reset before another session uses it
        self.names: frozenset[str] = frozenset()  # custom settings that it knows, and can never forget
        self.standing: object = ()  # settings that it has begun with, for its role or database
        self.prepared: OrderedDict[bytes, int] = OrderedDict()  # statements on the server, their bytes, oldest first
        self._prepared_bytes = 0
        self.idle_since = 0.0
        self.made_at = 0.0  # of a pool's, by the monotonic clock
        self.pool_generation = 0
        self.closed = False
        self.answering = False  # something was sent whose ReadyForQuery has not been read
        self.status = ord("I")  # of the last ReadyForQuery: I idle, T in a transaction, E in a failed one
        self._ahead = b""  # what is sent with the next write
        self._prelude = 0  # pull mode: so many ReadyForQuery answer what we sent ahead (BEGIN)
        self._begins = False  # pull mode: the next CommandComplete answers a BEGIN in front of its statement
        self.drawer: Any = None  # the session whose draws from sequences this backend remembers (gateway/drawing.py)
        self.cancelling: asyncio.Future[None] | None = None  # a cancel request is under way: not to be reused before
        self.on_notification: Callable[[bytes], None] | None = None
        self.on_close: Callable[[Backend], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._relay: Relay | None = None
        self._skip_ready = 0
        self._expected = b""  # relay mode: what those of `_swallow` look like if all goes well
        self._hidden = _NONE  # relay mode: which statement of the message is not the client's
        self._swallow = 0  # so many messages answer what we added, not the client's (Parse, Bind, Close, BEGIN)
        self._tail = b""  # the start of a message whose rest has not come yet (pull mode, or an unfinished header)
        self._long: Long | None = None  # pull mode: a long message that is being put together
        self._skip = 0  # relay mode: bytes still to come of a message that is already being relayed
        self._inbox: deque[tuple[int, bytes]] = deque()
        self._inbox_bytes = 0
        self.cover: Cover | None = None  # None: it is believed at any time
        self._held: list[bytes] = []  # what came when it was not to be believed
        self._stopped = False  # whoever is given what it says has enough for now
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None

    # --- life --------------------------------------------------------------------------------------------------

    def attach(self, transport: asyncio.Transport, early: bytes) -> None:
        """Takes over a transport whose login is finished; `early` came after the first ReadyForQuery."""
        self._transport = transport
        if early:
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.lost(self)
        self._wake()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.on_close is not None:
            self.on_close(self)

    def close(self) -> None:
        """Ends the session. A statement that is still running is cut off by the server when it notices."""
        if self._transport is not None and not self.closed:
            self._transport.write(b"X\x00\x00\x00\x04")
            self._transport.close()
        self.closed = True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.closed = True

    # --- writing -----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._transport is None or self.closed:
            raise lost_connection(self.place)
        self.answering = True
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            if len(data) < LARGE_BYTES:
                data = ahead + data
            else:
                self._transport.write(ahead)
        self._transport.write(data)

    def write_pieces(self, pieces: list[bytes]) -> None:
        """`write` of what the pieces are together. Large ones are not copied."""
        if max(map(len, pieces)) < LARGE_BYTES or self._transport is None:
            self.write(b"".join(pieces))
            return
        self.write(pieces[0])
        self._transport.writelines(pieces[1:])

    def write_statement(self, sql: bytes, then: bytes = b"") -> int:
        """A Query message, together with a BEGIN that was to go ahead: one text, one answer, one wake-up on either side.

        `then`: messages that follow it.

        Gives the number of characters that stand before `sql` now: errors count their positions from there.
        """
        if self._prelude != 1 or not self._ahead.startswith(b"BEGIN", 5):
            self.write(frontend.query(sql) + then)
            return 0
        begin = self._ahead[5:-1] + b"; "
        self._ahead, self._prelude, self._begins = b"", 0, True
        self.write(frontend.query(begin + sql) + then)
        return len(begin)

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    async def drain(self) -> None:
        """Waits until the server has taken most of what was written (bulk loads)."""
        if self._drained is not None:
            await self._drained

    # --- relay -------------------------------------------------------------------------------------------------

    def relay_to(
        self, relay: Relay, *, skip_ready: int = 0, swallow: int = 0, expected: bytes = b"", hidden: int = 0
    ) -> None:
        """From now on answers go to `relay`. The first `skip_ready` ReadyForQuery and all before them are our own.

        Then come `swallow` messages that answer our additions; `expected`, which is shorter than any error: what they are
        if all goes well, to be taken off at once. `hidden`: FIRST or LAST, of two statements that of ours, which has no rows.
        """
        self._relay = relay
        self._hidden = hidden
        self._skip_ready, self._prelude = skip_ready + self._prelude, 0
        self._swallow, self._expected = swallow, expected

    def relay_no_more(self) -> None:
        """What still comes of the answer is for `next`."""
        self._relay = None
        self._prelude, self._skip_ready, self._swallow, self._hidden = self._skip_ready, 0, 0, _NONE
        self._expected = b""
        if self._skip:
            self.abort()  # in the middle of a message

    def pause_reading(self) -> None:
        self._stopped = True
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._stopped = False
        if self._transport is not None and not self.closed and not self._held:
            self._transport.resume_reading()

    def _hold(self, cover: Cover, data: bytes) -> None:
        self._held.append(data)
        if self._transport is not None:
            self._transport.pause_reading()
        cover.hold(self)

    def believe(self) -> None:
        """What has come may be used."""
        held, self._held = self._held, []
        if self.closed:
            return
        if not self._stopped and self._transport is not None:
            self._transport.resume_reading()
        for data in held:
            self._take(data)

    def data_received(self, data: bytes) -> None:
        cover = self.cover
        if cover is not None and time.monotonic() >= cover.until:
            self._hold(cover, data)
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        if self._long is not None:
            data = cast(bytes, self._long.feed(data))
            if self._long.missing:
                return
            long, self._long = self._long, None
            self._deliver(long.kind, long.taken())
            self._delivered()
        if self._tail:
            data = self._tail + data
            self._tail = b""
        try:
            self._received(data)
        except PgError:  # a message that cannot be read
            self.abort()

    def _received(self, data: bytes) -> None:
        if self._relay is None:
            self._pull_received(data)
            return
        expected = self._expected
        if expected:
            if len(data) < len(expected):
                self._tail = data
                return
            self._expected = b""
            if data.startswith(expected):
                self._swallow = 0
                data = data[len(expected) :]
        if self._skip_ready or self._swallow:
            self._relay_filtered(data)
        else:
            self._relay_received(data)

    def _relay_received(self, data: bytes) -> None:
        """The hot path: walk the lengths, pass the bytes on."""
        relay = self._relay
        assert relay is not None
        position, size, start = self._skip, len(data), 0
        while position + 5 <= size:
            kind = data[position]
            following = position + 1 + _LENGTH(data, position + 1)[0]
            if kind == _ROW:
                position = following
                continue
            if kind == _READY:
                if following > size:
                    break
                if following != position + 6:
                    self.abort()
                    return
                if following != size:
                    self._tail = data[following:]
                self._finish(relay, data[start:following] if start or following != size else data, data[position + 5])
                return
            if not _is_sound(kind, following - position - 1):
                self.abort()
                return
            if self._hidden and kind in _COUNTED:
                if following > size:
                    break
                if self._is_hidden(kind):
                    if position > start:
                        relay.chunk(data[start:position])
                    start = following
            elif kind == _ERROR or kind == _PARAMETER or kind == _NOTICE:
                if following > size:
                    break
                if kind == _NOTICE:
                    if _NOT_REPLICATED in data[position:following]:
                        self.abort()
                        return
                    position = following
                    continue
                if kind == _PARAMETER:
                    self._note_parameter(data[position:following])
                else:
                    if position > start:
                        relay.chunk(data[start:position])
                    relay.error(data[position:following])
                    start = following
            position = following
        if position >= size:
            self._skip = position - size
            if self._skip > MESSAGE_BYTES_MAX:
                self.abort()
                return
            if start < size:
                relay.chunk(data[start:] if start else data)
            return
        self._skip = 0
        self._tail = data[position:]
        if position > start:
            relay.chunk(data[start:position])

    def _is_hidden(self, kind: int) -> bool:
        if self._hidden == LAST:  # up to the end of the client's own
            if kind != _BIND:
                self._hidden = _REST
            return False
        if self._hidden == FIRST:
            self._hidden = _NONE
        return True

    def _finish(self, relay: Relay, last: bytes, status: int) -> None:
        self._skip = 0
        self._relay = None
        self.answering = False
        self.status = status
        relay.chunk(last)
        relay.ready(self, status)
        if self._tail and self._relay is None:
            tail, self._tail = self._tail, b""
            self._pull_received(tail)

    def _relay_filtered(self, data: bytes) -> None:
        """As `_relay_received` while answers to our own additions have still to be taken out. Small and rare."""
        relay = self._relay
        assert relay is not None
        position, size = 0, len(data)
        while position + 5 <= size and (self._skip_ready or self._swallow):
            length = _LENGTH(data, position + 1)[0]
            if not _is_sound(data[position], length):
                self.abort()
                return
            following = position + 1 + length
            if following > size:
                break
            kind, message = data[position], data[position:following]
            position = following
            if kind == _PARAMETER:
                self._note_parameter(message)
            elif kind == _ERROR:
                relay.error(message)
                self._swallow = 0
            elif self._skip_ready:
                self._skip_ready -= kind == _READY
            elif kind in _ACKNOWLEDGEMENTS or message in _OURS:
                self._swallow -= 1
            else:
                relay.chunk(message)
        rest = data[position:]
        if not rest:
            return
        if self._skip_ready or self._swallow:
            self._tail = rest
        else:
            self._skip = 0
            self._relay_received(rest)

    # --- pull --------------------------------------------------------------------------------------------------

    def _pull_received(self, data: bytes) -> None:
        position, size, start, run = 0, len(data), 0, 0
        while position + 5 <= size:
            kind = data[position]
            length = _LENGTH(data, position + 1)[0]
            following = position + 1 + length
            if not _is_sound(kind, length):
                self.abort()
                return
            if following > size:
                break
            if kind != run or kind not in (_ROW, _COPY_DATA):
                if run:
                    self._deliver(run, data[start:position])
                start, run = position, kind
            position = following
        if run:
            self._deliver(run, data[start:position])
        self._keep(data[position:])
        self._delivered()

    def _delivered(self) -> None:
        if self._inbox_bytes > PULL_BYTES_AHEAD and not self._paused:
            self._paused = True
            self.pause_reading()
        self._wake()

    def _keep(self, rest: bytes) -> None:
        """The unfinished last message. A long one is gathered where it stays."""
        if len(rest) >= 5 and (size := _LENGTH(rest, 1)[0] + 1) - len(rest) > PULL_BYTES_AHEAD // 8:
            self._long = Long(rest[0], size)
            self._long.feed(rest)
        else:
            self._tail = rest

    def write_ahead(self, data: bytes) -> None:
        """A message whose answer cannot be an error and is not waited for (BEGIN): sent with the next `write`."""
        self._ahead += data
        self._prelude += 1

    def _deliver(self, kind: int, raw: bytes) -> None:
        if kind == _PARAMETER:
            self._note_parameter(raw)
            return
        if kind == _NOTIFICATION:
            if self.on_notification is not None:
                self.on_notification(raw)
            return
        if kind == _NOTICE and _NOT_REPLICATED in raw:
            self.abort()
        if self.closed:
            return
        if self._prelude and kind != _ERROR:
            self._prelude -= kind == _READY
            return
        if self._begins:
            self._begins = kind not in (_COMPLETE, _ERROR)
            if kind != _ERROR:
                return
        self._inbox.append((kind, raw))
        self._inbox_bytes += len(raw)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> tuple[int, bytes]:
        """The next message (kind, whole bytes); consecutive DataRow or CopyData messages come as one piece.

        Raises PgError 08006 when the connection is gone.
        """
        while not self._inbox:
            if self.closed:
                raise lost_connection(self.place)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        kind, raw = self._inbox.popleft()
        self._inbox_bytes -= len(raw)
        if kind == _READY:
            self.answering = False
            self.status = raw[5]
        if self._paused and self._inbox_bytes < PULL_BYTES_AHEAD // 2:
            self._paused = False
            self.resume_reading()
        return kind, raw

    async def answers(self) -> AsyncIterator[tuple[int, bytes]]:
        """As `next`, until ReadyForQuery. Errors are not given: the first is raised in the end."""
        failure: PgError | None = None
        while True:
            kind, raw = await self.next()
            if kind == _READY:
                break
            if kind == _ERROR:
                failure = failure or parse_error(raw)
            else:
                yield kind, raw
        if failure is not None:
            raise failure

    @property
    def unread(self) -> bool:
        """Something came that nobody asked for (such as 57P01 at shutdown): the connection is not to be trusted."""
        return bool(self._inbox) or bool(self._tail) or self._long is not None or bool(self._held)

    @property
    def failed(self) -> bool:
        """Pull mode: an error has come that has not been read yet."""
        return any(kind == _ERROR for kind, _ in self._inbox)

    def _note_parameter(self, raw: bytes) -> None:
        name, value = server_messages.parse_parameter_status(raw)
        self.parameters[name] = value

    # --- conversations -----------------------------------------------------------------------------------------

    async def query(self, sql: str) -> list[tuple[str | None, ...]]:
        """Runs a simple query of our own and gives the rows of its last result as text; raises the server's error."""
        self.write(simple_query(sql))
        rows: list[tuple[str | None, ...]] = []
        async for kind, raw in self.answers():
            if kind == _ROW:
                for row in split_messages(raw):
                    values = server_messages.parse_data_row(row)
                    rows.append(tuple(None if value is None else bytes(value).decode() for value in values))
            elif kind == ord("T"):
                rows = []
        return rows

    # --- prepared statements -----------------------------------------------------------------------------------

    def knows(self, name: bytes) -> bool:
        if name in self.prepared:
            self.prepared.move_to_end(name)
            return True
        return False

    def remember(self, name: bytes, size: int) -> tuple[bytes, int]:
        """Notes that `name` is being prepared, of a text of `size` bytes. Gives Close messages for the oldest, and how many,
        when there are too many or their texts, and with them what the server keeps of them, too long.
        """
        self.prepared[name] = size
        self._prepared_bytes += size
        closes: list[bytes] = []
        while len(self.prepared) > 1 and (
            len(self.prepared) > PREPARED_PER_BACKEND_MAX or self._prepared_bytes > PREPARED_BYTES_PER_BACKEND_MAX
        ):
            oldest, gone = self.prepared.popitem(last=False)
            self._prepared_bytes -= gone
            closes.append(close_statement(oldest))
        return b"".join(closes), len(closes)

    def forget(self, name: bytes) -> None:
        """It could not be prepared."""
        self._prepared_bytes -= self.prepared.pop(name, 0)


def _is_sound(kind: int, length: int) -> bool:
    """Whether a server may say this; one that does not speak the protocol, or has lost its place, is not listened to."""
    return kind in _KINDS and 4 <= length <= MESSAGE_BYTES_MAX and (kind != _READY or length == 5)


def split_messages(raw: bytes) -> list[bytes]:
    """The single messages of a piece that `Backend.next` gave."""
    messages, position = [], 0
    while position < len(raw):
        following = position + 1 + _LENGTH(raw, position + 1)[0]
        messages.append(raw[position:following])
        position = following
    return messages


def simple_query(sql: str) -> bytes:
    body = sql.encode() + b"\x00"
    return b"Q" + struct.pack("!I", len(body) + 4) + body


def close_statement(name: bytes) -> bytes:
    return b"C" + struct.pack("!I", len(name) + 6) + b"S" + name + b"\x00"


def lost_connection(place: str) -> PgError:
    return PgError(
        "08006",
        f"the connection to {place} was lost",
        detail="Whether the statement took effect is not known." if place != "workspace" else None,
    )


__all__ = ["Backend", "Relay", "close_statement", "lost_connection", "simple_query", "split_messages"]
