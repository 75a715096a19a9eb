"""DataRow and RowDescription messages, cut and read without building anything that is not needed.

A DataRow is `D`, its length (4 bytes, itself included), the number of fields (2 bytes), then for each field its
length (4 bytes, -1 for NULL) and its bytes. Rows pass through the gateway as the bytes they came in; only sort keys
are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

_LENGTH = Struct("!i").unpack_from
_COUNT = Struct("!h").unpack_from
_HEADER = Struct("!cih").pack


def split_messages(chunk: bytes) -> list[bytes]:
    """One or more whole messages, one by one."""
    messages, at, end = [], 0, len(chunk)
    while at < end:
        after = at + 1 + _LENGTH(chunk, at + 1)[0]
        messages.append(chunk[at:after])
        at = after
    assert at == end, "a chunk ends inside a message"
    return messages


def field_count(row: bytes) -> int:
    return int(_COUNT(row, 5)[0])


def field_reader(columns: Sequence[int]) -> Callable[[bytes], list[bytes | None]]:
    """A function that gives the values of these columns (not negative) of a DataRow, in that order."""
    last = max(columns)
    places = {column: place for place, column in enumerate(sorted(set(columns)))}
    order = [places[column] for column in columns]
    wanted = frozenset(columns)

    def read(row: bytes) -> list[bytes | None]:
        at, found = 7, []
        for column in range(last + 1):
            length = _LENGTH(row, at)[0]
            at += 4
            if length < 0:
                value = None
            else:
                value = row[at : at + length]
                at += length
            if column in wanted:
                found.append(value)
        return [found[place] for place in order]

    return read


def first_fields(row: bytes, keep: int) -> bytes:
    """The DataRow with its first `keep` fields only."""
    at = 7
    for _ in range(keep):
        length = _LENGTH(row, at)[0]
        at += 4 + max(length, 0)
    return _HEADER(b"D", at - 1, keep) + row[7:at]
