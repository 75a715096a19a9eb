"""The errors that reach a client, in PostgreSQL's own form.

A `PgError` carries the fields of an ErrorResponse (PostgreSQL manual, 55.8 "Error and Notice Message Fields"). Errors that
PostgreSQL itself reports are never translated: they travel through Hanse as the bytes they came in, or as a `PgError`
that holds every field of the original.
"""

from __future__ import annotations

from collections.abc import Mapping


class PgError(Exception):
    """An error with an SQLSTATE. `fields` holds any further wire fields by their one-letter code."""

    def __init__(
        self,
        sqlstate: str,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        severity: str = "ERROR",
        position: int | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint
        self.severity = severity
        self.position = position
        self.fields: dict[str, str] = dict(fields or {})

    def __str__(self) -> str:
        return f"{self.sqlstate}: {self.message}"


class FatalError(PgError):
    """An error after which the client's connection is closed."""

    def __init__(self, sqlstate: str, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(sqlstate, message, detail=detail, hint=hint, severity="FATAL")


class LostSynchronization(PgError):
    """08P01 in the middle of a COPY: told as an error, and then the connection ends, for what follows may be data."""

    end = FatalError("08P01", "terminating connection because protocol synchronization was lost")


class StalePlan(PgError):
    """40001: the catalog has moved on since the statement was planned. Raised before anything was done: plan again."""

    def __init__(self) -> None:
        super().__init__("40001", "the catalog changed meanwhile", hint="The transaction might succeed if retried.")


class ShortcutFailed(PgError):
    """A statement was run in a shorter way, and nothing is left of it. The ordinary way has the error that the client expects,
    if any."""


class NotTogether(ShortcutFailed):
    """The same of rows that were sent together with those of other clients; who is to blame is not known."""

    def __init__(self) -> None:
        super().__init__("40001", "rows of several clients could not be inserted together")


def of_shortcut(error: PgError) -> PgError:
    """What is raised where a shorter way failed. A lost connection, a conflict, a cancel are what they are."""
    if error.sqlstate[:2] in ("08", "40", "57"):
        return error
    return ShortcutFailed(error.sqlstate, error.message)


def too_deep() -> PgError:
    """54001: what Python's or C's stack has no room for."""
    return PgError(
        "54001",
        "stack depth limit exceeded",
        hint="Nest less: IN or VALUES in the place of a chain of operators or UNIONs.",
    )


def as_error(error: PgError | RecursionError) -> PgError:
    """What a client is told of an error that is his statement's, and not a bug."""
    return error if isinstance(error, PgError) else too_deep()


class UserMistake(Exception):
    """A mistake of whoever runs the command line: shown as one sentence, never as a traceback."""


def in_a_line(*parts: str | None) -> str:
    """An error's message, detail and hint, those that there are, for the command line."""
    return ". ".join(part.removesuffix(".") for part in parts if part)


def not_supported(message: str, *, detail: str | None = None, hint: str | None = None) -> PgError:
    """0A000: PostgreSQL could do this on one server; Hanse cannot do it over several, and says why."""
    return PgError("0A000", message, detail=detail, hint=hint)
