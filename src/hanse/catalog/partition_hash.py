"""PostgreSQL's partition hash, computed here: which remainder a row of a HASH-partitioned table has.

`satisfies_hash_partition()` (partbounds.c) combines the 64-bit "extended" hashes of the key columns:

1. each value that is not NULL is hashed with the seed HASH_PARTITION_SEED by its type's extended hash function;
2. the hashes are combined, first column first: h ^= x + 0x49a0f4dd15e5a8e3 + (h << 54) + (h >> 7), starting from 0;
3. the row belongs to the partition whose remainder is h mod its modulus.

The hash functions are all Bob Jenkins' lookup3 (common/hashfn.c) on three 32-bit words a, b, c:

=========================================  ===========================================================================
int2, int4, date, oid, bool, "char"        the 32-bit value (`hash_uint32_extended`)
int8, timestamp, timestamptz               low word ^ (high word, ~high word if negative): equal int4 and int8 agree
text, varchar, bpchar, bytea, uuid         the bytes (`hash_any_extended`), bpchar without its trailing blanks
=========================================  ===========================================================================

**Why the integer hash is so short.** With a fixed seed the state after the first `mix` is constant, and the first two
steps of `final` do not touch the value, so they are constants, too (`_C1`, `_R1`). Six steps remain, about 1 µs.

**Why a padded matrix hashes texts at once.** `hash_any` reads 12-byte blocks and then up to 11 bytes of tail, in which
missing bytes count as zero and the last word starts at its second byte (its lowest byte is reserved for the length).
So zero-padded rows need no case distinction for the tail; and with the rows sorted by length, the rows that still have
a whole block are one contiguous slice.

Canonical values are those of `catalog.keys`. Worked example: the int4 value 1, 4 partitions.

>>> partition_index((1,), (INT4,), 4)
0
>>> partition_index((None,), (INT4,), 4)  # NULL keys are skipped: h stays 0
0

What this does not do: float and numeric keys (hash functions of their own), nondeterministic collations, arrays.
Checked against a real server in tests/integration/test_partition_hash.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .keys import BYTES_TYPES, CHAR, INT4, Canonical

__all__ = ["HASH_PARTITION_SEED", "INT4", "hash_bytes", "hash_int", "partition_index", "remainders", "row_hash"]

KeyColumnValues = npt.NDArray[Any] | Sequence[Canonical]

HASH_PARTITION_SEED = 0x7A5B22367996DCFD
COMBINE = 0x49A0F4DD15E5A8E3  # hash_combine64(): the same constant as in boost, widened

_M32 = 0xFFFFFFFF
_M64 = 0xFFFFFFFFFFFFFFFF
_INITIAL = 0x9E3779B9 + 3923095
_MATRIX_BYTES_MAX = 252  # values longer than this are hashed one by one: the padded matrix would grow with the longest


def _rot(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _M32


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    """lookup3's mix(): reversible, for every 12-byte block."""
    a = (a - c & _M32) ^ (c << 4 & _M32 | c >> 28)
    c = c + b & _M32
    b = (b - a & _M32) ^ (a << 6 & _M32 | a >> 26)
    a = a + c & _M32
    c = (c - b & _M32) ^ (b << 8 & _M32 | b >> 24)
    b = b + a & _M32
    a = (a - c & _M32) ^ (c << 16 & _M32 | c >> 16)
    c = c + b & _M32
    b = (b - a & _M32) ^ (a << 19 & _M32 | a >> 13)
    a = a + c & _M32
    c = (c - b & _M32) ^ (b << 4 & _M32 | b >> 28)
    b = b + a & _M32
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    """lookup3's final(); the result is b in the high and c in the low word."""
    c = (c ^ b) - (b << 14 | b >> 18) & _M32
    a = (a ^ c) - (c << 11 | c >> 21) & _M32
    b = (b ^ a) - (a << 25 | a >> 7) & _M32
    c = (c ^ b) - (b << 16 | b >> 16) & _M32
    a = (a ^ c) - (c << 4 | c >> 28) & _M32
    b = (b ^ a) - (a << 14 | a >> 18) & _M32
    c = (c ^ b) - (b << 24 | b >> 8) & _M32
    return b << 32 | c


def _seeded(length: int) -> tuple[int, int, int]:
    """The state after the seed was mixed in, for a value of `length` bytes."""
    word = _INITIAL + length & _M32
    return _mix(word + (HASH_PARTITION_SEED >> 32) & _M32, word + (HASH_PARTITION_SEED & _M32) & _M32, word)


_A, _B, _C = _seeded(4)
_C1 = (_C ^ _B) - _rot(_B, 14) & _M32
_R1 = _rot(_C1, 11)


