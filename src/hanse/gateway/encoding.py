"""Clients that do not speak UTF-8: `client_encoding` is kept here, at the client's door; everything behind it is UTF-8.

A backend's own client_encoding is always UTF8. Were it the client's, the text of a plan, the literals that routing hashes
and the rows that go by binary COPY from group to group would be in it, too. So texts and values are translated when
they come (`Codec.decode`), and messages when they leave (`Recoder`), value by value: a DataRow says only in its RowDescription
whether a value is text. Clients of UTF-8 pass by without any of this.

Translated are values in text format, binary values of text types and of arrays of them, names, errors, notices, COPY data in
text and CSV format. Refused is binary COPY. Not translated are texts inside binary composite values and ranges. A character
that the client's encoding does not have is 22P05, as in PostgreSQL.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.errors import PgError, not_supported
from ..engines.postgres.backend import split_messages
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.backend import Field
from ..pgwire.framing import Message
from ..pgwire.primitives import frame

if TYPE_CHECKING:
    from .session import Output

# PostgreSQL's names (manual, table 24.3) and Python's.
_PYTHON = {
    "BIG5": "big5", "EUC_CN": "gb2312", "EUC_JIS_2004": "euc_jis_2004", "EUC_JP": "euc_jp", "EUC_KR": "euc_kr",
    "GB18030": "gb18030", "GBK": "gbk", "ISO_8859_5": "iso8859-5", "ISO_8859_6": "iso8859-6", "ISO_8859_7": "iso8859-7",
    "ISO_8859_8": "iso8859-8", "JOHAB": "johab", "KOI8R": "koi8-r", "KOI8U": "koi8-u", "LATIN1": "iso8859-1",
    "LATIN2": "iso8859-2", "LATIN3": "iso8859-3", "LATIN4": "iso8859-4", "LATIN5": "iso8859-9", "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13", "LATIN8": "iso8859-14", "LATIN9": "iso8859-15", "LATIN10": "iso8859-16",
    "SHIFT_JIS_2004": "shift_jis_2004", "SJIS": "cp932", "UHC": "cp949", "WIN1250": "cp1250", "WIN1251": "cp1251",
    "WIN1252": "cp1252", "WIN1253": "cp1253", "WIN1254": "cp1254", "WIN1255": "cp1255", "WIN1256": "cp1256",
    "WIN1257": "cp1257", "WIN1258": "cp1258", "WIN866": "cp866", "WIN874": "cp874",
}  # fmt: skip
_ALIASES = {
    "UNICODE": "UTF8", "KOI8": "KOI8R", "WIN": "WIN1251", "ALT": "WIN866", "WINDOWS1252": "WIN1252", "MSKANJI": "SJIS",
    "SHIFTJIS": "SJIS", "WIN932": "SJIS", "WINDOWS932": "SJIS", "WINDOWS1251": "WIN1251", "WINDOWS1250": "WIN1250",
    "ISO88591": "LATIN1", "ISO88592": "LATIN2", "ISO885915": "LATIN9", "TCVN": "WIN1258", "VSCII": "WIN1258",
}  # fmt: skip
_NAMES = {name.replace("_", ""): name for name in (*_PYTHON, "UTF8", "SQL_ASCII")}

_TEXTS = frozenset(
    (18, 19, 25, 114, 142, 705, 1042, 1043, 2275)
)  # "char" name text json xml unknown bpchar varchar cstring
_TEXT_ARRAYS = frozenset((143, 199, 1002, 1003, 1009, 1014, 1015, 1263))
_JSONB, _JSONPATH = 3802, 4072  # a version byte, then text
_COPY_DONE = ord("c")
_LENGTH = struct.Struct("!i")


def canonical(value: str) -> str:
    """PostgreSQL's name of an encoding, `LATIN1` for `iso-8859-1`. Raises 22023."""
    key = "".join(character for character in value.strip("'\"").upper() if character.isalnum())
    name = _NAMES.get(_ALIASES.get(key, key).replace("_", ""))
    if name is None:
        raise PgError("22023", f'invalid value for parameter "client_encoding": "{value}"')
    return name


def codec_of(name: str | None) -> Codec | None:
    """None: what the client sends is UTF-8 already (or, in SQL_ASCII, nobody's business)."""
    return None if name is None or name not in _PYTHON else Codec(name)


