"""Bytes from a socket → whole messages.

A message is one byte of kind, four bytes of length (which counts itself, not the kind) and the body. Three ways to
walk them, from most convenient to cheapest:

* `Framer`: feed chunks as they come, take whole messages. A chunk that holds exactly whole messages is sliced without
  being copied first; a message that spans chunks is gathered in a bytearray, each byte moved a few times at most. A long
  one is gathered where it stays, for a copy of a gigabyte takes a second in which nothing else goes on; its receiver can
  ask to have it dropped instead.
* `scan`: the places of whole messages in a buffer, for a relay that forwards slices or the buffer itself.
* `take_message`: one message from the front of a bytearray, for handshakes.

The length is checked as soon as five bytes are there, so a sender cannot make us wait for, and hold, more than the
limit. After an error the stream has no boundaries any more: every further call raises again, and the connection must be
closed.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

from hanse.core.limits import LONG_MESSAGE_BYTES, MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX

from .primitives import BODY, unpack_uint32, violation


class Message(NamedTuple):
    kind: int  # the first byte
    raw: bytes  # the whole message, header included; empty for one that was dropped

    @property
    def body(self) -> bytes:
        return self.raw[BODY:]


_message = tuple.__new__  # half the cost of Message(kind, raw), which is a Python function


class Framer:
    """Cuts a stream into messages. `bytes_max` bounds the length word of one message and may be changed at any time.

    `large`: the kinds that may be longer than SMALL_MESSAGE_BYTES_MAX; None: all.
    """

    __slots__ = ("_buffer", "_long", "_returned", "_start", "bytes_max", "large")

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX, *, large: frozenset[int] | None = None) -> None:
        self.bytes_max = bytes_max
        self.large = large
        self._buffer: bytes | bytearray = b""
        self._start = 0  # what lies before was taken already
        self._long: Long | None = None  # has begun, before what is in the buffer
        self._returned: Message | None = None  # by `put_back`

    def __len__(self) -> int:
        """Bytes that are held and not yet taken."""
        held = len(self._buffer) - self._start
        if self._returned is not None:
            held += max(len(self._returned.raw), BODY)
        return held if self._long is None else held + max(len(self._long), BODY)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Appends a chunk. Call `next` until it gives None before the next chunk, or the limit bounds nothing."""
        if self._long is not None and self._long.missing:
            data = self._long.feed(data)
            if not data:
                return
        start = self._start
        if start == len(self._buffer):
            self._buffer = data if type(data) is bytes else bytes(data)
        else:
            buffer = self._buffer
            if type(buffer) is bytes:
                buffer = self._buffer = bytearray(memoryview(buffer)[start:])
            else:
                del buffer[:start]  # type: ignore[union-attr]  # cheap: a bytearray moves its front, not its bytes
            buffer += data
        self._start = 0

    def next(self) -> Message | None:
        """The next whole message, or None until more is fed. Raises 08P01 for a length that cannot be."""
        if self._returned is not None:
            message, self._returned = self._returned, None
            return message
        if self._long is not None:
            if self._long.missing:
                return None
            long, self._long = self._long, None
            return _message(Message, (long.kind, long.taken()))
        buffer = self._buffer
        start = self._start
        available = len(buffer) - start
        if available < BODY:
            if not available:
                self._buffer = b""  # let a large buffer go
                self._start = 0
            return None
        length = unpack_uint32(buffer, start + 1)[0]
        if length < 4 or length > self.bytes_max:
            raise violation("invalid message length")
        if available <= length:
            if length > SMALL_MESSAGE_BYTES_MAX and self.large is not None and buffer[start] not in self.large:
                raise violation("invalid message length")
            if length >= LONG_MESSAGE_BYTES:
                self._long = Long(buffer[start], length + 1)
                self._long.feed(memoryview(buffer)[start:])
                self._buffer, self._start = b"", 0
            return None
        self._start = end = start + length + 1
        if type(buffer) is bytes:
            return _message(Message, (buffer[start], buffer[start:end]))
        message = _message(Message, (buffer[start], bytes(memoryview(buffer)[start:end])))
        if end == len(buffer):  # what was gathered need not lie there twice until the next chunk
            self._buffer, self._start = b"", 0
        return message

    def feed_all(self, data: bytes) -> list[Message]:
        """`feed` and every `next` in one call, cheapest where the chunk holds whole messages. Raises as `next`.

        On an error the whole messages before it are lost with it: the connection is broken in any case.
        """
        found: list[Message] = []
        if self._start == len(self._buffer):
            start = 0
            for kind, begin, end in scan(data, 0, self.bytes_max):
                found.append(_message(Message, (kind, data[begin:end])))
                start = end
            self._buffer = data if start < len(data) else b""
            self._start = start if start < len(data) else 0
            return found
        self.feed(data)
        while (message := self.next()) is not None:
            found.append(message)
        return found

    @property
    def kind(self) -> int | None:
        """Of the message that has begun and is not whole; None: nothing is held."""
        if self._returned is not None:
            return self._returned.kind
        if self._long is not None:
            return self._long.kind
        return self._buffer[self._start] if len(self) else None

    @property
    def announced(self) -> int:
        """The bytes of a long message that has begun; 0: none has, or it is being dropped."""
        return self._long.size if self._long is not None and not self._long.dropped else 0

    def drop(self) -> None:
        """The long message that has begun is not kept: `next` will give it empty, in its place."""
        assert self._long is not None
        self._long.drop()

    def put_back(self, message: Message) -> None:
        """Undoes the `next` that gave this message; nothing may have been fed since."""
        self._returned = message

    def rest(self) -> bytes:
        """Takes what is held, whole message or not: for handing a stream on."""
        rest = bytes(self._buffer[self._start :])
        if self._long is not None:
            rest = self._long.taken() + rest
        if self._returned is not None:
            rest = self._returned.raw + rest
        self._buffer, self._start, self._long, self._returned = b"", 0, None, None
        return rest