def hash_int(value: int) -> int:
    """hashint2/4/8extended with the partition seed. `value`: any integer of 64 bits with sign."""
    if not -0x100000000 <= value <= _M32:
        value ^= value >> 32 if value >= 0 else ~(value >> 32)
    a = ((_A + value & _M32) ^ _C1) - _R1 & _M32
    b = (_B ^ a) - (a << 25 | a >> 7) & _M32
    c = (_C1 ^ b) - (b << 16 | b >> 16) & _M32
    a = (a ^ c) - (c << 4 | c >> 28) & _M32
    b = (b ^ a) - (a << 14 | a >> 18) & _M32
    return b << 32 | ((c ^ b) - (b << 24 | b >> 8) & _M32)


def int_slot(slots: Sequence[int | None]) -> Callable[[int], int | None]:
    """`slots[partition_index((value,), …)]` in one closure: the hot path of a single integer key.

    The same steps as `hash_int`, with every constant a local variable, and without NULL.
    """
    modulus, mask, a0, b0, c1, r1 = len(slots), _M32, _A, _B, _C1, _R1
    combine = COMBINE

    def slot_of(value: int) -> int | None:
        if not -0x100000000 <= value <= 0xFFFFFFFF:
            value ^= value >> 32 if value >= 0 else ~(value >> 32)
        a = ((a0 + value & mask) ^ c1) - r1 & mask
        b = (b0 ^ a) - (a << 25 | a >> 7) & mask
        c = (c1 ^ b) - (b << 16 | b >> 16) & mask
        a = (a ^ c) - (c << 4 | c >> 28) & mask
        b = (b ^ a) - (a << 14 | a >> 18) & mask
        return slots[((b << 32 | (c ^ b) - (b << 24 | b >> 8) & mask) + combine & 0xFFFFFFFFFFFFFFFF) % modulus]

    return slot_of


