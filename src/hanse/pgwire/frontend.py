"""What a client sends: builders (we talk to a backend) and parsers (a client talks to us).

Manual, 55.7 "Message Formats". Names and texts are bytes. Parsers take the whole message with its header. What a server
can only judge with knowledge of the statement (unknown format codes, number of parameters) is left to the server.

`rebind` is on the path of every prepared statement that is forwarded: the gateway's name of the statement on that
backend replaces the client's, and nothing else is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from hanse.core.errors import FatalError, LostSynchronization, PgError, not_supported

from .primitives import (
    BODY,
    check_end,
    cstring,
    frame,
    header,
    pack_header,
    pack_int16s,
    pack_int32,
    pack_uint32,
    pack_uint32s,
    read_cstring,
    read_int16s,
    read_int32,
    read_uint32s,
    read_values,
    text_cstring,
    value_pieces,
    violation,
)

BIND: Final = ord("B")
CLOSE: Final = ord("C")
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")
COPY_FAIL: Final = ord("f")
DESCRIBE: Final = ord("D")
EXECUTE: Final = ord("E")
FLUSH: Final = ord("H")
FUNCTION_CALL: Final = ord("F")
PARSE: Final = ord("P")
PASSWORD: Final = ord("p")  # also SASLInitialResponse and SASLResponse: the state says which
QUERY: Final = ord("Q")
SYNC: Final = ord("S")
TERMINATE: Final = ord("X")

PROTOCOL_3_0: Final = 3 << 16
CANCEL_CODE: Final = 1234 << 16 | 5678
SSL_CODE: Final = 1234 << 16 | 5679
GSS_CODE: Final = 1234 << 16 | 5680

STATEMENT: Final = b"S"  # what Describe and Close speak of
PORTAL: Final = b"P"

_FLUSH = frame(b"H", b"")
_SYNC = frame(b"S", b"")
_TERMINATE = frame(b"X", b"")
_COPY_DONE = frame(b"c", b"")
_BIND_REST_PLAIN = b"\0\0"  # no formats: everything is text


class Parse(NamedTuple):
    name: bytes
    sql: bytes
    parameter_types: tuple[int, ...]  # 0: not declared


class Bind(NamedTuple):
    portal: bytes
    statement: bytes
    parameter_formats: tuple[int, ...]  # (): all text; one: for all
    values: list[bytes | None]
    result_formats: tuple[int, ...]  # as parameter_formats

    def parameter_format(self, index: int) -> int:
        """0 (text), 1 (binary), or what else the client wrote, of the parameter with this 0-based number."""
        formats = self.parameter_formats
        if len(formats) > 1:
            return formats[index]
        return formats[0] if formats else 0


class Target(NamedTuple):
    kind: bytes  # STATEMENT or PORTAL
    name: bytes


class Execute(NamedTuple):
    portal: bytes
    max_rows: int  # 0 or less: all


# --- builders ----------------------------------------------------------------------------------------------------


def query(sql: bytes) -> bytes:
    return frame(b"Q", cstring(sql))


def query_pieces(*texts: bytes) -> list[bytes]:
    """A Query of what the texts are together, in pieces: a text may have a gigabyte."""
    return [header(b"Q", sum(map(len, texts)) + 1), *texts, b"\0"]


def parse(name: bytes, sql: bytes, parameter_types: Sequence[int] = ()) -> bytes:
    return frame(b"P", cstring(name) + cstring(sql) + pack_uint32s(parameter_types))


def bind(
    portal: bytes,
    statement: bytes,
    values: Sequence[bytes | None] = (),
    *,
    parameter_formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    return b"".join(
        bind_pieces(portal, statement, values, parameter_formats=parameter_formats, result_formats=result_formats)
    )


def bind_pieces(
    portal: bytes,
    statement: bytes,
    values: Sequence[bytes | None] = (),
    *,
    parameter_formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> list[bytes]:
    """A Bind in pieces: what is sent with it is put together in one go, for a value may have a gigabyte."""
    formats = pack_int16s(parameter_formats) if parameter_formats else _BIND_REST_PLAIN
    results = pack_int16s(result_formats) if result_formats else _BIND_REST_PLAIN
    body = [cstring(portal), cstring(statement), formats, *value_pieces(values), results]
    return [header(b"B", sum(map(len, body))), *body]


def describe_statement(name: bytes) -> bytes:
    return frame(b"D", STATEMENT + cstring(name))


def describe_portal(name: bytes) -> bytes:
    return frame(b"D", PORTAL + cstring(name))


def execute(portal: bytes = b"", max_rows: int = 0) -> bytes:
    if not 0 <= max_rows <= 0x7FFFFFFF:
        max_rows = 0  # PostgreSQL reads "0 or less" as all rows
    return frame(b"E", cstring(portal) + pack_int32(max_rows))


def close_statement(name: bytes) -> bytes:
    return frame(b"C", STATEMENT + cstring(name))


def close_portal(name: bytes) -> bytes:
    return frame(b"C", PORTAL + cstring(name))


def flush() -> bytes:
    return _FLUSH


def sync() -> bytes:
    return _SYNC


def terminate() -> bytes:
    return _TERMINATE


def copy_data(data: bytes) -> bytes:
    return frame(b"d", data)


def copy_done() -> bytes:
    return _COPY_DONE


def copy_fail(reason: bytes) -> bytes:
    return frame(b"f", cstring(reason))


def password(secret: bytes) -> bytes:
    return frame(b"p", cstring(secret))


def sasl_initial_response(mechanism: str, response: bytes | None) -> bytes:
    counted = pack_int32(-1) if response is None else pack_uint32(len(response)) + response
    return frame(b"p", text_cstring(mechanism) + counted)


def sasl_response(response: bytes) -> bytes:
    return frame(b"p", response)


def startup(parameters: Mapping[str, str], *, protocol: int = PROTOCOL_3_0) -> bytes:
    """`parameters` holds `user`, usually `database`, and settings. An empty name would end the list: refused."""
    if "" in parameters:
        raise PgError("08P01", "a startup parameter has an empty name")
    pairs = b"".join(text_cstring(name) + text_cstring(value) for name, value in parameters.items())
    body = pack_uint32(protocol) + pairs + b"\0"
    return pack_uint32(len(body) + 4) + body


def ssl_request() -> bytes:
    return pack_uint32(8) + pack_uint32(SSL_CODE)


def gss_request() -> bytes:
    return pack_uint32(8) + pack_uint32(GSS_CODE)


def cancel_request(pid: int, secret: int) -> bytes:
    """Both as BackendKeyData gave them: unsigned, 32 bits."""
    return pack_uint32(16) + pack_uint32(CANCEL_CODE) + pack_uint32(pid & 0xFFFFFFFF) + pack_uint32(secret & 0xFFFFFFFF)


# --- parsers -----------------------------------------------------------------------------------------------------


def parse_query(raw: bytes) -> bytes:
    """The statement text, without its zero byte."""
    end = raw.find(0, BODY)
    if end < 0:
        raise violation("invalid string in message")
    if end != len(raw) - 1:
        raise violation("invalid message format")
    return raw[BODY:end]


def check_text(value: bytes) -> bytes:
    """PostgreSQL takes names and texts in the client's encoding, and no zero byte. Raises 22021."""
    if 0 in value:
        raise PgError("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError as error:
            wrong = " ".join(f"0x{byte:02x}" for byte in value[error.start : error.end])
            raise PgError("22021", f'invalid byte sequence for encoding "UTF8": {wrong}') from None
    return value


def parse_parse(raw: bytes) -> Parse:
    name, position = read_cstring(raw, BODY)
    sql, position = read_cstring(raw, position)
    types, position = read_uint32s(raw, position)
    check_end(raw, position)
    return Parse(check_text(name), sql, types)


def parse_bind(raw: bytes, view: memoryview | None = None) -> Bind:
    """`view`: of `raw`; the values are then parts of it, and no copies."""
    portal_end = raw.find(0, BODY)
    statement_end = raw.find(0, portal_end + 1)
    if portal_end < 0 or statement_end < 0:
        raise violation("invalid string in message")
    formats, position = read_int16s(raw, statement_end + 1)
    values, position = read_values(raw if view is None else view, position)
    if len(formats) > 1 and len(formats) != len(values):
        raise violation(f"bind message has {len(formats)} parameter formats but {len(values)} parameters")
    result_formats, position = read_int16s(raw, position)
    check_end(raw, position)
    portal, statement = check_text(raw[BODY:portal_end]), check_text(raw[portal_end + 1 : statement_end])
    return Bind(portal, statement, formats, values, result_formats)


def rebind(raw: bytes, statement: bytes) -> bytes:
    """The same Bind for another prepared statement; all other bytes are unchanged, and not checked."""
    portal_end = raw.find(0, BODY) + 1
    name_end = raw.find(0, portal_end)
    if not portal_end or name_end < 0:
        raise violation("invalid string in message")
    if 0 in statement:
        raise violation("invalid string in message")
    length = len(raw) - 1 + len(statement) - (name_end - portal_end)
    return pack_header(b"B", length) + raw[BODY:portal_end] + statement + raw[name_end:]


def parse_describe(raw: bytes) -> Target:
    return _target(raw, "DESCRIBE")


def parse_close(raw: bytes) -> Target:
    return _target(raw, "CLOSE")


def _target(raw: bytes, verb: str) -> Target:
    kind = raw[BODY : BODY + 1]
    if not kind:
        raise violation("no data left in message")
    name, position = read_cstring(raw, BODY + 1)
    check_end(raw, position)
    if kind != STATEMENT and kind != PORTAL:
        raise violation(f"invalid {verb} message subtype {kind[0]}")
    return Target(kind, check_text(name))


def parse_execute(raw: bytes) -> Execute:
    portal, position = read_cstring(raw, BODY)
    max_rows, position = read_int32(raw, position)
    check_end(raw, position)
    return Execute(check_text(portal), max_rows)


def parse_copy_fail(raw: bytes) -> bytes:
    """The client's reason, as it goes into PostgreSQL's `COPY from stdin failed: …` (57014)."""
    return read_cstring(raw, BODY)[0]  # PostgreSQL does not look at what follows it


def parse_empty(raw: bytes) -> None:
    """Sync, Flush, CopyDone, Terminate: nothing may follow the header."""
    check_end(raw, BODY)


def parse_sasl_initial_response(raw: bytes) -> tuple[str, bytes | None]:
    """(mechanism, initial response or None)."""
    mechanism, position = read_cstring(raw, BODY)
    length, position = read_int32(raw, position)
    if length == -1:
        check_end(raw, position)
        return mechanism.decode("ascii", "backslashreplace"), None
    if length < 0 or position + length > len(raw):
        raise violation("insufficient data left in message")
    check_end(raw, position + length)
    return mechanism.decode("ascii", "backslashreplace"), raw[position:]


# --- refusals ----------------------------------------------------------------------------------------------------


def function_call_refused() -> PgError:
    """FunctionCall runs a function by OID, with arguments in its own framing; libpq's PQfn and large objects use it."""
    return not_supported(
        "the function call protocol is not supported",
        hint="Call the function in a SELECT statement.",
    )


def unknown_message(kind: int) -> FatalError:
    """For a kind that no client may send; PostgreSQL closes the connection, as the stream's framing is in doubt."""
    return FatalError("08P01", f"invalid frontend message type {kind}")


def unexpected_in_copy(kind: int) -> PgError:
    """For a message other than CopyData, CopyDone, CopyFail, Flush and Sync while COPY FROM STDIN runs."""
    return LostSynchronization("08P01", f"unexpected message type 0x{kind:02X} during COPY from stdin")
