"""`x IN (1, 2, 3, …)` of thousands of values, and other lists as long, kept out of the parse tree.

pglast makes some twenty Python objects of each value, and every walk of the planner visits them. 65,535 parameters took
a worker 50 s, in which it served nobody else. No plan depends on so many values one by one: they lie everywhere.
So the tree is made of a text in which the list is a call without arguments, filled up with spaces, so that everything
else stays where it is::

    SELECT * FROM t WHERE id IN ($1,$2,$3,…,$65535) AND v = 5
    SELECT * FROM t WHERE id IN (hanse_list_77d1…_4()      ) AND v = 5

So are lists of rows, `(a, b) IN ((1, 2), (3, 4), …)`; arrays, `ARRAY[1, 2, …]`; and all rows but the first of a VALUES list in
parentheses, as one row::

    … JOIN (VALUES (1, 'a'), (2, 'b'), (3, 'c'), …) v (id, x) USING (id)
    … JOIN (VALUES (1, 'a'), (hanse_list_77d1…_5()       ) v (id, x) USING (id)

Not where an INSERT takes its rows from it: those are planned one by one, or by their kinds (`planner.longinsert`).

What is sent to servers is the client's own text, or a text printed from the tree, where `restored` puts the list back. No
server has a function of that name: one that was forgotten is an error, never an answer.

Only values that the text alone shows to be constants or parameters are taken out, and only in texts that `literals` reads as
PostgreSQL's lexer does. A parameter that the text names elsewhere as well keeps the list in the tree: what its uses say of
its type would not be all of them.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

from . import literals

VALUES_MIN = 500
TEXT_BYTES_MIN = 2 * VALUES_MIN  # shorter texts are not looked at

_VALUE = (
    r"(?:-?\d[\w.]*+|(?:NULL|TRUE|FALSE)\b|\$\d++|'[^']*+(?:''[^']*+)*+')\s*+"
    r"(?:::\s*+[A-Za-z_][\w. ]*+(?:\(\d++(?:,\s*+\d++)?\)[\w ]*+)?(?:\[\])?\s*+)?"
)
_INSIDE = rf"\s*+{_VALUE}(?:,\s*+{_VALUE})*+"  # a row's values
_ROW = rf"\({_INSIDE}\)\s*+"
_LIST = re.compile(
    rf"\bIN\s*+\(\s*+(?P<values>(?:{_VALUE},\s*+){{{VALUES_MIN - 1},}}+{_VALUE})\)"
    rf"|\bIN\s*+\(\s*+(?P<rows>(?:{_ROW},\s*+){{{VALUES_MIN - 1},}}+{_ROW})\)"
    rf"|\bARRAY\s*+\[\s*+(?P<array>(?:{_VALUE},\s*+){{{VALUES_MIN - 1},}}+{_VALUE})\]"
    rf"|\(\s*+VALUES\s*+{_ROW},\s*+\((?P<table>{_INSIDE}(?:\)\s*+,\s*+\({_INSIDE}){{{VALUES_MIN - 1},}}+)\)",
    re.IGNORECASE,
)
_QUERY = re.compile(r"[\s(]*+(?:SELECT|WITH|UPDATE|DELETE|INSERT|MERGE)\b", re.IGNORECASE)
_PARAMETER = re.compile(r"\$\d+")
_NAME = f"hanse_list_{secrets.token_hex(8)}"  # a client must not be able to name another's
_CALL = re.compile(rf"\b{_NAME}_(\d+)\(\)")


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class InList:
    text: str  # without what it stands in


@dataclass(frozen=True, slots=True)
class Shortened:
    """`sql` is as long as the text itself. Whoever prints its tree must keep `lists`."""

    sql: str
    lists: tuple[InList, ...]


_numbers = itertools.count(1)
_known: WeakValueDictionary[int, InList] = WeakValueDictionary()


def shortened(data: bytes, sql: str) -> Shortened | None:
    """`data` and `sql` are the same text. None: it has no list that could be taken out."""
    if len(data) < TEXT_BYTES_MIN or _QUERY.match(sql) is None or not _has_many(data):
        return None
    found = list(_LIST.finditer(sql))
    if not found or not _are_outside(data, sql, found) or not _are_alone(sql, found):
        return None
    lists = []
    pieces: list[str] = []
    done = 0
    for match in found:
        kind = str(match.lastgroup)
        one = InList(match[kind])
        number = next(_numbers)
        _known[number] = one
        lists.append(one)
        call = f"{_NAME}_{number}()"
        pieces += (sql[done : match.start(kind)], call.ljust(len(one.text)))
        done = match.end(kind)
    return Shortened("".join((*pieces, sql[done:])), tuple(lists))


def _has_many(data: bytes) -> bool:
    """Whether there are values enough for a list: one that is long has little to say, and takes long to be looked through."""
    return data.count(b",") >= VALUES_MIN - 1 and (
        data.count(b"$") >= VALUES_MIN or len(literals.cut(data)) > 2 * VALUES_MIN - 2
    )


def _are_outside(data: bytes, sql: str, found: list[re.Match[str]]) -> bool:
    """Whether PostgreSQL's lexer, too, sees each beginning as words, and not inside a string or a name."""
    parts = literals.cut(data)
    if not literals.parts_are_plain(parts):
        return False
    starts: Iterator[int] = iter([_bytes(sql, match.start()) for match in found])
    start = next(starts)
    done = 0
    for position, part in enumerate(parts):
        while start < done + len(part):
            if position % 2 or part.count(b'"', 0, start - done) % 2:
                return False
            try:
                start = next(starts)
            except StopIteration:
                return True
        done += len(part)
    return False


def _bytes(sql: str, characters: int) -> int:
    return characters if sql.isascii() else len(sql[:characters].encode())


def _are_alone(sql: str, found: list[re.Match[str]]) -> bool:
    """Whether no parameter of the lists is named elsewhere."""
    if "$" not in sql:
        return True
    inside = {name for match in found for name in _PARAMETER.findall(match[str(match.lastgroup)])}
    done = 0
    for match in found:
        if not inside.isdisjoint(_PARAMETER.findall(sql, done, match.start(str(match.lastgroup)))):
            return False
        done = match.end(str(match.lastgroup))
    return inside.isdisjoint(_PARAMETER.findall(sql, done))


def restored(text: str) -> str:
    """A printed text with its lists. Raises KeyError for one that nobody has kept."""
    if _NAME not in text:
        return text
    return _CALL.sub(lambda match: _known[int(match[1])].text, text)
