"""The few forms that all messages are made of: integers, strings that end in a zero byte, counted values.

Readers take a buffer and a position and return the value and the next position. They complain in the words of
PostgreSQL's pqformat.c, with SQLSTATE 08P01.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import cast

from hanse.core.errors import PgError
from hanse.core.limits import MESSAGE_BYTES_MAX

BODY = 5  # where a message's body starts: after one byte of kind and four of length

pack_header = struct.Struct(">cI").pack
pack_uint16 = struct.Struct(">H").pack
pack_int32 = struct.Struct(">i").pack
pack_uint32 = struct.Struct(">I").pack
unpack_int16 = struct.Struct(">h").unpack_from
unpack_uint16 = struct.Struct(">H").unpack_from
unpack_int32 = struct.Struct(">i").unpack_from
unpack_uint32 = struct.Struct(">I").unpack_from

_NULL = pack_int32(-1)
_NO_FORMATS: tuple[int, ...] = ()


def violation(message: str, *, detail: str | None = None) -> PgError:
    """08P01 protocol_violation: the other side does not speak the protocol."""
    return PgError("08P01", message, detail=detail)


def insufficient() -> PgError:
    return violation("insufficient data left in message")


def frame(kind: bytes, body: bytes) -> bytes:
    """A whole message. Raises 54000 for more than PostgreSQL would take."""
    return header(kind, len(body)) + body


def header(kind: bytes, body_length: int) -> bytes:
    length = body_length + 4
    if length > MESSAGE_BYTES_MAX:
        raise PgError("54000", f"message of {length} bytes exceeds the limit of {MESSAGE_BYTES_MAX} bytes")
    return pack_header(kind, length)


def cstring(value: bytes) -> bytes:
    """With its zero byte; a value that holds one itself could smuggle in further fields, so it is refused (22021)."""
    if 0 in value:
        raise PgError("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    return value + b"\0"


def encode(value: str) -> bytes:
    """The inverse of `decode`. Raises 22021 for a str that is no text (a lone surrogate)."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise PgError("22021", "text holds a code point that UTF-8 cannot represent") from None


def decode(value: bytes) -> str:
    """As UTF-8; bytes that are not become lone surrogates, from which `encode` makes the same bytes again."""
    return value.decode("utf-8", "surrogateescape")


def text_cstring(value: str) -> bytes:
    return cstring(encode(value))


def read_cstring(raw: bytes, position: int) -> tuple[bytes, int]:
    end = raw.find(0, position)
    if end < 0:
        raise violation("invalid string in message")
    return raw[position:end], end + 1


def read_uint16(raw: bytes, position: int) -> tuple[int, int]:
    return _read(unpack_uint16, raw, position), position + 2


def read_int32(raw: bytes, position: int) -> tuple[int, int]:
    return _read(unpack_int32, raw, position), position + 4


def read_uint32(raw: bytes, position: int) -> tuple[int, int]:
    return _read(unpack_uint32, raw, position), position + 4


def _read(unpack: Callable[[bytes, int], tuple[int, ...]], raw: bytes, position: int) -> int:
    try:
        return unpack(raw, position)[0]
    except struct.error:
        raise insufficient() from None


def check_end(raw: bytes, position: int) -> None:
    if position != len(raw):
        raise violation("invalid message format")


def read_int16s(raw: bytes, position: int) -> tuple[tuple[int, ...], int]:
    """A count (16 bits) and so many 16 bit integers: format codes."""
    try:
        count = unpack_uint16(raw, position)[0]
        if count == 0:
            return _NO_FORMATS, position + 2
        if count == 1:
            return unpack_int16(raw, position + 2), position + 4
        return struct.unpack_from(f">{count}h", raw, position + 2), position + 2 + 2 * count
    except struct.error:
        raise insufficient() from None


def read_uint32s(raw: bytes, position: int) -> tuple[tuple[int, ...], int]:
    """A count (16 bits) and so many 32 bit integers: type OIDs."""
    try:
        count = unpack_uint16(raw, position)[0]
        return struct.unpack_from(f">{count}I", raw, position + 2), position + 2 + 4 * count
    except struct.error:
        raise insufficient() from None


def read_values(raw: bytes | memoryview, position: int) -> tuple[list[bytes | None], int]:
    """A count (16 bits) and so many values, each with its length (-1: NULL): parameters of a Bind, a row's columns."""
    values: list[bytes | None] = []
    try:
        count = unpack_uint16(raw, position)[0]
        position += 2
        for _ in range(count):
            length = unpack_int32(raw, position)[0]
            position += 4
            if length >= 0:
                end = position + length
                values.append(cast(bytes, raw[position:end]))
                position = end
            elif length == -1:
                values.append(None)
            else:
                raise insufficient()
    except struct.error:
        raise insufficient() from None
    if position > len(raw):  # the last value was cut short; an earlier one makes the next unpack fail
        raise insufficient()
    return values, position


def pack_int16s(values: Sequence[int]) -> bytes:
    return pack_counted("h", values)


def pack_uint32s(values: Sequence[int]) -> bytes:
    return pack_counted("I", values)


def pack_counted(code: str, values: Sequence[int]) -> bytes:
    try:
        return struct.pack(f">H{len(values)}{code}", len(values), *values)
    except struct.error as error:
        raise PgError("54000", f"a list in a message cannot be sent: {error}") from None


def pack_values(values: Sequence[bytes | None]) -> bytes:
    return b"".join(value_pieces(values))


def value_pieces(values: Sequence[bytes | None]) -> list[bytes]:
    """What `pack_values` puts together: a value may have a gigabyte, and a message be one of several that are sent at once."""
    if len(values) > 0xFFFF:
        raise PgError("54000", f"a message cannot hold {len(values)} values, at most 65535")
    parts = [pack_uint16(len(values))]
    for value in values:
        if value is None:
            parts.append(_NULL)
        elif len(value) > MESSAGE_BYTES_MAX:
            raise PgError("54000", f"a value of {len(value)} bytes cannot be sent")
        else:
            parts.append(pack_uint32(len(value)))
            parts.append(value)
    return parts
