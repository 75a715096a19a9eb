"""What a server sends: builders (we answer a client) and parsers (a backend answers us).

Manual, 55.7 "Message Formats". Messages without content are constants. Errors and notices are in `diagnostics`, whose
functions are importable from here, too.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from hanse.core.errors import PgError

from .diagnostics import error_response, notice_response, parse_error, rewrite, sqlstate_of
from .primitives import (
    BODY,
    check_end,
    decode,
    frame,
    insufficient,
    pack_int16s,
    pack_int32,
    pack_uint32,
    pack_uint32s,
    pack_values,
    read_cstring,
    read_int16s,
    read_int32,
    read_uint16,
    read_uint32,
    read_uint32s,
    read_values,
    text_cstring,
    violation,
)

__all__ = [
    "AUTHENTICATION",
    "BACKEND_KEY_DATA",
    "BIND_COMPLETE",
    "CLOSE_COMPLETE",
    "COMMAND_COMPLETE",
    "COPY_BOTH_RESPONSE",
    "COPY_DATA",
    "COPY_DONE",
    "COPY_IN_RESPONSE",
    "COPY_OUT_RESPONSE",
    "DATA_ROW",
    "EMPTY_QUERY",
    "ERROR_RESPONSE",
    "NEGOTIATE_PROTOCOL_VERSION",
    "NOTICE_RESPONSE",
    "NOTIFICATION",
    "NO_DATA",
    "PARAMETER_DESCRIPTION",
    "PARAMETER_STATUS",
    "PARSE_COMPLETE",
    "PORTAL_SUSPENDED",
    "READY_FOR_QUERY",
    "ROW_DESCRIPTION",
    "CopyResponse",
    "Field",
    "Notification",
    "authentication_ok",
    "authentication_sasl",
    "authentication_sasl_continue",
    "authentication_sasl_final",
    "backend_key_data",
    "bind_complete",
    "close_complete",
    "command_complete",
    "copy_both_response",
    "copy_data",
    "copy_done",
    "copy_in_response",
    "copy_out_response",
    "data_row",
    "empty_query",
    "error_response",
    "negotiate_protocol_version",
    "no_data",
    "notice_response",
    "notification",
    "parameter_description",
    "parameter_status",
    "parse_authentication",
    "parse_backend_key_data",
    "parse_command_complete",
    "parse_complete",
    "parse_copy_response",
    "parse_data_row",
    "parse_error",
    "parse_negotiate_protocol_version",
    "parse_notification",
    "parse_parameter_description",
    "parse_parameter_status",
    "parse_ready_for_query",
    "parse_row_description",
    "parse_sasl_mechanisms",
    "portal_suspended",
    "ready_for_query",
    "rewrite",
    "row_description",
    "sqlstate_of",
]

AUTHENTICATION: Final = ord("R")
BACKEND_KEY_DATA: Final = ord("K")
BIND_COMPLETE: Final = ord("2")
CLOSE_COMPLETE: Final = ord("3")
COMMAND_COMPLETE: Final = ord("C")
COPY_BOTH_RESPONSE: Final = ord("W")
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")
COPY_IN_RESPONSE: Final = ord("G")
COPY_OUT_RESPONSE: Final = ord("H")
DATA_ROW: Final = ord("D")
EMPTY_QUERY: Final = ord("I")
ERROR_RESPONSE: Final = ord("E")
NEGOTIATE_PROTOCOL_VERSION: Final = ord("v")
NOTICE_RESPONSE: Final = ord("N")
NOTIFICATION: Final = ord("A")
NO_DATA: Final = ord("n")
PARAMETER_DESCRIPTION: Final = ord("t")
PARAMETER_STATUS: Final = ord("S")
PARSE_COMPLETE: Final = ord("1")
PORTAL_SUSPENDED: Final = ord("s")
READY_FOR_QUERY: Final = ord("Z")
ROW_DESCRIPTION: Final = ord("T")

AUTH_OK: Final = 0
AUTH_CLEARTEXT: Final = 3
AUTH_MD5: Final = 5
AUTH_SASL: Final = 10
AUTH_SASL_CONTINUE: Final = 11
AUTH_SASL_FINAL: Final = 12

_FIELD = struct.Struct(">IhIhih")
_READY = {status: frame(b"Z", status) for status in (b"I", b"T", b"E")}
_PARSE_COMPLETE = frame(b"1", b"")
_BIND_COMPLETE = frame(b"2", b"")
_CLOSE_COMPLETE = frame(b"3", b"")
_NO_DATA = frame(b"n", b"")
_EMPTY_QUERY = frame(b"I", b"")
_PORTAL_SUSPENDED = frame(b"s", b"")
_COPY_DONE = frame(b"c", b"")
_AUTHENTICATION_OK = frame(b"R", pack_uint32(AUTH_OK))


class Field(NamedTuple):
    """One column of a RowDescription."""

    name: str
    table_oid: int = 0  # 0: not a plain column of a table
    column: int = 0  # its attribute number there
    type_oid: int = 25
    type_size: int = -1  # negative: of variable width
    type_modifier: int = -1
    format: int = 0  # 0 text, 1 binary


class CopyResponse(NamedTuple):
    format: int  # 0 text (and CSV), 1 binary
    column_formats: tuple[int, ...]


class Notification(NamedTuple):
    pid: int
    channel: str
    payload: str


# --- builders ----------------------------------------------------------------------------------------------------


def authentication_ok() -> bytes:
    return _AUTHENTICATION_OK


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    return frame(b"R", pack_uint32(AUTH_SASL) + b"".join(map(text_cstring, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    return frame(b"R", pack_uint32(AUTH_SASL_CONTINUE) + data)


def authentication_sasl_final(data: bytes) -> bytes:
    return frame(b"R", pack_uint32(AUTH_SASL_FINAL) + data)


def backend_key_data(pid: int, secret: int) -> bytes:
    """Both unsigned, 32 bits."""
    return frame(b"K", pack_uint32(pid & 0xFFFFFFFF) + pack_uint32(secret & 0xFFFFFFFF))


def parameter_status(name: str, value: str) -> bytes:
    return frame(b"S", text_cstring(name) + text_cstring(value))


def ready_for_query(status: bytes) -> bytes:
    """`status`: b"I" idle, b"T" in a transaction, b"E" in a failed one."""
    return _READY[status]


def row_description(fields: Sequence[Field]) -> bytes:
    try:
        parts = [struct.pack(">H", len(fields))]
        parts.extend(text_cstring(field.name) + _FIELD.pack(*field[1:]) for field in fields)
    except struct.error as error:
        raise PgError("54000", f"a row description cannot be sent: {error}") from None
    return frame(b"T", b"".join(parts))


def data_row(values: Sequence[bytes | None]) -> bytes:
    return frame(b"D", pack_values(values))


def command_complete(tag: str) -> bytes:
    return frame(b"C", text_cstring(tag))


def parse_complete() -> bytes:
    return _PARSE_COMPLETE


def bind_complete() -> bytes:
    return _BIND_COMPLETE


def close_complete() -> bytes:
    return _CLOSE_COMPLETE


def no_data() -> bytes:
    return _NO_DATA


def empty_query() -> bytes:
    return _EMPTY_QUERY


def portal_suspended() -> bytes:
    return _PORTAL_SUSPENDED


def parameter_description(type_oids: Sequence[int]) -> bytes:
    return frame(b"t", pack_uint32s(type_oids))


def copy_in_response(format: int, column_formats: Sequence[int]) -> bytes:
    return _copy_response(b"G", format, column_formats)


def copy_out_response(format: int, column_formats: Sequence[int]) -> bytes:
    return _copy_response(b"H", format, column_formats)


def copy_both_response(format: int, column_formats: Sequence[int]) -> bytes:
    return _copy_response(b"W", format, column_formats)


def _copy_response(kind: bytes, format: int, column_formats: Sequence[int]) -> bytes:
    return frame(kind, (b"\1" if format else b"\0") + pack_int16s(column_formats))


def copy_data(data: bytes) -> bytes:
    return frame(b"d", data)


def copy_done() -> bytes:
    return _COPY_DONE


def negotiate_protocol_version(version: int, unknown_options: Sequence[str]) -> bytes:
    """`version` is the whole newest version (3 << 16), not its minor part alone: so PostgreSQL sends it."""
    names = b"".join(map(text_cstring, unknown_options))
    return frame(b"v", pack_uint32(version) + pack_int32(len(unknown_options)) + names)


def notification(pid: int, channel: str, payload: str) -> bytes:
    return frame(b"A", pack_uint32(pid & 0xFFFFFFFF) + text_cstring(channel) + text_cstring(payload))


# --- parsers -----------------------------------------------------------------------------------------------------


def parse_authentication(raw: bytes) -> tuple[int, bytes]:
    """(code, what follows it): AUTH_OK, AUTH_SASL …"""
    code, position = read_uint32(raw, BODY)
    return code, raw[position:]


def parse_sasl_mechanisms(payload: bytes) -> tuple[str, ...]:
    """The list in an AuthenticationSASL, from `parse_authentication`."""
    names: list[str] = []
    position = 0
    while True:
        name, position = read_cstring(payload, position)
        if not name:
            check_end(payload, position)
            return tuple(names)
        names.append(name.decode("ascii", "backslashreplace"))


def parse_backend_key_data(raw: bytes) -> tuple[int, int]:
    """(pid, secret), both unsigned. A longer secret belongs to protocol 3.2, which we never ask for."""
    pid, position = read_uint32(raw, BODY)
    secret, position = read_uint32(raw, position)
    check_end(raw, position)
    return pid, secret


def parse_parameter_status(raw: bytes) -> tuple[str, str]:
    name, position = read_cstring(raw, BODY)
    value, position = read_cstring(raw, position)
    check_end(raw, position)
    return decode(name), decode(value)


def parse_ready_for_query(raw: bytes) -> bytes:
    """b"I", b"T" or b"E"."""
    status = raw[BODY:]
    if status not in _READY:
        raise violation("invalid message format")
    return status


def parse_row_description(raw: bytes) -> tuple[Field, ...]:
    count, position = read_uint16(raw, BODY)
    fields: list[Field] = []
    try:
        for _ in range(count):
            name, position = read_cstring(raw, position)
            fields.append(Field(decode(name), *_FIELD.unpack_from(raw, position)))
            position += _FIELD.size
    except struct.error:
        raise insufficient() from None
    check_end(raw, position)
    return tuple(fields)


def parse_data_row(raw: bytes) -> list[bytes | None]:
    values, position = read_values(raw, BODY)
    if position != len(raw):
        raise violation("invalid message format")
    return values


def parse_command_complete(raw: bytes) -> str:
    """The command tag: `INSERT 0 1`."""
    tag, position = read_cstring(raw, BODY)
    check_end(raw, position)
    return decode(tag)


def parse_parameter_description(raw: bytes) -> tuple[int, ...]:
    type_oids, position = read_uint32s(raw, BODY)
    check_end(raw, position)
    return type_oids


def parse_notification(raw: bytes) -> Notification:
    pid, position = read_uint32(raw, BODY)
    channel, position = read_cstring(raw, position)
    payload, position = read_cstring(raw, position)
    check_end(raw, position)
    return Notification(pid, decode(channel), decode(payload))


def parse_copy_response(raw: bytes) -> CopyResponse:
    if len(raw) <= BODY:
        raise violation("no data left in message")
    column_formats, position = read_int16s(raw, BODY + 1)
    check_end(raw, position)
    return CopyResponse(raw[BODY], column_formats)


def parse_negotiate_protocol_version(raw: bytes) -> tuple[int, tuple[str, ...]]:
    """(newest version the server speaks, protocol options it does not know)."""
    version, position = read_uint32(raw, BODY)
    count, position = read_int32(raw, position)
    names: list[str] = []
    for _ in range(count):
        name, position = read_cstring(raw, position)
        names.append(decode(name))
    check_end(raw, position)
    return version, tuple(names)
