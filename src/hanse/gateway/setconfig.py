"""`set_config()` in a query: the setting is the session's, not only the backend's that has run the query.

After such a statement the settings it names are read back from the backend that ran it: a row that was not there has set
nothing, and the value is PostgreSQL's canonical one. A setting for the session is remembered like that of SET, and made in
the transaction's other branches; one that is local is made in all branches, now and later, like that of SET LOCAL.

    SELECT set_config('app.tenant', $1, true) FROM …      →  Transaction.local gets SELECT set_config('app.tenant', '42', true)

The name and whether it is local must be constants or parameters. Where the name is computed, what `pg_settings` shows as set
in this session is compared; a custom setting of a computed name, and one that a function's body makes, ends with its transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pglast import ast

from ..core.errors import not_supported
from ..core.ids import quote_literal
from ..engines.postgres.backend import Backend
from ..executor.request import Request
from ..sql.parse import parse_one
from ..sql.walk import names, walk
from . import durability
from .settings import with_setting

if TYPE_CHECKING:
    from .session import Session

PLANNED_BY = frozenset(("search_path", "role", "session_authorization"))  # settings that names and rights depend on
# Settings that constants and operators are read by, once, when a statement is parsed.
PARSED_BY = frozenset(
    "datestyle intervalstyle timezone timezone_abbreviations transform_null_equals xmloption array_nulls "
    "backslash_quote lc_monetary lc_numeric default_text_search_config".split()
)
_FROM_SESSION = "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'"
_NEVER = frozenset(("client_encoding",))


def calls_set_config(text: bytes) -> bool:
    return b"set_config" in text.lower()


def refuse(session: Session, request: Request) -> None:
    """Before the statement runs: an encoding set in a backend would garble what is read there for other groups."""
    for name, value, _ in _calls(request):
        if name is not None and name.lower() == "client_encoding":
            raise not_supported("set_config cannot set client_encoding", hint="Use SET client_encoding.")
        if name is not None:
            durability.check(session, name, value)


async def note(session: Session, request: Request, backend: Backend) -> None:
    """Makes the settings that the statement has made on `backend` the session's, or the transaction's."""
    for name, _, local in _calls(request):
        if name is None:
            for found, value in await backend.query(_FROM_SESSION):
                if found is not None and found not in _NEVER and value != session.state.get(found):
                    await _keep(session, backend, found, value, local=local)
            continue
        rows = await backend.query(f"SELECT pg_catalog.current_setting({quote_literal(name)}, true)")
        await _keep(session, backend, name.lower(), rows[0][0], local=local)
    session.report_parameters(backend)


async def _keep(session: Session, backend: Backend, name: str, value: str | None, *, local: bool) -> None:
    transaction = session.transaction
    if value is None:
        return
    session.note_custom(name)
    durability.check(session, name, value)
    if local and transaction is None:
        session.set_state(session.state)
        return
    if transaction is not None:
        sql = f"SELECT pg_catalog.set_config({quote_literal(name)}, {quote_literal(value)}, {local})"
        for branch in transaction.branches.values():
            if branch.backend is not backend:
                await branch.backend.query(sql)
        if local:
            transaction.local.append(sql)
            session.note_local(name, value)
            return
    session.set_state(with_setting(session.state, name, value))


def _calls(request: Request) -> Iterator[tuple[str | None, str | None, bool]]:
    """(name, value, whether local) of each call; None: a computed one."""
    for found in walk(parse_one(request.text).node):
        if (
            isinstance(found, ast.FuncCall)
            and names(found.funcname)[-1:] == ("set_config",)
            and len(found.args or ()) == 3
        ):
            name, value, local = found.args or ()
            is_local = _text(local, request) in ("true", "t", "on", "1", "\x01")
            yield _text(name, request), _text(value, request), is_local


def _text(node: Any, request: Request) -> str | None:
    """A constant's or a parameter's value; None: it is neither."""
    if isinstance(node, ast.TypeCast):
        return _text(node.arg, request)
    if isinstance(node, ast.ParamRef) and request.parameters is not None:
        value = request.parameters.values[(node.number or 0) - 1]
        return None if value is None else bytes(value).decode()
    if isinstance(node, ast.A_Const):
        if isinstance(node.val, ast.Boolean):
            return "true" if node.val.boolval else "false"
        return getattr(node.val, "sval", None)
    return None
