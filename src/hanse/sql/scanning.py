"""The lexer's tokens of a text, in a time that grows with the text.

pglast counts in characters, PostgreSQL's lexer in bytes; to translate, pglast walks a list of all that is not ASCII, once for
each token. An INSERT of 20,000 rows with an umlaut in each took 24 s, in which the worker served nobody. For the lexer
every character outside ASCII is a letter (`ident_cont` in scan.l), so the text is given to it with an ASCII letter for each.
"""

from __future__ import annotations

import re
from typing import Any

from pglast.parser import ParseError, scan

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def tokens_of(sql: str) -> list[Any]:
    """pglast's tokens: `start`, `end` (characters, both within the token), `name`, `kind`. Raises ParseError."""
    if sql.isascii():
        return scan(sql)
    try:
        return scan(_NOT_ASCII.sub("_", sql))
    except ParseError:
        return scan(sql)  # raises with the text's own words
