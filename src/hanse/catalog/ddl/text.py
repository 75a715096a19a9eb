"""Surgery on a statement's text: clauses that are Hanse's own are cut out, all else stays as the client wrote it.

Rendering a changed tree would risk losing what the deparser does not know; cutting tokens cannot. PostgreSQL's scanner
(pglast) gives the tokens, so strings, comments and quoted names are never mistaken for clauses.

    CREATE TABLE t (a int) WITH (shards = 4, fillfactor = 70) TABLESPACE g2
    CREATE TABLE t (a int) WITH (fillfactor = 70)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pglast import scan

COMMENTS = frozenset(("SQL_COMMENT", "C_COMMENT"))
OPEN, CLOSE, COMMA, SEMICOLON = "ASCII_40", "ASCII_41", "ASCII_44", "ASCII_59"
_BRACKETS = {OPEN: 1, "ASCII_91": 1, CLOSE: -1, "ASCII_93": -1}
OWN_OPTIONS = frozenset(("shards", "distribution", "colocate_with"))


@dataclass(frozen=True, slots=True)
class Word:
    """A token: text[start:end], its name in PostgreSQL's grammar, and how many brackets are open around it."""

    start: int
    end: int
    name: str
    depth: int


@dataclass(frozen=True, slots=True)
class Cut:
    start: int
    end: int
    replacement: str = ""


def words(text: str) -> tuple[Word, ...]:
    found: list[Word] = []
    depth = 0
    for token in scan(text):
        if token.name in COMMENTS:
            continue
        change = _BRACKETS.get(token.name, 0)
        depth += min(change, 0)
        found.append(Word(token.start, token.end + 1, token.name, depth))
        depth += max(change, 0)
    return tuple(found)


def apply(text: str, cuts: Iterable[Cut]) -> str:
    for cut in sorted(cuts, key=lambda cut: cut.start, reverse=True):
        text = text[: cut.start] + cut.replacement + text[cut.end :]
    return text


def trimmed(text: str) -> str:
    """Without a closing semicolon or comment, so that a clause may follow."""
    found = words(text)
    while found and found[-1].name == SEMICOLON:
        found = found[:-1]
    return text[: found[-1].end] if found else text


def index_of(found: tuple[Word, ...], *names: str, depth: int | None = 0, start: int = 0) -> int | None:
    """Where this sequence of token names begins; at this depth, or at any (None)."""
    for i in range(start, len(found) - len(names) + 1):
        if depth is not None and found[i].depth != depth:
            continue
        if all(found[i + k].name == name for k, name in enumerate(names)):
            return i
    return None


def without_own_clauses(text: str, *, query_follows: bool = False) -> str:
    """Without our WITH options and without any TABLESPACE (of the table or of the indexes behind its constraints)."""
    found = words(text)
    end = index_of(found, "AS") if query_follows else None
    head = found[:end] if end is not None else found
    return apply(text, [*_tablespace_cuts(head), *_option_cuts(text, head)])


def _tablespace_cuts(found: tuple[Word, ...]) -> list[Cut]:
    cuts = []
    for i, word in enumerate(found[:-1]):
        if word.name != "TABLESPACE" or found[i + 1].name in (COMMA, CLOSE):
            continue
        using_index = i >= 2 and found[i - 1].name == "INDEX" and found[i - 2].name == "USING"
        if using_index:
            cuts.append(Cut(found[i - 2].start, found[i + 1].end))
        elif word.depth == 0:
            cuts.append(Cut(word.start, found[i + 1].end))
    return cuts


def _option_cuts(text: str, found: tuple[Word, ...]) -> list[Cut]:
    begin = index_of(found, "WITH", OPEN)
    if begin is None:
        return []
    last = next(i for i in range(begin + 2, len(found)) if found[i].name == CLOSE and found[i].depth == 0)
    kept = [text[first.start : end] for first, end in _elements(found[begin + 2 : last])]
    others = [option for option in kept if _option_name(option) not in OWN_OPTIONS]
    if len(others) == len(kept):
        return []
    return [Cut(found[begin].start, found[last].end, f"WITH ({', '.join(others)})" if others else "")]


def _elements(found: tuple[Word, ...]) -> list[tuple[Word, int]]:
    elements: list[tuple[Word, int]] = []
    first: Word | None = None
    for i, word in enumerate(found):
        first = first or word
        if i + 1 == len(found) or (found[i + 1].name == COMMA and found[i + 1].depth == 1):
            elements.append((first, word.end))
        if word.name == COMMA and word.depth == 1:
            first = found[i + 1] if i + 1 < len(found) else None
    # A comma itself never begins or ends an element.
    return [(first, end) for first, end in elements if first.name != COMMA]


def _option_name(option: str) -> str:
    return option.split("=")[0].strip().strip('"').lower()


def without_word(text: str, name: str) -> str:
    """Without every token of this name outside of brackets, e.g. CONCURRENTLY."""
    return apply(text, (Cut(w.start, w.end) for w in words(text) if w.name == name and w.depth == 0))


def as_plain_table(text: str) -> str:
    """In the groups a materialized view is a table: `ALTER MATERIALIZED VIEW` becomes `ALTER TABLE`."""
    found = words(text)
    at = index_of(found, "MATERIALIZED", "VIEW")
    return text if at is None else apply(text, [Cut(found[at].start, found[at + 1].end, "TABLE")])
