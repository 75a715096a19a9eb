"""COPY's three formats: options, errors, and single fields. `copy_rows` finds rows, `copy_split` sends them to shards.

Sources: manual, COPY, "File Formats"; commands/copyfromparse.c, whose error messages and line numbers these are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import PgError, not_supported
from ..core.ids import parse_identifier_list

# Encodings in which a byte below 128 can be part of another character (pg_wchar.h: client-only encodings).
_NOT_ASCII_SAFE = frozenset(("SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFTJIS2004", "SHIFT_JIS_2004"))
_DISPLAY_BYTES_MAX = 100  # MAX_COPY_DATA_DISPLAY


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """The options of one COPY, defaults filled in. `header`: '', 'true' or 'match'.

    `force_null`, `force_not_null`: column names, or ('*',) for all. `utf8`: the stream is in UTF-8.
    """

    format: str = "text"  # 'text', 'csv', 'binary'
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    default: bytes | None = None
    header: str = ""
    quote: bytes = b'"'
    escape: bytes = b'"'
    force_null: tuple[str, ...] = ()
    force_not_null: tuple[str, ...] = ()
    utf8: bool = True

    @staticmethod
    def of(options: Sequence[tuple[str, str]], client_encoding: str = "UTF8") -> CopyOptions:
        """From the normalised pairs of plan.CopyIn and plan.CopyOut. PostgreSQL has checked them."""
        given = dict(options)
        kind = given.get("format", "text").lower()
        encoding = given.get("encoding", client_encoding).upper().replace("-", "")
        if encoding in _NOT_ASCII_SAFE:
            raise not_supported(f"COPY of a sharded table in encoding {encoding} is not supported", hint="Use UTF8.")
        csv = kind == "csv"
        quote = given.get("quote", '"').encode()
        return CopyOptions(
            format=kind,
            delimiter=given.get("delimiter", "," if csv else "\t").encode(),
            null=given.get("null", "" if csv else "\\N").encode(),
            default=given["default"].encode() if "default" in given else None,
            header=_header(given.get("header", "")),
            quote=quote,
            escape=given["escape"].encode() if "escape" in given else quote,
            force_null=_names(given, "force_null"),
            force_not_null=_names(given, "force_not_null"),
            utf8=encoding in ("UTF8", "UNICODE", "SQL_ASCII"),
        )


def _header(text: str) -> str:
    word = text.lower()
    return word if word == "match" else "true" if word in ("true", "on", "1") else ""


def _names(given: Mapping[str, str], option: str) -> tuple[str, ...]:
    text = given.get(option, "")
    return ("*",) if text.strip() == "*" else parse_identifier_list(text)


# --- errors ------------------------------------------------------------------------------------------------------


def bad_copy(message: str, table: str, line: int, row: bytes | None = None, hint: str | None = None) -> PgError:
    """22P04 with PostgreSQL's context: COPY accounts, line 3: "1<tab>2"."""
    return PgError("22P04", message, hint=hint, fields={"W": copy_context(table, line, row)})


def copy_context(table: str, line: int, row: bytes | None = None) -> str:
    context = f"COPY {table}, line {line}"
    if row is None:
        return context
    shown = row[:_DISPLAY_BYTES_MAX].decode(errors="ignore") + "..." if len(row) > _DISPLAY_BYTES_MAX else None
    return f'{context}: "{shown or row.decode(errors="replace")}"'


def invalid_utf8(data: bytes, table: str, line: int) -> PgError:
    """22021 as report_invalid_encoding() words it. `data` is not UTF-8, or has a zero byte."""
    start = data.find(b"\0")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        start = error.start if start < 0 else min(start, error.start)
    lead = data[start]
    length = 4 if 0xF0 <= lead < 0xF8 else 3 if 0xE0 <= lead < 0xF0 else 2 if 0xC0 <= lead < 0xE0 else 1
    shown = " ".join(f"0x{byte:02x}" for byte in data[start : start + length])
    message = f'invalid byte sequence for encoding "UTF8": {shown}'
    return PgError("22021", message, fields={"W": copy_context(table, line)})


# --- fields of the text format -----------------------------------------------------------------------------------

_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|([\s\S])|\Z)")
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, letter = match.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    return b"" if letter is None else _LETTERS.get(letter, letter)


def unescape_text(raw: bytes) -> bytes:
    """A field of the text format without its backslashes (CopyReadAttributesText)."""
    return _ESCAPE.sub(_unescaped, raw) if b"\\" in raw else raw


_TO_ESCAPE = {b"\b": b"\\b", b"\f": b"\\f", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t", b"\v": b"\\v", b"\\": b"\\\\"}


def encode_text(value: bytes | None, options: CopyOptions) -> bytes:
    """A value as a field of the text format."""
    if value is None:
        return options.null
    special = rb"[\x08\t\n\v\f\r\\" + re.escape(options.delimiter) + rb"]"
    encoded = re.sub(special, lambda found: _TO_ESCAPE.get(found[0], b"\\" + found[0]), value)
    # a value that looks like the marker: its first character gets a backslash that means nothing else
    return _escape_first(encoded) if encoded in (options.null, options.default) else encoded


def _escape_first(value: bytes) -> bytes:
    return b"\\%03o" % value[0] + value[1:] if value else value


# --- fields of the CSV format ------------------------------------------------------------------------------------


def unquote_csv(raw: bytes, options: CopyOptions) -> tuple[bytes, bool]:
    """A field's value and whether any of it was quoted (CopyReadAttributesCSV). Quotes may begin in mid-field."""
    quote, escape = options.quote, options.escape
    if quote not in raw:
        return raw, False
    if raw.count(quote) == 2 and raw[:1] == quote == raw[-1:] and (quote == escape or escape not in raw):
        return raw[1:-1], True
    value, at, inside = bytearray(), 0, False
    while at < len(raw):
        character = raw[at : at + 1]
        following = raw[at + 1 : at + 2]
        if inside and character == escape and following and following in (quote, escape):
            value += following
            at += 1
        elif character == quote:
            inside = not inside
        else:
            value += character
        at += 1
    return bytes(value), True


def encode_csv(value: bytes | None, options: CopyOptions) -> bytes:
    """A value as a field of the CSV format: always quoted, so that it is never taken for a marker."""
    if value is None:
        return options.null
    quote, escape = options.quote, options.escape
    if escape != quote:
        value = value.replace(escape, escape + escape)
    return quote + value.replace(quote, escape + quote) + quote