class Codec:
    """Between one encoding and UTF-8."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._python = _PYTHON[name]

    def decode(self, data: bytes) -> bytes:
        if data.isascii():
            return data
        try:
            return data.decode(self._python).encode()
        except UnicodeDecodeError as error:
            wrong = " ".join(f"0x{byte:02x}" for byte in data[error.start : error.start + 2])
            raise PgError("22021", f'invalid byte sequence for encoding "{self.name}": {wrong}') from None

    def encode(self, data: bytes) -> bytes:
        if data.isascii():
            return data
        text = data.decode()
        try:
            return text.encode(self._python)
        except UnicodeEncodeError as error:
            wrong = " ".join(f"0x{byte:02x}" for byte in text[error.start].encode())
            raise PgError(
                "22P05",
                f'character with byte sequence {wrong} in encoding "UTF8" has no equivalent in encoding "{self.name}"',
            ) from None

    def encode_anyway(self, data: bytes) -> bytes:
        """For messages that must not fail."""
        return data.decode(errors="replace").encode(self._python, errors="replace")

    def incremental(self) -> codecs.IncrementalDecoder:
        """For data that is cut anywhere."""
        return codecs.getincrementaldecoder(self._python)()

    def copy_message(self, message: Message, decoder: codecs.IncrementalDecoder) -> Message:
        """CopyData in UTF-8. Raises 22021, also at CopyDone if a character has begun and not ended."""
        try:
            text = decoder.decode(message.raw[5:], message.kind == _COPY_DONE)
        except UnicodeDecodeError as error:
            wrong = " ".join(f"0x{byte:02x}" for byte in error.object[error.start : error.start + 2])
            raise PgError("22021", f'invalid byte sequence for encoding "{self.name}": {wrong}') from None
        return message if message.kind == _COPY_DONE else message._replace(raw=frontend.copy_data(text.encode()))

    def parameter(self, value: bytes | None, form: int, type_oid: int) -> bytes | None:
        change = _changer(self.decode, form, type_oid)
        return value if value is None or change is None else change(value)


def _changer(change: Callable[[bytes], bytes], form: int, type_oid: int) -> Callable[[bytes], bytes] | None:
    """How values of this format and type are translated; None: they are the same in all encodings."""
    if form == 0 or type_oid in _TEXTS:
        return change
    if type_oid in (_JSONB, _JSONPATH):
        return lambda value: value[:1] + change(value[1:])
    if type_oid in _TEXT_ARRAYS:
        return lambda value: _array(value, change)
    return None


def _array(value: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """array_send's format: dimensions, flags, element type, bounds; then each element with its length."""
    (dimensions,) = _LENGTH.unpack_from(value, 0)
    position = 12 + 8 * dimensions
    parts = [value[:position]]
    while position < len(value):
        (size,) = _LENGTH.unpack_from(value, position)
        position += 4
        if size < 0:
            parts.append(_LENGTH.pack(size))
            continue
        changed = change(value[position : position + size])
        parts += (_LENGTH.pack(len(changed)), changed)
        position += size
    return b"".join(parts)


class Recoder:
    """An `Output` that translates what goes to the client. It is given whole messages."""

    def __init__(self, output: Output, codec: Codec) -> None:
        self.output = output
        self.codec = codec
        self.copy_as_is = False  # COPY with its own ENCODING
        self._changers: tuple[Callable[[bytes], bytes] | None, ...] = ()

    def expect(self, fields: tuple[Field, ...]) -> None:
        """The rows that follow are of these columns."""
        self._changers = tuple(_changer(self.codec.encode, field.format, field.type_oid) for field in fields)

    def write(self, data: bytes) -> None:
        self.output.write(b"".join(map(self._message, split_messages(data))))

    def _message(self, message: bytes) -> bytes:
        kind = message[:1]
        if kind == b"T":
            self.expect(server_messages.parse_row_description(message))
            return self._description(message)
        if kind == b"D":
            return self._row(message)
        if kind in b"EN":
            return frame(kind, self.codec.encode_anyway(message[5:]))
        if kind == b"A":
            return frame(kind, message[5:9] + self.codec.encode_anyway(message[9:]))
        if kind == b"d" and not self.copy_as_is:
            return frame(kind, self.codec.encode(message[5:]))
        if kind in b"HG" and message[5] and not self.copy_as_is:
            raise not_supported(f"binary COPY is not supported with client_encoding {self.codec.name}")
        return message

    def _row(self, message: bytes) -> bytes:
        if message.isascii() and not any(self._changers):
            return message
        values = server_messages.parse_data_row(message)
        return server_messages.data_row(
            [
                value if value is None or change is None else change(value)
                for value, change in zip(values, self._changers, strict=True)
            ]
        )

    def _description(self, message: bytes) -> bytes:
        fields = server_messages.parse_row_description(message)
        pieces = [message[5:7]]
        position = 7
        for field in fields:
            name = field.name.encode("utf-8", "surrogateescape")
            position += len(name) + 1
            pieces += (self.codec.encode_anyway(name), b"\0", message[position : position + 18])
            position += 18
        return frame(b"T", b"".join(pieces))

    def close(self) -> None:
        self.output.close()

    def pause_reading(self) -> None:
        self.output.pause_reading()

    def resume_reading(self) -> None:
        self.output.resume_reading()

    async def drain(self) -> None:
        await self.output.drain()
