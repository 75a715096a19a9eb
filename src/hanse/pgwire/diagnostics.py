"""ErrorResponse and NoticeResponse ↔ `PgError`, and their rewriting.

Both messages are a list of (one-letter code, text), ended by a zero byte (manual, 55.8). A `PgError` has attributes for
the codes that code looks at (V, C, M, D, H, P); every other code is kept in `PgError.fields`, unknown ones too. The
localised severity S is kept there only where it differs from V. So parse followed by build gives the same fields.

A gateway that named a partition, or put text before the client's, must not let that show: `rewrite` changes some fields
and leaves all other bytes as they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hanse.core.errors import PgError

from .primitives import BODY, check_end, decode, frame, read_cstring, violation

# As PostgreSQL's send_message_to_frontend() sends them.
_ORDER = "SVCMDHWstcdnPpqFLR"
_PROSE = "MDHW"  # fields that are sentences and may name relations
_ATTRIBUTES = frozenset("VCMDHP")
_INTEGER_DIGITS_MAX = 10


def error_response(error: PgError) -> bytes:
    return frame(b"E", _body(fields_of(error).items()))


def notice_response(notice: PgError) -> bytes:
    return frame(b"N", _body(fields_of(notice).items()))


def fields_of(error: PgError) -> dict[str, str]:
    """All wire fields of an error, in PostgreSQL's order."""
    found = dict(error.fields)
    found["V"] = error.severity
    found.setdefault("S", error.severity)
    found["C"] = error.sqlstate
    found["M"] = error.message
    for code, value in (("D", error.detail), ("H", error.hint), ("P", error.position)):
        if value is not None:
            found[code] = str(value)
    known = {code: found[code] for code in _ORDER if code in found}
    return known | found


def parse_error(raw: bytes) -> PgError:
    """The diagnostic of an ErrorResponse or NoticeResponse, whole."""
    fields = dict(_fields(raw))
    position = fields.get("P")
    # Only plain digits become the attribute; anything else stays what it is, among the other fields.
    shown_at = int(position) if position is not None and _is_position(position) else None
    severity = fields.get("V", fields.get("S", "ERROR"))
    kept = {code: value for code, value in fields.items() if code not in _ATTRIBUTES}
    if kept.get("S") == severity:
        del kept["S"]
    if position is not None and shown_at is None:
        kept["P"] = position
    return PgError(
        fields.get("C", "XX000"),
        fields.get("M", ""),
        detail=fields.get("D"),
        hint=fields.get("H"),
        severity=severity,
        position=shown_at,
        fields=kept,
    )


def rewrite(
    raw: bytes,
    *,
    changes: Mapping[str, str | None] | None = None,
    position: Callable[[int], int | None] | None = None,
    prose: Callable[[str], str] | None = None,
) -> bytes:
    """The same ErrorResponse or NoticeResponse with some fields changed.

    `changes`: code → new text, or None to remove the field; codes that were missing are added at the end.
    `position`: the place in the statement (characters, 1-based; field P) → the new one, None to remove it.
    `prose`: applied to message, detail, hint and context, e.g. to put a table's name for its partition's.
    Then all three: position and prose first, changes last.
    """
    fields = dict(_fields(raw))
    if position is not None and _is_position(fields.get("P", "")):
        moved = position(int(fields["P"]))
        fields["P"] = str(moved)
        if moved is None:
            del fields["P"]
    if prose is not None:
        for code in _PROSE:
            if code in fields:
                fields[code] = prose(fields[code])
    for code, value in (changes or {}).items():
        if value is None:
            fields.pop(code, None)
        else:
            fields[code] = value
    return frame(raw[:1], _body(fields.items()))


def sqlstate_of(raw: bytes) -> str:
    """Field C alone, for code that forwards the message and only needs to know which error it is."""
    for code, value in _fields(raw):
        if code == "C":
            return value
    return "XX000"


def _is_position(text: str) -> bool:
    # Leading zeros would not survive a round trip; more digits than 32 bits have are nothing PostgreSQL sends.
    return text.isascii() and text.isdigit() and len(text) <= _INTEGER_DIGITS_MAX and str(int(text)) == text


def _fields(raw: bytes) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = BODY
    while True:
        code = raw[position : position + 1]
        if not code:
            raise violation("no data left in message")
        if code == b"\0":
            break
        value, position = read_cstring(raw, position + 1)
        found.append((code.decode("latin-1"), decode(value)))
    check_end(raw, position + 1)
    return found


def _body(fields: Iterable[tuple[str, str]]) -> bytes:
    parts: list[bytes] = []
    for code, value in fields:
        letter = code.encode("latin-1", "replace")
        if len(letter) == 1 and letter != b"\0":
            parts.append(letter + _text(value) + b"\0")
    return b"".join(parts) + b"\0"


def _text(value: str) -> bytes:
    """An error must always be sendable: what cannot be a C string is replaced, not refused."""
    try:
        encoded = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        encoded = value.encode("utf-8", "replace")
    return encoded.replace(b"\0", b"?")
