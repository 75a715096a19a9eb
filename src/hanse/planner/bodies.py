"""The bodies of functions, read as statements.

A SQL body is parsed as it is. A PL/pgSQL body is taken apart by PostgreSQL's own PL/pgSQL parser (in pglast), which gives every
statement and expression in it; what a variable is and what a column it knows better than any scan of words. A body that
neither understands, or that is in another language, is *opaque*: it may do anything.

    BEGIN NEW.total := (SELECT sum(x) FROM lines WHERE k = NEW.k); RETURN NEW; END
    →  statements: SELECT (SELECT sum(x) FROM lines WHERE k = NEW.k);  assigned: {('new', 'total')}

Dynamic SQL (EXECUTE) makes a body opaque as well, unless the text is a constant.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pglast import ast
from pglast.parser import ParseError, parse_plpgsql_json, parse_sql, scan

from ..catalog.model import Function
from ..core.ids import quote_qualified

_BODIES_KEPT_MAX = 2048
_PURE_LANGUAGES = frozenset(("c", "internal"))
_DYNAMIC = ("PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors")
_WHOLE = 0  # parse modes of PL/pgSQL (RawParseMode in parser.h): a statement; 2: an expression; 3 to 5: an assignment
_EXPRESSION = 2


@dataclass(frozen=True, slots=True)
class Body:
    """`assigned`: fields of the records NEW and OLD that the body may change; the field '*' means all of them.

    A body that the parser does not understand is its words: any of them may be a table's name, or a function's.
    """

    statements: tuple[Any, ...] = ()
    words: frozenset[str] = frozenset()
    writes: bool = False  # among the words is one that begins a statement that changes something
    opaque: str | None = None  # why it may do anything
    assigned: frozenset[tuple[str, str]] = frozenset()


@lru_cache(_BODIES_KEPT_MAX)
def read(function: Function) -> Body:
    if function.kind in ("a", "w") or function.language in _PURE_LANGUAGES:
        return Body()
    if function.language in ("sql", "plpgsql") and not function.source.strip():
        return Body() if function.volatility == "i" else Body(opaque=_UNREADABLE)
    if function.language == "sql":
        return _sql(function)
    if function.language == "plpgsql":
        return _plpgsql(function)
    return Body() if function.volatility == "i" else Body(opaque=f"is in language {function.language}")


_UNREADABLE = "has a body that cannot be read"
_WRITING = frozenset(("INSERT", "UPDATE", "DELETE_P", "MERGE", "TRUNCATE", "COPY", "CREATE", "DROP", "ALTER", "LOCK_P"))


def _as_words(function: Function) -> Body:
    data = function.source.encode()
    try:
        tokens = scan(function.source)
    except ParseError:
        return Body(opaque=_UNREADABLE)
    texts = (data[token.start : token.end + 1].decode() for token in tokens)
    words = frozenset(text[1:-1].replace('""', '"') if text.startswith('"') else text.lower() for text in texts)
    kinds = {token.name for token in tokens}
    dynamic = "runs dynamic SQL" if "EXECUTE" in kinds and function.language == "plpgsql" else None
    return Body(words=words, writes=not kinds.isdisjoint(_WRITING), opaque=dynamic, assigned=_ALL_ASSIGNED)


def _sql(function: Function) -> Body:
    source = function.source.strip()
    standard = source[:12].upper().split()[:1] in (["BEGIN"], ["RETURN"])
    try:
        if standard:  # BEGIN ATOMIC … END, or RETURN expression: a part of CREATE FUNCTION
            return Body((parse_sql(f"CREATE FUNCTION f() RETURNS int LANGUAGE sql {source}")[0].stmt,))
        return Body(tuple(raw.stmt for raw in parse_sql(source)))
    except (ParseError, IndexError):
        return _as_words(function)


def _plpgsql(function: Function) -> Body:
    try:
        document = json.loads(parse_plpgsql_json(_definition(function)))
        statements = tuple(_statements(document))
        changed = frozenset(_assigned(document))
    except (ParseError, ValueError, IndexError, RecursionError):
        return _as_words(function)
    dynamic = any(_is_dynamic(found) for found in _objects(document))
    return Body(statements, opaque="runs dynamic SQL" if dynamic else None, assigned=changed)


def _definition(function: Function) -> str:
    """The statement that makes it: arguments are variables that the body may name."""
    tag = "hanse"
    while f"${tag}$" in function.source:
        tag += "_"
    head = "PROCEDURE" if function.kind == "p" else "FUNCTION"
    returns = f" RETURNS {function.result}" if function.kind != "p" and function.result else ""
    if function.kind != "p" and not returns:
        returns = " RETURNS void"
    name = quote_qualified(function.schema or "public", function.name)
    return f"CREATE {head} {name}({function.arguments}){returns} LANGUAGE plpgsql AS ${tag}${function.source}${tag}$"


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for item in node:
            yield from _objects(item)


def _statements(document: Any) -> Iterator[Any]:
    for found in _objects(document):
        expression = found.get("PLpgSQL_expr")
        if expression is not None:
            yield from _parsed(expression["query"], expression.get("parseMode", _WHOLE))
        for constant in _constant_texts(found):
            yield from (raw.stmt for raw in parse_sql(constant))


def _parsed(text: str, mode: int) -> Iterator[Any]:
    if mode == _WHOLE:
        yield from (raw.stmt for raw in parse_sql(text))
    elif mode == _EXPRESSION:
        yield parse_sql(f"SELECT {text}")[0].stmt
    else:
        target, value = _split_assignment(text)
        yield parse_sql(f"SELECT {value}")[0].stmt
        yield parse_sql(f"SELECT {target}")[0].stmt  # an array's index may be a query


def _split_assignment(text: str) -> tuple[str, str]:
    """`a.b[1] := x` → 'a.b[1]', 'x'. Either sign may stand between them."""
    depth = 0
    for token in scan(text):
        depth += (token.name in ("ASCII_40", "ASCII_91")) - (token.name in ("ASCII_41", "ASCII_93"))
        if depth == 0 and token.name in ("COLON_EQUALS", "ASCII_61"):
            data = text.encode()
            return data[: token.start].decode(), data[token.end + 1 :].decode()
    raise ValueError(f"not an assignment: {text}")


# --- dynamic SQL -------------------------------------------------------------------------------------------------


def _dynamic_texts(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in _DYNAMIC:
        if name in found:
            yield found[name]["query"]["PLpgSQL_expr"]
    dynamic = found.get("dynquery")
    if dynamic is not None:
        yield dynamic["PLpgSQL_expr"]


def _constant_texts(found: dict[str, Any]) -> Iterator[str]:
    for expression in _dynamic_texts(found):
        text = _constant(expression["query"])
        if text is not None:
            yield text


def _is_dynamic(found: dict[str, Any]) -> bool:
    return any(_constant(expression["query"]) is None for expression in _dynamic_texts(found))


def _constant(expression: str) -> str | None:
    select: Any = parse_sql(f"SELECT {expression}")[0].stmt
    value = select.targetList[0].val
    return value.val.sval if isinstance(value, ast.A_Const) and isinstance(value.val, ast.String) else None


# --- NEW and OLD -------------------------------------------------------------------------------------------------

_RECORDS = ("new", "old")
_ALL_ASSIGNED = frozenset((record, "*") for record in _RECORDS)


def _assigned(document: Any) -> Iterator[tuple[str, str]]:
    for found in _objects(document):
        if "PLpgSQL_stmt_assign" in found:
            yield from _target_of(found["PLpgSQL_stmt_assign"]["expr"]["PLpgSQL_expr"]["query"])
        for row in (found[key].get("PLpgSQL_row") for key in ("target", "var") if isinstance(found.get(key), dict)):
            for field in (row or {}).get("fields", ()):
                yield from _field(field["name"])
        for key in ("target", "var"):
            record = found[key].get("PLpgSQL_rec") if isinstance(found.get(key), dict) else None
            if record is not None and record.get("refname") in _RECORDS:
                yield record["refname"], "*"
        declared = found.get("PLpgSQL_rec") or found.get("PLpgSQL_var") or {}
        if declared.get("refname") in _RECORDS and declared.get("lineno"):
            yield declared["refname"], "*"  # another variable of that name


def _target_of(assignment: str) -> Iterator[tuple[str, str]]:
    target, _ = _split_assignment(assignment)
    yield from _field(target)


def _field(target: str) -> Iterator[tuple[str, str]]:
    data = target.encode()
    words = [data[token.start : token.end + 1].decode() for token in scan(target)]
    plain = [word[1:-1] if word.startswith('"') else word.lower() for word in words]
    if plain and plain[0] in _RECORDS:
        yield plain[0], plain[2] if len(plain) > 2 and plain[1] == "." else "*"
