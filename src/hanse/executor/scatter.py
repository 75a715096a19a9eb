"""A statement that several groups answer: sent to all of them at once, answered as one.

Rows without an order are relayed group by group, undecoded: while the first group's rows pass, the others work and wait
behind their sockets. Ordered rows go through the k-way merge (`merge.py`). Counts in command tags are added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..core.errors import PgError
from ..engines.postgres.backend import Backend
from ..pgwire import backend as server_messages
from .request import Discard, Places, Sink, pump


async def open_all(places: Places, groups: Iterable[str]) -> list[Backend]:
    """Backends in canonical order of the groups. One after another: a transaction's branches open in one order."""
    return [await places.backend(group) for group in groups]


class _Once:
    """Passes the first description on and checks that the others agree (findings-gateway 18)."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.description: bytes | None = None

    def describe(self, message: bytes) -> None:
        if self.description is None:
            self.description = message
            self.sink.describe(message)
        elif not _same_columns(self.description, message):
            raise PgError(
                "40001",
                "the groups disagree about the columns of the result",
                detail="The schema is being changed at this moment.",
                hint="Repeat the statement.",
            )

    async def rows(self, messages: bytes) -> None:
        await self.sink.rows(messages)

    def notice(self, message: bytes) -> None:
        self.sink.notice(message)


def _same_columns(one: bytes, other: bytes) -> bool:
    """Names and formats equal; table and type oids of the groups may differ."""
    if one == other:
        return True
    ours, theirs = (server_messages.parse_row_description(raw) for raw in (one, other))
    return [(f.name, f.format) for f in ours] == [(f.name, f.format) for f in theirs]


async def drain_all(backends: Sequence[Backend], sink: Sink) -> bytes:
    """Reads every backend's answer to its end, in order; gives the sum of the tags. Raises the first error, if any.

    After an error the others are still read to their ends, so that all backends stay usable.
    """
    tags: list[bytes] = []
    failure: BaseException | None = None
    for backend in backends:
        try:
            tags.append(await pump(backend, sink if failure is None else Discard()))
        except PgError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return add_tags(tags)


def add_tags(tags: Sequence[bytes]) -> bytes:
    """`UPDATE 3` + `UPDATE 4` → `UPDATE 7`; `INSERT 0 1` alike. Tags without a count: the first."""
    if len(tags) == 1:
        return tags[0]
    total = 0
    for tag in tags:
        _, _, count = tag.rpartition(b" ")
        if not count.isdigit():
            return tags[0]
        total += int(count)
    return tags[0].rpartition(b" ")[0] + b" %d" % total


async def concatenate(groups: Sequence[str], message: list[bytes], places: Places, sink: Sink) -> bytes:
    """The same statement in each group, rows one group after another."""
    backends = await open_all(places, groups)
    for backend in backends:
        backend.write_pieces(message)
    return await answered(backends, sink)


async def answered(backends: Sequence[Backend], sink: Sink) -> bytes:
    """They have the statement already."""
    return await drain_all(backends, _Once(sink))
