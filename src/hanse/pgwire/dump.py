"""A message as one line of text, for transcripts and traces: `Bind portal='' statement='s1' values=[b'1', None] …`.

The line tells everything that the message holds, secrets included: it is for tests, and for traces that someone asked
for, not for logs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hanse.core.errors import PgError

from . import backend, diagnostics, frontend
from .framing import Message

_Shower = Callable[[bytes], str]


def dump_frontend(message: Message) -> str:
    """What a client sent, after its startup packet."""
    return _dump(message, _FRONTEND)


def dump_backend(message: Message) -> str:
    """What a server sent."""
    return _dump(message, _BACKEND)


def _dump(message: Message, table: dict[str, tuple[str, _Shower | None]]) -> str:
    name, show = table.get(chr(message.kind), (f"Unknown({chr(message.kind)!r})", lambda raw: repr(raw[5:])))
    try:
        shown = show(message.raw) if show is not None else repr(message.body) if message.body else ""
    except PgError as error:
        shown = f"malformed ({error.message}): {message.body!r}"
    return f"{name} {shown}".rstrip()


def _named(value: tuple[object, ...]) -> str:
    return " ".join(f"{name}={part!r}" for name, part in zip(value._fields, value, strict=True))  # type: ignore[attr-defined]


def _diagnostic(raw: bytes) -> str:
    return " ".join(f"{code}={text!r}" for code, text in diagnostics.fields_of(diagnostics.parse_error(raw)).items())


def _row_description(raw: bytes) -> str:
    return "; ".join(_named(field) for field in backend.parse_row_description(raw))


def _authentication(raw: bytes) -> str:
    code, payload = backend.parse_authentication(raw)
    return f"{code} {payload!r}" if payload else str(code)


_FRONTEND: Final[dict[str, tuple[str, _Shower | None]]] = {
    "B": ("Bind", lambda raw: _named(frontend.parse_bind(raw))),
    "C": ("Close", lambda raw: _named(frontend.parse_close(raw))),
    "d": ("CopyData", None),
    "c": ("CopyDone", None),
    "f": ("CopyFail", lambda raw: repr(frontend.parse_copy_fail(raw))),
    "D": ("Describe", lambda raw: _named(frontend.parse_describe(raw))),
    "E": ("Execute", lambda raw: _named(frontend.parse_execute(raw))),
    "H": ("Flush", None),
    "F": ("FunctionCall", None),
    "P": ("Parse", lambda raw: _named(frontend.parse_parse(raw))),
    "p": ("Password", None),
    "Q": ("Query", lambda raw: repr(frontend.parse_query(raw))),
    "S": ("Sync", None),
    "X": ("Terminate", None),
}

_BACKEND: Final[dict[str, tuple[str, _Shower | None]]] = {
    "R": ("Authentication", _authentication),
    "K": ("BackendKeyData", lambda raw: repr(backend.parse_backend_key_data(raw))),
    "2": ("BindComplete", None),
    "3": ("CloseComplete", None),
    "C": ("CommandComplete", lambda raw: repr(backend.parse_command_complete(raw))),
    "W": ("CopyBothResponse", lambda raw: _named(backend.parse_copy_response(raw))),
    "d": ("CopyData", None),
    "c": ("CopyDone", None),
    "G": ("CopyInResponse", lambda raw: _named(backend.parse_copy_response(raw))),
    "H": ("CopyOutResponse", lambda raw: _named(backend.parse_copy_response(raw))),
    "D": ("DataRow", lambda raw: repr(backend.parse_data_row(raw))),
    "I": ("EmptyQueryResponse", None),
    "E": ("ErrorResponse", _diagnostic),
    "v": ("NegotiateProtocolVersion", lambda raw: repr(backend.parse_negotiate_protocol_version(raw))),
    "N": ("NoticeResponse", _diagnostic),
    "A": ("NotificationResponse", lambda raw: _named(backend.parse_notification(raw))),
    "n": ("NoData", None),
    "t": ("ParameterDescription", lambda raw: repr(backend.parse_parameter_description(raw))),
    "S": ("ParameterStatus", lambda raw: repr(backend.parse_parameter_status(raw))),
    "1": ("ParseComplete", None),
    "s": ("PortalSuspended", None),
    "Z": ("ReadyForQuery", lambda raw: repr(backend.parse_ready_for_query(raw))),
    "T": ("RowDescription", _row_description),
}
