"""CREATE, ALTER and DROP ROLE: in every place, and passwords only as SCRAM verifiers.

PostgreSQL salts a plain password anew on each server; the gateway passes a client's proof through to several, so all
must hold the same verifier (findings-gateway 16). It is computed once here and takes the password's place in the text;
the plain password reaches no server and no log. MD5 verifiers cannot be passed through and are refused.
"""

from __future__ import annotations

import re
from typing import Any

from ...core.errors import not_supported
from ...core.ids import quote_literal
from . import text as surgery
from .places import FORGET_DROPPED, run
from .steps import DdlContext, Procedure

LIMIT_SHIFT = 1_000_000  # more than it, in pg_authid.rolconnlimit, is a limit of ours

_MD5 = re.compile(r"md5[0-9a-f]{32}\Z")
_SCRAM = re.compile(r"SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+\Z")


def create_or_alter(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    return (yield from run(with_limit(stmt, with_verifier(stmt, text, ctx)), ctx))


def with_limit(stmt: Any, text: str) -> str:
    """The statement with a CONNECTION LIMIT that no server meets: the gateways count clients (gateway/role_slots.py)."""
    option = next((o for o in stmt.options or () if o.defname == "connectionlimit"), None)
    if option is None or not 0 <= option.arg.ival < LIMIT_SHIFT:
        return text
    found = surgery.words(text)
    at = next(i for i, word in enumerate(found) if word.name == "CONNECTION" and found[i + 1].name == "LIMIT")
    number = found[at + 2]
    return surgery.apply(text, [surgery.Cut(number.start, number.end, str(option.arg.ival + LIMIT_SHIFT))])


def with_verifier(stmt: Any, text: str, ctx: DdlContext) -> str:
    """The statement with a verifier where it had a password."""
    option = next((o for o in stmt.options or () if o.defname == "password"), None)
    if option is None or option.arg is None or option.arg.sval == "":
        return text  # no password, PASSWORD NULL, or the empty one that PostgreSQL takes as NULL
    given = option.arg.sval
    if _SCRAM.match(given):
        return text
    if _MD5.match(given):
        raise not_supported(
            "MD5 password verifiers are not supported",
            detail="A login must be valid on every server, and only SCRAM-SHA-256 can be passed through.",
            hint="Give the password itself, or a SCRAM-SHA-256 verifier.",
        )
    if ctx.make_verifier is None:
        raise not_supported("a password cannot be set here")
    return _replace_password(text, ctx.make_verifier(given))


def _replace_password(text: str, verifier: str) -> str:
    found = surgery.words(text)
    cuts = []
    for i, word in enumerate(found):
        if word.name != "PASSWORD" or i + 1 >= len(found) or found[i + 1].name not in ("SCONST", "USCONST"):
            continue
        end = i + 1
        while end + 1 < len(found) and found[end + 1].name == "SCONST":  # 'a' <newline> 'b' is one string
            end += 1
        begin = i - 1 if found[i - 1].name in ("ENCRYPTED", "UNENCRYPTED") else i
        cuts.append(surgery.Cut(found[begin].start, found[end].end, f"PASSWORD {quote_literal(verifier)}"))
    assert cuts, "a password in the tree is in the text"
    return surgery.apply(text, cuts)


def drop_owned(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    result = yield from run(text, ctx)
    yield FORGET_DROPPED
    return result
