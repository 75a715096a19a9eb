"""Values of sort keys as Python values that compare as PostgreSQL compares them.

Every decoder maps a field's bytes to a value such that a < b exactly where PostgreSQL's btree operator says so; equal
where it says equal (`1.0` and `1.00`, `-0` and `0`). Where numbers have NaN it is above all others and equal to itself.

========================= ==============================================================================================
int, oid, bool, uuid      as numbers or bytes
text, varchar, name       bytes (the clusters' collation is C); char(n) without its trailing spaces
float, numeric            with NaN on top; numeric exactly, as Decimal
date, timestamp           ISO text of the years 1 to 9999 sorts as bytes; BC, later years and infinity go around it
timestamptz               microseconds since 2000-01-01 UTC, whatever offset the text has
========================= ==============================================================================================

Texts are only understood as PostgreSQL writes them with DateStyle ISO; with another one, and for other types,
`Unsortable` is raised before the first row, and the statement is planned anew without a merge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from struct import Struct

Decoder = Callable[[bytes], object]

_INT2, _INT4, _INT8 = (Struct(f).unpack for f in ("!h", "!i", "!q"))
_UINT4, _FLOAT4, _FLOAT8 = (Struct(f).unpack for f in ("!I", "!f", "!d"))


class Unsortable(Exception):
    """The gateway cannot compare values of this type in this format; nothing has been sent to the client."""


def decoder(type_oid: int, binary: bool, iso_dates: bool = True) -> Decoder:
    """The decoder for a column of a RowDescription. `iso_dates`: the session's DateStyle is ISO. Raises Unsortable."""
    if type_oid in _DATES and not binary and not iso_dates:
        raise Unsortable(f"type {type_oid} with a DateStyle other than ISO")
    found = (_BINARY if binary else _TEXT).get(type_oid)
    if found is None:
        raise Unsortable(f"type {type_oid}")
    return found


# --- numbers -----------------------------------------------------------------------------------------------------


def _float(value: float) -> tuple[int, float]:
    return (0, value) if value == value else (1, 0.0)


def _float_text(data: bytes) -> tuple[int, float]:
    return _float(float(data))


def _float4_binary(data: bytes) -> tuple[int, float]:
    return _float(_FLOAT4(data)[0])


def _float8_binary(data: bytes) -> tuple[int, float]:
    return _float(_FLOAT8(data)[0])


def _numeric(value: Decimal) -> tuple[int, Decimal]:
    return (1, Decimal(0)) if value.is_nan() else (0, value)


def _numeric_text(data: bytes) -> tuple[int, Decimal]:
    return _numeric(Decimal(data.decode()))


_SPECIAL = {0xC000: Decimal("NaN"), 0xD000: Decimal("Infinity"), 0xF000: Decimal("-Infinity")}
_NUMERIC_HEADER = Struct("!hhHh").unpack_from


def _numeric_binary(data: bytes) -> tuple[int, Decimal]:
    """numeric_send(): count, weight of the first digit, sign, scale, then digits of base 10000."""
    count, weight, sign, _ = _NUMERIC_HEADER(data)
    if sign in _SPECIAL:
        return _numeric(_SPECIAL[sign])
    number = 0
    for digit in Struct(f"!{count}h").unpack_from(data, 8):
        number = number * 10_000 + digit
    return (0, Decimal((1 if sign else 0, tuple(map(int, str(number))), 4 * (weight - count + 1))))


# --- texts -------------------------------------------------------------------------------------------------------


def _bytes(data: bytes) -> bytes:
    return data


def _padded(data: bytes) -> bytes:
    return data.rstrip(b" ")


# --- dates and times ---------------------------------------------------------------------------------------------

_ORDINARY = re.compile(rb"\d{4}-[^ ]*( [0-9:.]+)?\Z").match
_MOMENT = re.compile(
    rb"(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?([+-]\d\d(?::\d\d(?::\d\d)?)?)?)?( BC)?\Z"
).match
_Moment = tuple[int, int, bytes]
_LEAST: _Moment = (-2, 0, b"")
_GREATEST: _Moment = (2, 0, b"")


def _local_text(data: bytes) -> _Moment:
    """date and timestamp. (0, 0, text) for the years 1 to 9999, whose text sorts as it stands."""
    if _ORDINARY(data):
        return (0, 0, data)
    if data == b"infinity":
        return _GREATEST
    if data == b"-infinity":
        return _LEAST
    return (-1 if data.endswith(b" BC") else 1, _microseconds(data), b"")


def _zoned_text(data: bytes) -> _Moment:
    if data == b"infinity":
        return _GREATEST
    if data == b"-infinity":
        return _LEAST
    return (0, _microseconds(data), b"")


def _microseconds(data: bytes) -> int:
    """Of an ISO text, since some fixed moment, in UTC if it names an offset."""
    match = _MOMENT(data)
    if match is None:
        raise ValueError(f"not a time in ISO style: {data!r}")
    year, month, day, hour, minute, second, fraction, offset, bc = match.groups()
    days = _days(1 - int(year) if bc else int(year), int(month), int(day))
    seconds = days * 86_400 + int(hour or 0) * 3_600 + int(minute or 0) * 60 + int(second or 0)
    return (seconds - _offset(offset)) * 1_000_000 + int((fraction or b"0").ljust(6, b"0"))


@cache
def _days(year: int, month: int, day: int) -> int:
    """Days of the proleptic Gregorian calendar; year 0 is 1 BC. The year is taken to begin in March."""
    if month <= 2:
        year, month = year - 1, month + 12
    era, of_era = divmod(year, 400)
    of_year = (153 * (month - 3) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year


@cache
def _offset(text: bytes | None) -> int:
    if text is None:
        return 0
    parts = [int(part) for part in text[1:].split(b":")]
    seconds = sum(part * size for part, size in zip(parts, (3_600, 60, 1), strict=False))
    return -seconds if text[:1] == b"-" else seconds


# In binary, infinities are the least and the greatest integer, so that integers compare rightly.


def _int2(data: bytes) -> int:
    return int(_INT2(data)[0])


def _int4(data: bytes) -> int:
    return int(_INT4(data)[0])


def _int8(data: bytes) -> int:
    return int(_INT8(data)[0])


def _uint4(data: bytes) -> int:
    return int(_UINT4(data)[0])


_DATES = frozenset((1082, 1114, 1184))

_TEXT: dict[int, Decoder] = {
    16: _bytes, 19: _bytes, 20: int, 21: int, 23: int, 25: _bytes, 26: int, 700: _float_text,
    701: _float_text,
    1042: _padded, 1043: _bytes, 1082: _local_text, 1083: _bytes, 1114: _local_text, 1184: _zoned_text,
    1700: _numeric_text, 2950: _bytes,
}  # fmt: skip

_BINARY: dict[int, Decoder] = {
    16: _bytes, 19: _bytes, 20: _int8, 21: _int2, 23: _int4, 25: _bytes, 26: _uint4, 700: _float4_binary,
    701: _float8_binary, 1042: _padded, 1043: _bytes, 1082: _int4, 1083: _int8, 1114: _int8, 1184: _int8,
    1700: _numeric_binary, 2950: _bytes,
}  # fmt: skip
