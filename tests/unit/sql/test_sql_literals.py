from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pglast.parser import ParseError, scan

from hanse.sql.literals import cut, is_plain, split


@pytest.mark.parametrize(
    ("text", "literals"),
    [
        (b"SELECT 1", [b"1"]),
        (b"SELECT 'it''s', ''", [b"'it''s'", b"''"]),
        (b"SELECT a1, t2.x3, $12, b$5 FROM t", []),
        (b"SELECT 1.5, 1.5e-3, 1e5, 1E+5, 5.", [b"1.5", b"1.5e-3", b"1e5", b"1E+5", b"5."]),
        (b"SELECT 0x1F, 1_000, 0b11", [b"0x1F", b"1_000", b"0b11"]),
        (b"SELECT -5, 3-4, 5::int8", [b"5", b"3", b"4", b"5"]),
        (b'SELECT "a 1", "b""2", 3', [b"3"]),
        (b'SELECT \'"\', "its 5", 5', [b"'\"'", b"5"]),
        ("SELECT é1, 'é'".encode(), ["'é'".encode()]),
        (b"", []),
    ],
)
def test_literals_are_cut_out(text: bytes, literals: list[bytes]) -> None:
    parts = split(text)
    assert parts[1::2] == literals
    assert b"".join(parts) == text


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1 -- 2",
        b"SELECT /* 1 */ 2",
        b"SELECT E'a'",
        b"SELECT e'a\\'b'",
        b"SELECT U&'a'",
        b"SELECT B'1'",
        b"SELECT x'1F'",
        b"SELECT N'a'",
        b"SELECT $$a$$",
        b"SELECT $t$a$t$",
        b"SELECT 'a'\n'b'",
        b"SELECT 'a",
        b'SELECT "a',
        b"SELECT date'2001-01-01'",
        b"SELECT .5",
        b'SELECT "it\'s", 5',
    ],
)
def test_what_the_expression_does_not_understand_is_not_plain(text: bytes) -> None:
    assert not is_plain(text)
    assert split(text) == [text]
    assert b"".join(cut(text)) == text


_PIECES = st.sampled_from(
    [
        "SELECT ",
        "a1",
        " ",
        ",",
        "'x'",
        "'it''s'",
        "''",
        "1",
        "23",
        "4.5",
        ".5",
        "1e5",
        "-",
        "+",
        "(",
        ")",
        '"q 1"',
        '"it\'s"',
    ]
    + [
        "E'a\\'b'",
        "--c\n",
        "/*d 1*/",
        "$1",
        "$$e$$",
        "$f$ 1 $f$",
        "::int8",
        "e",
        "x",
        "\n",
        "0x1F",
        "é",
        "U&",
        "t.c2",
        "[1:2]",
    ]
)


@settings(max_examples=1_500, deadline=None)
@given(st.lists(_PIECES, max_size=12))
def test_plain_texts_are_cut_as_postgresqls_lexer_cuts_them(pieces: list[str]) -> None:
    text = "".join(pieces)
    parts = split(text.encode())
    assert b"".join(parts) == text.encode()
    if not is_plain(text.encode()):
        return
    try:
        tokens = scan(text)
    except ParseError:
        return  # PostgreSQL refuses the text; whatever plan there is, it answers with that error
    constants = [token for token in tokens if token.name in ("ICONST", "FCONST", "SCONST")]
    if any(one.end + 1 == other.start for one, other in pairwise(constants)):
        return  # `1e5.5` is two numbers side by side, which no grammar rule allows
    expected = [text[token.start : token.end + 1] for token in constants]
    assert [literal.decode() for literal in parts[1::2]] == expected


def test_a_text_with_the_segments_of_a_plain_text_is_plain() -> None:
    """What lets the plan cache skip the check."""
    plain = cut(b"SELECT * FROM t WHERE a = 'x' AND b = 1")
    for text in (b"SELECT * FROM t WHERE a = E'x' AND b = 1", b"SELECT * FROM t WHERE a = 'x' AND b = 1 --'"):
        assert cut(text)[::2] != plain[::2]
    assert cut(b"SELECT * FROM t WHERE a = '--' AND b = 0x1")[::2] == plain[::2]
