"""Values of partition keys: from what a client sent to one canonical Python value per PostgreSQL value.

Routing compares, orders and hashes values, so two spellings of one value ('5', ' +5', binary 00000005) must become one:

=====================================  =======================================================
int2, int4, int8, oid                  int
bool                                   int, 0 or 1
"char"                                 int, 0 to 255 (PostgreSQL compares it unsigned)
text, varchar                          bytes in UTF-8
bpchar                                 bytes in UTF-8 without trailing blanks
bytea, uuid                            bytes
date                                   int, days since 2000-01-01
timestamp, timestamptz                 int, microseconds since 2000-01-01 (in UTC)
=====================================  =======================================================

'infinity' and '-infinity' of the last two rows are the greatest and least integers of their width, as in PostgreSQL.
Canonical values of one type order as PostgreSQL orders them in collation C (datatypes/varlena: memcmp).

**The rule**: a wrong value would send a statement to a group without the row, and nobody would notice. So each reader
here takes only spellings whose meaning depends on no setting and no server version, and raises `NotEvaluable` for all
else; the caller then asks PostgreSQL. `'1999-01-08'` is January 8 under every DateStyle; `'01/08/1999'` is not; a
timestamptz without offset depends on TimeZone; `1_000` is a number since PostgreSQL 16 only. What is an error in
PostgreSQL is NotEvaluable, too, so that PostgreSQL words it.

Types that are left out have a reason: float (-0 and 0, NaN), numeric (1.0 and 1.00, NaN), time and interval (several
spellings of one value), name (truncated), enums (order is in the catalog), arrays and composites.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import TypeAlias

BOOL, BYTEA, CHAR, INT8, INT2, INT4, TEXT, OID = 16, 17, 18, 20, 21, 23, 25, 26
UNKNOWN, BPCHAR, VARCHAR, DATE, TIMESTAMP, TIMESTAMPTZ, UUID = 705, 1042, 1043, 1082, 1114, 1184, 2950

Canonical: TypeAlias = int | bytes | None

INT_RANGE = {
    INT2: (-(1 << 15), (1 << 15) - 1),
    INT4: (-(1 << 31), (1 << 31) - 1),
    INT8: (-(1 << 63), (1 << 63) - 1),
    OID: (0, (1 << 32) - 1),
}
INTEGER_TYPES = frozenset((INT2, INT4, INT8))
STRING_TYPES = frozenset((TEXT, VARCHAR, BPCHAR))
BYTES_TYPES = frozenset((TEXT, VARCHAR, BPCHAR, BYTEA, UUID))  # canonical values are bytes; of all others int

_ALL = frozenset((*INT_RANGE, *BYTES_TYPES, BOOL, CHAR, DATE, TIMESTAMP, TIMESTAMPTZ))
KEY_TYPES: dict[str, frozenset[int]] = {"hash": _ALL, "range": _ALL, "list": _ALL}

_DATE_MIN, _DATE_MAX = -2451545, 2145031948  # 4714-11-24 BC, 5874897-12-31 (datatype/timestamp.h)
_TIMESTAMP_MIN, _TIMESTAMP_END = -211813488000000000, 9223371331200000000  # 4714-11-24 BC, 294277-01-01 (not included)
_ORDINAL_2000 = date(2000, 1, 1).toordinal()
_DAY_US = 86_400_000_000


class NotEvaluable(Exception):
    """It is not certain here which value PostgreSQL would read: ask PostgreSQL."""


def why_not_a_key(
    type_oid: int, strategy: str, collation_deterministic: bool = True, *, collation_is_c: bool = True
) -> str | None:
    """Why a column of this type cannot be (part of) a partition key, as an error's detail; None: it can.

    `strategy` is 'hash', 'range' or 'list'. `collation_is_c`: bytes order as the column's collation does (C, POSIX,
    C.UTF-8, or the default of Hanse's own instances).
    """
    if type_oid not in KEY_TYPES[strategy]:
        return "The gateway cannot route by values of this type."
    if type_oid in STRING_TYPES and not collation_deterministic:
        return "Equal values of a nondeterministic collation may have different bytes."
    if type_oid in STRING_TYPES and strategy == "range" and not collation_is_c:
        return "The gateway can order texts by collation C only."
    return None


# --- text form ---------------------------------------------------------------------------------------------------

_BLANKS = b" \t\n\v\f\r"  # isspace() in C locale, as in pg_strtoint64_safe()


def _integer_text(data: bytes) -> int:
    if data.isdigit() and len(data) < 20:
        return int(data)
    digits = data.strip(_BLANKS)
    sign = -1 if digits.startswith(b"-") else 1
    digits = digits[1:] if digits[:1] in (b"-", b"+") else digits
    if not digits.isdigit() or len(digits) > 19:
        raise NotEvaluable(data)
    return sign * int(digits)


def _in_range(value: int, type_oid: int) -> int:
    lowest, highest = INT_RANGE[type_oid]
    if not lowest <= value <= highest:
        raise NotEvaluable(value)
    return value


def _int_reader(type_oid: int) -> Callable[[bytes], int]:
    lowest, highest = INT_RANGE[type_oid]

    def read(data: bytes) -> int:
        value = _integer_text(data)
        if not lowest <= value <= highest:
            raise NotEvaluable(data)
        return value

    return read


def _oid_text(data: bytes) -> int:
    octal = data[:1] == b"0" and len(data) > 1  # oidin() reads by strtoul() with base 0
    if not data.isdigit() or len(data) > 10 or octal:  # and a sign would wrap around
        raise NotEvaluable(data)
    return _in_range(int(data), OID)


def _text_text(data: bytes) -> bytes:
    if b"\0" in data:
        raise NotEvaluable(data)
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            raise NotEvaluable(data) from None
    return data


def _bpchar_text(data: bytes) -> bytes:
    return _text_text(data).rstrip(b" ")


_BOOL_WORDS = {b"t": 1, b"true": 1, b"f": 0, b"false": 0, b"1": 1, b"0": 0, b"on": 1, b"off": 0, b"yes": 1, b"no": 0}


def _bool_text(data: bytes) -> int:
    value = _BOOL_WORDS.get(data.strip(_BLANKS).lower())
    if value is None:
        raise NotEvaluable(data)
    return value


def _char_text(data: bytes) -> int:
    if len(data) > 1 or data == b"\\" or not data.isascii():
        raise NotEvaluable(data)  # longer texts are truncated or octal escapes
    return data[0] if data else 0


_HEX = re.compile(rb"\\x((?:[0-9a-fA-F]{2})*)\Z")


def _bytea_text(data: bytes) -> bytes:
    found = _HEX.match(data)
    if found:
        return bytes.fromhex(found[1].decode())
    if b"\\" in data or not data.isascii():
        raise NotEvaluable(data)
    return data


_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z|[0-9a-fA-F]{32}\Z")


def _uuid_text(data: bytes) -> bytes:
    if not _UUID.match(data):
        raise NotEvaluable(data)
    return bytes.fromhex(data.replace(b"-", b"").decode())


_DAY = rb"(\d{4,7})-(\d\d)-(\d\d)"
_TIME = rb"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?"
_ZONE = rb"(?:(Z)|([+-])(\d\d)(?::?(\d\d))?(?::(\d\d))?)"
_DATE_FORM = re.compile(_DAY + rb"( BC)?\Z")
_TIMESTAMP_FORM = re.compile(_DAY + rb"(?:[ T]" + _TIME + rb")?( BC)?\Z")
_TIMESTAMPTZ_FORM = re.compile(_DAY + rb"[ T]" + _TIME + _ZONE + rb"( BC)?\Z")


def _days(year_text: bytes, month_text: bytes, day_text: bytes, before_christ: bytes | None) -> int:
    year = int(year_text)
    if year == 0:
        raise NotEvaluable("year 0")
    if before_christ:
        year = 1 - year
    cycles = 0
    if not 1 <= year <= 9999:  # the Gregorian calendar repeats after 400 years of 146,097 days
        cycles, year = divmod(year, 400)
        year, cycles = year + 400, cycles - 1
    try:
        return date(year, int(month_text), int(day_text)).toordinal() + cycles * 146_097 - _ORDINAL_2000
    except ValueError:
        raise NotEvaluable("no such day") from None


def _date_text(data: bytes) -> int:
    found = _DATE_FORM.match(data)
    if found is None:
        return _infinity(data, 31)
    days = _days(*found.group(1, 2, 3, 4))
    if not _DATE_MIN <= days <= _DATE_MAX:
        raise NotEvaluable(data)
    return days


def _infinity(data: bytes, bits: int) -> int:
    if data == b"infinity":
        return (1 << bits) - 1
    if data == b"-infinity":
        return -(1 << bits)
    raise NotEvaluable(data)


def _time_us(hour: bytes | None, minute: bytes | None, second: bytes | None, fraction: bytes | None) -> int:
    if hour is None or minute is None:
        return 0
    hours, minutes, seconds = int(hour), int(minute), int(second or b"0")
    if hours > 23 or minutes > 59 or seconds > 59:
        raise NotEvaluable("leap second, hour 24 or no such time")
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((fraction or b"0").ljust(6, b"0"))


def _timestamp_in_range(value: int) -> int:
    if not _TIMESTAMP_MIN <= value < _TIMESTAMP_END:
        raise NotEvaluable(value)
    return value


def _timestamp_text(data: bytes) -> int:
    found = _TIMESTAMP_FORM.match(data)
    if found is None:
        return _infinity(data, 63)
    days = _days(*found.group(1, 2, 3, 8))
    return _timestamp_in_range(days * _DAY_US + _time_us(*found.group(4, 5, 6, 7)))


def _timestamptz_text(data: bytes) -> int:
    found = _TIMESTAMPTZ_FORM.match(data)
    if found is None:
        return _infinity(data, 63)
    local = _days(*found.group(1, 2, 3, 13)) * _DAY_US + _time_us(*found.group(4, 5, 6, 7))
    hours, minutes, seconds = (int(part or b"0") for part in found.group(10, 11, 12))
    if hours > 15 or minutes > 59 or seconds > 59:
        raise NotEvaluable(data)
    offset = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000
    return _timestamp_in_range(local + offset if found[9] == b"-" else local - offset)


TEXT_READERS: dict[int, Callable[[bytes], int | bytes]] = {
    INT2: _int_reader(INT2),
    INT4: _int_reader(INT4),
    INT8: _int_reader(INT8),
    OID: _oid_text,
    BOOL: _bool_text,
    CHAR: _char_text,
    TEXT: _text_text,
    VARCHAR: _text_text,
    BPCHAR: _bpchar_text,
    BYTEA: _bytea_text,
    UUID: _uuid_text,
    DATE: _date_text,
    TIMESTAMP: _timestamp_text,
    TIMESTAMPTZ: _timestamptz_text,
}


def from_text(type_oid: int, data: bytes) -> int | bytes:
    """The value that the type's input function reads from `data` (UTF-8). NotEvaluable unless that is certain."""
    reader = TEXT_READERS.get(type_oid)
    if reader is None:
        raise NotEvaluable(type_oid)
    return reader(data)