def hash_bytes(value: bytes) -> int:
    """hash_any_extended() with the partition seed."""
    a, b, c = _seeded(len(value))
    whole = len(value) // 12 * 12
    if whole:
        words = memoryview(value)[:whole].cast("I") if _LITTLE_ENDIAN else np.frombuffer(value[:whole], "<u4").tolist()
        for i in range(0, whole // 4, 3):
            a, b, c = _mix(a + words[i] & _M32, b + words[i + 1] & _M32, c + words[i + 2] & _M32)
    tail = int.from_bytes(value[whole:], "little")
    if tail:
        a, b, c = a + tail & _M32, b + (tail >> 32) & _M32, c + (tail >> 64 << 8) & _M32
    return _final(a, b, c)


_LITTLE_ENDIAN = sys.byteorder == "little"


def hash_of(type_oid: int) -> Callable[[Any], int]:
    """The hash function of canonical values of one key type."""
    if type_oid in BYTES_TYPES:
        return hash_bytes
    return _hash_char if type_oid == CHAR else hash_int


def _hash_char(value: int) -> int:
    return hash_int(value - 256 if value > 127 else value)  # hashed as C's signed char, though compared as unsigned


def row_hash(values: Sequence[Canonical], types: Sequence[int]) -> int:
    """compute_partition_hash_value(): the 64-bit hash of a whole key."""
    result = 0
    for value, type_oid in zip(values, types, strict=True):
        if value is not None:
            hashed = hash_of(type_oid)(value)
            result ^= (hashed + COMBINE + (result << 54) + (result >> 7)) & _M64
    return result


def partition_index(values: Sequence[Canonical], types: Sequence[int], modulus: int) -> int:
    """The remainder of a row: `values` canonical (catalog.keys), one for each key column."""
    return row_hash(values, types) % modulus


# --- many rows at once -------------------------------------------------------------------------------------------

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


def _u32(value: int) -> np.uint32:
    return np.uint32(value & _M32)


_SHIFTS = tuple(_u32(bits) for bits in range(33))  # a numpy number costs more to make than a small array to shift


def _rotate(words: U32, bits: int) -> U32:
    rotated = words << _SHIFTS[bits]
    rotated |= words >> _SHIFTS[32 - bits]
    return rotated


def _mix_arrays(a: U32, b: U32, c: U32) -> tuple[U32, U32, U32]:
    a = (a - c) ^ _rotate(c, 4)
    c = c + b
    b = (b - a) ^ _rotate(a, 6)
    a = a + c
    c = (c - b) ^ _rotate(b, 8)
    b = b + a
    a = (a - c) ^ _rotate(c, 16)
    c = c + b
    b = (b - a) ^ _rotate(a, 19)
    a = a + c
    c = (c - b) ^ _rotate(b, 4)
    return a, b + a, c


def _joined(b: U32, c: U32) -> U64:
    return (b.astype(np.uint64) << _WORD) | c


def _final_arrays(a: U32, b: U32, c: U32) -> U64:
    c = (c ^ b) - _rotate(b, 14)
    a = (a ^ c) - _rotate(c, 11)
    b = (b ^ a) - _rotate(a, 25)
    c = (c ^ b) - _rotate(b, 16)
    a = (a ^ c) - _rotate(c, 4)
    b = (b ^ a) - _rotate(a, 14)
    c = (c ^ b) - _rotate(b, 24)
    return _joined(b, c)


_HALF, _SIGN = np.int64(32), np.int64(63)
_WORD, _UP, _DOWN, _COMBINE = np.uint64(32), np.uint64(54), np.uint64(7), np.uint64(COMBINE)
_A32, _B32, _C32, _R32 = _u32(_A), _u32(_B), _u32(_C1), _u32(_R1)


def hash_int_array(values: npt.NDArray[np.int64]) -> U64:
    """`hash_int` of every element."""
    # The upper half is folded in by xor, complemented for negative values: `values >> 63` is all ones for them.
    words = (values ^ (values >> _HALF) ^ (values >> _SIGN)).astype(np.uint32)
    a = ((words + _A32) ^ _C32) - _R32
    b = (a ^ _B32) - _rotate(a, 25)
    c = (b ^ _C32) - _rotate(b, 16)
    a = (a ^ c) - _rotate(c, 4)
    b = (b ^ a) - _rotate(a, 14)
    c = (c ^ b) - _rotate(b, 24)
    return _joined(b, c)


def hash_bytes_array(values: Sequence[bytes]) -> U64:
    """`hash_bytes` of every element; long ones are hashed one by one."""
    lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
    result = np.empty(len(values), dtype=np.uint64)
    order = np.argsort(lengths, kind="stable")
    short = int(np.searchsorted(lengths[order], _MATRIX_BYTES_MAX, side="right"))
    for i in order[short:].tolist():
        result[i] = hash_bytes(values[i])
    if short:
        chosen = order[:short]
        sorted_values = [values[i] for i in chosen.tolist()]
        result[chosen] = _hash_matrix(sorted_values, lengths[chosen])
    return result


def _hash_matrix(values: list[bytes], lengths: npt.NDArray[np.int64]) -> U64:
    """Values sorted by length, zero-padded to whole blocks and one block more for the tail."""
    blocks = lengths // 12
    width = 12 * (int(blocks[-1]) + 1)
    words = np.array(values, dtype=f"S{width}").view("<u4").reshape(len(values), width // 4)
    first = (lengths + _INITIAL).astype(np.uint32)
    a, b, c = _mix_arrays(first + _u32(HASH_PARTITION_SEED >> 32), first + _u32(HASH_PARTITION_SEED), first)
    for block in range(int(blocks[-1])):
        start = int(np.searchsorted(blocks, block, side="right"))  # rows from here on have this block whole
        column = words[start:, 3 * block : 3 * block + 3]
        a[start:], b[start:], c[start:] = _mix_arrays(
            a[start:] + column[:, 0], b[start:] + column[:, 1], c[start:] + column[:, 2]
        )
    rows = np.arange(len(values))
    tail = 3 * blocks
    return _final_arrays(a + words[rows, tail], b + words[rows, tail + 1], c + (words[rows, tail + 2] << _u32(8)))


def _hash_column(column: KeyColumnValues, type_oid: int) -> tuple[U64, npt.NDArray[np.bool_] | None]:
    """The hashes of a column and where it is NULL (None: nowhere)."""
    nulls: npt.NDArray[np.bool_] | None = None
    values: Any = column
    if not isinstance(column, np.ndarray):
        if None in column:
            nulls = np.fromiter((value is None for value in column), dtype=np.bool_, count=len(column))
            filler: Canonical = b"" if type_oid in BYTES_TYPES else 0
            values = [filler if value is None else value for value in column]
        if type_oid in BYTES_TYPES:
            return hash_bytes_array(values), nulls
        values = np.array(values, dtype=np.int64)
    elif type_oid in BYTES_TYPES:
        raise TypeError("a column of bytes must be a sequence: numpy drops trailing zero bytes")
    integers = values.astype(np.int64, copy=False)
    if type_oid == CHAR:
        integers = np.where(integers > 127, integers - 256, integers)
    return hash_int_array(integers), nulls


def row_hashes(columns: Sequence[KeyColumnValues], types: Sequence[int]) -> U64:
    """`row_hash` of many rows: one sequence of canonical values (or an integer array) for each key column."""
    result = np.zeros(len(columns[0]), dtype=np.uint64)
    for number, (column, type_oid) in enumerate(zip(columns, types, strict=True)):
        hashed, nulls = _hash_column(column, type_oid)
        hashed += _COMBINE
        combined = result ^ (hashed + (result << _UP) + (result >> _DOWN)) if number else hashed  # 0 before the first
        result = combined if nulls is None else np.where(nulls, result, combined)
    return result


def remainders(columns: Sequence[KeyColumnValues], types: Sequence[int], modulus: int) -> npt.NDArray[np.int64]:
    """`partition_index` of many rows."""
    return (row_hashes(columns, types) % np.uint64(modulus)).astype(np.int64)
