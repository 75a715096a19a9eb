"""A text that is matched with its template has the parts that cutting it gives (sql/known_texts.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.sql.known_texts import MATCHERS_MAX, MET_MIN, KnownTexts
from hanse.sql.literals import cut, is_plain


def known(*texts: bytes) -> KnownTexts:
    found = KnownTexts()
    for text in texts:
        parts = cut(text)
        for _ in range(MET_MIN):
            found.note(tuple(parts[::2]), parts)
    return found


INSERT = b"INSERT INTO \"T 1\" (a, b) VALUES (1::bigint + 0, 'a', -1.5), (2, '', $1)"


@pytest.mark.parametrize(
    "text",
    [
        INSERT,
        b"INSERT INTO \"T 1\" (a, b) VALUES (12::bigint + 345, 'it''s', -0), (2.25, '\"', $1)",
        b"INSERT INTO \"T 1\" (a, b) VALUES (1::bigint + 0, '''', -1.5), (2, '\n), (', $1)",
    ],
)
def test_a_text_of_a_known_template(text: bytes) -> None:
    found = known(INSERT).parts(text)
    assert found is not None
    assert found[1] == cut(text) and found[0] == tuple(cut(text)[::2])


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (b"SELECT 1, 'a'", b"SELECT 'a', 1"),  # another kind of literal
        (b"SELECT 1, 2", b"SELECT 1, 2e5"),
        (b"SELECT 1, 2", b"SELECT 1, 2."),
        (b"SELECT 1, 2", b"SELECT 1, 0x2"),
        (b"SELECT 1, 2", b"SELECT 1, 2, 3"),
        (b"SELECT 1, 2", b"SELECT 1,  2"),
        (b"SELECT 'a'", b"SELECT 'a"),
        (b"SELECT 'a', 'b'", b"SELECT 'a'', 'b'"),
        (b"SELECT 1", b"SELECT "),
    ],
)
def test_any_other_text_is_left_to_be_cut(template: bytes, text: bytes) -> None:
    assert known(template).parts(template) is not None
    assert known(template).parts(text) is None


@pytest.mark.parametrize("template", [b"SELECT 1e5", b"SELECT 0x1F", b"SELECT 1_000", b"SELECT 5."])
def test_a_template_with_other_literals_is_not_matched(template: bytes) -> None:
    assert known(template).parts(template) is None


PIECES = st.sampled_from(
    [*map(bytes, zip(b" ,(-+xe.$'\"\n")), b"::int8", b"''", "é".encode(), b"1", b"23", b"4.5", b"'a'"]
)


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(PIECES, max_size=12).map(b"".join), st.data())
def test_what_is_matched_is_what_is_cut(template: bytes, other: bytes, data: st.DataObject) -> None:
    if not is_plain(template):
        return
    matching = known(template)
    parts = cut(template)
    parts[1::2] = [data.draw(PIECES) for _ in parts[1::2]]
    for text in (template, b"".join(parts), other):
        found = matching.parts(text)
        assert found is None or (found[1] == cut(text) and list(found[0]) == cut(text)[::2])


def test_few_are_kept_and_those_that_are_used() -> None:
    templates = [b"SELECT %s, 1" % (b"a" * number) for number in range(1, MATCHERS_MAX + 2)]
    matching = known(*templates[:-1])
    assert matching.parts(templates[0]) is not None
    parts = cut(templates[-1])
    for _ in range(MET_MIN):
        matching.note(tuple(parts[::2]), parts)
    assert [matching.parts(text) is not None for text in templates] == [True, False, *[True] * (MATCHERS_MAX - 1)]