# --- binary form -------------------------------------------------------------------------------------------------

_BINARY_INTEGER = {INT2: (2, True), INT4: (4, True), INT8: (8, True), OID: (4, False), CHAR: (1, False)} | {
    DATE: (4, True),
    TIMESTAMP: (8, True),
    TIMESTAMPTZ: (8, True),
}


def _read_binary(type_oid: int, data: bytes) -> int | bytes:
    """The value that the type's receive function reads."""
    integer = _BINARY_INTEGER.get(type_oid)
    if integer is not None:
        width, signed = integer
        if len(data) != width:
            raise NotEvaluable(data)
        return _checked_binary(type_oid, int.from_bytes(data, "big", signed=signed))
    if type_oid == BOOL and len(data) == 1:
        return int(data != b"\0")
    if type_oid in STRING_TYPES:
        return TEXT_READERS[type_oid](data)
    if type_oid == BYTEA or (type_oid == UUID and len(data) == 16):
        return data
    raise NotEvaluable(type_oid)


def _checked_binary(type_oid: int, value: int) -> int:
    if type_oid == DATE and abs(value) < (1 << 31) - 1 and not _DATE_MIN <= value <= _DATE_MAX:
        raise NotEvaluable(value)
    if type_oid in (TIMESTAMP, TIMESTAMPTZ) and value not in (-(1 << 63), (1 << 63) - 1):
        return _timestamp_in_range(value)
    return value


