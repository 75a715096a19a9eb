"""`InsertRows`: a VALUES list cut by shard, one INSERT per group, rows in the client's own text.

    INSERT INTO t (id, x) VALUES (1, 'a'), (2, 'b'), (3, 'c') RETURNING id
    →  g1: INSERT INTO t (id, x) VALUES (1, 'a'), (3, 'c') RETURNING id
       g2: INSERT INTO t (id, x) VALUES (2, 'b') RETURNING id

Nothing is parsed here: the plan says where in the split text each row lies. What one party must compute (ids from sequences,
defaults of the key, expressions that would not give the same value twice) is computed first and written into the rows.
Rows of RETURNING come back in the order of VALUES, as drivers count on it, unless ON CONFLICT left some out.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..catalog.model import Relation, Strategy
from ..core.errors import PgError, ShortcutFailed, of_shortcut
from ..core.limits import PREPARED_WAIT_S_MAX
from ..engines.postgres.backend import Backend, split_messages
from ..pgwire import frontend
from ..planner.plan import InsertRows, Planned
from ..sql.literals import split
from .environment import Environment
from .insert_rows import ROWS_PER_TURN, Insert, LongInsert
from .request import Copy, Places, Request, Rows, Sink, pump, pump_tags
from .scatter import add_tags, open_all

# Who has prepared in one group holds its gate, and snapshots over groups wait for that. So the other may not wait for long.
HURRY = b"SET LOCAL lock_timeout = %d; " % (1000 * PREPARED_WAIT_S_MAX)
HELD_BYTES_MAX = 8 << 10  # of rows: a longer COPY is worth being run at the same time as the other group's


async def run(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, InsertRows)
    relation = await with_shards(environment, plan.relation, request)
    parts = list(request.parts or split(request.text))
    insert = (
        Insert(plan, relation, parts, request)
        if request.rows is None
        else LongInsert(plan, relation, parts, request, request.rows)
    )
    await insert.compute(environment)
    if plan.replicated:
        return await _everywhere(insert, request.snapshot.group_names, places, sink)
    by_group = await insert.by_group(environment)
    if len(by_group) == 1:
        ((group, rows),) = by_group.items()
        message = await places.alone(group, insert.message(await insert.sql(rows)))
        backend = await places.backend(group)
        backend.write_pieces(message)
        return await pump(backend, sink)
    groups = [group for group in request.snapshot.group_names if group in by_group]
    copies = insert.copies([by_group[group] for group in groups]) if places.begins() else None
    if copies is not None:
        await _copy(places, request, dict(zip(groups, copies, strict=True)))
        return b"INSERT 0 %d" % insert.count
    await places.begin()
    backends = await open_all(places, groups)
    early = None if request.plainly else places.prepare_early(groups)
    shares = [_Share(backend, by_group[group]) for group, backend in zip(groups, backends, strict=True)]
    for share in shares:
        await share.send(insert, early, first=share is shares[0])
    return await _collect(shares, functools.partial(places.prepared, groups[0]), sink)


async def _copy(places: Places, request: Request, own: Mapping[str, Copy]) -> None:
    """Raises ShortcutFailed where the rows are to be sent as they came.

    Where one of two groups prepares early, and there is little to send, the other has nothing to do before it is told to commit: it
    gets all that in one message.
    """
    found = await places.share(request, own)
    if found is None:
        return
    copies = {group: Copy(HURRY + copy.sql, copy.data) for group, copy in found.items()}
    groups = [group for group in request.snapshot.group_names if group in copies]
    await places.begin()
    backends = dict(zip(groups, await open_all(places, groups), strict=True))
    early = places.prepare_early(groups)
    first, last = groups[0], groups[-1]
    if early is not None and len(copies[last].data) <= HELD_BYTES_MAX:
        places.hold(last, copies[last])
        del backends[last]
    for group, backend in backends.items():
        copies[group].send(backend, early if early is not None and group == first else "")
    failure: PgError | None = None
    for group, backend in backends.items():
        try:
            await pump_tags(backend, Rows(), copying=True)
        except PgError as error:
            failure = failure or error
        else:
            if early is not None and group == first:
                places.prepared(first)
    if failure is not None:
        raise of_shortcut(failure)


async def with_shards(environment: Environment, identity: tuple[str, str], request: Request) -> Relation:
    """The table that rows are coming for. A HASH table that was declared without shards gets them now."""
    relation = request.snapshot.relation_by_identity[identity]
    if relation.strategy is Strategy.HASH and not relation.shards:
        request.snapshot = await environment.make_shards(identity)
        relation = request.snapshot.relation_by_identity[identity]
    return relation


async def _everywhere(insert: Insert, groups: Sequence[str], places: Places, sink: Sink) -> bytes:
    """A reference table: the first group in canonical order before the others, so that two writers cannot deadlock."""
    await places.begin()
    message = insert.message(await insert.sql(range(insert.count)))
    backends = await open_all(places, groups)
    backends[0].write_pieces(message)
    tag = await pump(backends[0], sink)
    for backend in backends[1:]:
        backend.write_pieces(message)
    for backend in backends[1:]:
        await pump(backend, Rows())
    return tag


@dataclass(slots=True)
class _Share:
    """What one group gets of the statement, and what it answers."""

    backend: Backend
    rows: Sequence[int]
    result: Rows = field(default_factory=Rows)
    messages: int = 1
    prepared: bool = False  # the branch, by what was sent behind the statement
    shift: int = 0  # characters that stand before the statement in its message
    inlined: bool = False  # the parameters' values were written into the text
    hurries: bool = False  # waits for locks but shortly
    own: int = 0  # which of the message's statements it is

    async def send(self, insert: Insert, early: str | None, *, first: bool) -> None:
        """In the simple protocol BEGIN, the statement and `early` (which prepares the first branch) are one text."""
        then = early if first else None
        self.hurries = early is not None and not first
        sql = insert.inlined(self.rows) if insert.request.extended else await insert.sql(self.rows)
        if sql is not None:
            self.inlined = insert.request.extended
            before = b""
            if self.hurries:
                before, self.own = HURRY, 1
            text = before + sql if then is None else sql + b"\n; " + then.encode()
            self.shift = self.backend.write_statement(text) + len(before)
            return
        if self.hurries:
            self.backend.write_ahead(frontend.query(HURRY))
        message = insert.message(await insert.sql(self.rows))
        if then is not None:
            self.messages = 2
            message.append(frontend.query(then.encode()))
        self.backend.write_pieces(message)

    async def receive(self) -> bytes:
        """The statement's tag. Reads everything, and raises the first error."""
        tags: list[bytes] = []
        failure: PgError | None = None
        for _ in range(self.messages):
            try:
                tags += await pump_tags(self.backend, self.result)
            except PgError as error:
                failure = failure or error
        if failure is not None and self.hurries and failure.sqlstate == "55P03":
            raise ShortcutFailed(failure.sqlstate, failure.message)
        if failure is not None:
            if failure.position is not None and failure.position > self.shift:
                failure.position = None if self.inlined else failure.position - self.shift
            raise failure
        if self.inlined:  # rows can only be a rule's, which the extended protocol does not show
            self.result = Rows()
        self.prepared = tags[-1] == b"PREPARE TRANSACTION"
        return tags[self.own]


