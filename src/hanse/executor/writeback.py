"""`WriteBack`: a write over several groups whose new rows a query computes first.

    INSERT INTO t SELECT …            the query's rows are inserted, each into its group
    UPDATE t SET … FROM u WHERE …     the query gives keys and new values; each group updates its rows by key
    DELETE FROM t USING u WHERE …     the query gives keys; each group deletes them

The query runs like any other (scatter, workspace …), in the same transaction; its result is kept in a buffer (memory, then
disk) and written in batches as VALUES lists of typed constants. A row whose partition key changes to one of another group
is deleted where it was and inserted where it belongs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..catalog.keys import Canonical, NotEvaluable, from_text
from ..catalog.model import Kind, Relation
from ..catalog.routing import router_for
from ..core.ids import quote_identifier, quote_qualified
from ..core.limits import INSERT_ROWS_PER_STATEMENT_MAX
from ..engines.postgres.backend import split_messages
from ..pgwire import backend as server_messages
from ..planner.plan import Asked, Cast, FromSequence, Planned, Value, WriteBack
from .buffer import ResultBuffer
from .environment import Environment
from .inserting import ask, in_iso, literal, no_partition
from .request import Discard, Places, Request, Rows, Sink, pump
from .scatter import add_tags

Texts = list[str | None]


async def run(environment: Environment, planned: Planned, request: Request, places: Places, sink: Sink) -> bytes:
    plan = planned.plan
    assert isinstance(plan, WriteBack)
    await places.begin()
    relation = request.snapshot.relation_by_identity[plan.relation]
    buffer = ResultBuffer()
    try:
        await environment.run_inner(plan.query_sql.encode(), buffer)
        write = _Write(environment, plan, relation, request, places, sink)
        for first in range(0, len(buffer), INSERT_ROWS_PER_STATEMENT_MAX):
            messages = split_messages(buffer.read(first, INSERT_ROWS_PER_STATEMENT_MAX))
            await write.batch([_texts(message) for message in messages])
        if not len(buffer):
            await write.nothing()
    finally:
        buffer.close()
    return write.tag


def _texts(message: bytes) -> Texts:
    return [None if value is None else value.decode() for value in server_messages.parse_data_row(message)]


@dataclass(slots=True)
class _Write:
    environment: Environment
    plan: WriteBack
    relation: Relation
    request: Request
    places: Places
    sink: Sink
    tag: bytes = b""
    described: bool = False

    async def batch(self, rows: list[Texts]) -> None:
        if self.plan.verb == "insert":
            await self._insert(rows)
        else:
            await self._change(rows)

    async def nothing(self) -> None:
        """No row: the tag and, with RETURNING, the columns must come from a server all the same."""
        verb = self.plan.verb
        if self.plan.tail_sql and "returning" in self.plan.tail_sql.lower():
            target = self._target()
            returning = self.plan.tail_sql[self.plan.tail_sql.lower().rindex("returning") :]
            await self._send(self._first_group(), f"DELETE FROM {target} WHERE false {returning}", Rows())
        self.tag = b"INSERT 0 0" if verb == "insert" else f"{verb.upper()} 0".encode()

    def _target(self) -> str:
        alias = f" AS {quote_identifier(self.plan.alias)}" if self.plan.alias else ""
        return quote_qualified(*self.plan.relation) + alias

    def _first_group(self) -> str:
        return self._groups_of_copies()[0] if self.relation.kind is not Kind.SHARDED else self.relation.groups[0]

    def _groups_of_copies(self) -> tuple[str, ...]:
        if self.relation.kind is Kind.REFERENCE:
            return self.request.snapshot.group_names
        return (self.relation.group or self.request.snapshot.home_group,)

    # --- INSERT ------------------------------------------------------------------------------------------------

    async def _insert(self, rows: list[Texts]) -> None:
        names = [*self.plan.columns, *(name for name, _ in self.plan.added)]
        for _, value in self.plan.added:
            drawn = await self._drawn(value, len(rows))
            for row, text in zip(rows, drawn, strict=True):
                row.append(text)
        await self._insert_rows(rows, names)

    async def _drawn(self, value: Value, count: int) -> Sequence[str | None]:
        if isinstance(value, FromSequence):
            return [str(number) for number in await self.environment.sequence_values(value.sequence, count)]
        name = next(name for name, each in self.plan.added if each is value)
        sql = value.sql if isinstance(value, Asked) else ""
        if isinstance(value, Cast) and isinstance(value.operand, Asked):
            sql = value.operand.sql
        return await ask(self.environment, sql, self.relation.column_by_name[name].type_oid, count)

    async def _insert_rows(self, rows: list[Texts], names: Sequence[str]) -> None:
        columns = [self.relation.column_by_name[name] for name in names]
        listed = ", ".join(quote_identifier(name) for name in names)
        override = " OVERRIDING SYSTEM VALUE" if self.plan.override else ""
        head = f"INSERT INTO {self._target()} ({listed}){override} VALUES "
        for group, numbers in (await self._by_group(rows, names)).items():
            values = ", ".join(
                "(" + ", ".join(literal(text, c.type_name) for text, c in zip(rows[n], columns, strict=True)) + ")"
                for n in numbers
            )
            await self._send(group, f"{head}{values} {self.plan.tail_sql}", self.sink)

    async def _by_group(self, rows: list[Texts], names: Sequence[str]) -> dict[str, list[int]]:
        if self.relation.kind is not Kind.SHARDED:
            return {group: list(range(len(rows))) for group in self._groups_of_copies()}
        found: dict[str, list[int]] = {}
        for number, group in enumerate(await self._homes(rows, names)):
            found.setdefault(group, []).append(number)
        return {group: found[group] for group in self.request.snapshot.group_names if group in found}

    async def _homes(self, rows: list[Texts], names: Sequence[str]) -> list[str]:
        """The group of each row, by its partition key."""
        router = router_for(self.relation)
        homes: list[str] = []
        for row in rows:
            values = dict(zip(names, row, strict=True))
            shard = router.shard_of(await self._key([values.get(name) for name in self.relation.key]))
            if shard is None:
                raise no_partition(self.relation)
            homes.append(self.relation.shards[shard].group)
        return homes

    async def _key(self, texts: Sequence[str | None]) -> tuple[Canonical, ...]:
        types = self.relation.key_types
        try:
            return tuple(None if t is None else from_text(oid, t.encode()) for t, oid in zip(texts, types, strict=True))
        except NotEvaluable:
            calls = [
                in_iso(f"({literal(text, self.relation.column_by_name[name].type_name)})", oid)
                for text, name, oid in zip(texts, self.relation.key, types, strict=True)
            ]
            rows = await self.environment.evaluate(f"SELECT {', '.join(calls)}")
            return tuple(None if t is None else from_text(o, t.encode()) for t, o in zip(rows[0], types, strict=True))

    # --- UPDATE, DELETE ----------------------------------------------------------------------------------------

    async def _change(self, rows: list[Texts]) -> None:
        """Rows are found by their unique key; a group changes those that it has."""
        groups = self.relation.groups if self.relation.kind is Kind.SHARDED else self._groups_of_copies()
        if set(self.plan.columns) & set(self.relation.key):
            await self._move(rows)
            return
        statement = self._statement(rows)
        tags: list[bytes] = []
        for group in groups:
            shown = self.sink if self.relation.kind is Kind.SHARDED or not tags else Discard()
            tags.append(await self._run(group, statement, shown))
        self._count(tags if self.relation.kind is Kind.SHARDED else tags[:1])

    def _statement(self, rows: Sequence[Texts]) -> str:
        plan = self.plan
        names = [f"c{number}" for number in range(len(plan.identity) + len(plan.columns))]
        columns = [self.relation.column_by_name[name] for name in (*plan.identity, *plan.columns)]
        values = ", ".join(
            "(" + ", ".join(literal(text, c.type_name) for text, c in zip(row, columns, strict=True)) + ")"
            for row in rows
        )
        source = f"(VALUES {values}) AS hanse_rows ({', '.join(names)})"
        shown = quote_identifier(plan.alias or self.relation.name)
        same = " AND ".join(
            f"{shown}.{quote_identifier(name)} = hanse_rows.{number}"
            for name, number in zip(plan.identity, names, strict=False)
        )
        if plan.verb == "delete":
            return f"DELETE FROM {self._target()} USING {source} WHERE {same} {plan.tail_sql}"
        sets = ", ".join(
            f"{quote_identifier(name)} = hanse_rows.{number}"
            for name, number in zip(plan.columns, names[len(plan.identity) :], strict=True)
        )
        return f"UPDATE {self._target()} SET {sets} FROM {source} WHERE {same} {plan.tail_sql}"

    async def _move(self, rows: list[Texts]) -> None:
        """The partition key changes: take the whole rows out, change them here, put them where they belong."""
        plan = self.plan
        names = [column.name for column in self.relation.columns if not column.generated]
        listed = ", ".join(
            f"{quote_identifier(plan.alias or self.relation.name)}.{quote_identifier(name)}::text" for name in names
        )
        removal = _Write(
            self.environment,
            WriteBack(
                verb="delete",
                relation=plan.relation,
                query_sql="",
                columns=(),
                identity=plan.identity,
                tail_sql=f"RETURNING {listed}",
                alias=plan.alias,
            ),
            self.relation,
            self.request,
            self.places,
            Discard(),
        )
        keys = [row[: len(plan.identity)] for row in rows]
        taken = Rows()
        for group in self.relation.groups:
            await removal._run(group, removal._statement(keys), taken)
        old = [_texts(message) for chunk in taken.chunks for message in split_messages(chunk)]
        changes = {tuple(row[: len(plan.identity)]): row[len(plan.identity) :] for row in rows}
        new: list[Texts] = []
        for row in old:
            values = dict(zip(names, row, strict=True))
            change = changes[tuple(values[name] for name in plan.identity)]
            values.update(zip(plan.columns, change, strict=True))
            new.append([values[name] for name in names])
        inserting = _Write(
            self.environment,
            WriteBack(
                verb="insert",
                relation=plan.relation,
                query_sql="",
                columns=tuple(names),
                tail_sql=plan.tail_sql,
                override=True,
                alias=plan.alias,
            ),
            self.relation,
            self.request,
            self.places,
            self.sink,
        )
        await inserting._insert_rows(new, names)
        self._count([b"UPDATE %d" % len(new)])

    # --- sending -----------------------------------------------------------------------------------------------

    async def _send(self, group: str, sql: str, sink: Sink) -> None:
        copies = self.relation.kind is Kind.REFERENCE and self.tag and group != self._first_group()
        tag = await self._run(group, sql, Discard() if copies else sink)
        if not copies:
            self._count([tag])

    async def _run(self, group: str, sql: str, sink: Sink) -> bytes:
        backend = await self.places.backend(group)
        request = Request(
            text=sql.encode(),
            snapshot=self.request.snapshot,
            result_formats=self.request.result_formats,
            extended=self.request.extended,
        )
        backend.write(request.message())
        return await pump(backend, _DescribedOnce(self, sink))

    def _count(self, tags: Sequence[bytes]) -> None:
        self.tag = add_tags([*([self.tag] if self.tag else []), *tags])


class _DescribedOnce:
    """Several statements, one result: its description is given once."""

    def __init__(self, write: _Write, sink: Sink) -> None:
        self.write = write
        self.sink = sink

    def describe(self, message: bytes) -> None:
        if not self.write.described:
            self.write.described = True
            self.sink.describe(message)

    async def rows(self, messages: bytes) -> None:
        await self.sink.rows(messages)

    def notice(self, message: bytes) -> None:
        self.sink.notice(message)