def from_binary(data_type_oid: int, key_type_oid: int, data: bytes) -> int | bytes:
    """A parameter or COPY field in binary format. `data_type_oid` 0 or unknown: of the key's own type."""
    own = data_type_oid in (0, UNKNOWN)
    return convert(_read_binary(key_type_oid if own else data_type_oid, data), data_type_oid, key_type_oid)


def from_parameter(data_type_oid: int, key_type_oid: int, format_code: int, data: bytes) -> int | bytes:
    """A parameter of Bind in either format. `data_type_oid` 0 or unknown: PostgreSQL takes the key's type."""
    if format_code == 1:
        return from_binary(data_type_oid, key_type_oid, data)
    own = data_type_oid in (0, UNKNOWN)
    return convert(from_text(key_type_oid if own else data_type_oid, data), data_type_oid, key_type_oid)


def convert(value: int | bytes, data_type_oid: int, key_type_oid: int) -> int | bytes:
    """A canonical value of one type as one of the key's type, where `key = value` compares the key itself.

    Only integers among themselves, and text with varchar. (bpchar = text compares the key *cast to text*, date =
    timestamp another value: not evaluable, and PostgreSQL does not prune by the first, either.)
    """
    if data_type_oid == key_type_oid or data_type_oid in (0, UNKNOWN):
        return value
    if data_type_oid in INTEGER_TYPES and key_type_oid in INTEGER_TYPES:
        assert isinstance(value, int)
        return _in_range(value, key_type_oid)
    if data_type_oid in (TEXT, VARCHAR) and key_type_oid in (TEXT, VARCHAR):
        return value
    raise NotEvaluable(f"type {data_type_oid} for a key of type {key_type_oid}")


