"""Long texts that come again with other literals, matched with their template as a whole instead of being cut.

`sql.literals.cut` looks for literals at every byte: 75 µs for an INSERT of 100 rows. Programs send such a text again and
again, so a template that was met often becomes one regular expression that leaves nothing open but the literals:

    INSERT INTO t VALUES (1, 'a')  →  INSERT\\ INTO\\ t\\ VALUES\\ \\((number),\\ (string)\\)

It takes 17 µs for the same text, and a text that is not of this template is found out at the first other byte.

**Why the parts are `cut`'s.** Both read from left to right. Let them agree up to the end of a segment; the next literal begins
at the same byte. A string ends at the same quote for both, as no segment begins with one. A number (digits, perhaps with a
fraction) ends for both before the next segment, which must begin with a byte that cannot be part of a number. In the segment
that follows `cut` finds no literal, as it found none in the template's, where the bytes were the same: whether one begins
depends on nothing but the bytes before it. So they agree up to the end of that segment, too. Templates with other literals
(`1e5`, `0x1F`) are not matched like this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

BYTES_MIN, BYTES_MAX = 1 << 10, 1 << 14  # of a text; compiling takes about 1 µs for each byte
MET_MIN = 64  # times that a template was met before it is worth being compiled
MATCHERS_MAX = 4
_COUNTED_MAX = 64  # templates that are counted at a time

Segments = tuple[bytes, ...]

_STRING = rb"('[^']*+(?:''[^']*+)*+')"
_NUMBER = rb"([0-9]++(?:\.[0-9]++)?+)"
_is_number = re.compile(_NUMBER).fullmatch
_goes_on = re.compile(rb"[\w.$'\"\x80-\xff]").match


@dataclass(frozen=True, slots=True)
class _Matcher:
    segments: Segments
    parts: list[bytes]  # of some text of the template
    match: Callable[[bytes], re.Match[bytes] | None]


class KnownTexts:
    """Of one plan cache."""

    __slots__ = (
        "_matchers",
        "_met",
    )  # of more templates than there is room for, none is compiled twice while counts are kept

    def __init__(self) -> None:
        self._matchers: list[_Matcher] = []  # the last one that matched comes first
        self._met: dict[Segments, int] = {}

    def parts(self, text: bytes) -> tuple[Segments, list[bytes]] | None:
        """The text's template and its parts, as `cut` gives them."""
        for number, matcher in enumerate(self._matchers):
            found = matcher.match(text)
            if found is not None:
                if number:
                    self._matchers.insert(0, self._matchers.pop(number))
                parts = matcher.parts.copy()
                parts[1::2] = found.groups()
                return matcher.segments, parts
        return None

    def note(self, segments: Segments, parts: Sequence[bytes]) -> None:
        """A plain text was cut, and its template is in use."""
        met = self._met.get(segments, 0) + 1
        if met == 1 and len(self._met) >= _COUNTED_MAX:
            self._met.clear()
        self._met[segments] = met
        if met == MET_MIN and (match := _compiled(parts)) is not None:
            self._matchers.insert(0, _Matcher(segments, list(parts), match))
            del self._matchers[MATCHERS_MAX:]


def _compiled(parts: Sequence[bytes]) -> Callable[[bytes], re.Match[bytes] | None] | None:
    pattern = [re.escape(parts[0])]
    for literal, segment in zip(parts[1::2], parts[2::2], strict=True):
        if literal.startswith(b"'"):
            pattern.append(_STRING)
        elif _is_number(literal) and not _goes_on(segment):
            pattern.append(_NUMBER)
        else:
            return None
        pattern.append(re.escape(segment))
    match = re.compile(b"".join(pattern)).fullmatch
    re.purge()  # it would keep hundreds of these
    return match
