"""Bytes from a socket → whole messages.

A message is one byte of kind, four bytes of length (which counts itself, not the kind) and the body. Three ways to
walk them, from most convenient to cheapest:

* `Framer`: feed chunks as they come, take whole messages. A chunk that holds exactly whole messages is sliced without
  being copied first; a message that spans chunks is gathered in a bytearray, each byte moved a few times at most.
* `scan`: the places of whole messages in a buffer, for a relay that forwards slices or the buffer itself.
* `take_message`: one message from the front of a bytearray, for handshakes.

The length is checked as soon as five bytes are there, so a sender cannot make us wait for, and hold, more than the
limit. After an error the stream has no boundaries any more: every further call raises again, and the connection must be
closed.
"""

from __future__ import annotations

from typing import NamedTuple

from hanse.core.limits import MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX

from .primitives import BODY, unpack_uint32, violation


class Message(NamedTuple):
    kind: int  # the first byte
    raw: bytes  # the whole message, header included

    @property
    def body(self) -> bytes:
        return self.raw[BODY:]


_message = tuple.__new__  # half the cost of Message(kind, raw), which is a Python function


class Framer:
    """Cuts a stream into messages. `bytes_max` bounds the length word of one message and may be changed at any time.

    `large`: the kinds that may be longer than SMALL_MESSAGE_BYTES_MAX; None: all.
    """

    __slots__ = ("_buffer", "_start", "bytes_max", "large")

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX, *, large: frozenset[int] | None = None) -> None:
        self.bytes_max = bytes_max
        self.large = large
        self._buffer: bytes | bytearray = b""
        self._start = 0  # what lies before was taken already

    def __len__(self) -> int:
        """Bytes that are held and not yet taken."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Appends a chunk. Call `next` until it gives None before the next chunk, or the limit bounds nothing."""
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
        return self._buffer[self._start] if len(self) else None

    def put_back(self, message: Message) -> None:
        """Undoes the `next` that gave this message; nothing may have been fed since."""
        if self._buffer:
            self._start -= len(message.raw)
        else:
            self._buffer = message.raw

    def rest(self) -> bytes:
        """Takes what is held, whole message or not: for handing a stream on."""
        rest = bytes(self._buffer[self._start :])
        self._buffer = b""
        self._start = 0
        return rest


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