# --- literals of a statement text --------------------------------------------------------------------------------


def unquote(token: bytes) -> bytes:
    """The content of a plain literal such as 'it''s' (standard_conforming_strings is on); not of E'…' or $$…$$."""
    if len(token) < 2 or token[:1] != b"'" or token[-1:] != b"'":
        raise NotEvaluable(token)
    inner = token[1:-1]
    if b"'" in inner:
        if b"'" in inner.replace(b"''", b""):
            raise NotEvaluable(token)
        inner = inner.replace(b"''", b"'")
    return inner


def integer_literal(token: bytes) -> tuple[int, int]:
    """An unquoted integer and the type PostgreSQL gives it: (value, INT4 or INT8). `-5` is the operator on 5."""
    digits = token[1:].lstrip(_BLANKS) if token[:1] in (b"-", b"+") else token
    if not digits.isdigit() or len(digits) > 19:
        raise NotEvaluable(token)
    magnitude = int(digits)
    if magnitude > INT_RANGE[INT8][1]:
        raise NotEvaluable(token)  # numeric
    type_oid = INT4 if magnitude <= INT_RANGE[INT4][1] else INT8
    return (-magnitude if token[:1] == b"-" else magnitude), type_oid


def from_literal(token: bytes, key_type_oid: int) -> Canonical:
    """The value of a literal as written in SQL, compared with or assigned to a key column. None: NULL.

    A quoted literal has type unknown and is read by the key's own type. An integer literal is int4 or int8 by its size.
    `1.0` is numeric: PostgreSQL does not prune an integer key by it, so it is NotEvaluable, like all else.
    """
    if token[:1] == b"'":
        return from_text(key_type_oid, unquote(token))
    if key_type_oid in INTEGER_TYPES or key_type_oid == OID:
        if token[:1].isdigit() or token[:1] in (b"-", b"+"):
            return _in_range(integer_literal(token)[0], key_type_oid)
    word = token.lower()
    if word == b"null":
        return None
    if key_type_oid == BOOL and word in (b"true", b"false"):
        return int(word == b"true")
    raise NotEvaluable(token)


# --- type modifiers ----------------------------------------------------------------------------------------------

_MODIFIER = re.compile(r"\((\d+)\)")


def modifier_of(type_oid: int, type_name: str) -> int | None:
    """The type modifier that can change an assigned value, from format_type()'s text: varchar(20), timestamp(0)."""
    if type_oid not in (VARCHAR, TIMESTAMP, TIMESTAMPTZ):
        return None
    found = _MODIFIER.search(type_name)
    return int(found[1]) if found else None


def stored(value: Canonical, type_oid: int, modifier: int) -> Canonical:
    """`value` as a column with this type modifier stores it: cut to varchar(n), rounded to timestamp(p).

    PostgreSQL cuts blanks only and refuses all else (22001), wherever the row was sent.
    """
    if isinstance(value, bytes):
        return value if len(value) <= modifier else value.decode()[:modifier].encode()
    if value is None or value in (-(1 << 63), (1 << 63) - 1):
        return value
    step: int = 10 ** (6 - modifier)
    rounded = (abs(value) + step // 2) // step * step  # half away from zero: AdjustTimestampForTypmod()
    return rounded if value >= 0 else -rounded
