"""Identifiers of PostgreSQL as text: quoting rules, and the parsing of a setting such as search_path."""

from __future__ import annotations

import re

from .keywords import RESERVED

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")


def quote_identifier(name: str) -> str:
    """As PostgreSQL's quote_ident(): quoted only where the plain name would mean something else."""
    if _PLAIN.match(name) and name not in RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_qualified(schema: str, name: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def quote_literal(value: str) -> str:
    """A string constant that means `value` under any setting of standard_conforming_strings."""
    quoted = "'" + value.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def parse_identifier_list(text: str) -> tuple[str, ...]:
    """The names in a setting like search_path: `"$user", public` → `("$user", "public")`.

    Raises ValueError for what PostgreSQL's SplitIdentifierString() refuses.
    """
    names: list[str] = []
    rest = text.strip()
    while rest:
        if rest.startswith('"'):
            match = re.match(r'"((?:[^"]|"")*)"\s*', rest)
            if match is None:
                raise ValueError(f"unterminated quoted name in {text!r}")
            names.append(match.group(1).replace('""', '"'))
        else:
            match = re.match(r"([^\s,\"]+)\s*", rest)
            if match is None:
                raise ValueError(f"empty name in {text!r}")
            names.append(match.group(1).lower())
        rest = rest[match.end() :]
        if not rest:
            break
        if not rest.startswith(","):
            raise ValueError(f"unexpected text after a name in {text!r}")
        rest = rest[1:].lstrip()
        if not rest:
            raise ValueError(f"name missing after a comma in {text!r}")
    return tuple(names)
