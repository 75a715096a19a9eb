"""Where in the client's text an error lies that was found in a text of ours.

PostgreSQL counts from the beginning of what the client has sent. A statement inside another (PREPARE, DECLARE, EXPLAIN,
COPY (…)) is run as a text of its own, so that its places are moved by what stands before it. For texts that Hanse has made
the schema-complete database is asked what it says of the client's: only the place of the same error counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..core.errors import PgError

if TYPE_CHECKING:
    from .session import Session


@contextlib.contextmanager
def counted_in(outer: str, inner: str) -> Iterator[None]:
    """Errors' positions in `inner` (characters, from 1) become those in `outer`, of which it is the end or a part in the middle."""
    try:
        yield
    except PgError as error:
        if error.position is not None:
            error.position += outer.rindex(inner)
        raise


@contextlib.contextmanager
def unknown() -> Iterator[None]:
    """Errors lose their positions: they are in a text that the client has not written."""
    try:
        yield
    except PgError as error:
        error.position = None
        raise


async def asked(session: Session, text: bytes, error: PgError, types: tuple[int, ...] = ()) -> int | None:
    """The place that the schema-complete database gives to the same error in `text`. None: it does not see it there."""
    try:
        await session.analyze(session.make_statement(text, types))
    except PgError as own:
        return own.position if (own.sqlstate, own.message) == (error.sqlstate, error.message) else None
    return None


async def of_argument(
    session: Session, error: PgError, outer: str, arguments: Sequence[str], casts: Sequence[str]
) -> int | None:
    """Of an error in EXECUTE's text with its arguments put in: where the argument has it that PostgreSQL refuses like that.

    None: it lies in the prepared statement, which is another text.
    """
    end = 0
    for argument, cast in zip(arguments, casts, strict=True):
        begin = outer.index(argument, end)
        end = begin + len(argument)
        place = await asked(session, f"SELECT {cast}".encode(), error)
        if place is not None:
            return begin + place - len("SELECT ") - cast.index(argument)
    return None
