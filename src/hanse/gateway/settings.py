"""What a client has set, as a value: the session state that a backend must be brought to before it may serve him.

PostgreSQL keeps settings in the backend; behind a pool they must travel with the client. A `SessionState` is the whole
set of a session's settings that differ from the role's defaults, as (name, canonical value) pairs. Equal states are one
object (`intern`), so "is this backend ready for this client?" is one comparison of identities. A backend comes to a state
by RESET and one `set_config()` per setting; what a statement of unknown effect may have left behind is undone in the
same way, because such a backend has no known state (findings-gateway 6).

`role` and `session_authorization` are settings like the others here, but RESET ALL leaves them alone: they have their own RESET.

A custom setting (`app.tenant`) stays known to a PostgreSQL session for ever, as an empty text, even where it was only set for one
transaction or rolled back. Its name is therefore part of the state, and is made known to a backend that does not have it. A
backend that knows more names than a session is not given to it (`Pool.acquire`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.ids import quote_literal
from .modes import DEFAULTS, STANDARD, Modes, with_defaults
from .standing import Standing


@dataclass(frozen=True, slots=True, eq=False)
class SessionState:
    settings: tuple[tuple[str, str], ...] = ()  # sorted by name, without role
    role: str | None = None  # SET ROLE
    standing: Standing = ()  # that the login found; a backend of this session has begun with them
    names: frozenset[str] = frozenset()  # of custom settings that the session has ever made
    sync_sql: str = ""
    role_modes: Modes = STANDARD  # that transactions of the role in this database begin with
    modes: Modes = STANDARD  # that they begin with in this session

    def get(self, name: str) -> str | None:
        for setting, value in self.settings:
            if setting == name:
                return value
        return None


UNKNOWN = "?"  # begins a mark among the names: a session's own, for those that dynamic SQL may have made
_NO_NAMES: frozenset[str] = frozenset()
_Key = tuple[tuple[tuple[str, str], ...], str | None, frozenset[str], Modes, Standing]
_known: dict[_Key, SessionState] = {}


def intern(
    settings: tuple[tuple[str, str], ...],
    role: str | None = None,
    names: frozenset[str] = _NO_NAMES,
    role_modes: Modes = STANDARD,
    standing: Standing = (),
) -> SessionState:
    """The one state object for these settings."""
    key = (tuple(sorted(settings)), role, names, role_modes, standing)
    state = _known.get(key)
    if state is None:
        if len(_known) > 10_000:
            _known.clear()  # identities of live sessions differ from new ones then; that only costs a needless sync
        modes = with_defaults(role_modes, {name: value for name, value in settings if name in DEFAULTS})
        state = _known[key] = SessionState(key[0], role, standing, names, _sync_sql(*key[:3]), role_modes, modes)
    return state


def _sync_sql(settings: tuple[tuple[str, str], ...], role: str | None, names: frozenset[str]) -> str:
    statements = ["RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL"]
    settings = tuple(pair for pair in settings if pair[0] != "client_encoding")  # that is the gateway's (`encoding`)
    if settings:
        calls = ", ".join(
            f"pg_catalog.set_config({quote_literal(name)}, {quote_literal(value)}, false)" for name, value in settings
        )
        statements.append(f"SELECT {calls}")
    for name in sorted(quote_literal(name) for name in names if not name.startswith(UNKNOWN)):
        statements.append(
            f"SELECT pg_catalog.set_config({name}, '', false) WHERE pg_catalog.current_setting({name}, true) IS NULL"
        )
    if role is not None:
        statements.append(f"SELECT pg_catalog.set_config('role', {quote_literal(role)}, false)")
    return "; ".join(statements)


DEFAULT = intern(())


def with_setting(state: SessionState, name: str, value: str | None) -> SessionState:
    """The state after SET name = value, or after RESET name (None)."""
    if name == "role":
        role = None if value in (None, "none") else value
        return intern(state.settings, role, state.names, state.role_modes, state.standing)
    rest = tuple(pair for pair in state.settings if pair[0] != name)
    settings = rest if value is None else (*rest, (name, value))
    return intern(settings, state.role, state.names, state.role_modes, state.standing)


def with_names(state: SessionState, names: frozenset[str]) -> SessionState:
    """The state of a session that has made these custom settings at some time."""
    if state.names == names:
        return state
    return intern(state.settings, state.role, names, state.role_modes, state.standing)


def with_role_modes(state: SessionState, modes: Modes) -> SessionState:
    """The state of a session whose role's transactions begin with these modes."""
    return intern(state.settings, state.role, state.names, modes, state.standing)
