"""SASLprep (RFC 4013): passwords that look alike are alike. With PostgreSQL's exceptions (saslprep.c, pg_saslprep()).

PostgreSQL takes a pure ASCII password as it is, control characters included, and uses the raw bytes wherever SASLprep
would refuse (prohibited or unassigned characters, wrong mixture of directions, not UTF-8, nothing left): both sides
do the same, so such passwords still work. We do what PostgreSQL does, not what the RFC says, because our verifiers must
equal its own.
"""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,  # unassigned in Unicode 3.2: not allowed in stored strings
)


def saslprep(password: str) -> bytes:
    """The bytes that go into PBKDF2. A str that is not text (surrogateescape) gives the raw bytes it stands for."""
    raw = password.encode("utf-8", "surrogateescape" if _is_escaped(password) else "surrogatepass")
    if password.isascii():
        return raw
    prepared = _prepare(password)
    return raw if prepared is None else prepared.encode("utf-8")


def _is_escaped(password: str) -> bool:
    return all(not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff" for c in password)


def _prepare(password: str) -> str | None:
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c
        for c in password
        if not stringprep.in_table_b1(c) or stringprep.in_table_c12(c)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    if not normal or any(prohibits(c) for c in normal for prohibits in _PROHIBITED):
        return None
    return normal if _directions_are_right(normal) else None


def _directions_are_right(text: str) -> bool:
    """RFC 3454, section 6: with a right-to-left character, no left-to-right one, and right-to-left at both ends."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    if any(map(stringprep.in_table_d2, text)):
        return False
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