async def _collect(shares: Sequence[_Share], prepared: Callable[[], None], sink: Sink) -> bytes:
    """`prepared` is called when the branch that was to prepare has done it."""
    tags: list[bytes] = []
    failure: PgError | None = None
    for share in shares:
        try:
            tags.append(await share.receive())
            if share.prepared:
                prepared()
        except PgError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    await _give([share.result for share in shares], [share.rows for share in shares], sink)
    return add_tags(tags)


async def _give(results: Sequence[Rows], rows: Sequence[Sequence[int]], sink: Sink) -> None:
    """RETURNING's rows: in the order of VALUES where each input row has given one."""
    if not results[0].description:
        return
    sink.describe(results[0].description)
    messages = [await _messages(result) for result in results]
    if not all(len(found) == len(numbers) for found, numbers in zip(messages, rows, strict=True)):
        for found in messages:
            if found:
                await sink.rows(b"".join(found))
        return
    ordered = [b""] * sum(map(len, rows))
    for found, numbers in zip(messages, rows, strict=True):
        for number, message in zip(numbers, found, strict=True):
            ordered[number] = message
        if len(found) > ROWS_PER_TURN:
            await asyncio.sleep(0)
    await sink.rows(b"".join(ordered))


async def _messages(result: Rows) -> list[bytes]:
    found: list[bytes] = []
    for chunk in result.chunks:
        found += split_messages(chunk)
        if len(found) > ROWS_PER_TURN:
            await asyncio.sleep(0)
    return found