class Long:
    """One message of many chunks. They are gathered in a BytesIO, which grows in place and gives its bytes without a copy."""

    __slots__ = ("_gathered", "kind", "missing", "size")

    def __init__(self, kind: int, size: int) -> None:
        self.kind = kind
        self.size = size
        self.missing = size
        self._gathered: BytesIO | None = BytesIO()

    def __len__(self) -> int:
        """Bytes that are held."""
        return 0 if self._gathered is None else self.size - self.missing

    @property
    def dropped(self) -> bool:
        return self._gathered is None

    def feed(self, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """Takes what belongs to the message; gives the rest."""
        own = data if len(data) <= self.missing else memoryview(data)[: self.missing]
        self.missing -= len(own)
        if self._gathered is not None:
            self._gathered.write(own)
        return data[len(own) :]

    def drop(self) -> None:
        self._gathered = None

    def taken(self) -> bytes:
        return b"" if self._gathered is None else self._gathered.getvalue()


def scan(
    buffer: bytes | bytearray | memoryview, start: int = 0, bytes_max: int = MESSAGE_BYTES_MAX
) -> list[tuple[int, int, int]]:
    """(kind, start, end) of every whole message from `start` on; a cut one at the end is not among them.

    The last tuple's `end` says how far whole messages reach. Raises 08P01 for a length that cannot be, of the
    cut one, too.
    """
    found: list[tuple[int, int, int]] = []
    size = len(buffer)
    while size - start >= BODY:
        length = unpack_uint32(buffer, start + 1)[0]
        if length < 4 or length > bytes_max:
            raise violation("invalid message length")
        end = start + length + 1
        if end > size:
            break
        found.append((buffer[start], start, end))
        start = end
    return found


def take_message(buffer: bytearray, bytes_max: int) -> Message | None:
    """Removes one whole message from the front of `buffer`. Raises as `Framer.next`."""
    if len(buffer) < BODY:
        return None
    length = unpack_uint32(buffer, 1)[0]
    if length < 4 or length > bytes_max:
        raise violation("invalid message length")
    if len(buffer) <= length:
        return None
    raw = bytes(memoryview(buffer)[: length + 1])
    del buffer[: length + 1]
    return Message(raw[0], raw)
